/* Owns the queue of handler tasks. Tasks come from any thread and run on the handler threads. */
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
    struct handler_pool *pool = calloc(1, sizeof *pool);
    if (pool) {
        pool->new_max = new_max;
        pool->end = &pool->first;
        pthread_mutex_init(&pool->lock, NULL);
        pthread_cond_init(&pool->filled, NULL);
    }
    return pool;
}

void handler_pool_destroy(struct handler_pool *pool) {
    if (pool) {
        pthread_cond_destroy(&pool->filled);
        pthread_mutex_destroy(&pool->lock);
        free(pool);
    }
}

static enum err handler_pool_enqueue(struct handler_pool *pool, struct handler_task *task,
                                     bool is_new) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&pool->lock);
    if (pool->closed) {
        err = ERR_WRONG_STATE;
    } else if (is_new && pool->new_count == pool->new_max) {
        err = ERR_FULL;
    } else {
        task->is_new = is_new;
        task->next = NULL;
        *pool->end = task;
        pool->end = &task->next;
        pool->new_count += is_new;
        pthread_cond_signal(&pool->filled);
    }
    pthread_mutex_unlock(&pool->lock);
    return err;
}

enum err handler_pool_push(struct handler_pool *pool, struct handler_task *task) {
    return handler_pool_enqueue(pool, task, true);
}

enum err handler_pool_push_begun(struct handler_pool *pool, struct handler_task *task) {
    return handler_pool_enqueue(pool, task, false);
}

/* NULL: the queue is empty and, if `waits`, closed. */
static struct handler_task *handler_pool_take(struct handler_pool *pool, bool waits) {
    pthread_mutex_lock(&pool->lock);
    while (waits && !pool->first && !pool->closed) {
        pthread_cond_wait(&pool->filled, &pool->lock);
    }
    struct handler_task *task = pool->first;
    if (task) {
        pool->first = task->next;
        pool->end = pool->first ? pool->end : &pool->first;
        pool->new_count -= task->is_new;
    }
    pthread_mutex_unlock(&pool->lock);
    return task;
}

void *handler_pool_run(void *argument) {
    struct handler_pool *pool = argument;
    struct handler_task *task;
    while ((task = handler_pool_take(pool, true))) {
        task->run(task);
    }
    return NULL;
}

void handler_pool_drain(struct handler_pool *pool) {
    struct handler_task *task;
    while ((task = handler_pool_take(pool, false))) {
        task->run(task);
    }
}

void handler_pool_close(struct handler_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pthread_cond_broadcast(&pool->filled);
    pthread_mutex_unlock(&pool->lock);
}
