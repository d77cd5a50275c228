/* The profiles that this node knows, by name. One table for the process, as read from Redis. A
 * profile in use stays as it is when the table gets another version of it. Any thread. */
#ifndef MQFLEET_CONFIG_CLIENT_PROFILES_H
#define MQFLEET_CONFIG_CLIENT_PROFILES_H

#include "mqtt/config/client_profile.h"

struct client_profile_row {
    const char *name, *text; /* as stored: a JSON object */
    int64_t version;
};

/* secrets: borrowed until client_profiles_clear. Call before other threads do. */
void client_profiles_init(struct secret_box *secrets);
void client_profiles_clear(void);
/* The profile of that name, held for the caller; NULL: this node knows none. */
struct client_profile *client_profiles_find(const char *name);
/* Whether the table has another version of it. False while it has none: the clients of a profile
 * that Redis has lost go on with what they have. */
bool client_profiles_is_outdated(const struct client_profile *profile);
/* Adds or replaces a profile by a newer one; force: by any other version. ERR_ARGUMENT: the text is
 * not an object; ERR_MEMORY. */
enum err client_profiles_put(const struct client_profile_row *row, bool force) MUST_CHECK;
/* Removes it, unless it is newer than that. */
void client_profiles_remove(const char *name, int64_t version);
/* Makes the table what Redis had at that revision. A profile that is newer stays, unless force. */
enum err client_profiles_apply(const struct client_profile_row *rows, size_t n, int64_t revision,
                               bool force) MUST_CHECK;
/* As merge with the stored fields of its profile; a copy of the document if that is not known or
 * there is none. NULL: out of memory. */
json_t *client_profile_effective(const json_t *document);

/* Grows with each change of the table. */
uint64_t client_profiles_generation(void);

#endif
