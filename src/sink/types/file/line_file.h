/* A file of lines that one process appends to. Every line in it is complete, even after a crash.
 * It is reopened by its path after it was moved away. For one thread. */
#ifndef MQFLEET_FILE_LINE_FILE_H
#define MQFLEET_FILE_LINE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/buffer.h"
#include "base/err.h"

#define LINE_FILE_ERROR_LEN 160

struct line_file {
    const char *path; /* borrowed */
    int fd;           /* -1: not open */
    off_t size;
    int64_t created_at_ms; /* wall clock */
    bool ends_half;        /* its last line is not whole: it is ended before the next one */
};

void line_file_init(struct line_file *file, const char *path);
void line_file_close(struct line_file *file);
/* Opens and locks the file and repairs an incomplete last line, unless it is open and still has
 * its path. ERR_IO: `error` (LINE_FILE_ERROR_LEN) says why. */
enum err line_file_ensure_open(struct line_file *file, char *error) MUST_CHECK;
/* Appends. *len: bytes of whole lines that are in the file, also after ERR_IO. */
enum err line_file_append(struct line_file *file, const struct buffer *lines, size_t *len,
                          char *error) MUST_CHECK;
enum err line_file_sync(struct line_file *file, char *error) MUST_CHECK;

#endif
