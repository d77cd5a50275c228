/* Counts clients by the value of one key. Pure; one thread at a time. */
#ifndef MQFLEET_SELECTION_TALLY_H
#define MQFLEET_SELECTION_TALLY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

/* Different values that are counted separately; all further ones are counted in tally.others. */
#define TALLY_GROUPS_MAX 100000

struct tally_group;

struct tally {
    struct tally_group *groups; /* by value */
    int64_t without;            /* clients without a value */
    int64_t others;             /* clients beyond TALLY_GROUPS_MAX */
};

struct tally_row {
    const char *value;   /* borrowed; NULL: without */
    const char *example; /* the id of one of them, borrowed; NULL: none was given */
    int64_t count;
};

void tally_fini(struct tally *tally);
/* value NULL: without one. example: the id of one of the clients; NULL: none. */
void tally_add(struct tally *tally, const char *value, int64_t count, const char *example);
/* All groups, the largest first; equal ones by value. *n: their number. NULL: out of memory. The
 * caller frees the array. */
struct tally_row *tally_rows(const struct tally *tally, size_t *n);

/* {"groups":{value: count}, "examples":{value: id}, "without": n, "others": n}. NULL: out of
 * memory. */
json_t *tally_to_json(const struct tally *tally);
/* Adds the answer of another node. ERR_ARGUMENT: not such a document. */
enum err tally_merge_json(struct tally *tally, const json_t *json) MUST_CHECK;

#endif
