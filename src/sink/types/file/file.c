/* The sink that appends to a file, one JSON object per line (NDJSON). Owns the descriptor; runs on
 * the sink's thread. Reopens the file after it was moved, so logrotate needs no signal. */
#include "sink/sink_type.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/text.h"
#include "sink/message_json.h"

static const struct sink_field file_sink_fields[] = {
    {.name = "path",
     .kind = SINK_FIELD_TEXT,
     .required = true,
     .description = "path of the file, in a folder that exists"},
    {0}};

struct file_sink {
    const char *path;
    const char *node;
    int fd; /* -1: not open */
    struct buffer lines;
};

/* A missing folder at the start is a mistake in the settings. An error of the file itself may be
 * temporary, so it is a state of the sink. */
static bool file_sink_folder_exists(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? text_copy(path, (size_t)(slash - path) + 1) : NULL;
    bool there = !slash || (folder && access(folder, F_OK) == 0);
    free(folder);
    return there;
}

static enum err file_sink_open(void **state, const struct sink_environment *environment,
                               const json_t *settings, char *fault) {
    const char *path = sink_settings_text(settings, "path");
    if (!file_sink_folder_exists(path)) {
        snprintf(fault, SINK_FAULT_LEN, "path %.150s: its folder does not exist", path);
        return ERR_ARGUMENT;
    }
    struct file_sink *file = calloc(1, sizeof *file);
    if (!file) {
        return ERR_MEMORY;
    }
    file->path = path;
    file->node = environment->node;
    file->fd = -1;
    buffer_init(&file->lines);
    *state = file;
    return ERR_OK;
}

static void file_sink_close_descriptor(struct file_sink *file) {
    if (file->fd >= 0) {
        close(file->fd);
    }
    file->fd = -1;
}

static void file_sink_close(void *state) {
    struct file_sink *file = state;
    file_sink_close_descriptor(file);
    buffer_fini(&file->lines);
    free(file);
}

/* --- a batch --- */

static enum err file_sink_explain_error(struct sink_batch *batch, const struct file_sink *file,
                                        const char *what) {
    return sink_batch_fail(batch, ERR_IO, "%s %.80s: %s", what, file->path, strerror(errno));
}

/* Non-blocking, so that a FIFO at this path is rejected and does not block the sink. */
static enum err file_sink_open_descriptor(struct file_sink *file, struct stat *opened,
                                          struct sink_batch *batch) {
    file->fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (file->fd < 0 || fstat(file->fd, opened) < 0) {
        return file_sink_explain_error(batch, file, "cannot open");
    }
    if (!S_ISREG(opened->st_mode)) {
        file_sink_close_descriptor(file);
        errno = EINVAL;
        return file_sink_explain_error(batch, file, "not a regular file:");
    }
    return ERR_OK;
}

/* *opened: status of the open file, if it still has this path. */
static enum err file_sink_ensure_open(struct file_sink *file, struct stat *opened,
                                      struct sink_batch *batch) {
    struct stat named;
    if (file->fd >= 0 && stat(file->path, &named) == 0 && fstat(file->fd, opened) == 0 &&
        named.st_ino == opened->st_ino && named.st_dev == opened->st_dev) {
        return ERR_OK;
    }
    file_sink_close_descriptor(file);
    return file_sink_open_descriptor(file, opened, batch);
}

/* Usually one write(2), several if the system accepts less. An incomplete line is removed again, so
 * that every line in the file is whole. *len: bytes of whole lines that are in the file. */
static enum err file_sink_write_lines(struct file_sink *file, off_t start, size_t *len,
                                      struct sink_batch *batch) {
    size_t done = 0;
    *len = 0;
    while (done < file->lines.len) { /* bounded: each turn writes something or returns */
        ssize_t n = write(file->fd, file->lines.data + done, file->lines.len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            enum err err = file_sink_explain_error(batch, file, "cannot write");
            const char *line_end = done ? memrchr(file->lines.data, '\n', done) : NULL;
            *len = line_end ? (size_t)(line_end - file->lines.data) + 1 : 0;
            if (done > *len && ftruncate(file->fd, start + (off_t)*len) < 0) {
                file_sink_close_descriptor(file);
            }
            return err;
        }
        done += (size_t)n;
    }
    *len = done;
    return ERR_OK;
}

static size_t file_sink_count_lines(const struct buffer *lines, size_t len) {
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        count += lines->data[i] == '\n';
    }
    return count;
}

/* The broker forgets an acknowledged message, so it must be on the disk. */
static bool file_sink_must_sync(struct message *const *messages, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (messages[i]->qos > 0) {
            return true;
        }
    }
    return false;
}

static enum err file_sink_format_lines(struct file_sink *file, struct sink_batch *batch) {
    buffer_clear(&file->lines);
    for (size_t i = 0; i < batch->count; i++) {
        message_json_append(&file->lines, batch->messages[i], file->node);
        buffer_append(&file->lines, "\n", 1);
    }
    if (file->lines.failed) {
        buffer_fini(&file->lines);
        return sink_batch_fail(batch, ERR_MEMORY, "out of memory");
    }
    return ERR_OK;
}

static enum err file_sink_write(void *state, struct sink_batch *batch) {
    struct file_sink *file = state;
    struct stat opened;
    size_t len = 0;
    enum err err = file_sink_format_lines(file, batch);
    if (err == ERR_OK) {
        err = file_sink_ensure_open(file, &opened, batch);
    }
    if (err == ERR_OK) {
        err = file_sink_write_lines(file, opened.st_size, &len, batch);
    }
    size_t lines = file_sink_count_lines(&file->lines, len);
    if (lines > 0 && file_sink_must_sync(batch->messages, lines) && fdatasync(file->fd) < 0) {
        return file_sink_explain_error(batch, file, "cannot sync");
    }
    sink_batch_accept_range(batch, 0, lines);
    return err;
}

const struct sink_type sink_type_file = {.version = MQFLEET_VERSION,
                                         .name = "file",
                                         .fields = file_sink_fields,
                                         .open = file_sink_open,
                                         .write = file_sink_write,
                                         .close = file_sink_close};
