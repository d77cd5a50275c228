/* The messages of one write, and what becomes of each after it: those that the target has are
 * answered, those that it refuses go to the dead letters, the others stay in the queue. The sink's
 * thread, unless stated otherwise. */
#ifndef MQFLEET_SINK_SETTLEMENT_H
#define MQFLEET_SINK_SETTLEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "dead_letters.h"
#include "base/telemetry/latency.h"
#include "message/message_queue.h"
#include "sink/sink_type.h"
#include "verdict.h"

struct settlement { /* of one sink; zero at first */
    struct message_queue *queue;
    size_t room;               /* of the arrays */
    struct message **messages; /* the oldest of the queue */
    struct sink_batch batch;   /* of these */
    bool *leaves;              /* which of these leave the queue */
    struct message_queue_entry *settled;
    struct receipts **answered; /* whose receipts those were */
    struct verdict verdict;
    struct dead_letters dead_letters;
    struct latency latency;                                /* any thread may read it */
    _Atomic int64_t accepted, canceled, rejected, expired; /* messages; any thread may read them */
};

/* Room for writes of that many messages. Keeps the room that there is. ERR_MEMORY. */
enum err settlement_grow(struct settlement *settlement, size_t count) MUST_CHECK;
/* Before the first write. sink, label: as of dead_letters_init. All are borrowed. */
void settlement_init(struct settlement *settlement, const char *sink, const char *label,
                     struct message_queue *queue);
void settlement_free(struct settlement *settlement);

/* Waits up to wait_ms for messages. Returns how many of them, at most count_max, are to be written
 * now. */
size_t settlement_await(struct settlement *settlement, size_t count_max, int64_t wait_ms);
/* The batch becomes the n oldest messages of the queue, without outcomes. */
void settlement_begin(struct settlement *settlement, size_t n);
/* After a write. Afterwards the messages of the batch are accepted or to be written again. A
 * message expires if it was tried for retry_ms: since it came, or since the sink fails, whichever
 * is later. failing_ms: how long it fails; -1: it does not. retry_ms 0: none expires. Returns how
 * many expired. */
size_t settlement_judge(struct settlement *settlement, int64_t failing_ms, int64_t retry_ms);
/* After settlement_judge: answers the accepted messages. Returns how many. */
size_t settlement_accept(struct settlement *settlement);
/* Answers the n oldest messages of the queue with ERR_CANCELED. Returns how many. */
size_t settlement_cancel(struct settlement *settlement, size_t n);
/* The same for the dead letters that wait. */
size_t settlement_cancel_dead_letters(struct settlement *settlement);

#endif
