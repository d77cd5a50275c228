/* The secrets of a client's configuration, as marked in the table of its fields: encrypted in the
 * stored document, decrypted in the running configuration, read from files and variables when a
 * connection is opened. Any thread. */
#ifndef MQFLEET_CONFIG_CLIENT_SECRETS_H
#define MQFLEET_CONFIG_CLIENT_SECRETS_H

#include <jansson.h>
#include <stdbool.h>
#include "base/config/conf.h"
#include "base/secrets/secret_box.h"
#include "mqtt/config/client_config.h"

#define CLIENT_SECRETS_FAULT_LEN (SECRET_BOX_FAULT_LEN + 280) /* with a pointer before it */

/* Encrypts secrets that are plain, or encrypted with an older key, with the newest key. Without a
 * key, plain secrets stay. *changed (may be NULL): the document was changed. A secret that cannot
 * be decrypted stays as it is and is a fault (faults NULL: not recorded); the result is then
 * ERR_ARGUMENT. id: the client's. */
enum err client_secrets_seal(json_t *document, const char *id, struct secret_box *box,
                             bool *changed, struct client_faults *faults) MUST_CHECK;
/* Decrypts all secrets that can be decrypted, so that two documents can be compared. */
void client_secrets_open_document(json_t *document, const char *id, struct secret_box *box);

/* Decrypts the secrets of a configuration in place. ERR_ARGUMENT: fault names the one that cannot
 * be decrypted. */
enum err client_secrets_open(struct client_config *config, struct secret_box *box,
                             char fault[CLIENT_SECRETS_FAULT_LEN]) MUST_CHECK;

struct client_secret_keys {
    char ids[SECRET_KEYS_MAX][SECRET_KEY_ID_LEN];
    size_t count;
};
/* The names of the keys that are needed to decrypt the secrets, each once. ERR_MEMORY. */
enum err client_secrets_keys(struct client_config *config,
                             struct client_secret_keys *out) MUST_CHECK;

/* Those of a document. */
void client_secrets_keys_of_document(json_t *document, struct client_secret_keys *out);

/* Whether a secret must be read from a file or variable. */
bool client_secrets_on_other_node(const struct client_config *config);
/* Adds a fault for each secret that the settings of this node do not allow to be read. */
void client_secrets_check(const struct client_config *config, const struct conf *conf,
                          struct client_faults *faults);
/* A copy of a configuration (from text, client_config_parse_text) with the present values of all
 * its secrets. Blocks on the disk. On an error, fault says why. */
enum err client_secrets_read(const struct client_config *config, const struct conf *conf,
                             struct client_config **out,
                             char fault[CLIENT_SECRETS_FAULT_LEN]) MUST_CHECK;

#endif
