/* A fleet as Redis sees it, for tools/bench/scale: nodes that join, send heartbeats, read changes
 * and compare checksums through src/store, without MQTT (scale_nodes.c). It creates clients and
 * executes commands:
 *
 *   bench_scale URL NODES SIZE   room for NODES nodes, of SIZE clients each at most
 *
 *   join N      until N nodes have joined
 *   create N    N clients more
 *   spoil N     N clients that no node can run
 *   kill I      node I falls silent
 *   applied N   until the nodes know N clients
 *   stats       counters, as JSON
 *
 * They come on stdin, a line each; the last line of each answer is "ok" or "failed". It ends with
 * its stdin. At the beginning it tells "script NAME SHA1" of each script. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "store/internal.h"
#include "scale.h"

#define APPLIED_MS_MAX 120000

/* ---- clients ------------------------------------------------------------------------------- */

#define CREATE_TEXT_LEN 160

static int64_t client_count; /* clients so far */

struct create_batch {
    char ids[STORE_BATCH_MAX][16], texts[STORE_BATCH_MAX][CREATE_TEXT_LEN];
    char identities[STORE_BATCH_MAX][64];
    struct store_create_item items[STORE_BATCH_MAX];
    struct store_create_result results[STORE_BATCH_MAX];
};

static bool create_batch(struct store *store, struct create_batch *batch, size_t n) {
    size_t done = 0, created = 0;
    for (size_t i = 0; i < n; i++) {
        char *id = batch->ids[i], *text = batch->texts[i], *identity = batch->identities[i];
        snprintf(id, sizeof batch->ids[i], "c%08" PRId64, client_count + (int64_t)i);
        snprintf(text, CREATE_TEXT_LEN,
                 "{\"id\":\"%s\",\"subscriptions\":[{\"filter\":\"t/%s/#\",\"qos\":1}],"
                 "\"url\":\"mqtt://127.0.0.1:1883\"}",
                 id, id);
        snprintf(identity, sizeof batch->identities[i], "127.0.0.1:1883/%s", id);
        batch->items[i] = (struct store_create_item){id, text, identity};
    }
    enum err err = store_create(store, batch->items, n, batch->results, &done);
    for (size_t i = 0; i < done; i++) {
        created += batch->results[i].outcome == STORE_CREATED;
    }
    client_count += (int64_t)n;
    if (err != ERR_OK) {
        bench_failed("create", "clients", err);
    }
    return err == ERR_OK && created == n;
}

static bool create_all(struct store *store, int64_t count) {
    struct create_batch *batch = calloc(1, sizeof *batch);
    bool good = batch != NULL;
    for (int64_t at = 0; good && at < count; at += STORE_BATCH_MAX) {
        good = create_batch(store, batch, store_batch_len((size_t)at, (size_t)count));
    }
    free(batch);
    return good;
}

/* The leader finds that their texts cannot be read, and puts them off again and again. */
static bool spoil_some(struct store *store, int64_t count) {
    bool good = count >= 0 && count <= STORE_BATCH_MAX;
    for (int64_t i = 0; good && i < count; i++) {
        char id[32];
        struct store_create_result result = {0};
        size_t done = 0;
        snprintf(id, sizeof id, "spoilt%" PRId64, i);
        struct store_create_item item = {id, "{}", id};
        good = store_create(store, &item, 1, &result, &done) == ERR_OK && done == 1;
        free(result.other_id);
    }
    return good;
}

/* ---- commands ------------------------------------------------------------------------------ */

static bool kill_node(struct store *store, int64_t index) {
    bool known = index >= LEADERS && index < atomic_load(&bench.node_count);
    (void)store;
    if (known) {
        atomic_store(&bench.nodes[index].alive, false);
        atomic_store(&bench.nodes[index].clients, 0);
    }
    return known;
}

static bool await_applied(struct store *store, int64_t clients) {
    int64_t end_ms = clock_ms() + APPLIED_MS_MAX, known;
    (void)store;
    do {
        known = 0;
        for (int i = 0; i < bench.node_max; i++) {
            known += atomic_load(&bench.nodes[i].clients);
        }
        clock_sleep_ms(1);
    } while (known != clients && clock_ms() < end_ms);
    return known == clients;
}

static bool print_stats(struct store *store, int64_t unused) {
    int alive = 0;
    (void)store;
    (void)unused;
    for (int i = 0; i < bench.node_max; i++) {
        alive += atomic_load(&bench.nodes[i].alive);
    }
    printf("{\"alive\":%d,\"beats\":%" PRId64 ",\"beats_failed\":%" PRId64
           ",\"beat_ms_max\":%" PRId64 ",\"changes\":%" PRId64 ",\"compared\":%" PRId64
           ",\"differed\":%" PRId64 ",\"full_passes\":%" PRId64 ",\"failed\":%" PRId64 "}\n",
           alive, bench.beats, bench.beats_failed, bench.beat_ms_max, bench.changes, bench.compared,
           bench.differed, bench.full_passes, bench.failed);
    atomic_store(&bench.beat_ms_max, 0);
    return true;
}

static const struct {
    const char *name;
    bool (*run)(struct store *store, int64_t number);
} commands[] = {
    {"join", bench_join},       {"create", create_all}, {"kill", kill_node},
    {"applied", await_applied}, {"spoil", spoil_some},  {"stats", print_stats},
};

static bool command_run(struct store *store, const char *line) {
    char word[16] = "";
    int64_t number = 0;
    sscanf(line, "%15s %" SCNd64, word, &number);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(word, commands[i].name) == 0) {
            return commands[i].run(store, number);
        }
    }
    return false;
}

static void print_scripts(const struct store *store) {
    static const char *const names[] = {
#define SCALE_NAME(symbol, name, kind) [symbol] = (name),
        SCRIPT_TABLE(SCALE_NAME)
#undef SCALE_NAME
    };
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        printf("script %s %s\n", names[i], store->scripts[i].sha);
    }
    fflush(stdout);
}

static bool begin(const char *const argv[]) {
    bench.url = argv[1];
    bench.node_max = atoi(argv[2]);
    bench.size = atoll(argv[3]);
    bench.nodes =
        bench.node_max >= LEADERS ? calloc((size_t)bench.node_max, sizeof *bench.nodes) : NULL;
    pthread_t thread;
    bool good = bench.nodes != NULL;
    for (intptr_t i = 0; good && i < BEATERS; i++) {
        good = pthread_create(&thread, NULL, bench_beats, (void *)i) == 0;
    }
    for (intptr_t i = 0; good && i < AGENTS; i++) {
        good = pthread_create(&thread, NULL, bench_agents, (void *)i) == 0;
    }
    return good;
}

int main(int argc, char *argv[]) {
    char line[128];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_setup(LOG_WARN, LOG_LOGFMT);
    if (argc != 4 || !begin((const char *const *)argv)) {
        fprintf(stderr, "bench_scale URL NODES SIZE: NODES is %d or more\n", LEADERS);
        return 2;
    }
    struct store *store = bench_store(1);
    print_scripts(store);
    while (fgets(line, sizeof line, stdin)) {
        puts(command_run(store, line) ? "ok" : "failed");
        fflush(stdout);
    }
    fflush(stderr);
    _exit(EXIT_SUCCESS); /* its threads end with it */
}
