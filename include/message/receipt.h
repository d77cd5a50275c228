/* The answer to a received message, returned from a sink's thread to the engine.
 *
 *   engine: struct receipt, part of what it keeps of a message of QoS 1 or 2
 *      |  route_submit(route, message, &receipt)
 *      v
 *   entry of the sink's queue: { message, receipt }          nothing is allocated for the answer
 *      |  receipt_answer(receipt, result), sink's thread; after a batch receipts_wake, once
 *      v
 *   struct receipts of the engine: a list, newest first, and a descriptor that wakes its thread
 *
 * Ownership: between route_submit and receipts_take the receipt belongs to the sink, and the engine
 * keeps its memory even if connection and session end. It comes back exactly once. The engine frees
 * it, on the thread that takes it. The sink frees the message before it answers. A struct receipts
 * outlives all receipts that refer to it.
 *
 * A sink answers with a final outcome only: ERR_OK, it has stored the message; ERR_CANCELED, it
 * stopped before. A message that is retried stays in the queue, unanswered.
 *
 * A message may go to several sinks that all must accept it. Their queues share the message and the
 * receipt, which counts the missing answers: the last one returns it to the engine, with ERR_OK if
 * all were. A rejected message moves, with its receipt, to the queue of the dead letter sink. */
#ifndef MQFLEET_MESSAGE_RECEIPT_H
#define MQFLEET_MESSAGE_RECEIPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct receipt {
    struct receipts *owner; /* set by the engine before it submits */
    struct receipt *next;   /* in the list of answers */
    enum err result;        /* valid after receipts_take */
    atomic_uint missing;    /* answers; 0 stands for 1 */
};

/* Answers for one thread, which may sleep on wake_fd. */
struct receipts {
    _Atomic(struct receipt *) answered; /* newest first */
    atomic_bool waiting;                /* the thread may be asleep: answers must wake it */
    int wake_fd;                        /* eventfd; readable when there are answers to take */
};

/* False: no descriptors left. */
bool receipts_init(struct receipts *receipts);
/* Call it after all answers were taken. Legal after a failed init. */
void receipts_fini(struct receipts *receipts);

/* ---- the sink's side, any thread ---- */

/* Before the queues get it: that many will answer. */
void receipt_expect(struct receipt *receipt, unsigned answers);
/* One answer; the last one returns the receipt to its engine. */
void receipt_answer(struct receipt *receipt, enum err err);
/* Wakes the thread if it sleeps and there are answers. Call it once for many answers, because the
 * wake-up is by far the most expensive step. */
void receipts_wake(struct receipts *receipts);

/* ---- the engine's side, one thread ---- */

/* All answers so far, the oldest first, linked by `next`. */
struct receipt *receipts_take(struct receipts *receipts);
/* From now on, answers write to wake_fd. True: there are already answers; do not wait. */
bool receipts_begin_wait(struct receipts *receipts);
void receipts_end_wait(struct receipts *receipts);

#endif
