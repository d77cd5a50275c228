/* Owns what happens between a queue of messages and one target: batches, retries with backoff, the
 * answers, and the stop. The queue itself is message/message_queue.h. Runs on the sink's thread,
 * unless stated otherwise. */
#include "sink/sink.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "dead_letters.h"
#include "sink/sink_types.h"
#include "verdict.h"

#define BATCH_BYTES_MAX       4194304 /* keeps one write short, however many messages it contains */
#define BACKOFF_MS_MIN        50
#define BACKOFF_MS_MAX        2000
#define MAINTENANCE_PERIOD_MS 1000
#define DEAD_LETTERS_WAIT_MS  20 /* between two attempts to move them */

struct sink {
    char name[SINK_NAME_LEN], label[SINK_NAME_LEN];
    const struct sink_type *type;
    json_t *settings;
    void *state;
    struct message_queue *queue;
    size_t batch_max;
    int64_t retry_ms; /* 0: without limit */
    bool is_dead_letter;
    _Atomic int64_t accepted, canceled, rejected, expired, retried;

    /* the sink's thread only */
    struct message **messages;
    struct sink_batch batch; /* of these */
    bool *leaves;            /* which of these leave the queue */
    struct message_queue_entry *settled;
    struct receipts **answered; /* whose receipts those were */
    int64_t backoff_ms;
    int64_t next_maintenance_ms; /* next maintenance of the type */
    int64_t failures;            /* since a whole batch was last settled */
    struct verdict verdict;
    struct dead_letters dead_letters;

    pthread_mutex_t lock;    /* guards everything below */
    pthread_cond_t stopping; /* the sink stops, or its thread has ended */
    bool stopped, ended;
    int64_t stop_deadline_ms;
    bool failing;
    int64_t failing_since_ms;
    char error[SINK_ERROR_LEN];
};

/* --- life --- */

static void sink_free(struct sink *sink) {
    pthread_cond_destroy(&sink->stopping);
    pthread_mutex_destroy(&sink->lock);
    message_queue_destroy(sink->queue);
    json_decref(sink->settings);
    free(sink->messages);
    free(sink->batch.outcomes);
    free(sink->batch.reasons);
    free(sink->leaves);
    free(sink->settled);
    free(sink->answered);
    free(sink);
}

/* False: out of memory. */
static bool sink_allocate(struct sink *sink) {
    sink->batch_max = (size_t)sink_settings_integer(sink->settings, "batch_messages");
    sink->retry_ms = sink_settings_integer(sink->settings, "retry_ms");
    sink->queue = message_queue_create(
        (size_t)sink_settings_integer(sink->settings, "queue_messages"),
        (size_t)sink_settings_integer(sink->settings, "queue_bytes"), sink->batch_max);
    sink->messages = calloc(sink->batch_max, sizeof *sink->messages);
    sink->batch.outcomes = calloc(sink->batch_max, sizeof *sink->batch.outcomes);
    sink->batch.reasons = calloc(sink->batch_max, sizeof *sink->batch.reasons);
    sink->leaves = calloc(sink->batch_max, sizeof *sink->leaves);
    sink->settled = calloc(sink->batch_max, sizeof *sink->settled);
    sink->answered = calloc(sink->batch_max, sizeof *sink->answered);
    return sink->queue && sink->messages && sink->batch.outcomes && sink->batch.reasons &&
           sink->leaves && sink->settled && sink->answered;
}

static void sink_keep_first_fault(void *context, const char *field, const char *text) {
    char *fault = context;
    if (*fault == '\0') {
        snprintf(fault, SINK_FAULT_LEN, "%.60s%s%.180s", field, *field ? " " : "", text);
    }
}

/* ERR_ARGUMENT, too, without memory: fault says it. */
static enum err sink_take_settings(struct sink *sink, const struct sink_config *config,
                                   char *fault) {
    const struct sink_field *const tables[] = {sink_common_fields, sink->type->fields, NULL};
    *fault = '\0';
    sink->settings = sink_settings_complete(tables, config->settings, sink_keep_first_fault, fault);
    return sink->settings ? ERR_OK : ERR_ARGUMENT;
}

enum err sink_create(struct sink **out, const struct sink_config *config, char *fault) {
    const struct sink_type *type = sink_types_find(config->type, fault);
    if (!type) {
        return ERR_ARGUMENT;
    }
    struct sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        return ERR_MEMORY;
    }
    pthread_mutex_init(&sink->lock, NULL);
    condition_init(&sink->stopping);
    snprintf(sink->name, sizeof sink->name, "%s", config->name);
    snprintf(sink->label, sizeof sink->label, "%s", config->label ? config->label : config->name);
    sink->type = type;
    enum err err = sink_take_settings(sink, config, fault);
    if (err == ERR_OK) {
        err = sink_allocate(sink) ? ERR_OK : ERR_MEMORY;
        dead_letters_init(&sink->dead_letters, sink->name, sink->label, sink->queue);
    }
    if (err == ERR_OK) {
        err = type->open(&sink->state, config->environment, sink->settings, fault);
    }
    if (err != ERR_OK) {
        sink_free(sink);
        return err;
    }
    *out = sink;
    return ERR_OK;
}

