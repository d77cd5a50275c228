/* Owns the last list of nodes that was read. */
#include "cluster/outlook.h"

#include <pthread.h>
#include <stdlib.h>
#include "base/clock.h"

#define OUTLOOK_MS 1000

struct outlook {
    struct store *store;
    int64_t heartbeat_ttl_ms;

    pthread_mutex_t lock; /* guards all below; held over the call to Redis, which is bounded */
    int64_t read_ms;      /* 0: never */
    bool known;
    struct store_node *all;
    size_t all_count;
    struct placement_node *nodes; /* borrow from all */
    size_t node_count;
};

struct outlook *outlook_create(struct store *store, int64_t heartbeat_ttl_ms) {
    struct outlook *outlook = calloc(1, sizeof(*outlook));
    if (outlook) {
        outlook->store = store;
        outlook->heartbeat_ttl_ms = heartbeat_ttl_ms;
        pthread_mutex_init(&outlook->lock, NULL);
    }
    return outlook;
}

static void forget(struct outlook *outlook) {
    store_nodes_free(outlook->all, outlook->all_count);
    free(outlook->nodes);
    outlook->all = NULL;
    outlook->nodes = NULL;
    outlook->all_count = outlook->node_count = 0;
    outlook->known = false;
}

void outlook_destroy(struct outlook *outlook) {
    if (outlook) {
        forget(outlook);
        pthread_mutex_destroy(&outlook->lock);
        free(outlook);
    }
}

/* outlook->lock is held. Reads the nodes anew when what is known of them is old. */
static void look(struct outlook *outlook) {
    int64_t now_ms = clock_ms();
    if (outlook->read_ms != 0 && now_ms - outlook->read_ms < OUTLOOK_MS) {
        return;
    }
    forget(outlook);
    enum err result = store_nodes(outlook->store, outlook->heartbeat_ttl_ms, &outlook->all,
                                  &outlook->all_count, NULL);
    if (result == ERR_OK) {
        outlook->nodes = calloc(outlook->all_count + 1, sizeof(*outlook->nodes));
    }
    if (outlook->nodes) {
        outlook->node_count = placement_nodes(outlook->all, outlook->all_count, outlook->nodes);
        outlook->known = true;
    }
    outlook->read_ms = clock_ms();
}

enum placement_wait outlook_why(struct outlook *outlook, const struct store_client *row,
                                struct client_config *config) {
    struct placement_need need;
    if (!config) {
        return PLACEMENT_BAD_CONFIG;
    }
    if (row->rest_ms > 0) {
        return PLACEMENT_NOT_BEFORE;
    }
    if (placement_need_of(config, &need) != ERR_OK) {
        return PLACEMENT_SOON;
    }
    pthread_mutex_lock(&outlook->lock);
    look(outlook);
    enum placement_wait why =
        outlook->known ? placement_why(outlook->nodes, outlook->node_count, &need) : PLACEMENT_SOON;
    pthread_mutex_unlock(&outlook->lock);
    placement_need_fini(&need);
    return why;
}
