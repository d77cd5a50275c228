/* The messages that a sink gives up, on their way to its dead letter sink. They move with their
 * receipts, so they are acknowledged when the dead letter sink has stored them. While it has no
 * room, they wait here in order, count towards the bounds of the sink's queue, and are not written
 * to the target again. A message of QoS 0 does not wait; it is dropped and counted. The sink's
 * thread, unless stated otherwise. */
#ifndef MQFLEET_SINK_DEAD_LETTERS_H
#define MQFLEET_SINK_DEAD_LETTERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/message_queue.h"

struct dead_letter; /* a message that waits */

struct dead_letters {
    const char *sink, *label;    /* of the sink that gives them up */
    struct message_queue *queue; /* of that sink */
    /* Of the dead letter sink; NULL: there is none. Any thread may write it. */
    _Atomic(struct message_queue *) target;
    struct dead_letter *first, **end;
    struct dead_letter *marked, **marked_end; /* still in the queue of the sink */
    int64_t next_log_ms, unlogged;
};

/* All are borrowed. */
void dead_letters_init(struct dead_letters *letters, const char *sink, const char *label,
                       struct message_queue *queue);

/* Notes the reason for a message of the queue. False: out of memory. */
bool dead_letters_mark(struct dead_letters *letters, const struct message *message,
                       const char *reason);
/* Of the n oldest messages of the queue, those with leaves[i], which were marked in that order,
 * wait here. entries: room for n. Returns how many. */
size_t dead_letters_take(struct dead_letters *letters, const bool *leaves,
                         struct message_queue_entry *entries, size_t n);
/* Moves those for which the dead letter sink has room. */
void dead_letters_move(struct dead_letters *letters);
bool dead_letters_wait(const struct dead_letters *letters);
/* Answers all that wait with ERR_CANCELED. Returns how many. */
size_t dead_letters_cancel(struct dead_letters *letters);

#endif