const char *sink_name(const struct sink *sink) {
    return sink->name;
}

const char *sink_label(const struct sink *sink) {
    return sink->label;
}

struct message_queue *sink_queue(struct sink *sink) {
    return sink->queue;
}

const char *sink_dead_letter(const struct sink *sink) {
    return sink_settings_text(sink->settings, "dead_letter");
}

void sink_set_dead_letter(struct sink *sink, struct sink *dead_letter) {
    if (!sink->is_dead_letter) {
        dead_letter->is_dead_letter = true;
        dead_letter->dead_letters.target = NULL;
        sink->dead_letters.target = dead_letter->queue;
    }
}

bool sink_is_dead_letter(const struct sink *sink) {
    return sink->is_dead_letter;
}

void sink_destroy(struct sink *sink) {
    if (!sink) {
        return;
    }
    sink->type->close(sink->state);
    sink_free(sink);
}

/* --- any thread --- */

void sink_stop(struct sink *sink, int64_t timeout_ms) {
    pthread_mutex_lock(&sink->lock);
    sink->stopped = true;
    sink->stop_deadline_ms = clock_ms() + timeout_ms;
    pthread_cond_broadcast(&sink->stopping);
    pthread_mutex_unlock(&sink->lock);
    message_queue_close(sink->queue);
}

void sink_await_end(struct sink *sink) {
    pthread_mutex_lock(&sink->lock);
    while (!sink->ended) { /* bounded by the deadline of the stop, and by one write */
        pthread_cond_wait(&sink->stopping, &sink->lock);
    }
    pthread_mutex_unlock(&sink->lock);
}

void sink_status(struct sink *sink, struct sink_status *out) {
    struct message_queue_status queue;
    message_queue_get_status(sink->queue, &queue);
    pthread_mutex_lock(&sink->lock);
    *out =
        (struct sink_status){.type = sink->type->name,
                             .queued_messages = queue.messages,
                             .queued_bytes = queue.bytes,
                             .messages_max = queue.messages_max,
                             .bytes_max = queue.bytes_max,
                             .failing = sink->failing,
                             .failing_ms = sink->failing ? clock_ms() - sink->failing_since_ms : 0,
                             .accepted = sink->accepted,
                             .dropped = queue.dropped,
                             .canceled = sink->canceled,
                             .rejected = sink->rejected,
                             .expired = sink->expired,
                             .retried = sink->retried,
                             .store_bytes = -1,
                             .store_bytes_max = -1,
                             .store_entries = -1};
    memcpy(out->name, sink->name, sizeof out->name);
    memcpy(out->label, sink->label, sizeof out->label);
    memcpy(out->error, sink->error, sizeof out->error);
    pthread_mutex_unlock(&sink->lock);
    if (sink->type->status) {
        sink->type->status(sink->state, out);
    }
}

/* --- the sink's thread --- */

/* Until the next maintenance of the type; negative: it needs none. */
static int64_t sink_maintenance_wait_ms(const struct sink *sink) {
    if (!sink->type->maintain) {
        return -1;
    }
    int64_t left_ms = sink->next_maintenance_ms - clock_ms();
    return left_ms > 0 ? left_ms : 0;
}

static void sink_maintain_if_due(struct sink *sink) {
    if (sink_maintenance_wait_ms(sink) == 0) {
        sink->type->maintain(sink->state);
        sink->next_maintenance_ms = clock_ms() + MAINTENANCE_PERIOD_MS;
    }
}

static bool sink_stop_deadline_passed(struct sink *sink) {
    pthread_mutex_lock(&sink->lock);
    bool up = sink->stopped && clock_ms() >= sink->stop_deadline_ms;
    pthread_mutex_unlock(&sink->lock);
    return up;
}

static int64_t sink_idle_wait_ms(const struct sink *sink) {
    int64_t wait_ms = sink_maintenance_wait_ms(sink);
    bool sooner = wait_ms < 0 || wait_ms > DEAD_LETTERS_WAIT_MS;
    return dead_letters_wait(&sink->dead_letters) && sooner ? DEAD_LETTERS_WAIT_MS : wait_ms;
}

