/* Owns the queue between the engines and one backend. Handles a full queue, a failing backend, and
 * the stop. The queue is a ring:
 *
 *     head              head + count
 *      v                     v
 *   [..M M M M M M M M M M M M.......]   engines add at the end (sink_submit, any thread)
 *      |-- batch --|                     the sink's thread, woken by sink_flush, writes from the
 *                                        head; stored messages are answered, then removed
 *
 * A batch stays in the ring while it is written, so the bounds apply to it too. Only the sink's
 * thread moves the head. */
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
#define RESERVED_SHARE        8 /* the last eighth of the room is for QoS 1 and 2 */

static const struct sink_backend *const BACKENDS[] = {
    &sink_backend_redis_stream,
    &sink_backend_file,
    &sink_backend_null,
};

struct entry {
    struct message *message;
    sink_accepted *accepted;
    void *context;
};

struct sink {
    const struct sink_backend *backend;
    void *state;
    size_t messages_max, bytes_max, batch_max;
    size_t wake_threshold; /* number of messages that starts a write before the flush */

    /* the sink's thread only */
    struct message **batch;
    struct entry *settled;
    int64_t backoff_ms;
    int64_t next_maintenance_ms; /* next maintenance of the backend */
    int64_t failures;            /* since the backend last stored a whole batch */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t work;  /* a message was queued, or the sink stops */
    pthread_cond_t room;  /* a message left the queue, or the sink stops */
    struct entry *ring;
    size_t head, count, bytes;
    uint64_t departures;      /* how often messages left the queue, from 1 */
    uint64_t refused_at;      /* departures when a message was last rejected */
    atomic_bool full;         /* departures == refused_at; read without the lock */
    bool idle;                /* its thread waits for `work` */
    atomic_bool wake_pending; /* a message arrived meanwhile; read by sink_flush without the lock */
    bool stopped;
    int64_t stop_deadline_ms;
    bool failing;
    int64_t failing_since_ms;
    char error[ERROR_LEN];
    void (*answered)(void *context);
    void *answered_context;
    int64_t accepted, dropped;
    int64_t canceled;
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

static void sink_init_locks(struct sink *sink) {
    pthread_mutex_init(&sink->lock, NULL);
    condition_init(&sink->work);
    condition_init(&sink->room);
}

static void sink_free(struct sink *sink) {
    pthread_cond_destroy(&sink->room);
    pthread_cond_destroy(&sink->work);
    pthread_mutex_destroy(&sink->lock);
    free(sink->batch);
    free(sink->settled);
    free(sink->ring);
    free(sink);
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
    sink_init_locks(sink);
    sink->messages_max = config->queue_messages;
    sink->bytes_max = config->queue_bytes;
    sink->batch_max = config->batch_messages;
    sink->wake_threshold =
        sink->batch_max < sink->messages_max / 2 ? sink->batch_max : sink->messages_max / 2;
    sink->departures = 1;
    sink->answered = config->answered;
    sink->answered_context = config->context;
    sink->batch = calloc(sink->batch_max, sizeof *sink->batch);
    sink->settled = calloc(sink->batch_max, sizeof *sink->settled);
    sink->ring = calloc(sink->messages_max, sizeof *sink->ring);
    enum err err = sink->batch && sink->settled && sink->ring ? ERR_OK : ERR_MEMORY;
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

void sink_destroy(struct sink *sink) {
    if (!sink) {
        return;
    }
    assert(sink->count == 0); /* sink_run has answered everything */
    sink->backend->close(sink->state);
    sink_free(sink);
}

/* --- the engines' side --- */

/* An empty queue accepts any message. Otherwise one larger than bytes_max would wait for ever. */
static bool sink_message_fits(const struct sink *sink, const struct message *message) {
    bool reserved = message->qos == 0;
    size_t messages = sink->messages_max - (reserved ? sink->messages_max / RESERVED_SHARE : 0);
    size_t bytes = sink->bytes_max - (reserved ? sink->bytes_max / RESERVED_SHARE : 0);
    return sink->count == 0 ||
           (sink->count < messages && sink->bytes < bytes && message->size <= bytes - sink->bytes);
}

/* Otherwise messages before the next flush might find no room. */
static bool sink_reached_wake_threshold(const struct sink *sink) {
    return sink->count >= sink->wake_threshold || sink->bytes >= sink->bytes_max / 2;
}

enum err sink_submit(struct sink *sink, struct message *message, sink_accepted *accepted,
                     void *context) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&sink->lock);
    if (sink->stopped) {
        err = ERR_WRONG_STATE;
    } else if (sink_message_fits(sink, message)) {
        size_t at = (sink->head + sink->count) % sink->messages_max;
        sink->ring[at] = (struct entry){message, accepted, context};
        sink->count++;
        sink->bytes += message->size;
        sink->wake_pending = sink->idle;
        if (sink->idle && sink_reached_wake_threshold(sink)) {
            pthread_cond_signal(&sink->work);
        }
    } else if (message->qos == 0) {
        err = ERR_REFUSED;
        sink->dropped++;
    } else {
        err = ERR_FULL;
        sink->refused_at = sink->departures;
        sink->full = true;
    }
    pthread_mutex_unlock(&sink->lock);
    if (err == ERR_REFUSED) {
        metric_add(METRIC_DROPPED_SINK_FULL, 1);
        message_destroy(message);
    }
    return err;
}

