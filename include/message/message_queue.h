/* The queue between engines and one sink: bounded in messages and in bytes.
 *
 *   engines --put--> [ messages and bytes ] --peek--> the sink's thread --take--> answers
 *
 * Full: QoS 0 messages are dropped and counted. QoS 1 and 2 messages are
 * rejected with ERR_FULL, so that the engine keeps them and withholds their acknowledgement. The
 * last eighth of the queue accepts only QoS 1 and 2.
 *
 * Shares: a client may have at most four times as much in the queue as there is room left, in
 * messages and in bytes. The more is queued, by any client, the smaller the share (a dynamic
 * threshold, as switches use it for a buffer that their ports share). A single client gets four
 * fifths of the queue. If n clients send as fast as they can, each gets 4 / (4n + 1), and 1 /
 * (4n + 1) stays free for clients with few messages. A message beyond the share is handled as if
 * the queue were full. */
#ifndef MQFLEET_MESSAGE_MESSAGE_QUEUE_H
#define MQFLEET_MESSAGE_MESSAGE_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/message.h"
#include "message/receipt.h"

struct message_queue;

#define MESSAGE_QUEUE_MESSAGES_MAX (1 << 24)

struct message_queue_entry {
    struct message *message; /* owned by the queue, then by the taker of the entry */
    struct receipt *receipt; /* will be answered; NULL: nobody waits for an answer */
    uint32_t slot;           /* of the queue, while the message is in it */
};

/* Refers to the queue's counters for a client; stored with the client; initially zero. It needs no
 * end: the queue recognizes a share that is out of date. */
struct message_queue_share {
    _Atomic uint64_t key;    /* of the client's count */
    _Atomic uint32_t wanted; /* bytes of the message last rejected with ERR_FULL; 0: none */
    atomic_flag locked;      /* for the owner of the share; the queue does not use it */
};

struct message_queue_status {
    size_t messages, bytes; /* with what is held */
    size_t messages_max, bytes_max;
    int64_t dropped; /* QoS 0 messages dropped because the queue was full, since the start */
    int64_t dropped_over_share; /* of these, because the client had its share */
};

/* messages_max: at most MESSAGE_QUEUE_MESSAGES_MAX. batch_max: the sink's thread is woken before
 * the flush once this many messages are queued. NULL: out of memory. */
struct message_queue *message_queue_create(size_t messages_max, size_t bytes_max, size_t batch_max);
void message_queue_destroy(
    struct message_queue *queue); /* must be empty, nothing held; NULL is legal */
/* Other bounds for a queue that exists. Queued messages stay, even beyond the new bounds. A closed
 * queue opens again. ERR_MEMORY: it is as before. Any thread. */
enum err message_queue_resize(struct message_queue *queue, size_t messages_max, size_t bytes_max,
                              size_t batch_max) MUST_CHECK;

/* From now on, a flush calls `start` if messages were put while the sink's thread does not run.
 * False: it could not be started, and the next flush tries again. Before the first put. */
void message_queue_start_on_demand(struct message_queue *queue, bool (*start)(void *context),
                                   void *context);

/* ---- engines, any thread ---- */

/* Takes ownership of message on ERR_OK; then `receipt` (may be NULL) is answered once. ERR_REFUSED:
 * no room for QoS 0, the message was dropped (freed) and counted. ERR_BUSY: the same, because the
 * client has its share. ERR_FULL: QoS 1 or 2 was not accepted; offer it again when
 * message_queue_has_room. ERR_WRONG_STATE: closed, not accepted. share: of the client, used by one
 * put at a time; NULL: the message counts for no client. */
enum err message_queue_put(struct message_queue *queue, struct message_queue_share *share,
                           struct message *message, struct receipt *receipt) MUST_CHECK;

struct message_delivery {
    struct message_queue *queue;
    struct message_queue_share *share; /* of the client, in that queue; NULL: counts for none */
    struct message *message;
};

/* Puts a message, or several made of it, into several queues: into all, or into none. QoS 1 and 2.
 * ERR_OK: the queues own the messages, and `receipt` is answered `count` times. ERR_FULL: *full is
 * the delivery that found no room; ERR_WRONG_STATE: its queue is closed. The deliveries are sorted
 * by queue. Any thread. */
enum err message_queue_put_all(struct message_delivery *deliveries, size_t count,
                               struct receipt *receipt, size_t *full) MUST_CHECK;
/* Wakes the sink's thread if it sleeps and messages were put; call it once for many messages. */
void message_queue_flush(struct message_queue *queue);
/* Whether a message of QoS 1 or 2 of that client would be accepted: the one last rejected with
 * ERR_FULL, else a small one. Also true when the queue is closed. */
bool message_queue_has_room(struct message_queue *queue, const struct message_queue_share *share);

/* Whether the queue has messages of that client. Any thread. */
bool message_queue_has_some(struct message_queue *queue, const struct message_queue_share *share);

void message_queue_get_status(struct message_queue *queue, struct message_queue_status *out);

/* ---- the sink's thread ---- */

/* Waits up to timeout_ms (negative: without limit) for a message, or for the end. Returns the
 * number of messages in batch, from the oldest on: at most messages_max, and no further ones once
 * they reach bytes_max. They stay in the queue. */
size_t message_queue_peek(struct message_queue *queue, struct message **batch, size_t messages_max,
                          size_t bytes_max, int64_t timeout_ms);
/* Of the n oldest (of the last peek), those with leaves[i] leave the queue; the others stay, in
 * their order, as the oldest. Returns how many are in `out`, which has room for n. */
size_t message_queue_take(struct message_queue *queue, const bool *leaves,
                          struct message_queue_entry *out, size_t n);
/* The same, but what leaves keeps counting towards the bounds of the queue, each until its release.
 */
size_t message_queue_hold(struct message_queue *queue, const bool *leaves,
                          struct message_queue_entry *out, size_t n);
/* bytes: size of the message that was held, which may be gone. */
void message_queue_release(struct message_queue *queue, const struct message_queue_entry *held,
                           size_t bytes);
/* Closed, and nothing is left in it; what is held does not matter. */
bool message_queue_is_over(struct message_queue *queue);

/* Accepts no more messages from now on. Any thread. */
void message_queue_close(struct message_queue *queue);

#endif