/* Stopped, and the queue is empty. Dead letters may wait until the deadline of the stop. */
static bool sink_is_over(struct sink *sink) {
    if (!message_queue_is_over(sink->queue)) {
        return false;
    }
    if (!dead_letters_wait(&sink->dead_letters) || sink_stop_deadline_passed(sink)) {
        return true;
    }
    clock_sleep_ms(DEAD_LETTERS_WAIT_MS); /* a closed queue does not wait */
    return false;
}

/* Waits for messages. Returns how many of them, from the head, must be written now. 0: the sink is
 * over. */
static size_t sink_next_batch(struct sink *sink) {
    for (;;) { /* as long as the sink runs */
        dead_letters_move(&sink->dead_letters);
        size_t n = message_queue_peek(sink->queue, sink->messages, sink->batch_max, BATCH_BYTES_MAX,
                                      sink_idle_wait_ms(sink));
        if (n > 0 || sink_is_over(sink)) {
            return n;
        }
        sink_maintain_if_due(sink);
    }
}

static void sink_count_settled(struct sink *sink, size_t n, enum err err) {
    *(err == ERR_OK ? &sink->accepted : &sink->canceled) += (int64_t)n;
    metric_add(METRIC_SINK_ACCEPTED, err == ERR_OK ? (int64_t)n : 0);
}

/* Every engine once, after all of its answers. */
static void sink_wake_answered(struct sink *sink, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (sink->answered[i] && (i == 0 || sink->answered[i] != sink->answered[i - 1])) {
            receipts_wake(sink->answered[i]);
        }
    }
}

/* Of the n oldest messages (at most a batch), those with sink->leaves leave the queue and are
 * answered. Returns how many. */
static size_t sink_settle(struct sink *sink, size_t n, enum err err) {
    size_t count = message_queue_take(sink->queue, sink->leaves, sink->settled, n);
    int64_t now_us = clock_us();
    sink_count_settled(sink, count, err);
    for (size_t i = 0; i < count; i++) {
        struct message_queue_entry *entry = &sink->settled[i];
        if (err == ERR_OK) {
            histogram_add(HISTOGRAM_SINK, now_us - entry->message->received_us, 1);
            metric_add(METRIC_DEAD_LETTERS_WRITTEN, entry->message->rejection ? 1 : 0);
        }
        message_destroy(entry->message);
        sink->answered[i] = entry->receipt ? entry->receipt->owner : NULL;
        if (entry->receipt) {
            receipt_answer(entry->receipt, err);
        }
    }
    sink_wake_answered(sink, count);
    return count;
}

static void sink_set_failing(struct sink *sink, bool failing, const char *error) {
    pthread_mutex_lock(&sink->lock);
    sink->failing = failing;
    if (failing) {
        sink->failing_since_ms = sink->failures == 1 ? clock_ms() : sink->failing_since_ms;
        snprintf(sink->error, sizeof sink->error, "%s", error);
    }
    pthread_mutex_unlock(&sink->lock);
}

/* Logged once at the start and once at the end of a failure, however many retries are made. */
static void sink_note_failure(struct sink *sink, const char *error) {
    metric_add(METRIC_SINK_ERRORS, 1);
    if (sink->failures++ == 0) {
        log_event(LOG_WARN, "sink_failing", KS("sink", sink->label), KS("error", error));
    }
    sink_set_failing(sink, true, error);
}

static void sink_note_success(struct sink *sink) {
    sink->backoff_ms = 0;
    if (sink->failures > 0) {
        log_event(LOG_INFO, "sink_recovered", KS("sink", sink->label),
                  KI("failures", sink->failures),
                  KI("after_ms", clock_ms() - sink->failing_since_ms));
        sink->failures = 0;
        sink_set_failing(sink, false, NULL);
    }
}

/* Locked. */
static int64_t sink_wait_left_ms(const struct sink *sink, int64_t until_ms) {
    bool cut = sink->stopped && sink->stop_deadline_ms < until_ms;
    return (cut ? sink->stop_deadline_ms : until_ms) - clock_ms();
}

/* Waits before the next attempt, twice as long as before the last one. When the sink stops, the
 * wait ends no later than the deadline of the stop. */
static void sink_back_off(struct sink *sink) {
    sink->backoff_ms = sink->backoff_ms ? sink->backoff_ms * 2 : BACKOFF_MS_MIN;
    if (sink->backoff_ms > BACKOFF_MS_MAX) {
        sink->backoff_ms = BACKOFF_MS_MAX;
    }
    int64_t until_ms = clock_ms() + sink->backoff_ms;
    pthread_mutex_lock(&sink->lock);
    int64_t left_ms = sink_wait_left_ms(sink, until_ms);
    while (left_ms > 0) {
        struct timespec until = condition_deadline(left_ms);
        pthread_cond_timedwait(&sink->stopping, &sink->lock, &until);
        left_ms = sink_wait_left_ms(sink, until_ms);
    }
    pthread_mutex_unlock(&sink->lock);
}

