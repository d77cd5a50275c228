/* The properties of the receiving client that templates and routes may use: its broker and its
 * labels. Shared by the messages of the client. Immutable; reference counted; any thread. */
#ifndef MQFLEET_MESSAGE_MESSAGE_ORIGIN_H
#define MQFLEET_MESSAGE_MESSAGE_ORIGIN_H

#include <stdatomic.h>
#include <stddef.h>

struct message_label {
    const char *name, *value;
};

struct message_origin {
    atomic_size_t references;
    const char *broker; /* host:port */
    size_t label_count;
    struct message_label labels[];
};

/* Copies the texts; the caller has one reference. NULL: out of memory. */
struct message_origin *message_origin_create(const char *broker, const struct message_label *labels,
                                             size_t count);
/* NULL is legal in all. */
struct message_origin *message_origin_retain(struct message_origin *origin);
void message_origin_release(struct message_origin *origin);
/* NULL: the client has no such label. */
const char *message_origin_label(const struct message_origin *origin, const char *name);

#endif
