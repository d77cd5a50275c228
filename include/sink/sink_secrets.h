/* Secrets of sinks that stay on the machine of the node: {"file": path} or {"env": name} in place
 * of the text of a SECRET, a URL, or a value of a secret MAP. Any thread. */
#ifndef MQFLEET_SINK_SINK_SECRETS_H
#define MQFLEET_SINK_SINK_SECRETS_H

#include <stdbool.h>
#include "base/config/conf.h"
#include "sink/sink_settings.h"

bool sink_secrets_may_refer(const struct sink_field *field);
bool sink_secrets_has_reference(const struct sink_field *const *tables, const json_t *settings);
/* Reads them, in place. False: fault (SINK_FAULT_LEN) names the field, and why the secret cannot be
 * read. conf NULL: none can. Blocks on the disk. */
bool sink_secrets_resolve(const struct sink_field *const *tables, json_t *settings,
                          const struct conf *conf, char *fault);
/* Of a type with these fields: sink_settings_complete with those of every sink, then resolved.
 * NULL: fault (SINK_FAULT_LEN) is the first fault. */
json_t *sink_secrets_complete(const struct sink_field *fields, const json_t *settings,
                              const struct conf *conf, char *fault);

#endif
