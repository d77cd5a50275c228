/* Nodes: register, heartbeat, fence, reap, leave, drain, leadership; the typed interface of these
 * scripts. Any thread. */
#include "store/store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

#define JOIN_STEPS_MAX  10000 /* batches that an earlier incarnation may have left */
#define NODES_STEPS_MAX 10000

static const char *const STATE_NAMES[] = {
    [STORE_NODE_LIVE] = "live",
    [STORE_NODE_DRAINING] = "draining",
    [STORE_NODE_LEAVING] = "leaving",
    [STORE_NODE_DEAD] = "dead",
};

const char *store_node_state_name(enum store_node_state state) {
    return STATE_NAMES[state];
}

/* An entry of another program has no state and counts as live. */
static enum store_node_state store_node_parse_state(const char *name) {
    enum store_node_state state = STORE_NODE_DEAD;
    while (state > STORE_NODE_LIVE && (!name || strcmp(name, STATE_NAMES[state]) != 0)) {
        state--;
    }
    return state;
}

/* ---- the list of nodes --------------------------------------------------------------------- */

struct store_node_list {
    struct store_node *rows;
    size_t n;
};

static void store_node_fini(struct store_node *node) {
    free(node->name);
    free(node->host);
    free(node->type);
    free(node->incarnation);
    free(node->version);
    free(node->facts);
}

void store_nodes_free(struct store_node *nodes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        store_node_fini(&nodes[i]);
    }
    free(nodes);
}

bool store_node_shares_address(const struct store_node *a, const struct store_node *b) {
    return a->heartbeat_valid && b->heartbeat_valid && a->port == b->port &&
           strcmp(a->host, b->host) == 0;
}

static int64_t store_node_heartbeat_age_ms(int64_t left_ms, int64_t ttl_ms) {
    if (left_ms == -2) { /* PTTL: no such key */
        return -1;
    }
    return left_ms >= 0 && left_ms < ttl_ms ? ttl_ms - left_ms : 0;
}

/* The fields in the order of nodes.lua. */
static enum err store_node_read_node(const struct redis_reply *reply, int64_t ttl_ms,
                                     struct store_node *out) {
    *out = (struct store_node){
        .port = store_reply_int(reply, 2),
        .size = store_reply_int(reply, 4),
        .state = store_node_parse_state(redis_reply_str(redis_reply_at(reply, 6), NULL)),
        .started_at_ms = store_reply_int(reply, 8),
        .clients = store_reply_int(reply, 9),
        .heartbeat_valid = store_reply_int(reply, 10) == 1,
        .heartbeat_age_ms = store_node_heartbeat_age_ms(store_reply_int(reply, 11), ttl_ms),
    };
    const struct {
        size_t index;
        char **text;
    } texts[] = {
        {0, &out->name},        {1, &out->host},    {3, &out->type},
        {5, &out->incarnation}, {7, &out->version},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (store_reply_text(redis_reply_at(reply, texts[i].index), texts[i].text) != ERR_OK ||
            !*texts[i].text) {
            store_node_fini(out);
            return ERR_MEMORY;
        }
    }
    return store_reply_text(redis_reply_at(reply, 12), &out->facts);
}

static enum err store_node_add_nodes(struct store_node_list *list, const struct redis_reply *reply,
                                     int64_t ttl_ms) {
    size_t more = redis_reply_count(reply);
    struct store_node *rows = realloc(list->rows, (list->n + more + 1) * sizeof *rows);
    if (!rows) {
        return ERR_MEMORY;
    }
    list->rows = rows;
    for (size_t i = 0; i < more; i++) {
        if (store_node_read_node(redis_reply_at(reply, i), ttl_ms, &rows[list->n]) != ERR_OK) {
            return ERR_MEMORY;
        }
        list->n++;
    }
    return ERR_OK;
}

static int store_node_compare_name(const void *a, const void *b) {
    return strcmp(((const struct store_node *)a)->name, ((const struct store_node *)b)->name);
}

/* A scan may return an entry twice. */
static void store_node_sort_unique(struct store_node_list *list) {
    size_t kept = 0;
    if (list->n > 0) {
        qsort(list->rows, list->n, sizeof *list->rows, store_node_compare_name);
    }
    for (size_t i = 0; i < list->n; i++) {
        if (kept > 0 && store_node_compare_name(&list->rows[kept - 1], &list->rows[i]) == 0) {
            store_node_fini(&list->rows[i]);
        } else {
            list->rows[kept++] = list->rows[i];
        }
    }
    list->n = kept;
}

/* Selects nodes. */
struct node_query {
    int64_t ttl_ms;
    const char *name; /* "": any */
    int64_t port;     /* 0: any */
};

/* One step of the scan; *cursor 0 after the last one. */
static enum err store_node_list_step(struct store *store, const struct node_query *query,
                                     uint64_t *cursor, struct store_node_list *list,
                                     char **leader) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_NODES);
    store_call_cursor(&call, *cursor);
    store_call_str(&call, query->name);
    store_call_int(&call, query->port);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        err = store_node_add_nodes(list, redis_reply_at(reply, 3), query->ttl_ms);
    }
    if (err == ERR_OK) {
        *cursor = store_reply_cursor(redis_reply_at(reply, 1));
        free(*leader);
        err = store_reply_text(redis_reply_at(reply, 2), leader);
    }
    redis_reply_free(reply);
    return err;
}

