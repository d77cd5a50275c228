/* Reads profiles from Redis where the table of this node may be out of date: a client may name a
 * profile that was created or changed a moment ago. Any thread; blocks on Redis. */
#ifndef MQFLEET_RESOURCES_PROFILE_READER_H
#define MQFLEET_RESOURCES_PROFILE_READER_H

#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "store/store.h"

/* Brings the entry of that name in the table (client_profiles.h) up to date. ERR_NOT_FOUND: there
 * is no such profile; otherwise the errors of the store. */
enum err profile_reader_refresh(struct store *store, const char *name) MUST_CHECK;

/* The same for the profile that a client's document names, if it was not read just now. Before the
 * document is checked and written. */
void profile_reader_freshen(struct store *store, const json_t *document);

/* As client_config_parse_text. If the text names a profile and is not valid with what this node
 * knows of it, the profile is read, unless it was just now, and the text is parsed again. */
enum err profile_reader_parse(struct store *store, const struct store_client *row,
                              struct client_config **out, struct client_faults *faults) MUST_CHECK;

#endif
