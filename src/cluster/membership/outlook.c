/* Owns a list of the nodes that is at most one second old. Any thread. */
#include "cluster/membership/outlook.h"

#include <pthread.h>
#include <stdlib.h>
#include "base/system/clock.h"

#define OUTLOOK_REFRESH_MS 1000

struct outlook {
    struct store *store;
    int64_t heartbeat_ttl_ms;

    pthread_mutex_t lock; /* guards all below; held during one call to Redis, for one reader */
    int64_t read_ms;      /* 0: never */
    bool nodes_known;
    struct store_node *registered;
    size_t registered_count;
    struct placement_node *eligible; /* borrows from registered */
    size_t eligible_count;
};

struct outlook *outlook_create(struct store *store, int64_t heartbeat_ttl_ms) {
    struct outlook *outlook = calloc(1, sizeof *outlook);
    if (outlook) {
        outlook->store = store;
        outlook->heartbeat_ttl_ms = heartbeat_ttl_ms;
        pthread_mutex_init(&outlook->lock, NULL);
    }
    return outlook;
}

static void outlook_clear(struct outlook *outlook) {
    store_nodes_free(outlook->registered, outlook->registered_count);
    free(outlook->eligible);
    outlook->registered = NULL;
    outlook->eligible = NULL;
    outlook->registered_count = outlook->eligible_count = 0;
    outlook->nodes_known = false;
}

void outlook_destroy(struct outlook *outlook) {
    if (outlook) {
        outlook_clear(outlook);
        pthread_mutex_destroy(&outlook->lock);
        free(outlook);
    }
}

/* Under the lock. Reads the nodes again if the list is too old. */
static void outlook_refresh(struct outlook *outlook) {
    int64_t now_ms = clock_ms();
    if (outlook->read_ms != 0 && now_ms - outlook->read_ms < OUTLOOK_REFRESH_MS) {
        return;
    }
    outlook_clear(outlook);
    enum err err = store_nodes(outlook->store, outlook->heartbeat_ttl_ms, &outlook->registered,
                               &outlook->registered_count, NULL);
    if (err == ERR_OK) {
        outlook->eligible = calloc(outlook->registered_count + 1, sizeof *outlook->eligible);
    }
    if (outlook->eligible) {
        outlook->eligible_count = placement_eligible_nodes(
            outlook->registered, outlook->registered_count, outlook->eligible);
        outlook->nodes_known = true;
    }
    outlook->read_ms = clock_ms();
}

enum placement_wait outlook_wait_reason(struct outlook *outlook, const struct store_client *row,
                                        struct client_config *config) {
    struct placement_need need;
    if (!config) {
        return PLACEMENT_BAD_CONFIG;
    }
    if (row->cooldown_ms > 0) {
        return PLACEMENT_NOT_BEFORE;
    }
    if (placement_need_of(config, &need) != ERR_OK) {
        return PLACEMENT_SOON;
    }
    pthread_mutex_lock(&outlook->lock);
    outlook_refresh(outlook);
    enum placement_wait why =
        outlook->nodes_known
            ? placement_wait_reason(outlook->eligible, outlook->eligible_count, &need)
            : PLACEMENT_SOON;
    pthread_mutex_unlock(&outlook->lock);
    placement_need_fini(&need);
    return why;
}