static enum err store_node_nodes_read(struct store *store, const struct node_query *query,
                                      struct store_node **nodes, size_t *n, char **leader) {
    struct store_node_list list = {0};
    char *leading = NULL;
    uint64_t cursor = 0;
    enum err err = ERR_OK;
    size_t step = 0;
    *nodes = NULL;
    *n = 0;
    do {
        err = store_node_list_step(store, query, &cursor, &list, &leading);
    } while (err == ERR_OK && cursor != 0 && ++step < NODES_STEPS_MAX);
    if (err != ERR_OK) {
        store_nodes_free(list.rows, list.n);
        free(leading);
        leading = NULL;
    } else {
        store_node_sort_unique(&list);
        *nodes = list.rows;
        *n = list.n;
    }
    if (leader) {
        *leader = leading;
    } else {
        free(leading);
    }
    return err;
}

enum err store_nodes(struct store *store, int64_t heartbeat_ttl_ms, struct store_node **nodes,
                     size_t *n, char **leader) {
    return store_node_nodes_read(store, &(struct node_query){heartbeat_ttl_ms, "", 0}, nodes, n,
                                 leader);
}

enum err store_nodes_named(struct store *store, int64_t heartbeat_ttl_ms, const char *name,
                           struct store_node **nodes, size_t *n) {
    return store_node_nodes_read(store, &(struct node_query){heartbeat_ttl_ms, name, 0}, nodes, n,
                                 NULL);
}

enum err store_nodes_at_port(struct store *store, int64_t heartbeat_ttl_ms, int64_t port,
                             struct store_node **nodes, size_t *n) {
    return store_node_nodes_read(store, &(struct node_query){heartbeat_ttl_ms, "", port}, nodes, n,
                                 NULL);
}

/* ---- missing heartbeats
 * ------------------------------------------------------------------------ */

void store_missing_free(struct store_missing *missing, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(missing[i].name);
        free(missing[i].incarnation);
    }
    free(missing);
}

static enum err store_node_add_missing(const struct redis_reply *reply, struct store_missing **rows,
                                       size_t *n) {
    size_t more = redis_reply_count(reply);
    struct store_missing *grown = realloc(*rows, (*n + more + 1) * sizeof *grown);
    if (!grown) {
        return ERR_MEMORY;
    }
    *rows = grown;
    for (size_t i = 0; i < more; i++) {
        const struct redis_reply *fields = redis_reply_at(reply, i);
        struct store_missing *row = &grown[*n];
        *row = (struct store_missing){
            .state = store_node_parse_state(redis_reply_str(redis_reply_at(fields, 2), NULL))};
        enum err err = store_reply_text(redis_reply_at(fields, 0), &row->name);
        if (err == ERR_OK) {
            err = store_reply_text(redis_reply_at(fields, 1), &row->incarnation);
        }
        *n += 1;
        if (err != ERR_OK || !row->name || !row->incarnation) {
            return ERR_MEMORY;
        }
    }
    return ERR_OK;
}

/* One step of the scan; *cursor 0 after the last one. */
static enum err store_node_missing_step(struct store *store, uint64_t *cursor,
                                        struct store_missing **missing, size_t *n, size_t *all) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_FIND_MISSING);
    store_call_cursor(&call, *cursor);
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        *cursor = store_reply_cursor(redis_reply_at(reply, 1));
        *all += (size_t)store_reply_int(reply, 2);
        err = store_node_add_missing(redis_reply_at(reply, 3), missing, n);
    }
    redis_reply_free(reply);
    return err;
}

enum err store_find_missing(struct store *store, struct store_missing **missing, size_t *n,
                            size_t *all) {
    uint64_t cursor = 0;
    enum err err;
    size_t step = 0;
    *missing = NULL;
    *n = 0;
    *all = 0;
    do {
        err = store_node_missing_step(store, &cursor, missing, n, all);
    } while (err == ERR_OK && cursor != 0 && ++step < NODES_STEPS_MAX);
    if (err != ERR_OK) {
        store_missing_free(*missing, *n);
        *missing = NULL;
        *n = 0;
    }
    return err;
}

/* ---- lifecycle of a node --------------------------------------------------------------------- */

static enum err store_node_join_step(struct store *store, const struct store_join *join,
                                     const char *candidate, char generation[TEXT_ID_LEN]) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_JOIN);
    store_call_member(&call, &join->member);
    store_call_str(&call, join->host);
    store_call_int(&call, join->port);
    store_call_str(&call, join->type);
    store_call_int(&call, join->size);
    store_call_str(&call, join->version);
    store_call_int(&call, join->started_at_ms);
    store_call_int(&call, join->heartbeat_ttl_ms);
    store_call_str(&call, join->draining ? "1" : "0");
    store_call_str(&call, candidate);
    store_call_str(&call, join->rejoin ? "1" : "0");
    store_call_str(&call, join->facts ? join->facts : "");
    enum err err = store_call_run(store, &call, &reply);
    if (err == ERR_OK) {
        size_t len = 0;
        const char *text = redis_reply_str(redis_reply_at(reply, 1), &len);
        if (text && len < TEXT_ID_LEN) {
            memcpy(generation, text, len + 1);
        } else {
            err = ERR_PROTOCOL;
        }
    }
    redis_reply_free(reply);
    return err;
}

