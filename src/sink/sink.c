/* Owns what happens between a queue of messages and one backend: batches, retries with backoff, the
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
#include "sink/backend.h"

#define FAULT_LEN             256
#define ERROR_LEN             160
#define BATCH_BYTES_MAX       4194304 /* keeps one write short, however many messages it contains */
#define BACKOFF_MS_MIN        50
#define BACKOFF_MS_MAX        2000
#define MAINTENANCE_PERIOD_MS 1000

static const struct sink_backend *const BACKENDS[] = {
    &sink_backend_redis_stream,
    &sink_backend_file,
    &sink_backend_null,
};

struct sink {
    const struct sink_backend *backend;
    void *state;
    struct message_queue *queue;
    size_t batch_max;
    _Atomic int64_t accepted, canceled;

    /* the sink's thread only */
    struct message **batch;
    struct message_queue_entry *settled;
    struct receipts **answered; /* whose receipts those were */
    int64_t backoff_ms;
    int64_t next_maintenance_ms; /* next maintenance of the backend */
    int64_t failures;            /* since the backend last stored a whole batch */

    pthread_mutex_t lock;    /* guards everything below */
    pthread_cond_t stopping; /* the sink stops */
    bool stopped;
    int64_t stop_deadline_ms;
    bool failing;
    int64_t failing_since_ms;
    char error[ERROR_LEN];
};

/* --- life --- */

static const struct sink_backend *sink_find_backend(const char *type) {
    for (size_t i = 0; i < sizeof BACKENDS / sizeof BACKENDS[0]; i++) {
        if (type && strcmp(BACKENDS[i]->name, type) == 0) {
            return BACKENDS[i];
        }
    }
    return NULL;
}

bool sink_type_known(const char *type) {
    return sink_find_backend(type) != NULL;
}

static void sink_free(struct sink *sink) {
    pthread_cond_destroy(&sink->stopping);
    pthread_mutex_destroy(&sink->lock);
    message_queue_destroy(sink->queue);
    free(sink->batch);
    free(sink->settled);
    free(sink->answered);
    free(sink);
}

/* False: out of memory. */
static bool sink_allocate(struct sink *sink, const struct sink_config *config) {
    sink->batch_max = config->batch_messages;
    sink->queue =
        message_queue_create(config->queue_messages, config->queue_bytes, config->batch_messages);
    sink->batch = calloc(sink->batch_max, sizeof *sink->batch);
    sink->settled = calloc(sink->batch_max, sizeof *sink->settled);
    sink->answered = calloc(sink->batch_max, sizeof *sink->answered);
    return sink->queue && sink->batch && sink->settled && sink->answered;
}

enum err sink_create(struct sink **out, const struct sink_config *config, char *fault) {
    assert(config->queue_messages > 0 && config->queue_bytes > 0 && config->batch_messages > 0);
    const struct sink_backend *backend = sink_find_backend(config->type);
    if (!backend) {
        snprintf(fault, FAULT_LEN, "sink.type %.100s is unknown",
                 config->type ? config->type : "(none)");
        return ERR_ARGUMENT;
    }
    struct sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        return ERR_MEMORY;
    }
    pthread_mutex_init(&sink->lock, NULL);
    condition_init(&sink->stopping);
    enum err err = sink_allocate(sink, config) ? ERR_OK : ERR_MEMORY;
    if (err == ERR_OK) {
        err = backend->open(&sink->state, config, fault);
    }
    if (err != ERR_OK) {
        sink_free(sink);
        return err;
    }
    sink->backend = backend;
    *out = sink;
    return ERR_OK;
}

const char *sink_type(const struct sink *sink) {
    return sink->backend->name;
}

struct message_queue *sink_queue(struct sink *sink) {
    return sink->queue;
}