/* Without the lock: the thread checks the queue under the lock before it waits. */
void sink_flush(struct sink *sink) {
    if (atomic_load_explicit(&sink->wake_pending, memory_order_relaxed) &&
        atomic_exchange(&sink->wake_pending, false)) {
        pthread_cond_signal(&sink->work);
    }
}

/* Called with the lock. Returns after timeout_ms, or earlier when the condition is signalled. */
static void sink_wait_condition(struct sink *sink, pthread_cond_t *condition, int64_t timeout_ms) {
    struct timespec until = condition_deadline(timeout_ms);
    pthread_cond_timedwait(condition, &sink->lock, &until);
}

bool sink_has_room(struct sink *sink) {
    return !atomic_load_explicit(&sink->full, memory_order_relaxed);
}

/* Waits for any departure since the last rejection, because only the caller knows how much room its
 * message needs. */
void sink_wait_room(struct sink *sink, int64_t timeout_ms) {
    int64_t deadline_ms = clock_ms() + timeout_ms;
    pthread_mutex_lock(&sink->lock);
    int64_t left_ms = timeout_ms;
    while (sink->departures == sink->refused_at && !sink->stopped && left_ms > 0) {
        sink_wait_condition(sink, &sink->room, left_ms);
        left_ms = deadline_ms - clock_ms();
    }
    pthread_mutex_unlock(&sink->lock);
}

void sink_stop(struct sink *sink, int64_t timeout_ms) {
    pthread_mutex_lock(&sink->lock);
    sink->stopped = true;
    sink->stop_deadline_ms = clock_ms() + timeout_ms;
    pthread_cond_broadcast(&sink->work);
    pthread_cond_broadcast(&sink->room);
    pthread_mutex_unlock(&sink->lock);
}

