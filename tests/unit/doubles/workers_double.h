/* Replaces mqtt/workers/workers.h in the programs of tests/unit/cluster: running clients are rows
 * of a table, calls are recorded, and a test sets their results. For one thread. Defines the
 * functions that src/cluster calls. If src/cluster needs another one, add it here; otherwise the
 * real workers are linked too, and the linker reports duplicates. */
#ifndef MQFLEET_TEST_WORKERS_DOUBLE_H
#define MQFLEET_TEST_WORKERS_DOUBLE_H

#include <stdbool.h>
#include <stddef.h>
#include "mqtt/workers/workers.h"

/* The workers that are passed to agents and others. */
struct workers *workers_double(void);

/* The results of the calls until they are changed; ERR_OK after a reset. Not ERR_OK: nothing is
 * done. */
struct workers_double_answers {
    enum err start, stop, stop_all, retry, list;
    bool holds;       /* clients stay in closing until workers_double_closed */
    bool no_sessions; /* the sessions of all clients end with their connections */
};
extern struct workers_double_answers workers_double_answers;

/* Forgets clients, calls and answers. */
void workers_double_reset(void);
/* A client runs; its configuration is a small one at broker:1883. */
void workers_double_run(const char *id, int64_t epoch, int64_t version);
/* A client whose stop is held has closed: its done is called. */
void workers_double_closed(const char *id);
/* Does it run? epoch (may be NULL): its own. */
bool workers_double_runs(const char *id, int64_t *epoch);

/* The number of calls of workers_<verb>: "start" "stop" "stop_all" "retry" "accept" "list"
 * "forget_saved". text:
 * only those with this id, or incarnation (accept) or reason (stop_all); NULL: all. */
size_t workers_double_calls(const char *verb, const char *text);
/* The reason of the last stop or stop_all, or incarnation of the last accept; "" if none. */
const char *workers_double_last(const char *verb);

#endif
