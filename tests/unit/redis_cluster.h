/* A real cluster of three nodes for one test, without replicas. Header-only; see redis_servers.h.
 */
#ifndef MQFLEET_TEST_REDIS_CLUSTER_H
#define MQFLEET_TEST_REDIS_CLUSTER_H

#include "redis_servers.h"

#define CLUSTER_NODES 3

static inline void cluster_start(void) {
    char command[512], cli[64];
    redis_program_cli(cli, sizeof cli);
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        char bus_port[8];
        snprintf(bus_port, sizeof bus_port, "%d", server_free_port());
        SERVER_START("--cluster-enabled", "yes", "--cluster-port", bus_port,
                     "--cluster-require-full-coverage", "no");
    }
    snprintf(command, sizeof command,
             "%s --cluster create 127.0.0.1:%d 127.0.0.1:%d 127.0.0.1:%d --cluster-yes"
             " > %s/create.log 2>&1",
             cli, servers.list[0].port, servers.list[1].port, servers.list[2].port, servers.folder);
    ck_assert_int_eq(system(command), 0);
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        EVENTUALLY(SERVER_SAYS(&servers.list[i], "cluster_state:ok", "CLUSTER", "INFO"));
    }
}

static inline int64_t cluster_slot(const char *key) {
    struct redis_reply *reply = server_ask(&servers.list[0], "CLUSTER", "KEYSLOT", key, NULL);
    int64_t slot = redis_reply_int(reply);
    redis_reply_free(reply);
    return slot;
}

static inline void cluster_id(struct server *server, char out[48]) {
    struct redis_reply *reply = server_ask(server, "CLUSTER", "MYID", NULL);
    snprintf(out, 48, "%s", redis_reply_str(reply, NULL));
    redis_reply_free(reply);
}

/* The slots are dealt in thirds, in the order of the nodes. */
static inline struct server *cluster_owner(const char *key) {
    int64_t slot = cluster_slot(key);
    return &servers.list[slot < 5461 ? 0 : slot < 10923 ? 1 : 2];
}

static inline struct server *cluster_other(const struct server *than) {
    return than == &servers.list[0] ? &servers.list[1] : &servers.list[0];
}

static inline void cluster_set_slot(struct server *server, const char *key, const char *state,
                                    struct server *node) {
    char slot[24], id[48];
    cluster_id(node, id);
    snprintf(slot, sizeof slot, "%" PRId64, cluster_slot(key));
    SERVER_TELL(server, "CLUSTER", "SETSLOT", slot, state, id);
}

static inline void cluster_begin_move(struct server *from, struct server *to, const char *key) {
    cluster_set_slot(to, key, "IMPORTING", from);
    cluster_set_slot(from, key, "MIGRATING", to);
}

/* With the only existing key, or without a key if there is none. */
static inline void cluster_move_slot(struct server *from, struct server *to, const char *key) {
    char port[8];
    snprintf(port, sizeof port, "%d", to->port);
    cluster_begin_move(from, to, key);
    SERVER_TELL(from, "MIGRATE", "127.0.0.1", port, key, "0", "2000");
    cluster_set_slot(to, key, "NODE", to);
    cluster_set_slot(from, key, "NODE", to);
}

/* Each of the two nodes says that the other owns the slot; the other nodes are stopped, so that
 * they do not correct this. */
static inline void cluster_disagree(struct server *owner, struct server *other, const char *key) {
    cluster_set_slot(other, key, "NODE", owner);
    cluster_set_slot(owner, key, "NODE", other);
}

#endif
