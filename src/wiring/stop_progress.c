/* Owns the thread that reports the progress of a stop. */
#include "stop_progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include "base/system/condition.h"
#include "base/telemetry/log.h"
#include "base/system/notify.h"

#define PERIOD_MS 1000

enum stop_stage { STOP_PROGRESS_IDLE, STOP_PROGRESS_STOPPING, STOP_PROGRESS_ENDED };

struct stop_progress {
    struct workers *workers;
    struct sinks *sinks;
    struct agent *agent;
    int64_t owned_at_start; /* when the stop began */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum stop_stage stage; /* guarded by lock */
};

struct stop_progress *stop_progress_create(struct workers *workers, struct sinks *sinks,
                                           struct agent *agent) {
    struct stop_progress *progress = calloc(1, sizeof *progress);
    if (!progress) {
        return NULL;
    }
    progress->workers = workers;
    progress->sinks = sinks;
    progress->agent = agent;
    pthread_mutex_init(&progress->lock, NULL);
    condition_init(&progress->changed);
    return progress;
}

void stop_progress_destroy(struct stop_progress *progress) {
    if (!progress) {
        return;
    }
    pthread_cond_destroy(&progress->changed);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

void stop_progress_remaining(struct stop_progress *progress, struct stop_remaining *out) {
    int64_t unreleased = agent_unreleased_count(progress->agent);
    *out = (struct stop_remaining){.clients = (int64_t)workers_count(progress->workers),
                                   .unreleased =
                                       unreleased < 0 ? progress->owned_at_start : unreleased};
    struct sink_status status;
    size_t cursor = 0;
    while (sinks_next(progress->sinks, &cursor, &status)) {
        out->messages += (int64_t)status.queued_messages + status.canceled;
    }
}

static void stop_progress_report(struct stop_progress *progress) {
    struct stop_remaining left;
    stop_progress_remaining(progress, &left);
    log_event(LOG_INFO, "stop_progress", KI("clients", left.clients), KI("messages", left.messages),
              KI("releases", left.unreleased));
    notify_try_send(
        "STATUS=stopping: %lld clients to close, %lld messages to write, %lld clients to "
        "release",
        (long long)left.clients, (long long)left.messages, (long long)left.unreleased);
}

void *stop_progress_run(void *argument) {
    struct stop_progress *progress = argument;
    pthread_mutex_lock(&progress->lock);
    while (progress->stage == STOP_PROGRESS_IDLE) {
        pthread_cond_wait(&progress->changed, &progress->lock);
    }
    while (progress->stage == STOP_PROGRESS_STOPPING) {
        struct timespec until = condition_deadline(PERIOD_MS);
        pthread_cond_timedwait(&progress->changed, &progress->lock, &until);
        if (progress->stage == STOP_PROGRESS_STOPPING) {
            pthread_mutex_unlock(&progress->lock);
            stop_progress_report(progress);
            pthread_mutex_lock(&progress->lock);
        }
    }
    pthread_mutex_unlock(&progress->lock);
    return NULL;
}

static void stop_progress_set_stage(struct stop_progress *progress, enum stop_stage stage) {
    pthread_mutex_lock(&progress->lock);
    progress->stage = stage;
    pthread_cond_signal(&progress->changed);
    pthread_mutex_unlock(&progress->lock);
}

void stop_progress_begin(struct stop_progress *progress) {
    progress->owned_at_start =
        (int64_t)workers_count(progress->workers); /* before the thread reads it */
    stop_progress_set_stage(progress, STOP_PROGRESS_STOPPING);
}

void stop_progress_end(struct stop_progress *progress) {
    stop_progress_set_stage(progress, STOP_PROGRESS_ENDED);
}