void sink_destroy(struct sink *sink) {
    if (!sink) {
        return;
    }
    sink->backend->close(sink->state);
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

void sink_status(struct sink *sink, struct sink_status *out) {
    struct message_queue_status queue;
    message_queue_get_status(sink->queue, &queue);
    pthread_mutex_lock(&sink->lock);
    *out =
        (struct sink_status){.type = sink->backend->name,
                             .queued_messages = queue.messages,
                             .queued_bytes = queue.bytes,
                             .messages_max = queue.messages_max,
                             .bytes_max = queue.bytes_max,
                             .failing = sink->failing,
                             .failing_ms = sink->failing ? clock_ms() - sink->failing_since_ms : 0,
                             .accepted = sink->accepted,
                             .dropped = queue.dropped,
                             .canceled = sink->canceled,
                             .store_bytes = -1,
                             .store_bytes_max = -1,
                             .store_entries = -1};
    memcpy(out->error, sink->error, sizeof out->error);
    pthread_mutex_unlock(&sink->lock);
    if (sink->backend->status) {
        sink->backend->status(sink->state, out);
    }
}

/* --- the sink's thread --- */

/* Until the next maintenance of the backend; negative: it needs none. */
static int64_t sink_maintenance_wait_ms(const struct sink *sink) {
    if (!sink->backend->maintain) {
        return -1;
    }
    int64_t left_ms = sink->next_maintenance_ms - clock_ms();
    return left_ms > 0 ? left_ms : 0;
}

static void sink_maintain_if_due(struct sink *sink) {
    if (sink_maintenance_wait_ms(sink) == 0) {
        sink->backend->maintain(sink->state);
        sink->next_maintenance_ms = clock_ms() + MAINTENANCE_PERIOD_MS;
    }
}

/* Waits for messages. Returns how many of them, from the head, must be written now. 0: the sink
 * stopped and its queue is empty. */
static size_t sink_next_batch(struct sink *sink) {
    for (;;) { /* as long as the sink runs */
        size_t n = message_queue_peek(sink->queue, sink->batch, sink->batch_max, BATCH_BYTES_MAX,
                                      sink_maintenance_wait_ms(sink));
        if (n > 0 || message_queue_is_over(sink->queue)) {
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

/* Removes the first n messages (at most a batch) from the queue and answers them. */
static void sink_settle(struct sink *sink, size_t n, enum err err) {
    if (n == 0) {
        return;
    }
    message_queue_take(sink->queue, sink->settled, n);
    sink_count_settled(sink, n, err);
    int64_t now_us = clock_us();
    for (size_t i = 0; i < n; i++) {
        struct message_queue_entry *entry = &sink->settled[i];
        if (err == ERR_OK) {
            histogram_add(HISTOGRAM_SINK, now_us - entry->message->received_us, 1);
        }
        message_destroy(entry->message);
        sink->answered[i] = entry->receipt ? entry->receipt->owner : NULL;
        if (entry->receipt) {
            receipt_answer(entry->receipt, err);
        }
    }
    sink_wake_answered(sink, n);
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
        log_event(LOG_WARN, "sink_failing", KS("sink", sink->backend->name), KS("error", error));
    }
    sink_set_failing(sink, true, error);
}

static void sink_note_success(struct sink *sink) {
    sink->backoff_ms = 0;
    if (sink->failures > 0) {
        log_event(LOG_INFO, "sink_recovered", KS("sink", sink->backend->name),
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

static void sink_write_batch(struct sink *sink, size_t n) {
    char error[ERROR_LEN] = "";
    size_t written = 0;
    enum err err = sink->backend->write(sink->state, sink->batch, n, &written, error);
    assert(written <= n && (err != ERR_OK || written == n));
    sink_settle(sink, written, ERR_OK);
    if (err == ERR_OK) {
        sink_note_success(sink);
        return;
    }
    if (written > 0) {
        sink->backoff_ms = 0;
    }
    sink_note_failure(sink, *error ? error : err_name(err));
    sink_back_off(sink);
}

static bool sink_stop_deadline_passed(struct sink *sink) {
    pthread_mutex_lock(&sink->lock);
    bool up = sink->stopped && clock_ms() >= sink->stop_deadline_ms;
    pthread_mutex_unlock(&sink->lock);
    return up;
}

static void sink_cancel_remaining(struct sink *sink) {
    size_t canceled = 0;
    size_t n = sink_next_batch(sink);
    while (n > 0) { /* bounded: no messages are accepted any more */
        sink_settle(sink, n, ERR_CANCELED);
        canceled += n;
        n = sink_next_batch(sink);
    }
    if (canceled > 0) {
        log_event(LOG_WARN, "sink_canceled", KS("sink", sink->backend->name),
                  KI("messages", canceled));
    }
}

void *sink_run(void *argument) {
    struct sink *sink = argument;
    size_t n = sink_next_batch(sink);
    while (n > 0) {
        if (sink_stop_deadline_passed(sink)) {
            sink_cancel_remaining(sink);
            return NULL;
        }
        sink_write_batch(sink, n);
        n = sink_next_batch(sink);
    }
    return NULL;
}
