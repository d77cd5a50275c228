/* Owns the descriptor, its lock, and the end of the file. */
#include "line_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/system/clock.h"

void line_file_init(struct line_file *file, const char *path) {
    *file = (struct line_file){.path = path, .fd = -1};
}

void line_file_close(struct line_file *file) {
    if (file->fd >= 0) {
        close(file->fd);
    }
    file->fd = -1;
}

static enum err line_file_explain(const struct line_file *file, const char *what, char *error) {
    snprintf(error, LINE_FILE_ERROR_LEN, "%s %.80s: %s", what, file->path, strerror(errno));
    return ERR_IO;
}

/* ---- open ------------------------------------------------------------------------------------ */

/* Non-blocking, so that a FIFO at this path is refused and does not block the sink. Without read
 * permission, an incomplete last line is not noticed. */
static int line_file_open_descriptor(const struct line_file *file) {
    static const int flags = O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK;
    int fd = open(file->path, O_RDWR | flags, 0600);
    return fd < 0 && errno == EACCES ? open(file->path, O_WRONLY | flags, 0600) : fd;
}

static int64_t line_file_birth_ms(int fd) {
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &status) == 0 && status.stx_mask & STATX_BTIME) {
        return status.stx_btime.tv_sec * 1000 + status.stx_btime.tv_nsec / 1000000;
    }
    return clock_wall_ms();
}

static bool line_file_ends_half(const struct line_file *file) {
    char last = '\n';
    return file->size > 0 && pread(file->fd, &last, 1, file->size - 1) == 1 && last != '\n';
}

static enum err line_file_open(struct line_file *file, char *error) {
    struct stat status;
    file->fd = line_file_open_descriptor(file);
    if (file->fd < 0 || fstat(file->fd, &status) < 0) {
        return line_file_explain(file, "cannot open", error);
    }
    if (!S_ISREG(status.st_mode)) {
        errno = EINVAL;
        return line_file_explain(file, "not a regular file:", error);
    }
    if (flock(file->fd, LOCK_EX | LOCK_NB) < 0) {
        snprintf(error, LINE_FILE_ERROR_LEN, "%.80s is locked: another sink writes it", file->path);
        return ERR_IO;
    }
    if (fstat(file->fd, &status) < 0) { /* its size, now that no other process writes */
        return line_file_explain(file, "cannot open", error);
    }
    file->size = status.st_size;
    file->created_at_ms = line_file_birth_ms(file->fd);
    file->ends_half = line_file_ends_half(file);
    return ERR_OK;
}

static bool line_file_has_its_path(const struct line_file *file) {
    struct stat named, opened;
    return file->fd >= 0 && stat(file->path, &named) == 0 && fstat(file->fd, &opened) == 0 &&
           named.st_ino == opened.st_ino && named.st_dev == opened.st_dev &&
           opened.st_size == file->size; /* or else it was truncated, by logrotate's copytruncate */
}

enum err line_file_ensure_open(struct line_file *file, char *error) {
    if (line_file_has_its_path(file)) {
        return ERR_OK;
    }
    line_file_close(file);
    enum err err = line_file_open(file, error);
    if (err != ERR_OK) {
        line_file_close(file);
    }
    return err;
}

/* ---- append ---------------------------------------------------------------------------------- */

/* The number of bytes that were written; less than len: errno. */
static size_t line_file_write(int fd, const char *data, size_t len) {
    size_t done = 0;
    while (done < len) { /* each turn writes something or ends */
        ssize_t n = write(fd, data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        done += (size_t)n;
    }
    return done;
}

static size_t line_file_whole_lines(const char *data, size_t len) {
    const char *end = len ? memrchr(data, '\n', len) : NULL;
    return end ? (size_t)(end - data) + 1 : 0;
}

enum err line_file_append(struct line_file *file, const struct buffer *lines, size_t *len,
                          char *error) {
    *len = 0;
    if (file->ends_half) {
        if (line_file_write(file->fd, "\n", 1) != 1) {
            return line_file_explain(file, "cannot write", error);
        }
        file->size++;
        file->ends_half = false;
    }
    size_t done = line_file_write(file->fd, lines->data, lines->len);
    *len = done;
    if (done == lines->len) {
        file->size += (off_t)done;
        return ERR_OK;
    }
    enum err err = line_file_explain(file, "cannot write", error);
    *len = line_file_whole_lines(lines->data, done);
    /* A file that can only grow (chattr +a) keeps the incomplete line. */
    bool cut = done == *len || ftruncate(file->fd, file->size + (off_t)*len) == 0;
    file->ends_half = !cut;
    file->size += (off_t)(cut ? *len : done);
    return err;
}

enum err line_file_sync(struct line_file *file, char *error) {
    return fdatasync(file->fd) == 0 ? ERR_OK : line_file_explain(file, "cannot sync", error);
}
