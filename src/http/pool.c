/* Owns the queues between the MHD threads and the threads that answer. Runs on the latter. Must not
 * know what an item is. */
#include "http/pool.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "base/queue.h"

#define POP_TIMEOUT_MS 1000

struct http_pool {
    struct queue *callers;
    struct queue *nodes; /* the same as callers with a single thread */
    size_t node_threads;
    atomic_size_t started; /* threads so far: the first node_threads serve nodes */
    http_pool_work *work;
};

struct http_pool *http_pool_create(size_t threads, size_t queue_len_max, http_pool_work *work) {
    assert(threads > 0);
    struct http_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return NULL;
    }
    pool->work = work;
    pool->node_threads = threads == 1 ? 0 : threads < 8 ? 1 : threads / 4;
    pool->callers = queue_create(queue_len_max);
    pool->nodes = pool->node_threads > 0 ? queue_create(queue_len_max) : pool->callers;
    if (pool->callers == NULL || pool->nodes == NULL) {
        http_pool_destroy(pool);
        return NULL;
    }
    return pool;
}

void http_pool_destroy(struct http_pool *pool) {
    if (pool == NULL) {
        return;
    }
    if (pool->nodes != pool->callers) {
        queue_destroy(pool->nodes);
    }
    queue_destroy(pool->callers);
    free(pool);
}

enum err http_pool_push(struct http_pool *pool, bool from_node, void *item) {
    return queue_push(from_node ? pool->nodes : pool->callers, item);
}

void *http_pool_run(void *argument) {
    struct http_pool *pool = argument;
    bool serves_nodes = atomic_fetch_add(&pool->started, 1) < pool->node_threads;
    struct queue *queue = serves_nodes ? pool->nodes : pool->callers;
    for (;;) {
        void *item;
        enum err result = queue_pop(queue, &item, POP_TIMEOUT_MS);
        if (result == ERR_WRONG_STATE) {
            return NULL;
        }
        if (result == ERR_OK) {
            pool->work(item);
        }
    }
}

static void drain(struct http_pool *pool, struct queue *queue) {
    void *item;
    while (queue_pop(queue, &item, 0) == ERR_OK) {
        pool->work(item);
    }
}

void http_pool_drain(struct http_pool *pool) {
    drain(pool, pool->callers);
    drain(pool, pool->nodes);
}

void http_pool_close(struct http_pool *pool) {
    queue_close(pool->callers);
    if (pool->nodes != pool->callers) {
        queue_close(pool->nodes);
    }
}
