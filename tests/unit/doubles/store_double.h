/* Sits between the functions of store/store.h and Redis: each script call can fail before it runs,
 * lose its reply, answer late, or run twice, by plan or at random. Without a plan, all calls pass.
 * Linked into the programs of tests/unit/cluster (--wrap, see CMakeLists.txt). Any thread. */
#ifndef MQFLEET_TEST_STORE_DOUBLE_H
#define MQFLEET_TEST_STORE_DOUBLE_H

#include <stdint.h>
#include "base/err.h"

enum store_fault {
    STORE_PASSES,
    STORE_FAILS,      /* the script does not run */
    STORE_REPLY_LOST, /* it runs, and the reply is lost */
    STORE_LATE,       /* it answers after clock_ms has advanced by late_ms */
    STORE_TWICE       /* it runs twice, and returns the second answer */
};

struct store_plan {
    const char *script; /* name of a file in src/store/lua; NULL: each */
    unsigned after;     /* this many of its calls pass first */
    unsigned times;     /* then this many have the fault; 0: all */
    enum store_fault fault;
    enum err err; /* of STORE_FAILS and STORE_REPLY_LOST; ERR_OK: ERR_TIMEOUT */
    int64_t late_ms;
    void (*before)(void *context); /* runs between the call and the script; or NULL */
    void *context;
};

struct store;

/* Forgets plans and counts. From now on only calls of `store` are counted and have faults; calls of
 * other stores, for example of the test itself, pass. NULL: all stores. */
void store_double_reset(const struct store *store);
/* Adds a plan (copied); the first one that applies to a call decides. At most 8. */
void store_double_plan(struct store_plan plan);
/* Calls without a plan have a fault in `percent` of all cases, chosen by the seed, which is
 * printed. seed 0: taken from the clock, or $STORE_DOUBLE_SEED. */
void store_double_random(uint64_t seed, unsigned percent);
/* How many calls of that script were made since the reset; NULL: of all. */
unsigned store_double_calls(const char *script);

#endif
