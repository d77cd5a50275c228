/* The labels of a client, shared by its messages. Immutable; reference counted; any thread. */
#ifndef MQFLEET_MESSAGE_MESSAGE_LABELS_H
#define MQFLEET_MESSAGE_MESSAGE_LABELS_H

#include <stdatomic.h>
#include <stddef.h>

struct message_label {
    const char *name, *value;
};

struct message_labels {
    atomic_size_t references;
    size_t count;
    struct message_label items[];
};

/* Copies the texts; the caller has one reference. NULL: out of memory. */
struct message_labels *message_labels_create(const struct message_label *labels, size_t count);
/* NULL is legal in both. */
struct message_labels *message_labels_retain(struct message_labels *labels);
void message_labels_release(struct message_labels *labels);

#endif
