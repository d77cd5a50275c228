/* The nodes of tools/bench/scale: joining, heartbeats, and an agent's Redis calls, as in
 * src/cluster. The first three run the real heartbeat's and leader's threads; the others are rows
 * in a table, which a few threads serve. */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "cluster/membership/leader.h"
#include "cluster/membership/node.h"
#include "net/redis/redis.h"
#include "scale.h"

#define FULL_PASS_MS   600000
#define NODE_REPORT_MS 10000 /* INFO */
#define EVENTS_LOOK_MS 1000
#define EVENTS_PING_MS 1500 /* two subscriptions, each pinged every 3 s */
#define WAKE_LOOK_MS   500
#define TURN_MS        10
#define LIST_PAGES_MAX      100000
#define HEARTBEAT_MS   1000
#define BEAT_TTL_MS    1200
#define RECONCILE_MS   10000

#define SETTINGS                                                                                   \
    "{\"conflict_losses\":3,\"conflict_max_ms\":600000,\"conflict_min_ms\":15000,"                 \
    "\"heartbeat_ms\":1000,\"heartbeat_ttl_ms\":1200,\"mass_death_wait_ms\":10000,"                \
    "\"max_packet_bytes\":16777216,\"min_replicas\":0,\"reclaim_grace_ms\":1500,"                  \
    "\"release_after_ms\":300000,\"stable_ms\":10000}"

struct bench_fleet bench;

static char *facts_make(void *context, int64_t lag_ms) {
    char *text = NULL;
    (void)context;
    int len = asprintf(&text,
                       "{\"lag_ms\":%" PRId64 ",\"sinks\":[{\"name\":\"null\",\"failing_ms\":0},"
                       "{\"name\":\"redis_stream\",\"failing_ms\":0}],\"keys\":[]}",
                       lag_ms);
    return len < 0 ? NULL : text;
}

struct store *bench_store(size_t connections) {
    struct store *store = store_open(bench.url, "", 10000, connections);
    if (!store) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    return store;
}

static struct store_member member_of(struct bench_node *node) {
    if (node->real) { /* it joins again by itself */
        node_incarnation(node->real, node->incarnation);
    }
    return (struct store_member){node->name, node->incarnation};
}

void bench_failed(const char *what, const char *node, enum err err) {
    atomic_fetch_add(&bench.failed, 1);
    fprintf(stderr, "%s of %s: %s\n", what, node, err_name(err));
}

/* ---- beats --------------------------------------------------------------------------------- */

static void note_max(_Atomic int64_t *most, int64_t value) {
    int64_t before = atomic_load(most);
    while (before < value && !atomic_compare_exchange_weak(most, &before, value)) {
    }
}

static void beat(struct store *store, struct bench_node *node) {
    struct store_heartbeat answer;
    struct store_member member = member_of(node);
    char *facts = facts_make(NULL, atomic_load(&node->lag_ms));
    int64_t begun_ms = clock_ms();
    enum err err =
        store_heartbeat(store, &member, node->generation, BEAT_TTL_MS, facts ? facts : "{}", &answer);
    free(facts);
    note_max(&bench.beat_ms_max, clock_ms() - begun_ms);
    atomic_fetch_add(&bench.beats, 1);
    if (err == ERR_OK) {
        atomic_store(&node->rev, answer.rev);
    } else {
        atomic_fetch_add(&bench.beats_failed, 1);
        bench_failed("beat", node->name, err);
    }
    if (err == ERR_FENCED || err == ERR_WRONG_STATE) {
        atomic_store(&node->alive, false);
    }
}

void *bench_beats(void *argument) {
    struct store *store = bench_store(1);
    size_t first = (size_t)(intptr_t)argument;
    for (;;) {
        int count = atomic_load(&bench.node_count);
        for (size_t i = LEADERS + first; i < (size_t)count; i += BEATERS) {
            struct bench_node *node = &bench.nodes[i];
            int64_t now_ms = clock_ms();
            if (atomic_load(&node->alive) && now_ms >= node->beat_at_ms) {
                node->beat_at_ms = now_ms + HEARTBEAT_MS;
                beat(store, node);
            }
        }
        clock_sleep_ms(TURN_MS);
    }
    store_close(store);
    return NULL;
}

