/* Owns the messages of a write, from the queue until each is answered or a dead letter. */
#include "settlement.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"

#define BATCH_BYTES_MAX 4194304  /* keeps one write short, however many messages it contains */
#define DOUBT_BYTES_MAX 67108864 /* reaches beyond rejected messages, to one that is accepted */

/* ---- room ------------------------------------------------------------------------------------ */

static bool settlement_grow_array(void *array, size_t count, size_t size) {
    void **at = array;
    void *grown = reallocarray(*at, count, size);
    *at = grown ? grown : *at;
    return grown != NULL;
}

enum err settlement_grow(struct settlement *settlement, size_t count) {
    struct sink_batch *batch = &settlement->batch;
    if (count <= settlement->room) {
        return ERR_OK;
    }
    bool grown =
        settlement_grow_array(&settlement->messages, count, sizeof *settlement->messages) &&
        settlement_grow_array(&batch->outcomes, count, sizeof *batch->outcomes) &&
        settlement_grow_array(&batch->reasons, count, sizeof *batch->reasons) &&
        settlement_grow_array(&settlement->leaves, count, sizeof *settlement->leaves) &&
        settlement_grow_array(&settlement->settled, count, sizeof *settlement->settled) &&
        settlement_grow_array(&settlement->answered, count, sizeof *settlement->answered);
    settlement->room = grown ? count : settlement->room;
    return grown ? ERR_OK : ERR_MEMORY;
}

void settlement_init(struct settlement *settlement, const char *sink, const char *label,
                     struct message_queue *queue) {
    settlement->queue = queue;
    dead_letters_init(&settlement->dead_letters, sink, label, queue);
}

void settlement_free(struct settlement *settlement) {
    free(settlement->messages);
    free(settlement->batch.outcomes);
    free(settlement->batch.reasons);
    free(settlement->leaves);
    free(settlement->settled);
    free(settlement->answered);
}

/* ---- before a write -------------------------------------------------------------------------- */

size_t settlement_await(struct settlement *settlement, size_t count_max, int64_t wait_ms) {
    size_t bytes_max = settlement->verdict.doubts ? DOUBT_BYTES_MAX : BATCH_BYTES_MAX;
    return message_queue_peek(settlement->queue, settlement->messages, count_max, bytes_max,
                              wait_ms);
}

void settlement_begin(struct settlement *settlement, size_t n) {
    struct sink_batch *batch = &settlement->batch;
    latency_turn(&settlement->latency, clock_ms());
    batch->messages = settlement->messages;
    batch->count = n;
    *batch->error = '\0';
    memset(batch->outcomes, 0, n * sizeof *batch->outcomes); /* SINK_RETRY */
}

/* ---- rejected messages ----------------------------------------------------------------------- */

/* Rejects messages that were tried for too long. Returns how many. */
static size_t settlement_reject_expired(struct settlement *settlement, int64_t failing_ms,
                                        int64_t retry_ms) {
    struct sink_batch *batch = &settlement->batch;
    size_t count = 0;
    int64_t before_ms = clock_ms() - retry_ms;
    if (retry_ms == 0 || *batch->error == '\0' || !settlement->dead_letters.target ||
        failing_ms < retry_ms) {
        return 0;
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcomes[i] == SINK_RETRY &&
            batch->messages[i]->received_us / 1000 <= before_ms) {
            sink_batch_reject(batch, i, "not accepted within %lld ms: %.100s", (long long)retry_ms,
                              batch->error);
            count++;
        }
    }
    return count;
}

