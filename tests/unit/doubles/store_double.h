/* Stands between the functions of store/store.h and Redis: each script call can fail before it
 * runs, lose its reply, come late, or run twice, by plan or at random. Without a plan everything
 * passes. Linked into the programs of tests/unit/cluster (--wrap, see CMakeLists.txt). Any thread.
 */
#ifndef MQFLEET_TEST_STORE_DOUBLE_H
#define MQFLEET_TEST_STORE_DOUBLE_H

#include <stdint.h>
#include "base/err.h"

enum store_fault {
    STORE_PASSES,
    STORE_FAILS,      /* the script does not run */
    STORE_REPLY_LOST, /* it runs, and the caller is not told */
    STORE_LATE,       /* it answers, and clock_ms went on by late_ms meanwhile */
    STORE_TWICE       /* it runs twice, the second answer counts */
};

struct store_plan {
    const char *script; /* name of a file in src/store/lua; NULL: each */
    unsigned after;     /* so many of its calls pass first */
    unsigned times;     /* then so many meet the fault; 0: all */
    enum store_fault fault;
    enum err err; /* of STORE_FAILS and STORE_REPLY_LOST; ERR_OK: ERR_TIMEOUT */
    int64_t late_ms;
    void (*before)(void *context); /* something happens between the call and the script; or NULL */
    void *context;
};

struct store;

/* Forgets plans and counts. From now on calls of `store` are counted and met by faults, and those
 * of others, of the test itself for instance, pass; NULL: calls of all. */
void store_double_reset(const struct store *store);
/* Adds a plan (copied); the first one that applies to a call decides. At most 8. */
void store_double_plan(struct store_plan plan);
/* Calls that no plan decides meet a fault in `percent` of all cases, chosen by the seed, which is
 * printed. 0: one of the clock, or $STORE_DOUBLE_SEED. */
void store_double_random(uint64_t seed, unsigned percent);
/* How many calls of that script were made since the reset; NULL: of all. */
unsigned store_double_calls(const char *script);

#endif
