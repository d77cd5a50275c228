/* Secrets that stay on the machine of the node: {"file": path} or {"env": name} in a client's
 * configuration. A user of the API must not be able to have any file of the node sent to a broker
 * of his own, so that only what the settings name can be had, by default nothing. Any thread. */
#ifndef MQFLEET_SECRETS_SECRET_SOURCE_H
#define MQFLEET_SECRETS_SECRET_SOURCE_H

#include <stdbool.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/secrets/secret_box.h"

#define SECRET_SOURCE_BYTES_MAX 65536
#define SECRET_FROM_FILE        "file:"
#define SECRET_FROM_ENV         "env:"

/* May this node read it, as far as its name tells? source: "file:/path" or "env:NAME". */
bool secret_source_allowed(const struct conf *conf, const char *source,
                           char fault[SECRET_BOX_FAULT_LEN]);
/* What is there now, without one newline at its end; *secret: free(). ERR_REFUSED: not allowed;
 * ERR_NOT_FOUND: cannot be had, is empty, too large or no text. The fault never holds a secret.
 * Blocks on the disk. */
enum err secret_source_read(const struct conf *conf, const char *source, char **secret,
                            char fault[SECRET_BOX_FAULT_LEN]) MUST_CHECK;

#endif
