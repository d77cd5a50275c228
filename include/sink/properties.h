/* The MQTT 5 properties of a message as sinks write them. User properties are one JSON array of
 * [name, value] pairs in the order received. Subscription identifiers are one comma separated list.
 * Every other property has its own name. Pure; any thread. */
#ifndef MQFLEET_SINK_PROPERTIES_H
#define MQFLEET_SINK_PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include "base/buffer.h"
#include "message/message.h"

/* A JSON string. A broker may send invalid UTF-8: each byte of such a text that is not ASCII
 * becomes '?'. NULL: out of memory. */
json_t *properties_json_text(const char *text, size_t len);

/* A new JSON array; empty when there are none. NULL: out of memory. */
json_t *properties_user(const struct message *message);

bool properties_is_user(const struct message_property *property);
bool properties_is_subscription(const struct message_property *property);
/* Appends "1,7"; nothing when there are none. */
void properties_subscriptions(const struct message *message, struct buffer *out);

/* Sets name to value as text, or name_base64 if it is not UTF-8. 0 on success. */
int properties_set_bytes(json_t *object, const char *name, const void *value, size_t len);
/* The labels of the client as a JSON object. NULL: out of memory. */
json_t *properties_labels(const struct message *message);
/* All properties as one JSON object. NULL: out of memory. */
json_t *properties_json(const struct message *message);

#endif
