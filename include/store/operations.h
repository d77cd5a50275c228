/* Operations of the fleet in Redis: one action on many clients, whose ids are fixed at its start.
 * Any thread. Errors as in store.h. */
#ifndef MQFLEET_STORE_OPERATIONS_H
#define MQFLEET_STORE_OPERATIONS_H

#include "store/store.h"

#define STORE_OPERATION_IDS_MAX 500000

enum store_operation_state { OPERATION_RUNNING, OPERATION_DONE, OPERATION_CANCELLED };
const char *store_operation_state_name(enum store_operation_state state);

struct store_operation_reason {
    char *reason; /* owned */
    int64_t count;
};

/* Strings are owned; NULL: unknown. Times: Redis wall clock, 0: not yet. */
struct store_operation {
    char *id;
    char *action, *selector, *by;
    char *patch;  /* JSON, secrets encrypted; NULL once it has ended */
    char *scope;  /* of the caller, as in http/auth/scope.h; NULL: the whole fleet */
    char *fields; /* names of the fields of the patch, separated by blanks */
    int64_t rate; /* clients per second */
    enum store_operation_state state;
    char *cancelled_by, *executor; /* name of a caller, of a node */
    int64_t total, position, done, skipped, failed;
    int64_t started_ms, ended_ms, redis_ms;
    struct store_operation_reason *reasons; /* of skipped and failed clients */
    size_t reason_count;
    char *failures; /* JSON objects "id" "reason" "detail", one per line; the first 100 */
};

#define STORE_OPERATIONS_MAX       16 /* running at once, of all callers without a scope */
#define STORE_OPERATIONS_SCOPE_MAX 4  /* running at once, of all callers with the same scope */
/* Begins an operation with new->id and the ids (borrowed). Uses id, action, selector, by,
 * patch, scope, fields and rate of `new`. ERR_REFUSED: too many are running. */
enum err store_create_operation(struct store *store, const struct store_operation *new,
                                const char *const *ids, size_t n) MUST_CHECK;
/* The newest first. which: an id, "running", or NULL for all. *n 0: none. store_operations_free. */
enum err store_operations(struct store *store, const char *which,
                          struct store_operation **operations, size_t *n) MUST_CHECK;
void store_operations_free(struct store_operation *operations, size_t n);
/* ERR_NOT_FOUND; ERR_WRONG_STATE: it is done. */
enum err store_cancel_operation(struct store *store, const char *id, const char *by) MUST_CHECK;

/* The next clients of an operation, at most `count`, and the position of the first. A row with
 * STORE_ABSENT and an id: there is no such client. ERR_WRONG_STATE: it does not run.
 * store_clients_free. */
enum err store_operation_batch(struct store *store, const char *id, size_t count, int64_t *position,
                               struct store_client **rows, size_t *n) MUST_CHECK;

enum store_step_what {
    STORE_STEP_UPDATE,  /* version, config, identity, record */
    STORE_STEP_DELETE,  /* version, record */
    STORE_STEP_DONE,    /* the owner has done it */
    STORE_STEP_SKIPPED, /* reason */
    STORE_STEP_FAILED,  /* reason, detail */
    STORE_STEP_LATER    /* the same; tried again after the others */
};
/* All borrowed. */
struct store_step_item {
    const char *id;
    enum store_step_what what;
    int64_t version; /* of the row that was read */
    const char *config, *identity, *record;
    const char *reason, *detail; /* NULL: none */
};
/* Commits the changes of one batch and the progress, all or nothing. At most STORE_BATCH_MAX items.
 * *ended: the operation is done. ERR_FENCED: the executor is not a member. ERR_WRONG_STATE: it does
 * not run, or this position was committed before (also by this call, if its answer was lost).
 * ERR_FULL: Redis is out of memory (not for deletes). */
enum err store_operation_step(struct store *store, const struct store_member *executor,
                              const struct store_operation *operation, int64_t position,
                              const struct store_step_item *items, size_t n,
                              bool *ended) MUST_CHECK;

#endif
