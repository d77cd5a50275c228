/* Small files that hold secrets, such as tokens and keys, one per line. Any thread. */
#ifndef MQFLEET_SECRETS_SECRET_FILE_H
#define MQFLEET_SECRETS_SECRET_FILE_H

#include <stddef.h>
#include "base/err.h"

#define SECRET_FILE_BYTES_MAX (1024 * 1024)
#define SECRET_FAULT_LEN      256

struct secret_line {
    size_t number; /* number of the line in the file, from 1 */
    char *text;    /* without surrounding blanks; never empty */
};

struct secret_file {
    char *data;
    size_t len; /* of data */
    struct secret_line *lines;
    size_t count;
};

/* Reads the lines, except empty ones and those that begin with "#". ERR_ARGUMENT with a fault that
 * names the file: it is missing, not a regular file, larger than SECRET_FILE_BYTES_MAX, contains a
 * NUL, or is writable by users other than its owner. Never blocks, never copies a line into the
 * fault. The caller always calls secret_file_fini. */
enum err secret_file_load(const char *path, struct secret_file *out,
                          char fault[SECRET_FAULT_LEN]) MUST_CHECK;
/* Reads the whole file as bytes, followed by a NUL that is not counted. The caller calls
 * secret_wipe, then free. */
enum err secret_file_read(const char *path, unsigned char **data, size_t *len,
                          char fault[SECRET_FAULT_LEN]) MUST_CHECK;
/* Logs a warning if every user of the machine can read the file. */
void secret_file_warn(const char *path);
/* Wipes and frees the memory. */
void secret_file_fini(struct secret_file *file);

/* Overwrites memory; the compiler does not remove this write. */
void secret_wipe(void *data, size_t len);

/* SHA-256. */
#define SECRET_HASH_LEN 32
void secret_hash(const void *data, size_t len, unsigned char out[SECRET_HASH_LEN]);
/* 0: equal. The time does not depend on the contents. */
int secret_compare(const void *left, const void *right, size_t len);
/* Random bytes from the kernel. */
enum err secret_random(void *out, size_t len) MUST_CHECK;

#endif
