/* A message as one JSON object: id, client_id, topic, payload (payload_base64 if it is not UTF-8),
 * qos, retain, node, received_at_ms and, if there are any, properties. A dead letter has the object
 * dead_letter: sink, reason, rejected_at_ms. Pure; any thread. */
#ifndef MQFLEET_SINK_MESSAGE_JSON_H
#define MQFLEET_SINK_MESSAGE_JSON_H

#include "base/buffer.h"
#include "message/message.h"

/* Appends the object on one line, without a line end. out->failed: out of memory. */
void message_json_append(struct buffer *out, const struct message *message, const char *node);
/* Appends the fields without the braces, to be preceded or followed by others. */
void message_json_append_fields(struct buffer *out, const struct message *message,
                                const char *node);

#endif
