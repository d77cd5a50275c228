/* Reads small regular files. Rejects pipes and devices, which could block or never end. Any thread;
 * blocks on the disk only. */
#ifndef MQFLEET_SECRETS_SMALL_FILE_H
#define MQFLEET_SECRETS_SMALL_FILE_H

#include <stddef.h>
#include "base/err.h"

/* *out: NUL-terminated, *len bytes (which may include NULs); the caller frees it. ERR_IO, ERR_FULL
 * (more than bytes_max), ERR_MEMORY: *why is the static reason, without the path. *mode (may be
 * NULL): the permissions as of stat. */
enum err small_file_read(const char *path, size_t bytes_max, char **out, size_t *len,
                         unsigned *mode, const char **why) MUST_CHECK;

#endif