void sink_status(struct sink *sink, struct sink_status *out) {
    pthread_mutex_lock(&sink->lock);
    *out =
        (struct sink_status){.type = sink->backend->name,
                             .queued_messages = sink->count,
                             .queued_bytes = sink->bytes,
                             .messages_max = sink->messages_max,
                             .bytes_max = sink->bytes_max,
                             .failing = sink->failing,
                             .failing_ms = sink->failing ? clock_ms() - sink->failing_since_ms : 0,
                             .accepted = sink->accepted,
                             .dropped = sink->dropped,
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

/* Called with the lock, which it releases while it waits. May return without work. */
static void sink_wait_work(struct sink *sink) {
    if (!sink->backend->maintain) {
        pthread_cond_wait(&sink->work, &sink->lock);
        return;
    }
    int64_t left_ms = sink->next_maintenance_ms - clock_ms();
    if (left_ms > 0) {
        sink_wait_condition(sink, &sink->work, left_ms);
        return;
    }
    pthread_mutex_unlock(&sink->lock);
    sink->backend->maintain(sink->state);
    sink->next_maintenance_ms = clock_ms() + MAINTENANCE_PERIOD_MS;
    pthread_mutex_lock(&sink->lock);
}

/* Waits for messages. Returns how many of them, from the head, must be written now. 0: the sink
 * stopped and its queue is empty. */
static size_t sink_next_batch(struct sink *sink) {
    size_t n = 0;
    size_t bytes = 0;
    pthread_mutex_lock(&sink->lock);
    sink->idle = true;
    while (sink->count == 0 && !sink->stopped) {
        sink_wait_work(sink);
    }
    sink->idle = false;
    while (n < sink->count && n < sink->batch_max && bytes < BATCH_BYTES_MAX) {
        sink->batch[n] = sink->ring[(sink->head + n) % sink->messages_max].message;
        bytes += sink->batch[n++]->size;
    }
    pthread_mutex_unlock(&sink->lock);
    return n;
}

/* Removes the first n messages (at most a batch) from the queue and answers them. */
static void sink_settle(struct sink *sink, size_t n, enum err err) {
    if (n == 0) {
        return;
    }
    pthread_mutex_lock(&sink->lock);
    for (size_t i = 0; i < n; i++) {
        sink->settled[i] = sink->ring[sink->head];
        sink->head = (sink->head + 1) % sink->messages_max;
        sink->bytes -= sink->settled[i].message->size;
    }
    sink->count -= n;
    sink->departures++;
    sink->full = false;
    sink->accepted += err == ERR_OK ? (int64_t)n : 0;
    sink->canceled += err == ERR_CANCELED ? (int64_t)n : 0;
    pthread_cond_broadcast(&sink->room);
    pthread_mutex_unlock(&sink->lock);
    int64_t now_us = clock_us();
    metric_add(METRIC_SINK_ACCEPTED, err == ERR_OK ? (int64_t)n : 0);
    for (size_t i = 0; i < n; i++) {
        if (err == ERR_OK) {
            histogram_add(HISTOGRAM_SINK, now_us - sink->settled[i].message->received_us, 1);
        }
        message_destroy(sink->settled[i].message);
        if (sink->settled[i].accepted) {
            sink->settled[i].accepted(sink->settled[i].context, err);
        }
    }
}

static void sink_notify_answered(struct sink *sink) {
    if (sink->answered) {
        sink->answered(sink->answered_context);
    }
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

/* The delay doubles with each attempt. A stop shortens it only at its own deadline. */
static void sink_back_off(struct sink *sink) {
    sink->backoff_ms = sink->backoff_ms ? sink->backoff_ms * 2 : BACKOFF_MS_MIN;
    if (sink->backoff_ms > BACKOFF_MS_MAX) {
        sink->backoff_ms = BACKOFF_MS_MAX;
    }
    int64_t until_ms = clock_ms() + sink->backoff_ms;
    pthread_mutex_lock(&sink->lock);
    int64_t left_ms = sink->backoff_ms;
    while (left_ms > 0) { /* a late flush also signals `work`: continue to wait */
        sink_wait_condition(sink, &sink->work, left_ms);
        int64_t end_ms = until_ms;
        if (sink->stopped && sink->stop_deadline_ms < end_ms) {
            end_ms = sink->stop_deadline_ms;
        }
        left_ms = end_ms - clock_ms();
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
    sink_notify_answered(sink);
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
    sink_notify_answered(sink);
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
        sink_notify_answered(sink);
        n = sink_next_batch(sink);
    }
    return NULL;
}
