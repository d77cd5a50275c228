/* Secrets that stay on the machine of the node: {"file": path} or {"env": name} in a client's
 * configuration. A user of the API must not be able to send arbitrary files of the node to a
 * broker. Only files and variables that the settings allow can be read; by default there are none.
 * Any thread. */
#ifndef MQFLEET_SECRETS_SECRET_SOURCE_H
#define MQFLEET_SECRETS_SECRET_SOURCE_H

#include <stdbool.h>
#include <jansson.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/secrets/secret_box.h"

#define SECRET_SOURCE_BYTES_MAX 65536
#define SECRET_FROM_FILE        "file:"
#define SECRET_FROM_ENV         "env:"

/* The source that {"file": path} or {"env": name} names; the caller frees it. NULL: *why (static)
 * says what would be right; *why NULL, as the caller sets it: out of memory. */
char *secret_source_parse(const json_t *value, const char **why);
/* Checks the name only. source: "file:/path" or "env:NAME". NULL: allowed. */
bool secret_source_allowed(const struct conf *conf, const char *source,
                           char fault[SECRET_BOX_FAULT_LEN]);
/* Reads the secret, without one trailing newline. The caller frees *secret. ERR_REFUSED: not
 * allowed; ERR_NOT_FOUND: unreadable, empty, too large or not text. The fault never contains a
 * secret. Blocks on the disk. */
enum err secret_source_read(const struct conf *conf, const char *source, char **secret,
                            char fault[SECRET_BOX_FAULT_LEN]) MUST_CHECK;

#endif
