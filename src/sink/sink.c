/* Owns what happens between a queue of messages and one target: writes, retries with backoff,
 * changes, and the stop. The queue itself is message/message_queue.h; what becomes of each message
 * of a write is settlement.h. Runs on the sink's thread, unless stated otherwise. */
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
#include "settlement.h"
#include "sink/sink_secrets.h"
#include "sink/sink_types.h"

#define BACKOFF_MS_MIN        50
#define BACKOFF_MS_MAX        2000
#define MAINTENANCE_PERIOD_MS 1000
#define CHANGE_PERIOD_MS      1000 /* an idle sink notices a change that soon */
#define DEAD_LETTERS_WAIT_MS  20   /* between two attempts to move them */

struct sink {
    char name[SINK_NAME_LEN], label[SINK_NAME_LEN];
    const struct sink_type *type;
    struct sink_environment environment;
    json_t *settings;
    struct message_queue *queue;
    bool owns_queue;
    size_t batch_max; /* messages of a write */
    int64_t retry_ms; /* 0: without limit */
    atomic_bool is_dead_letter;
    _Atomic int64_t stop_deadline_ms; /* INT64_MAX: not stopped */
    _Atomic int64_t retried;
    _Atomic size_t in_flight; /* messages of the write that is in progress */

    /* the sink's thread only */
    struct settlement settlement; /* but its counts, and where dead letters go: any thread */
    int64_t backoff_ms;
    int64_t next_maintenance_ms; /* next maintenance of the type */
    int64_t failures;            /* since a whole batch was last settled */

    pthread_mutex_t lock;    /* guards everything below */
    pthread_cond_t stopping; /* the sink stops, changes, or its thread has ended */
    void *state;             /* of the type, if open; the sink's thread writes both */
    bool open;
    json_t *next_settings; /* of sink_change; NULL: none */
    json_t *wanted;        /* a copy of the last settings that were given */
    char change_fault[SINK_FAULT_LEN];
    bool ended;
    bool failing;
    int64_t failing_since_ms;
    char error[SINK_ERROR_LEN];
};

/* --- life --- */

static void sink_free(struct sink *sink) {
    pthread_cond_destroy(&sink->stopping);
    pthread_mutex_destroy(&sink->lock);
    if (sink->owns_queue) {
        message_queue_destroy(sink->queue);
    }
    json_decref(sink->settings);
    json_decref(sink->next_settings);
    json_decref(sink->wanted);
    settlement_free(&sink->settlement);
    free(sink);
}

static enum err sink_resize_queue(struct sink *sink, size_t batch_max) {
    size_t messages_max = (size_t)sink_settings_integer(sink->settings, "queue_messages");
    size_t bytes_max = (size_t)sink_settings_integer(sink->settings, "queue_bytes");
    if (!sink->queue) {
        sink->queue = message_queue_create(messages_max, bytes_max, batch_max);
        sink->owns_queue = true;
        return sink->queue ? ERR_OK : ERR_MEMORY;
    }
    return message_queue_resize(sink->queue, messages_max, bytes_max, batch_max);
}

