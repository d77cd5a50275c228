/* Reads small files. Any thread. The contents may be secret and never appear in a message. */
#include "base/secrets/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *small_file_open_fault(int fd, size_t bytes_max, unsigned *mode) {
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        return strerrordesc_np(errno);
    }
    if (mode) {
        *mode = status.st_mode;
    }
    if (!S_ISREG(status.st_mode)) {
        return "it is not a regular file";
    }
    return (size_t)status.st_size > bytes_max ? "it is too large" : NULL;
}

/* Reads at most capacity bytes. */
static bool small_file_read_whole(int fd, char *data, size_t capacity, size_t *len) {
    ssize_t got = 1;
    for (*len = 0; got != 0 && *len < capacity;) {
        got = read(fd, data + *len, capacity - *len);
        if (got < 0 && errno != EINTR) {
            return false;
        }
        *len += got > 0 ? (size_t)got : 0;
    }
    return true;
}

enum err small_file_read(const char *path, size_t bytes_max, char **out, size_t *len,
                         unsigned *mode, const char **why) {
    enum err err = ERR_IO;
    char *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    *out = NULL;
    *why = small_file_open_fault(fd, bytes_max, mode);
    if (*why) {
        goto out;
    }
    data = malloc(bytes_max + 2);
    if (!data) {
        err = ERR_MEMORY;
        *why = "out of memory";
    } else if (!small_file_read_whole(fd, data, bytes_max + 1, len)) {
        *why = strerrordesc_np(errno);
    } else if (*len > bytes_max) { /* the file has grown since fstat */
        err = ERR_FULL;
        *why = "it is too large";
    } else {
        data[*len] = '\0';
        *out = data;
        data = NULL;
        err = ERR_OK;
    }
out:
    free(data);
    if (fd >= 0) {
        close(fd);
    }
    return err;
}
