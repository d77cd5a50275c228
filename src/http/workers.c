/* Owns the queue between the threads that bring tasks and those that do them. Runs on the latter.
 * Must not know what a task is. */
#include "http/workers.h"

#include <pthread.h>
#include <stdlib.h>

struct http_workers {
    size_t new_max;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t filled;
    struct http_task *first, **end;
    size_t new_count;
    bool closed;
};

struct http_workers *http_workers_create(size_t new_max) {
    struct http_workers *workers = calloc(1, sizeof *workers);
    if (workers) {
        workers->new_max = new_max;
        workers->end = &workers->first;
        pthread_mutex_init(&workers->lock, NULL);
        pthread_cond_init(&workers->filled, NULL);
    }
    return workers;
}

void http_workers_destroy(struct http_workers *workers) {
    if (workers) {
        pthread_cond_destroy(&workers->filled);
        pthread_mutex_destroy(&workers->lock);
        free(workers);
    }
}

static enum err workers_push(struct http_workers *workers, struct http_task *task, bool is_new) {
    enum err result = ERR_OK;
    pthread_mutex_lock(&workers->lock);
    if (workers->closed) {
        result = ERR_WRONG_STATE;
    } else if (is_new && workers->new_count == workers->new_max) {
        result = ERR_FULL;
    } else {
        task->is_new = is_new;
        task->next = NULL;
        *workers->end = task;
        workers->end = &task->next;
        workers->new_count += is_new;
        pthread_cond_signal(&workers->filled);
    }
    pthread_mutex_unlock(&workers->lock);
    return result;
}

enum err http_workers_push(struct http_workers *workers, struct http_task *task) {
    return workers_push(workers, task, true);
}

enum err http_workers_push_on(struct http_workers *workers, struct http_task *task) {
    return workers_push(workers, task, false);
}

/* NULL: closed and empty; without waiting, empty. */
static struct http_task *workers_take(struct http_workers *workers, bool waits) {
    pthread_mutex_lock(&workers->lock);
    while (waits && !workers->first && !workers->closed) {
        pthread_cond_wait(&workers->filled, &workers->lock);
    }
    struct http_task *task = workers->first;
    if (task) {
        workers->first = task->next;
        workers->end = workers->first ? workers->end : &workers->first;
        workers->new_count -= task->is_new;
    }
    pthread_mutex_unlock(&workers->lock);
    return task;
}

void *http_workers_run(void *argument) {
    struct http_workers *workers = argument;
    struct http_task *task;
    while ((task = workers_take(workers, true))) {
        task->run(task);
    }
    return NULL;
}

void http_workers_drain(struct http_workers *workers) {
    struct http_task *task;
    while ((task = workers_take(workers, false))) {
        task->run(task);
    }
}

void http_workers_close(struct http_workers *workers) {
    pthread_mutex_lock(&workers->lock);
    workers->closed = true;
    pthread_cond_broadcast(&workers->filled);
    pthread_mutex_unlock(&workers->lock);
}
