/* Owns a list of the nodes that is at most one second old. Any thread. */
#include "cluster/placement/wait_reasons.h"

#include <pthread.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "cluster/placement/placement_routes.h"

#define WAIT_REASONS_REFRESH_MS 1000

struct wait_reasons {
    struct store *store;
    struct sinks *sinks;
    int64_t heartbeat_ttl_ms;

    pthread_mutex_t lock; /* guards all below; held during one call to Redis, for one reader */
    int64_t read_ms;      /* 0: never */
    bool nodes_known;
    struct store_node *registered;
    size_t registered_count;
    struct placement_node *eligible; /* borrows from registered */
    size_t eligible_count;
    struct placement_routes routes;
};

struct wait_reasons *wait_reasons_create(struct store *store, struct sinks *sinks,
                                         int64_t heartbeat_ttl_ms) {
    struct wait_reasons *wait_reasons = calloc(1, sizeof *wait_reasons);
    if (wait_reasons) {
        wait_reasons->store = store;
        wait_reasons->sinks = sinks;
        wait_reasons->heartbeat_ttl_ms = heartbeat_ttl_ms;
        pthread_mutex_init(&wait_reasons->lock, NULL);
    }
    return wait_reasons;
}

static void wait_reasons_clear(struct wait_reasons *wait_reasons) {
    store_nodes_free(wait_reasons->registered, wait_reasons->registered_count);
    free(wait_reasons->eligible);
    placement_routes_fini(&wait_reasons->routes);
    wait_reasons->registered = NULL;
    wait_reasons->eligible = NULL;
    wait_reasons->registered_count = wait_reasons->eligible_count = 0;
    wait_reasons->nodes_known = false;
}

void wait_reasons_destroy(struct wait_reasons *wait_reasons) {
    if (wait_reasons) {
        wait_reasons_clear(wait_reasons);
        pthread_mutex_destroy(&wait_reasons->lock);
        free(wait_reasons);
    }
}

/* Under the lock. Reads the nodes again if the list is too old. */
static void wait_reasons_refresh(struct wait_reasons *wait_reasons) {
    int64_t now_ms = clock_ms();
    if (wait_reasons->read_ms != 0 && now_ms - wait_reasons->read_ms < WAIT_REASONS_REFRESH_MS) {
        return;
    }
    wait_reasons_clear(wait_reasons);
    enum err err = store_nodes(wait_reasons->store, wait_reasons->heartbeat_ttl_ms,
                               &wait_reasons->registered, &wait_reasons->registered_count, NULL);
    if (err == ERR_OK) {
        wait_reasons->eligible =
            calloc(wait_reasons->registered_count + 1, sizeof *wait_reasons->eligible);
    }
    if (wait_reasons->eligible) {
        wait_reasons->eligible_count = placement_eligible_nodes(
            wait_reasons->registered, wait_reasons->registered_count, wait_reasons->eligible);
        placement_routes_init(&wait_reasons->routes, wait_reasons->sinks, wait_reasons->eligible,
                              wait_reasons->eligible_count);
        wait_reasons->nodes_known = true;
    }
    wait_reasons->read_ms = clock_ms();
}

/* Under the lock. */
static enum placement_wait wait_reasons_find(const struct wait_reasons *wait_reasons,
                                             struct client_config *config) {
    const struct placement_node *nodes = wait_reasons->eligible;
    size_t n = wait_reasons->eligible_count;
    struct placement_need need;
    enum placement_wait why = PLACEMENT_SOON;
    if (placement_need_of(config, &wait_reasons->routes, &need) == ERR_OK) {
        why = placement_wait_reason(nodes, n, &need);
        placement_need_fini(&need);
    }
    return why;
}

enum placement_wait wait_reasons_of(struct wait_reasons *wait_reasons,
                                    const struct store_client *row, struct client_config *config) {
    if (!config) {
        return PLACEMENT_BAD_CONFIG;
    }
    if (row->cooldown_ms > 0) {
        return PLACEMENT_NOT_BEFORE;
    }
    pthread_mutex_lock(&wait_reasons->lock);
    wait_reasons_refresh(wait_reasons);
    enum placement_wait why =
        wait_reasons->nodes_known ? wait_reasons_find(wait_reasons, config) : PLACEMENT_SOON;
    pthread_mutex_unlock(&wait_reasons->lock);
    return why;
}
