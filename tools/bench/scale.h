/* Shared by scale.c and scale_nodes.c: the fleet that tools/bench/scale measures. */
#ifndef MQFLEET_BENCH_SCALE_H
#define MQFLEET_BENCH_SCALE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"
#include "store/store.h"

#define LEADERS     3 /* the leader and both standbys */
#define BEATERS     2
#define AGENTS      2
#define SPARE_LINKS 4 /* a node has so many connections more than are used here */

struct redis;
struct node;

struct bench_node {
    char name[16], incarnation[TEXT_ID_LEN], generation[TEXT_ID_LEN];
    atomic_bool alive; /* all above is set, and it sends heartbeats */
    _Atomic int64_t rev, applied, clients;
    int64_t port;
    int64_t beat_at_ms; /* its beater only */
    /* Its agent only: */
    struct redis *wake, *spare[SPARE_LINKS];
    char *channel;
    int64_t digest, compare_at_ms, full_at_ms, report_at_ms, events_at_ms, ping_at_ms;
    int64_t behind_since_ms, wake_at_ms;
    _Atomic int64_t lag_ms;
    bool heard, woken; /* its channel has something to read; what it read */
    struct node *real; /* of the first LEADERS */
};

struct bench_fleet {
    const char *url;
    struct bench_node *nodes;
    int node_max;
    _Atomic int node_count;
    int64_t size;
    _Atomic int64_t beats, beats_failed, beat_ms_max, changes, compared, differed, full_passes,
        failed;
};
extern struct bench_fleet bench;

/* Ends the process when there is no memory. */
struct store *bench_store(size_t connections);
void bench_failed(const char *what, const char *node, enum err err);

/* Threads that never end; argument: the number of the thread, below BEATERS and AGENTS. */
void *bench_beats(void *argument);
void *bench_agents(void *argument);

/* Until `count` nodes have joined. One thread. */
bool bench_join(struct store *store, int64_t count);

#endif