/* The rejected messages leave the queue; the others stay in the batch. */
static void settlement_take_rejected(struct settlement *settlement) {
    struct sink_batch *batch = &settlement->batch;
    struct histogram_values measured = {.sum_us = 0};
    bool *leaves = settlement->leaves;
    size_t kept = 0;
    int64_t now_us = clock_us();
    for (size_t i = 0; i < batch->count; i++) {
        leaves[i] = batch->outcomes[i] == SINK_REJECTED &&
                    dead_letters_mark(&settlement->dead_letters, settlement->messages[i],
                                      batch->reasons[i]);
        if (leaves[i]) {
            histogram_values_add(&measured, now_us - settlement->messages[i]->received_us);
        }
    }
    latency_add(&settlement->latency, &measured);
    (void)dead_letters_take(&settlement->dead_letters, leaves, settlement->settled, batch->count);
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcomes[i] == SINK_REJECTED && !leaves[i]) { /* it was not marked */
            batch->outcomes[i] = SINK_RETRY;
            (void)sink_batch_fail(batch, ERR_MEMORY, "out of memory");
        }
        if (!leaves[i]) {
            batch->outcomes[kept] = batch->outcomes[i];
            settlement->messages[kept++] = settlement->messages[i];
        }
    }
    batch->count = kept;
}

size_t settlement_judge(struct settlement *settlement, int64_t failing_ms, int64_t retry_ms) {
    bool may_reject = settlement->dead_letters.target != NULL;
    size_t rejected = verdict_judge(&settlement->verdict, &settlement->batch, may_reject);
    size_t expired = settlement_reject_expired(settlement, failing_ms, retry_ms);
    settlement->rejected += (int64_t)rejected;
    settlement->expired += (int64_t)expired;
    if (rejected + expired > 0) {
        settlement_take_rejected(settlement);
    }
    return expired;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void settlement_count(struct settlement *settlement, size_t n, enum err err) {
    *(err == ERR_OK ? &settlement->accepted : &settlement->canceled) += (int64_t)n;
    metric_add(METRIC_SINK_ACCEPTED, err == ERR_OK ? (int64_t)n : 0);
}

/* Every engine once, after all of its answers. */
static void settlement_wake_answered(struct settlement *settlement, size_t n) {
    struct receipts **answered = settlement->answered;
    for (size_t i = 0; i < n; i++) {
        if (answered[i] && (i == 0 || answered[i] != answered[i - 1])) {
            receipts_wake(answered[i]);
        }
    }
}

/* Once per batch, because counters of the process are shared by threads. */
static void settlement_measure(struct settlement *settlement, size_t n, int64_t now_us) {
    struct histogram_values measured = {.sum_us = 0};
    int64_t dead_letters = 0;
    for (size_t i = 0; i < n; i++) {
        const struct message *message = settlement->settled[i].message;
        histogram_values_add(&measured, now_us - message->received_us);
        dead_letters += message->rejection != NULL;
    }
    latency_add(&settlement->latency, &measured);
    histogram_add_values(HISTOGRAM_SINK, &measured);
    metric_add(METRIC_DEAD_LETTERS_WRITTEN, dead_letters);
}

/* Of the n oldest messages (at most a batch), those that leave the queue are answered. Returns how
 * many. */
static size_t settlement_answer(struct settlement *settlement, size_t n, enum err err) {
    size_t count =
        message_queue_take(settlement->queue, settlement->leaves, settlement->settled, n);
    settlement_count(settlement, count, err);
    if (err == ERR_OK) {
        settlement_measure(settlement, count, clock_us());
    }
    for (size_t i = 0; i < count; i++) {
        struct message_queue_entry *entry = &settlement->settled[i];
        message_destroy(entry->message);
        settlement->answered[i] = entry->receipt ? entry->receipt->owner : NULL;
        if (entry->receipt) {
            receipt_answer(entry->receipt, err);
        }
    }
    settlement_wake_answered(settlement, count);
    return count;
}

size_t settlement_accept(struct settlement *settlement) {
    const struct sink_batch *batch = &settlement->batch;
    for (size_t i = 0; i < batch->count; i++) {
        settlement->leaves[i] = batch->outcomes[i] == SINK_ACCEPTED;
    }
    return settlement_answer(settlement, batch->count, ERR_OK);
}

size_t settlement_cancel(struct settlement *settlement, size_t n) {
    memset(settlement->leaves, true, n * sizeof *settlement->leaves);
    return settlement_answer(settlement, n, ERR_CANCELED);
}

size_t settlement_cancel_dead_letters(struct settlement *settlement) {
    size_t count = dead_letters_cancel(&settlement->dead_letters);
    settlement_count(settlement, count, ERR_CANCELED);
    return count;
}
