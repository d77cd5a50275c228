/* Stands for mqtt/hosts.h in the programs of tests/unit/cluster: clients that run are rows of a
 * table, calls are recorded, and a test says what they answer. For one thread. Defines what
 * src/cluster calls; another function of hosts.h that it comes to need belongs here as well, or the
 * real hosts are linked beside it and the linker says so. */
#ifndef MQFLEET_TEST_WORKERS_DOUBLE_H
#define MQFLEET_TEST_WORKERS_DOUBLE_H

#include <stdbool.h>
#include <stddef.h>
#include "mqtt/workers/workers.h"

/* The hosts that agents and the like are given. */
struct workers *hosts_double(void);

/* What the calls answer until it is changed; ERR_OK after a reset. Not ERR_OK: nothing is done. */
struct hosts_double_answers {
    enum err start, stop, stop_all, retry, list;
    bool holds; /* clients go on closing until hosts_double_closed */
};
extern struct hosts_double_answers hosts_double_answers;

/* Forgets clients, calls and answers. */
void hosts_double_reset(void);
/* A client runs; its configuration is a small one at broker:1883. */
void hosts_double_run(const char *id, int64_t epoch, int64_t version);
/* One whose stop is held has closed: its done is called. */
void hosts_double_closed(const char *id);
/* Does it run? epoch (may be NULL): its own. */
bool hosts_double_runs(const char *id, int64_t *epoch);

/* How many calls of hosts_<verb> were made: "start" "stop" "stop_all" "retry" "accept". text: only
 * those with this id, or incarnation (accept) or reason (stop_all); NULL: all. */
size_t hosts_double_calls(const char *verb, const char *text);
/* The reason of the last stop or stop_all, or incarnation of the last accept; "" if none. */
const char *hosts_double_last(const char *verb);

#endif
