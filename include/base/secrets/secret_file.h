/* Small files that hold secrets, or what guards them, line by line: tokens, keys. Any thread. */
#ifndef MQFLEET_SECRETS_SECRET_FILE_H
#define MQFLEET_SECRETS_SECRET_FILE_H

#include <stddef.h>
#include "base/err.h"

#define SECRET_FILE_BYTES_MAX (1024 * 1024)
#define SECRET_FAULT_LEN      256

struct secret_line {
    size_t number; /* in the file, from 1 */
    char *text;    /* without blanks around it; never empty */
};

struct secret_file {
    char *data;
    size_t len; /* of data */
    struct secret_line *lines;
    size_t count;
};

/* Reads the lines that are neither empty nor begin with "#". ERR_ARGUMENT with a fault that names
 * the file: not there, no plain file, larger than SECRET_FILE_BYTES_MAX, a NUL in it, or others
 * than its owner may write to it. Never waits, never puts a line into the fault. secret_file_fini
 * in any case.
 */
enum err secret_file_load(const char *path, struct secret_file *out,
                          char fault[SECRET_FAULT_LEN]) MUST_CHECK;
/* The same as bytes, followed by a NUL that is not counted. Caller: secret_wipe, free. */
enum err secret_file_read(const char *path, unsigned char **data, size_t *len,
                          char fault[SECRET_FAULT_LEN]) MUST_CHECK;
/* Warns in the log when everybody on the machine can read the file. */
void secret_file_warn(const char *path);
/* Wipes the memory. */
void secret_file_fini(struct secret_file *file);

/* Overwrites memory in a way that is not optimised away. */
void secret_wipe(void *data, size_t len);

/* SHA-256. */
#define SECRET_HASH_LEN 32
void secret_hash(const void *data, size_t len, unsigned char out[SECRET_HASH_LEN]);
/* 0: equal; takes the same time whatever differs. */
int secret_compare(const void *left, const void *right, size_t len);
/* From the kernel. */
enum err secret_random(void *out, size_t len) MUST_CHECK;

#endif
