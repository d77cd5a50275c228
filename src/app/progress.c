/* Owns the thread that tells how a stop goes on. Knows the parts of the node only by what they
 * count. */
#include "progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include "base/condition.h"
#include "base/log.h"
#include "base/notify.h"

#define PERIOD_MS 1000

struct progress {
    struct hosts *hosts;
    struct sink *const *sinks;
    struct agent *agent;
    int64_t owned; /* when the stop began */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum { PROGRESS_IDLE, PROGRESS_STOPPING, PROGRESS_ENDED } stage; /* guarded by lock */
};

struct progress *progress_create(struct hosts *hosts, struct sink *const *sinks,
                                 struct agent *agent) {
    struct progress *progress = calloc(1, sizeof(*progress));
    if (progress == NULL) {
        return NULL;
    }
    progress->hosts = hosts;
    progress->sinks = sinks;
    progress->agent = agent;
    pthread_mutex_init(&progress->lock, NULL);
    condition_init(&progress->changed);
    return progress;
}

void progress_destroy(struct progress *progress) {
    if (progress == NULL) {
        return;
    }
    pthread_cond_destroy(&progress->changed);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

void progress_left(struct progress *progress, struct progress_left *out) {
    int64_t unreleased = agent_unreleased(progress->agent);
    *out = (struct progress_left){.clients = (int64_t)hosts_count(progress->hosts),
                                  .releases = unreleased < 0 ? progress->owned : unreleased};
    for (size_t i = 0; progress->sinks[i] != NULL; i++) {
        struct sink_status status;
        sink_status(progress->sinks[i], &status);
        out->messages += (int64_t)status.queued_messages + status.canceled;
    }
}

static void tell(struct progress *progress) {
    struct progress_left left;
    progress_left(progress, &left);
    log_event(LOG_INFO, "stop_progress", KI("clients", left.clients), KI("messages", left.messages),
              KI("releases", left.releases));
    notify_hint("STATUS=stopping: %lld clients to close, %lld messages to write, %lld clients to "
                "give back",
                (long long)left.clients, (long long)left.messages, (long long)left.releases);
}

void *progress_run(void *argument) {
    struct progress *progress = argument;
    pthread_mutex_lock(&progress->lock);
    while (progress->stage == PROGRESS_IDLE) {
        pthread_cond_wait(&progress->changed, &progress->lock);
    }
    while (progress->stage == PROGRESS_STOPPING) {
        struct timespec until = condition_deadline(PERIOD_MS);
        pthread_cond_timedwait(&progress->changed, &progress->lock, &until);
        if (progress->stage == PROGRESS_STOPPING) {
            pthread_mutex_unlock(&progress->lock);
            tell(progress);
            pthread_mutex_lock(&progress->lock);
        }
    }
    pthread_mutex_unlock(&progress->lock);
    return NULL;
}

static void set_stage(struct progress *progress, int stage) {
    pthread_mutex_lock(&progress->lock);
    progress->stage = stage;
    pthread_cond_signal(&progress->changed);
    pthread_mutex_unlock(&progress->lock);
}

void progress_begin(struct progress *progress) {
    progress->owned = (int64_t)hosts_count(progress->hosts); /* before the thread looks */
    set_stage(progress, PROGRESS_STOPPING);
}

void progress_end(struct progress *progress) {
    set_stage(progress, PROGRESS_ENDED);
}
