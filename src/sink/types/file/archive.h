/* The earlier files of a file sink: path.20261130T120000.123Z, compressed to
 * path.20261130T120000.123Z.gz. Compression runs in small steps, so that writing continues in
 * between. For one thread. */
#ifndef MQFLEET_FILE_ARCHIVE_H
#define MQFLEET_FILE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>

struct archive;

/* path: borrowed. keep: files that are kept, the newest; 0: all. NULL: out of memory. Files that an
 * earlier process left uncompressed are compressed too. */
struct archive *archive_create(const char *path, bool compress, size_t keep);
void archive_destroy(struct archive *archive);

/* Moves the file at path away. False: it failed; this is logged, and not retried soon. */
bool archive_take(struct archive *archive);
/* Compresses a bounded part of the remaining data; deletes files that must not be kept. Failures
 * are logged and tried again. */
void archive_work(struct archive *archive);

#endif