/* ---- the agent ----------------------------------------------------------------------- */

static void full_pass(struct store *store, struct bench_node *node) {
    struct store_assignment *rows;
    struct store_set set;
    struct store_member member = member_of(node);
    size_t n;
    int64_t digest = 0;
    enum err err = store_list_assignments(store, &member, &rows, &n, &set);
    if (err != ERR_OK) {
        return bench_failed("full pass", node->name, err);
    }
    for (size_t i = 0; i < n; i++) {
        digest = store_digest_add(digest, rows[i].id, rows[i].epoch, rows[i].version);
    }
    store_assignments_free(rows, n);
    err = store_save_digest(store, &member, set.rev, digest);
    node->digest = digest;
    atomic_store(&node->clients, (int64_t)n);
    atomic_store(&node->applied, set.rev);
    node->full_at_ms = clock_ms() + FULL_PASS_MS;
    atomic_fetch_add(&bench.full_passes, 1);
    if (err != ERR_OK && err != ERR_WRONG_STATE) {
        bench_failed("digest", node->name, err);
    }
}

/* Reads the changes; false: a client has left, so the whole list must be read. */
static bool take_changes(struct bench_node *node, const struct store_change *rows, size_t n) {
    bool whole = true;
    for (size_t i = 0; i < n; i++) {
        whole = whole && rows[i].epoch != 0;
        node->digest = store_digest_add(node->digest, rows[i].id, rows[i].epoch, rows[i].version);
    }
    atomic_fetch_add(&node->clients, (int64_t)n);
    return whole;
}

/* Reads pages until there are no more; then *set is of the last. */
static enum err read_changes(struct store *store, struct bench_node *node, struct store_set *set,
                             bool *whole) {
    struct store_member member = member_of(node);
    struct store_change last = {0}, *rows;
    enum err err;
    size_t n;
    int pages = 0;
    do {
        err = store_changes(store, &member, node->applied, last.id ? &last : NULL, set, &rows, &n);
        if (err == ERR_OK && n > 0) {
            *whole = take_changes(node, rows, n) && *whole;
            free(last.id);
            last = (struct store_change){.rev = rows[n - 1].rev, .id = rows[n - 1].id};
            rows[n - 1].id = NULL;
        }
        store_changes_free(rows, n);
        atomic_fetch_add(&bench.changes, 1);
    } while (err == ERR_OK && n > 0 && ++pages < LIST_PAGES_MAX);
    free(last.id);
    return err;
}

static void reconcile(struct store *store, struct bench_node *node, bool compares) {
    struct store_set set;
    bool whole = true;
    enum err err = read_changes(store, node, &set, &whole);
    if (err != ERR_OK) {
        return bench_failed("changes", node->name, err);
    }
    if (set.gap_rev > node->applied || !whole) {
        return full_pass(store, node);
    }
    atomic_store(&node->applied, set.rev);
    if (compares) {
        atomic_fetch_add(&bench.compared, 1);
        node->compare_at_ms = clock_ms() + RECONCILE_MS;
    }
    if (compares && set.digest != node->digest) {
        atomic_fetch_add(&bench.differed, 1);
        full_pass(store, node);
    }
}

static void note_lag(struct bench_node *node, int64_t rev, int64_t now_ms) {
    if (rev <= node->applied) {
        node->behind_since_ms = 0;
    } else if (node->behind_since_ms == 0) {
        node->behind_since_ms = now_ms;
    }
    atomic_store(&node->lag_ms, node->behind_since_ms ? now_ms - node->behind_since_ms : 0);
}

