/* A received application message on its way from an engine to sinks. One allocation; immutable once
 * it is submitted to a route; reference counted, because several sinks may have it. */
#ifndef MQFLEET_MESSAGE_MESSAGE_H
#define MQFLEET_MESSAGE_MESSAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "message/message_origin.h"
#include "message/rejection.h"

/* A PUBLISH property of MQTT 5.0 section 3.3.2.3, as text or bytes. Numbers are decimal text. */
struct message_property {
    const char
        *name; /* the specification's name in snake_case: "content_type", "user_property" ... */
    const char *key; /* the name of a user property, else NULL */
    const char *value;
    size_t value_len;
};

struct message {
    const char *id;        /* of the client, its key in Redis */
    const char *client_id; /* its MQTT client identifier */
    const char *topic;
    const uint8_t *payload;
    size_t payload_len;
    const struct message_property *properties;
    size_t property_count;
    struct message_origin *origin; /* NULL: not known */
    struct rejection *rejection;   /* of a dead letter; owned; NULL: no sink has rejected it */
    uint64_t number;               /* of this process, from 1; 0 before message_create */
    int64_t received_at_ms;        /* wall clock */
    int64_t received_us;           /* monotonic, for durations */
    uint8_t qos;
    bool retain;
    bool dup;
    atomic_uint references; /* 1 after message_create */
    size_t size;            /* size of the whole allocation, which queues count */
};

/* Copies everything that `from` points to, except the origin, to which it refers, and the
 * rejection; numbers the message unless it has a number. NULL: out of memory. Free with
 * message_destroy, which accepts NULL. */
struct message *message_create(const struct message *from);
struct message *message_retain(struct message *message); /* one more owner; any thread */
void message_destroy(struct message *message);           /* one owner less; any thread */
/* With `number`, unique for each message of the fleet: 16 hexadecimal digits, random at the start
 * of the process. */
const char *message_process_id(void);

#endif
