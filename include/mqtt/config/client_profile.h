/* A profile: named fields that clients share. A client names a profile, and its own fields replace
 * those of the profile. Any thread. */
#ifndef MQFLEET_CONFIG_CLIENT_PROFILE_H
#define MQFLEET_CONFIG_CLIENT_PROFILE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/secrets/secret_box.h"
#include "mqtt/config/client_config.h"
#include "mqtt/config/client_secrets.h"

#define CLIENT_PROFILE_NAME_MAX 64
#define CLIENT_PROFILE_NAME_FORMAT                                                                 \
    "1 to 64 letters, digits, \"-\", \"_\" or \".\", and begin with a letter or digit"

struct client_profile { /* read-only, except for the atomic members */
    atomic_uint references;
    atomic_bool outdated;    /* client_profiles.h has another version, or none */
    _Atomic int64_t read_ms; /* when Redis last had this version (clock_ms); 0: not known */
    int64_t version;
    char *name;
    json_t *stored;                 /* the fields, with secrets encrypted */
    json_t *fields;                 /* with those secrets open that this node can decrypt */
    struct client_secret_keys keys; /* that decrypt them */
};

bool client_profile_name_is_valid(const char *name);
/* stored: an object; copied. box may be NULL. NULL: out of memory. */
struct client_profile *client_profile_create(const char *name, int64_t version,
                                             const json_t *stored, struct secret_box *box);
struct client_profile *client_profile_hold(struct client_profile *profile); /* NULL stays NULL */
void client_profile_release(struct client_profile *profile);                /* NULL is legal */

/* The name of the profile in a client's document; NULL: none. Borrowed. */
const char *client_profile_of(const json_t *document);
/* The document, completed by the fields of the profile. Objects are merged by field, null
 * removes a field, and any other value, a list too, replaces that of the profile. The client's
 * brokers replace all brokers of the profile, and its subscriptions all subscriptions. NULL: out of
 * memory. */
json_t *client_profile_merge(const json_t *fields, const json_t *document);
/* Whether the document names brokers that the profile does not, and a password or headers of the
 * profile would be sent to them. */
bool client_profile_sends_elsewhere(const json_t *fields, const json_t *document);
bool client_profile_has_secrets(const struct client_profile *profile);
/* Whether the profile gives its clients this label. */
bool client_profile_has_label(const struct client_profile *profile, const char *name,
                              const char *value);

/* Checks the fields of a profile one by one. Fields that a client completes may be missing. */
void client_profile_check(json_t *fields, struct client_faults *faults);
/* Adds to `fields` a note of the filters that only `before` has, because sessions may still have
 * them. */
enum err client_profile_retire(json_t *fields, const json_t *before) MUST_CHECK;
/* Encrypts or decrypts the secrets of a profile, as client_secrets_seal and _open_document do for a
 * client. */
enum err client_profile_seal(json_t *fields, const char *name, struct secret_box *box,
                             bool *changed, struct client_faults *faults) MUST_CHECK;
void client_profile_open(json_t *fields, const char *name, struct secret_box *box);

#endif