/* Now and then also unheard: to subscribe, and for a sign of life. */
static void read_wakes(struct bench_node *node, int64_t now_ms) {
    char *payload = NULL;
    if (!node->heard && now_ms < node->wake_at_ms) {
        return;
    }
    node->wake_at_ms = now_ms + WAKE_LOOK_MS;
    node->heard = false;
    while (redis_next_message(node->wake, node->channel, 0, &payload) == ERR_OK) {
        node->woken = true;
        free(payload);
        payload = NULL;
    }
}

static void ask(struct redis *redis, int argc, const char *const *argv) {
    struct redis_reply *reply = NULL;
    enum err err = redis_command(redis, argc, argv, NULL, &reply);
    (void)err;
    redis_reply_free(reply);
}

/* The calls of a node even without clients: events of others, and the properties of Redis. */
static void small_talk(struct store *store, struct redis *talk, struct bench_node *node,
                       int64_t now_ms) {
    struct redis_info info;
    if (now_ms >= node->events_at_ms) {
        node->events_at_ms = now_ms + EVENTS_LOOK_MS;
        ask(talk, 2, (const char *[]){"EXISTS", "mqtt_fleet:listening"});
    }
    if (now_ms >= node->ping_at_ms) {
        node->ping_at_ms = now_ms + EVENTS_PING_MS;
        ask(talk, 1, (const char *[]){"PING"});
    }
    if (now_ms >= node->report_at_ms) {
        node->report_at_ms = now_ms + NODE_REPORT_MS;
        enum err err = store_redis_info(store, &info);
        (void)err;
    }
}

static void agent_turn(struct store *store, struct redis *talk, struct bench_node *node) {
    int64_t now_ms = clock_ms(), rev = node->real ? node_rev(node->real) : atomic_load(&node->rev);
    read_wakes(node, now_ms);
    note_lag(node, rev, now_ms);
    bool due = now_ms >= node->compare_at_ms;
    if (now_ms >= node->full_at_ms) {
        full_pass(store, node);
    } else if (node->woken || due || rev > node->applied) {
        node->woken = false;
        reconcile(store, node, due);
    }
    if (node->real) {
        node_set_applied_rev(node->real, node->applied);
    }
    small_talk(store, talk, node, now_ms);
}

/* Waits until a channel of these nodes has something to read, or for the next turn. */
static void hear(struct pollfd *fds, size_t first, size_t count) {
    nfds_t n = 0;
    for (size_t i = first; i < count; i += AGENTS) {
        fds[n++] = (struct pollfd){.fd = redis_fd(bench.nodes[i].wake), .events = POLLIN};
    }
    poll(fds, n, TURN_MS);
    for (size_t i = first; n > 0 && i < count; i += AGENTS) {
        bench.nodes[i].heard = fds[(i - first) / AGENTS].revents != 0;
    }
}

void *bench_agents(void *argument) {
    struct store *store = bench_store(1);
    struct redis *talk = redis_create(bench.url, 10000);
    struct pollfd *fds = calloc((size_t)bench.node_max, sizeof *fds);
    size_t first = (size_t)(intptr_t)argument;
    while (talk && fds) {
        size_t count = (size_t)atomic_load(&bench.node_count);
        hear(fds, first, count);
        for (size_t i = first; i < count; i += AGENTS) {
            if (atomic_load(&bench.nodes[i].alive)) {
                agent_turn(store, talk, &bench.nodes[i]);
            }
        }
    }
    free(fds);
    redis_destroy(talk);
    store_close(store);
    return NULL;
}

/* ---- joining ------------------------------------------------------------------------------- */

