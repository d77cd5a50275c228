/* The parts of a message by name, for templates and routes: "topic.2", "json./temp", "label.site".
 * Reads them when they are asked for, and parses the payload as JSON at most once. A value: see
 * message_value. One thread. */
#ifndef MQFLEET_SHAPE_MESSAGE_VIEW_H
#define MQFLEET_SHAPE_MESSAGE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include "base/buffer.h"
#include "base/err.h"
#include "message/message.h"

#define MESSAGE_FAULT_LEN 256

enum message_part {
    MESSAGE_ID,
    MESSAGE_CLIENT_ID,
    MESSAGE_TOPIC,
    MESSAGE_TOPIC_LEVEL, /* argument: 1 is the first */
    MESSAGE_PAYLOAD,
    MESSAGE_JSON, /* argument: a JSON pointer (RFC 6901) into the payload */
    MESSAGE_QOS,
    MESSAGE_RETAIN,
    MESSAGE_RECEIVED_AT,    /* RFC 3339, UTC, milliseconds */
    MESSAGE_RECEIVED_AT_MS, /* since the Unix epoch */
    MESSAGE_NUMBER,         /* unique for each received message of the fleet */
    MESSAGE_NODE,
    MESSAGE_BROKER,   /* host:port */
    MESSAGE_LABEL,    /* argument: its name */
    MESSAGE_USER,     /* argument: the name of a user property, the first of that name */
    MESSAGE_PROPERTY, /* argument: another property of MQTT 5, "content_type" */
};

/* A name as it is written: the part, and where its argument is in the text (NULL: it has none). */
struct message_name {
    enum message_part part;
    unsigned level; /* of MESSAGE_TOPIC_LEVEL */
    const char *argument;
};

/* text: "json./a/b"; its argument is borrowed from it. ERR_ARGUMENT: fault (MESSAGE_FAULT_LEN) says
 * which names there are. Pure. */
enum err message_name_parse(const char *text, struct message_name *out, char *fault) MUST_CHECK;

bool message_pointer_is_valid(const char *pointer); /* a JSON pointer */

/* A larger payload is not read as JSON, which may take 60 times its bytes. */
#define MESSAGE_JSON_BYTES_MAX 1048576
enum message_json {
    MESSAGE_JSON_UNREAD,
    MESSAGE_JSON_READ,
    MESSAGE_JSON_INVALID,
    MESSAGE_JSON_NO_MEMORY /* whether it is valid is not known */
};

struct message_view {
    const struct message *message;
    const char *node;
    enum message_json json_state;
    json_t *json;
};

/* Both are borrowed for the life of the view. */
void message_view_init(struct message_view *view, const struct message *message, const char *node);
void message_view_fini(struct message_view *view);

/* Appends the value: text as it is, JSON numbers and booleans as JSON writes them, objects and
 * arrays as compact JSON. ERR_NOT_FOUND: the message does not have it (also: JSON null, payload
 * that is not JSON). ERR_MEMORY. */
enum err message_view_append(struct message_view *view, const struct message_name *name,
                             struct buffer *out) MUST_CHECK;
/* The value at a JSON pointer; borrowed. NULL: there is none, unless json_state is
 * MESSAGE_JSON_NO_MEMORY. */
const json_t *message_view_json(struct message_view *view, const char *pointer);

#endif
