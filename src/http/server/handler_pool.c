/* Owns the queue between the threads that bring tasks and those that do them. Runs on the latter.
 * Must not know what a task is. */
#include "http/server/handler_pool.h"

#include <pthread.h>
#include <stdlib.h>

struct handler_pool {
    size_t new_max;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t filled;
    struct handler_task *first, **end;
    size_t new_count;
    bool closed;
};

struct handler_pool *handler_pool_create(size_t new_max) {
    struct handler_pool *workers = calloc(1, sizeof *workers);
    if (workers) {
        workers->new_max = new_max;
        workers->end = &workers->first;
        pthread_mutex_init(&workers->lock, NULL);
        pthread_cond_init(&workers->filled, NULL);
    }
    return workers;
}

void handler_pool_destroy(struct handler_pool *workers) {
    if (workers) {
        pthread_cond_destroy(&workers->filled);
        pthread_mutex_destroy(&workers->lock);
        free(workers);
    }
}

static enum err handler_pool_enqueue(struct handler_pool *workers, struct handler_task *task,
                                     bool is_new) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&workers->lock);
    if (workers->closed) {
        err = ERR_WRONG_STATE;
    } else if (is_new && workers->new_count == workers->new_max) {
        err = ERR_FULL;
    } else {
        task->is_new = is_new;
        task->next = NULL;
        *workers->end = task;
        workers->end = &task->next;
        workers->new_count += is_new;
        pthread_cond_signal(&workers->filled);
    }
    pthread_mutex_unlock(&workers->lock);
    return err;
}

enum err handler_pool_push(struct handler_pool *workers, struct handler_task *task) {
    return handler_pool_enqueue(workers, task, true);
}

enum err handler_pool_push_begun(struct handler_pool *workers, struct handler_task *task) {
    return handler_pool_enqueue(workers, task, false);
}

/* NULL: closed and empty; without waiting, empty. */
static struct handler_task *handler_pool_take(struct handler_pool *workers, bool waits) {
    pthread_mutex_lock(&workers->lock);
    while (waits && !workers->first && !workers->closed) {
        pthread_cond_wait(&workers->filled, &workers->lock);
    }
    struct handler_task *task = workers->first;
    if (task) {
        workers->first = task->next;
        workers->end = workers->first ? workers->end : &workers->first;
        workers->new_count -= task->is_new;
    }
    pthread_mutex_unlock(&workers->lock);
    return task;
}

void *handler_pool_run(void *argument) {
    struct handler_pool *workers = argument;
    struct handler_task *task;
    while ((task = handler_pool_take(workers, true))) {
        task->run(task);
    }
    return NULL;
}

void handler_pool_drain(struct handler_pool *workers) {
    struct handler_task *task;
    while ((task = handler_pool_take(workers, false))) {
        task->run(task);
    }
}

void handler_pool_close(struct handler_pool *workers) {
    pthread_mutex_lock(&workers->lock);
    workers->closed = true;
    pthread_cond_broadcast(&workers->filled);
    pthread_mutex_unlock(&workers->lock);
}