/* The leader and the standbys are real nodes, with a heartbeat thread and a leader thread. */
static enum err join_leader(struct store *store, struct bench_node *node) {
    char name[64], size[64], fault[CONF_FAULT_LEN];
    const char *sets[] = {name, size};
    struct conf *conf;
    pthread_t thread;
    snprintf(name, sizeof name, "node_info.name=%s", node->name);
    snprintf(size, sizeof size, "node_info.size=%" PRId64, bench.size);
    enum err err = conf_load(&conf, NULL, sets, sizeof sets / sizeof sets[0], fault);
    if (err != ERR_OK) {
        fprintf(stderr, "%s\n", fault);
        return err;
    }
    node->real = node_create(conf, bench_store(1));
    struct leader *leader =
        node->real ? leader_create(conf, node->real, bench_store(1), bench.url) : NULL;
    if (!leader) {
        return ERR_MEMORY;
    }
    node_set_facts_source(node->real, facts_make, NULL);
    err = node_join(node->real, store);
    if (err == ERR_OK && (pthread_create(&thread, NULL, node_heartbeat_run, node->real) ||
                          pthread_create(&thread, NULL, leader_run, leader))) {
        err = ERR_MEMORY;
    }
    return err;
}

static enum err join_row(struct store *store, struct bench_node *node) {
    char *facts = facts_make(NULL, 0);
    text_random_id(node->incarnation);
    struct store_join join = {.member = member_of(node),
                              .host = "127.0.0.1",
                              .port = node->port,
                              .type = "mqtt",
                              .version = MQFLEET_VERSION,
                              .size = bench.size,
                              .started_at_ms = clock_wall_ms(),
                              .heartbeat_ttl_ms = BEAT_TTL_MS,
                              .facts = facts};
    enum err err = store_join(store, &join, node->generation);
    free(facts);
    return err;
}

static bool open_links(struct bench_node *node) {
    bool good = true;
    node->channel = store_wake_channel("", node->name);
    node->wake = redis_create(bench.url, 10000);
    for (int i = 0; i < SPARE_LINKS; i++) {
        node->spare[i] = redis_create(bench.url, 10000);
        good = good && node->spare[i];
        if (good) {
            ask(node->spare[i], 1, (const char *[]){"PING"});
        }
    }
    return good && node->wake && node->channel;
}

/* As membership.c does: who has the name, the fleet's settings, join, who has the address. */
static enum err join_calls(struct store *store, struct bench_node *node, bool leads) {
    struct store_fleet fleet;
    struct store_node *nodes;
    size_t n;
    enum err err = store_nodes_named(store, BEAT_TTL_MS, node->name, &nodes, &n);
    store_nodes_free(nodes, n);
    if (err == ERR_OK) {
        err = store_publish_settings(store, "", node->name, SETTINGS, &fleet);
        store_fleet_fini(&fleet);
    }
    if (err == ERR_OK) {
        err = leads ? join_leader(store, node) : join_row(store, node);
    }
    if (err == ERR_OK) {
        err = store_nodes_at_port(store, BEAT_TTL_MS, node->port, &nodes, &n);
        store_nodes_free(nodes, n);
    }
    return err;
}

static bool join_one(struct store *store, int index) {
    struct bench_node *node = &bench.nodes[index];
    snprintf(node->name, sizeof node->name, "n%05d", index);
    node->port = 1 + index;
    enum err err = open_links(node) ? join_calls(store, node, index < LEADERS) : ERR_MEMORY;
    if (err != ERR_OK) {
        bench_failed("join", node->name, err);
        return false;
    }
    int64_t now_ms = clock_ms();
    node->beat_at_ms = now_ms + HEARTBEAT_MS;
    node->compare_at_ms = now_ms + rand() % RECONCILE_MS;
    node->report_at_ms = now_ms + rand() % NODE_REPORT_MS;
    node->events_at_ms = now_ms + rand() % EVENTS_LOOK_MS;
    node->ping_at_ms = now_ms + rand() % EVENTS_PING_MS;
    full_pass(store, node);
    node->full_at_ms = now_ms + rand() % FULL_PASS_MS;
    atomic_store(&node->alive, true);
    atomic_store(&bench.node_count, index + 1);
    return true;
}

bool bench_join(struct store *store, int64_t count) {
    for (int i = atomic_load(&bench.node_count); i < count && i < bench.node_max; i++) {
        if (!join_one(store, i)) {
            return false;
        }
    }
    return count <= bench.node_max;
}