/* Bounds of queue and batch, by the settings. */
static enum err sink_resize(struct sink *sink) {
    size_t batch_max = (size_t)sink_settings_integer(sink->settings, "batch_messages");
    enum err err = settlement_grow(&sink->settlement, batch_max);
    if (err == ERR_OK) {
        err = sink_resize_queue(sink, batch_max);
    }
    sink->batch_max = err == ERR_OK ? batch_max : sink->batch_max;
    sink->retry_ms = sink_settings_integer(sink->settings, "retry_ms");
    return err;
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
    sink->stop_deadline_ms = INT64_MAX;
    sink->settlement.batch.end_ms = &sink->stop_deadline_ms;
    snprintf(sink->name, sizeof sink->name, "%s", config->name);
    snprintf(sink->label, sizeof sink->label, "%s", config->label ? config->label : config->name);
    sink->type = type;
    sink->environment = *config->environment;
    sink->environment.sink = sink->label;
    sink->queue = config->queue;
    sink->settings =
        sink_secrets_complete(type->fields, config->settings, sink->environment.conf, fault);
    sink->wanted = json_deep_copy(sink->settings);
    enum err err = sink->settings ? sink_resize(sink) : ERR_ARGUMENT;
    if (err == ERR_OK) {
        settlement_init(&sink->settlement, sink->name, sink->label, sink->queue);
        err = type->open(&sink->state, &sink->environment, sink->settings, fault);
        sink->open = err == ERR_OK;
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

const char *sink_type_name(const struct sink *sink) {
    return sink->type->name;
}

bool sink_needs_maintenance(const struct sink *sink) {
    return sink->type->maintain != NULL;
}

void sink_set_dead_letter(struct sink *sink, struct sink *dead_letter) {
    if (sink->is_dead_letter) {
        return;
    }
    if (dead_letter && !dead_letter->is_dead_letter) {
        dead_letter->is_dead_letter = true;
        dead_letter->settlement.dead_letters.target = NULL;
    }
    sink->settlement.dead_letters.target = dead_letter ? dead_letter->queue : NULL;
}

bool sink_is_dead_letter(const struct sink *sink) {
    return sink->is_dead_letter;
}

void sink_destroy(struct sink *sink) {
    if (!sink) {
        return;
    }
    if (sink->open) {
        sink->type->close(sink->state);
    }
    sink_free(sink);
}

/* --- any thread --- */

void sink_stop(struct sink *sink, int64_t timeout_ms) {
    pthread_mutex_lock(&sink->lock);
    sink->stop_deadline_ms = clock_ms() + timeout_ms;
    pthread_cond_broadcast(&sink->stopping);
    pthread_mutex_unlock(&sink->lock);
    message_queue_close(sink->queue);
}

enum err sink_change(struct sink *sink, const json_t *settings, char *fault) {
    json_t *next =
        sink_secrets_complete(sink->type->fields, settings, sink->environment.conf, fault);
    json_t *wanted = json_deep_copy(next);
    if (!next) {
        return ERR_ARGUMENT;
    }
    pthread_mutex_lock(&sink->lock);
    bool same = !*sink->change_fault && json_equal(next, sink->wanted);
    json_decref(same ? next : sink->next_settings);
    sink->next_settings = same ? sink->next_settings : next;
    json_decref(sink->wanted);
    sink->wanted = wanted;
    pthread_cond_broadcast(&sink->stopping);
    pthread_mutex_unlock(&sink->lock);
    return ERR_OK;
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
    *out = (struct sink_status){
        .type = sink->type->name,
        .queued_messages = queue.messages,
        .queued_bytes = queue.bytes,
        .messages_max = queue.messages_max,
        .bytes_max = queue.bytes_max,
        .failing = sink->failing,
        .failing_ms = sink->failing ? clock_ms() - sink->failing_since_ms : 0,
        .accepted = sink->settlement.accepted,
        .dropped = queue.dropped,
        .dropped_over_share = queue.dropped_over_share,
        .canceled = sink->settlement.canceled,
        .rejected = sink->settlement.rejected,
        .expired = sink->settlement.expired,
        .retried = sink->retried,
        .in_flight = sink->in_flight,
        .latency = latency_total(&sink->settlement.latency),
        .latency_recent = latency_recent(&sink->settlement.latency, clock_ms()),
        .changing = sink->next_settings != NULL,
        .store_bytes = -1,
        .store_bytes_max = -1,
        .store_entries = -1};
    memcpy(out->name, sink->name, sizeof out->name);
    memcpy(out->label, sink->label, sizeof out->label);
    memcpy(out->error, sink->error, sizeof out->error);
    memcpy(out->change_fault, sink->change_fault, sizeof out->change_fault);
    if (sink->type->status && sink->open) {
        sink->type->status(sink->state, out);
    }
    pthread_mutex_unlock(&sink->lock);
}

/* --- the sink's thread --- */

/* Until the next maintenance of the type; negative: it needs none. */
static int64_t sink_maintenance_wait_ms(const struct sink *sink) {
    if (!sink->type->maintain || !sink->open) {
        return -1;
    }
    int64_t left_ms = sink->next_maintenance_ms - clock_ms();
    return left_ms > 0 ? left_ms : 0;
}

static void sink_maintain_if_due(struct sink *sink) {
    if (sink->open && sink_maintenance_wait_ms(sink) == 0) {
        sink->type->maintain(sink->state);
        sink->next_maintenance_ms = clock_ms() + MAINTENANCE_PERIOD_MS;
    }
}

static bool sink_stop_deadline_passed(const struct sink *sink) {
    return clock_ms() >= sink->stop_deadline_ms;
}

static int64_t sink_idle_wait_ms(const struct sink *sink) {
    int64_t wait_ms = sink_maintenance_wait_ms(sink);
    int64_t most_ms =
        dead_letters_wait(&sink->settlement.dead_letters) ? DEAD_LETTERS_WAIT_MS : CHANGE_PERIOD_MS;
    return wait_ms < 0 || wait_ms > most_ms ? most_ms : wait_ms;
}

/* Stopped, and the queue is empty. Dead letters may wait until the deadline of the stop. */
static bool sink_is_over(struct sink *sink) {
    if (!message_queue_is_over(sink->queue)) {
        return false;
    }
    if (!dead_letters_wait(&sink->settlement.dead_letters) || sink_stop_deadline_passed(sink)) {
        return true;
    }
    clock_sleep_ms(DEAD_LETTERS_WAIT_MS); /* a closed queue does not wait */
    return false;
}

/* ---- a change of the settings ---- */

static void sink_set_open(struct sink *sink, void *state) {
    pthread_mutex_lock(&sink->lock);
    sink->state = state;
    sink->open = true;
    pthread_mutex_unlock(&sink->lock);
}

static void sink_close(struct sink *sink) {
    pthread_mutex_lock(&sink->lock);
    bool was_open = sink->open;
    sink->open = false;
    pthread_mutex_unlock(&sink->lock);
    if (was_open) {
        sink->type->close(sink->state);
    }
}

/* Two instances may exist for a moment. Some types cannot have that, such as a file that is locked:
 * then the old one is closed first. */
static enum err sink_open_next(struct sink *sink, const json_t *next, char *fault) {
    void *state = NULL;
    enum err err = sink->type->open(&state, &sink->environment, next, fault);
    sink_close(sink);
    if (err != ERR_OK) {
        err = sink->type->open(&state, &sink->environment, next, fault);
    }
    if (err == ERR_OK) {
        sink_set_open(sink, state);
    }
    return err;
}

/* Without success the sink stays closed, and sink_write_batch tries again. */
static void sink_open_again(struct sink *sink) {
    void *state = NULL;
    char fault[SINK_FAULT_LEN] = "";
    if (sink->type->open(&state, &sink->environment, sink->settings, fault) == ERR_OK) {
        sink_set_open(sink, state);
    }
}

/* A failure is logged once, however many attempts are made. */
static void sink_note_change(struct sink *sink, const char *fault) {
    bool again = *fault && strcmp(sink->change_fault, fault) == 0;
    pthread_mutex_lock(&sink->lock);
    snprintf(sink->change_fault, sizeof sink->change_fault, "%s", fault);
    pthread_mutex_unlock(&sink->lock);
    if (again) {
        return;
    }
    log_event(*fault ? LOG_WARN : LOG_INFO, *fault ? "sink_not_changed" : "sink_changed",
              KS("sink", sink->label), KS("detail", fault));
}

/* The settings of the last sink_change; NULL: none. The caller's. */
static json_t *sink_next_settings(struct sink *sink) {
    pthread_mutex_lock(&sink->lock);
    json_t *next = sink->stop_deadline_ms == INT64_MAX ? sink->next_settings : NULL;
    sink->next_settings = next ? NULL : sink->next_settings;
    pthread_mutex_unlock(&sink->lock);
    return next;
}

static void sink_take_change(struct sink *sink) {
    char fault[SINK_FAULT_LEN] = "out of memory";
    json_t *next = sink_next_settings(sink);
    if (!next) {
        return;
    }
    if (sink_open_next(sink, next, fault) != ERR_OK) {
        json_decref(next);
        sink_open_again(sink);
        sink_note_change(sink, fault);
        return;
    }
    json_decref(sink->settings);
    sink->settings = next;
    sink->backoff_ms = 0;
    bool resized = sink_resize(sink) == ERR_OK;
    sink_note_change(sink, resized ? "" : "out of memory: the queue keeps its bounds");
}

static bool sink_has_change(struct sink *sink) {
    pthread_mutex_lock(&sink->lock);
    bool has = sink->next_settings && sink->stop_deadline_ms == INT64_MAX;
    pthread_mutex_unlock(&sink->lock);
    return has;
}

/* Waits for messages. Returns how many of them, from the head, must be written now. 0: the sink is
 * over. */
static size_t sink_next_batch(struct sink *sink) {
    for (;;) { /* as long as the sink runs */
        sink_take_change(sink);
        dead_letters_move(&sink->settlement.dead_letters);
        size_t n = settlement_await(&sink->settlement, sink->batch_max, sink_idle_wait_ms(sink));
        if (n > 0 && sink_has_change(sink)) {
            continue; /* it came during the wait: the messages are for the new settings */
        }
        if (n > 0 || sink_is_over(sink)) {
            return n;
        }
        sink_maintain_if_due(sink);
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

/* -1: it does not fail. */
static int64_t sink_failing_ms(const struct sink *sink) {
    return sink->failures > 0 ? clock_ms() - sink->failing_since_ms : -1;
}

/* Locked. */
static int64_t sink_wait_left_ms(const struct sink *sink, int64_t until_ms) {
    int64_t deadline_ms = sink->stop_deadline_ms;
    if (sink->next_settings && deadline_ms == INT64_MAX) {
        return 0;
    }
    return (deadline_ms < until_ms ? deadline_ms : until_ms) - clock_ms();
}

/* Waits before the next attempt, twice as long as before the last one. When the sink stops, the
 * wait ends no later than the deadline of the stop; when it changes, at once. */
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

/* left: of n messages. Those that were not attempted are no failure, if there was progress. */
static bool sink_write_succeeded(const struct sink_batch *batch, size_t n, size_t left) {
    return left == 0 || (*batch->error == '\0' && left < n);
}

static void sink_write_batch(struct sink *sink, size_t n) {
    struct sink_batch *batch = &sink->settlement.batch;
    settlement_begin(&sink->settlement, n);
    if (!sink->open) { /* neither the old nor the new settings could be opened */
        sink_open_again(sink);
    }
    sink->in_flight = n;
    enum err err = sink->open ? sink->type->write(sink->state, batch)
                              : sink_batch_fail(batch, ERR_UNAVAILABLE, "it is closed: %s",
                                                sink->change_fault);
    size_t expired = settlement_judge(&sink->settlement, sink_failing_ms(sink), sink->retry_ms);
    size_t accepted = settlement_accept(&sink->settlement);
    sink->in_flight = 0;
    size_t left = batch->count - accepted;
    if (expired == 0 && sink_write_succeeded(batch, n, left)) {
        sink_note_success(sink);
        return;
    }
    sink->retried += (int64_t)left;
    if (accepted > 0) {
        sink->backoff_ms = 0;
    }
    sink_note_failure(sink, *batch->error ? batch->error : err_name(err));
    sink_back_off(sink);
}

static void sink_cancel_remaining(struct sink *sink) {
    size_t canceled = 0;
    size_t n = sink_next_batch(sink);
    while (n > 0) { /* bounded: no messages are accepted any more */
        canceled += settlement_cancel(&sink->settlement, n);
        n = sink_next_batch(sink);
    }
    canceled += settlement_cancel_dead_letters(&sink->settlement);
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
