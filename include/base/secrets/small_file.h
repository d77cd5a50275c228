/* Small regular files, read whole: never a pipe or a device that would block or never end. Any
 * thread; blocks on the disk only. */
#ifndef MQFLEET_SECRETS_SMALL_FILE_H
#define MQFLEET_SECRETS_SMALL_FILE_H

#include <stddef.h>
#include "base/err.h"

/* *out: NUL-terminated, *len bytes (which may hold NULs), free(). ERR_IO, ERR_FULL (more than
 * bytes_max), ERR_MEMORY: *why says it in static text, without the path. *mode (NULL: not wanted):
 * its permissions, as of stat. */
enum err small_file_read(const char *path, size_t bytes_max, char **out, size_t *len,
                         unsigned *mode, const char **why) MUST_CHECK;

#endif
