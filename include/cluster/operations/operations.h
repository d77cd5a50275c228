/* Executes the operations of the fleet: one action on many clients, in batches, at a rate. The
 * leader executes all of them. Correctness does not depend on that: a batch and the progress are
 * committed by one script, on condition of the position, so a second executor changes nothing.
 *
 *   pause, resume, patch, delete:  read a batch -> prepare each client -> commit
 *   restart, release:              read a batch -> ask the owners      -> commit
 *
 * Only the owner can restart or release a client. If an executor dies before the commit, the next
 * one asks again: a client may be restarted twice, but is not released again once it has moved.
 *
 * Runs on the leader thread, unless a comment says otherwise. Owners answer on the peer calls
 * thread. */
#ifndef MQFLEET_OPERATIONS_OPERATIONS_H
#define MQFLEET_OPERATIONS_OPERATIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/secrets/secret_box.h"
#include "cluster/membership/agent.h"
#include "cluster/membership/node.h"
#include "cluster/peers/peer_calls.h"
#include "mqtt/workers/workers.h"
#include "store/operations.h"

/* X(symbol, name, by the owner) */
#define OPERATION_ACTION_TABLE(X)                                                                  \
    X(OPERATION_PAUSE, "pause", false)                                                             \
    X(OPERATION_RESUME, "resume", false)                                                           \
    X(OPERATION_PATCH, "patch", false)                                                             \
    X(OPERATION_DELETE, "delete", false)                                                           \
    X(OPERATION_RESTART, "restart", true)                                                          \
    X(OPERATION_RELEASE, "release", true)

enum operation_action {
#define OPERATION_SYMBOL(symbol, name, by_owner) symbol,
    OPERATION_ACTION_TABLE(OPERATION_SYMBOL)
#undef OPERATION_SYMBOL
        OPERATION_ACTION_COUNT
};
const char *operation_action_name(enum operation_action action);
bool operation_action_is_of_owner(enum operation_action action);
/* False: unknown. Any thread. */
bool operation_action_parse(const char *name, enum operation_action *action);

/* What an operation does to one client. */
struct operation_change {
    enum store_step_what what; /* DONE: for an action of owners, the owner is asked first */
    char *config, *identity, *record, *detail; /* owned; NULL: none */
    const char *reason;                        /* static */
};

/* Decides what an operation does to an existing client. patch: for OPERATION_PATCH, with decrypted
 * secrets. ERR_MEMORY: the client is tried again. */
typedef enum err operation_prepare(void *context, const struct store_operation *operation,
                                   enum operation_action action, const json_t *patch,
                                   const struct store_client *row, struct operation_change *out);

struct operations;

/* All borrowed. */
struct operations_wiring {
    const struct conf *conf;
    struct node *node;
    struct store *store;
    struct peer_calls *peer_calls;
    struct workers *workers;
    struct agent *agent;
    struct secret_box *secrets; /* NULL: no keys */
};

struct operations *operations_create(const struct operations_wiring *wiring); /* NULL: no memory */
/* After the leader thread and the peer calls thread have ended. NULL is legal. */
void operations_destroy(struct operations *operations);
/* Before the leader thread runs. */
void operations_set_prepare(struct operations *operations, operation_prepare *prepare,
                            void *context);

/* Executes at most one batch. Returns the time of the next call (clock_ms). */
int64_t operations_step(struct operations *operations);
/* A new operation may have begun. */
void operations_wake(struct operations *operations);

/* The action of an owner on a client of this node. The results: "ok", "not_found", "paused" or
 * "busy", static. Any thread. */
const char *operations_act_here(struct workers *workers, struct agent *agent,
                                enum operation_action action, const char *id);

#endif