enum err store_join(struct store *store, const struct store_join *join,
                    char generation[TEXT_ID_LEN]) {
    char candidate[TEXT_ID_LEN];
    text_random_id(candidate);
    for (size_t step = 0; step < JOIN_STEPS_MAX; step++) {
        enum err err = store_node_join_step(store, join, candidate, generation);
        if (err != ERR_OK || generation[0] != '\0') {
            return err;
        }
    }
    return ERR_PROTOCOL;
}

enum err store_heartbeat(struct store *store, const struct store_member *member,
                         const char *generation, int64_t heartbeat_ttl_ms, const char *facts,
                         struct store_heartbeat *out) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_HEARTBEAT);
    store_call_member(&call, member);
    store_call_str(&call, generation);
    store_call_int(&call, heartbeat_ttl_ms);
    store_call_str(&call, facts);
    enum err err = store_call_run(store, &call, &reply);
    *out = (struct store_heartbeat){
        .rev = store_reply_int(reply, 1),
        .redis_ms = store_reply_int(reply, 2),
        .draining = store_reply_int(reply, 3) == 1,
        .candidate_wanted = store_reply_int(reply, 4) == 1,
        .nodes = store_reply_int(reply, 5),
        .counts = {store_reply_int(reply, 6), store_reply_int(reply, 7), store_reply_int(reply, 8)},
        .resources_revision = store_reply_int(reply, 10),
        .rebalance_rate = store_reply_int(reply, 11),
        .restoring = store_reply_int(reply, 12) == 1,
    };
    const char *unplaced = reply ? redis_reply_str(redis_reply_at(reply, 9), NULL) : NULL;
    if (unplaced && strlen(unplaced) < sizeof out->unplaced) {
        strcpy(out->unplaced, unplaced);
    }
    redis_reply_free(reply);
    return err;
}

enum err store_fence(struct store *store, const struct store_member *caller,
                     const struct store_member *target) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_FENCE);
    store_call_member(&call, caller);
    store_call_member(&call, target);
    return store_call_run_plain(store, &call);
}

enum err store_reap(struct store *store, const struct store_member *target, size_t *moved,
                    bool *finished) {
    struct store_call call;
    struct redis_reply *reply;
    store_call_begin(&call, store, SCRIPT_REAP);
    store_call_member(&call, target);
    enum err err = store_call_run(store, &call, &reply);
    *moved = (size_t)store_reply_int(reply, 1);
    *finished = store_reply_int(reply, 2) == 1;
    redis_reply_free(reply);
    return err;
}

enum err store_mark_leaving(struct store *store, const struct store_member *member) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_MARK_LEAVING);
    store_call_member(&call, member);
    return store_call_run_plain(store, &call);
}

enum err store_leave(struct store *store, const struct store_member *member) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_LEAVE);
    store_call_member(&call, member);
    return store_call_run_plain(store, &call);
}

enum err store_drain(struct store *store, const char *node, bool draining) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_DRAIN);
    store_call_str(&call, node);
    store_call_str(&call, draining ? "1" : "0");
    return store_call_run_plain(store, &call);
}

static enum err store_node_rebalance(struct store *store, int64_t rate, bool renew) {
    struct store_call call;
    store_call_begin(&call, store, SCRIPT_REBALANCE);
    store_call_int(&call, rate);
    store_call_int(&call, STORE_REBALANCE_MS);
    store_call_str(&call, renew ? "1" : "0");
    return store_call_run_plain(store, &call);
}

enum err store_rebalance(struct store *store, int64_t rate) {
    return store_node_rebalance(store, rate, false);
}

enum err store_renew_rebalance(struct store *store) {
    return store_node_rebalance(store, 0, true);
}

/* ---- leadership ---------------------------------------------------------------------------- */

enum err store_lead(struct store *store, const struct store_member *member, int64_t ttl_ms,
                    const char *unplaced, enum store_role *role) {
    struct store_call call;
    struct redis_reply *reply;
    assert(ttl_ms >= 0);
    store_call_begin(&call, store, SCRIPT_LEAD);
    store_call_member(&call, member);
    store_call_int(&call, ttl_ms);
    store_call_str(&call, unplaced);
    enum err err = store_call_run(store, &call, &reply);
    int64_t answer = store_reply_int(reply, 1);
    *role = answer == 2 ? STORE_ROLE_LEADER : answer == 1 ? STORE_ROLE_STANDBY : STORE_ROLE_NONE;
    redis_reply_free(reply);
    return err;
}

enum err store_resign(struct store *store, const struct store_member *member) {
    enum store_role role;
    return store_lead(store, member, 0, "", &role);
}