/* Rejects messages that were tried for too long. A message is tried since it came, or since the
 * sink fails, whichever is later. Returns how many. */
static size_t sink_reject_expired(struct sink *sink) {
    struct sink_batch *batch = &sink->batch;
    size_t count = 0;
    int64_t before_ms = clock_ms() - sink->retry_ms;
    if (sink->retry_ms == 0 || !sink->dead_letters.target || sink->failures == 0 ||
        sink->failing_since_ms > before_ms) {
        return 0;
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcomes[i] == SINK_RETRY &&
            batch->messages[i]->received_us / 1000 <= before_ms) {
            sink_batch_reject(batch, i, "not accepted within %lld ms: %.100s",
                              (long long)sink->retry_ms, batch->error);
            count++;
        }
    }
    return count;
}

/* Of the batch, the rejected messages leave the queue; the others stay in the batch. */
static void sink_take_rejected(struct sink *sink) {
    struct sink_batch *batch = &sink->batch;
    size_t kept = 0;
    for (size_t i = 0; i < batch->count; i++) {
        sink->leaves[i] =
            batch->outcomes[i] == SINK_REJECTED &&
            dead_letters_mark(&sink->dead_letters, sink->messages[i], batch->reasons[i]);
    }
    (void)dead_letters_take(&sink->dead_letters, sink->leaves, sink->settled, batch->count);
    for (size_t i = 0; i < batch->count; i++) {
        if (!sink->leaves[i]) { /* one that is rejected was not marked, for want of memory */
            bool accepted = batch->outcomes[i] == SINK_ACCEPTED;
            batch->outcomes[kept] = accepted ? SINK_ACCEPTED : SINK_RETRY;
            sink->messages[kept++] = sink->messages[i];
        }
    }
    batch->count = kept;
}

/* After it, the messages of the batch are accepted or tried again. Returns how many expired. */
static size_t sink_judge(struct sink *sink) {
    size_t rejected =
        verdict_judge(&sink->verdict, &sink->batch, sink->dead_letters.target != NULL);
    size_t expired = sink_reject_expired(sink);
    sink->rejected += (int64_t)rejected;
    sink->expired += (int64_t)expired;
    if (rejected + expired > 0) {
        sink_take_rejected(sink);
    }
    return expired;
}

static size_t sink_settle_accepted(struct sink *sink) {
    for (size_t i = 0; i < sink->batch.count; i++) {
        sink->leaves[i] = sink->batch.outcomes[i] == SINK_ACCEPTED;
    }
    return sink_settle(sink, sink->batch.count, ERR_OK);
}

static void sink_write_batch(struct sink *sink, size_t n) {
    sink->batch.messages = sink->messages;
    sink->batch.count = n;
    *sink->batch.error = '\0';
    memset(sink->batch.outcomes, 0, n * sizeof *sink->batch.outcomes); /* SINK_RETRY */
    enum err err = sink->type->write(sink->state, &sink->batch);
    size_t expired = sink_judge(sink);
    size_t accepted = sink_settle_accepted(sink);
    size_t retried = sink->batch.count - accepted;
    sink->retried += (int64_t)retried;
    if (retried + expired == 0) {
        sink_note_success(sink);
        return;
    }
    if (accepted > 0) {
        sink->backoff_ms = 0;
    }
    sink_note_failure(sink, *sink->batch.error ? sink->batch.error : err_name(err));
    sink_back_off(sink);
}

static void sink_cancel_remaining(struct sink *sink) {
    size_t canceled = 0;
    size_t n = sink_next_batch(sink);
    while (n > 0) { /* bounded: no messages are accepted any more */
        memset(sink->leaves, true, n * sizeof *sink->leaves);
        canceled += sink_settle(sink, n, ERR_CANCELED);
        n = sink_next_batch(sink);
    }
    size_t dead_letters = dead_letters_cancel(&sink->dead_letters);
    sink_count_settled(sink, dead_letters, ERR_CANCELED);
    canceled += dead_letters;
    if (canceled > 0) {
        log_event(LOG_WARN, "sink_canceled", KS("sink", sink->label), KI("messages", canceled));
    }
}

void *sink_run(void *argument) {
    struct sink *sink = argument;
    size_t n = sink_next_batch(sink);
    while (n > 0 && !sink_stop_deadline_passed(sink)) {
        sink_write_batch(sink, n);
        n = sink_next_batch(sink);
    }
    sink_cancel_remaining(sink);
    pthread_mutex_lock(&sink->lock);
    sink->ended = true;
    pthread_cond_broadcast(&sink->stopping);
    pthread_mutex_unlock(&sink->lock);
    return NULL;
}
