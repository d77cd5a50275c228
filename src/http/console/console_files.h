/* The files of the page, made at build time from src/http/console/page. Read-only; any thread. */
#ifndef MQFLEET_CONSOLE_CONSOLE_FILES_H
#define MQFLEET_CONSOLE_CONSOLE_FILES_H

#include <stddef.h>

struct console_file {
    const char *name; /* NULL ends the table */
    const char *content_type;
    const char *etag;          /* strong, with its quotes */
    const unsigned char *data; /* compressed with gzip */
    size_t len;
};

extern const struct console_file console_files[];

#endif
