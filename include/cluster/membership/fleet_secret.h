/* The secrets with which nodes authenticate to each other: the lines of fleet.secret_file. A node
 * sends the first secret and accepts each of them, so a new secret can be rolled out node by node.
 * Any thread. */
#ifndef MQFLEET_MEMBERSHIP_FLEET_SECRET_H
#define MQFLEET_MEMBERSHIP_FLEET_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

#define FLEET_SECRET_LEN_MIN 16
#define FLEET_SECRET_LEN_MAX 256
#define FLEET_SECRETS_MAX    4

struct fleet_secret;

/* path "": there is no secret; nothing is sent, and nothing matches. ERR_ARGUMENT: `fault` (256
 * bytes) is one line that describes the error in the file. */
enum err fleet_secret_create(struct fleet_secret **out, const char *path, char *fault) MUST_CHECK;
void fleet_secret_destroy(struct fleet_secret *secret);
/* Reads the file again. ERR_ARGUMENT: the previous secrets stay in use. */
enum err fleet_secret_reload(struct fleet_secret *secret, char *fault) MUST_CHECK;

bool fleet_secret_exists(const struct fleet_secret *secret); /* NULL: no */
/* In constant time. */
bool fleet_secret_matches(struct fleet_secret *secret, const char *presented);
/* Copies the secret to send; false: there is none. Caller: secret_wipe. */
bool fleet_secret_current(struct fleet_secret *secret, char out[FLEET_SECRET_LEN_MAX + 1]);

#endif
