/* Owns the list of running operations and their pace. */
#include "cluster/operations/operations.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "mqtt/config/client_secrets.h"
#include "operation_batch.h"

#define REFRESH_MS     500 /* of the list of running operations */
#define REFRESH_MS_MIN 50  /* after a wake-up */
#define RETRY_MS       1000
#define POLL_MS        10   /* while owners have not answered */
#define LAG_MS_MAX     1000 /* delays up to this are made up for */
#define BATCHES_PER_S  5    /* at a low rate */

/* An operation that this node executes while it leads. */
struct execution {
    struct store_operation *operation; /* owned */
    enum operation_action action;
    json_t *patch;                 /* NULL: none */
    struct operation_batch *batch; /* owners are asked; NULL: none */
    int64_t next_ms;
    bool listed;  /* in the last list of running operations */
    bool blocked; /* this node cannot decrypt its patch; one with the key may lead later */
    struct execution *prev, *next;
};

struct operations {
    struct operations_wiring wiring;
    operation_prepare *prepare;
    void *prepare_context;
    struct execution *executions;
    int64_t refreshed_ms; /* 0: never */
    bool woken;
};

/* ---- actions --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    bool by_owner;
} ACTIONS[OPERATION_ACTION_COUNT] = {
#define OPERATION_ROW(symbol, name, by_owner) [symbol] = {(name), (by_owner)},
    OPERATION_ACTION_TABLE(OPERATION_ROW)
#undef OPERATION_ROW
};

const char *operation_action_name(enum operation_action action) {
    return ACTIONS[action].name;
}

bool operation_action_is_of_owner(enum operation_action action) {
    return ACTIONS[action].by_owner;
}

bool operation_action_parse(const char *name, enum operation_action *action) {
    for (size_t i = 0; name && i < OPERATION_ACTION_COUNT; i++) {
        if (strcmp(ACTIONS[i].name, name) == 0) {
            *action = (enum operation_action)i;
            return true;
        }
    }
    return false;
}

const char *operations_act_here(struct workers *workers, struct agent *agent,
                                enum operation_action action, const char *id) {
    assert(operation_action_is_of_owner(action));
    enum err err = action == OPERATION_RESTART
                       ? workers_restart(workers, id, "restarted by an operation")
                       : agent_hand_over(agent, id);
    return err == ERR_OK            ? "ok"
           : err == ERR_NOT_FOUND   ? "not_found"
           : err == ERR_WRONG_STATE ? "paused"
                                    : "busy";
}

/* ---- life ------------------------------------------------------------------------------------ */

struct operations *operations_create(const struct operations_wiring *wiring) {
    struct operations *operations = calloc(1, sizeof *operations);
    if (operations) {
        operations->wiring = *wiring;
    }
    return operations;
}

void operations_set_prepare(struct operations *operations, operation_prepare *prepare,
                            void *context) {
    operations->prepare = prepare;
    operations->prepare_context = context;
}

/* Not while owners are asked. */
static void operations_remove(struct operations *operations, struct execution *execution) {
    DL_DELETE(operations->executions, execution);
    operation_batch_destroy(execution->batch);
    json_decref(execution->patch);
    store_operations_free(execution->operation, 1);
    free(execution);
}

void operations_destroy(struct operations *operations) {
    if (!operations) {
        return;
    }
    struct execution *execution, *next;
    DL_FOREACH_SAFE(operations->executions, execution, next) {
        operations_remove(operations, execution);
    }
    free(operations);
}

void operations_wake(struct operations *operations) {
    operations->woken = true;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* Whether a secret could not be decrypted. It must not be stored for a client. ERR_MEMORY. */
static enum err operations_find_sealed(const json_t *patch, bool *sealed) {
    char *text = patch ? json_to_text(patch, JSON_COMPACT) : NULL;
    *sealed = text && strstr(text, "\"" SECRET_SEALED);
    free(text);
    return patch && !text ? ERR_MEMORY : ERR_OK;
}

/* Sets patch and blocked. An invalid patch, written by hand, is none. ERR_MEMORY. */
static enum err operations_open_patch(const struct operations *operations,
                                      struct execution *execution) {
    const struct store_operation *operation = execution->operation;
    enum err err = operation->patch ? json_parse(&execution->patch, operation->patch,
                                                 strlen(operation->patch), 0, NULL)
                                    : ERR_OK;
    if (err == ERR_MEMORY) {
        return err;
    }
    client_secrets_open_document(execution->patch, operation->id, operations->wiring.secrets);
    return operations_find_sealed(execution->patch, &execution->blocked);
}

/* Takes over the contents of an operation whose action this version knows. Without memory it is
 * added by a later refresh. */
static void operations_add(struct operations *operations, struct store_operation *operation) {
    enum operation_action action;
    struct execution *execution = calloc(1, sizeof *execution);
    struct store_operation *own = malloc(sizeof *own);
    if (!execution || !own || !operation_action_parse(operation->action, &action)) {
        free(execution);
        free(own);
        return;
    }
    *own = *operation;
    *operation = (struct store_operation){0};
    execution->operation = own;
    execution->action = action;
    execution->listed = true;
    execution->next_ms = clock_ms();
    DL_APPEND(operations->executions, execution);
    if (operations_open_patch(operations, execution) != ERR_OK) {
        operations_remove(operations, execution);
    } else if (execution->blocked) {
        log_event(LOG_WARN, "operation_blocked", KS("operation", own->id),
                  KS("detail", "this node leads and lacks the key of a secret in the patch"));
    }
}

static struct execution *operations_find(const struct operations *operations, const char *id) {
    struct execution *execution;
    DL_FOREACH(operations->executions, execution) {
        if (strcmp(execution->operation->id, id) == 0) {
            return execution;
        }
    }
    return NULL;
}

static void operations_refresh(struct operations *operations) {
    struct store_operation *list;
    size_t n;
    struct execution *execution, *next;
    operations->refreshed_ms = clock_ms();
    operations->woken = false;
    if (store_operations(operations->wiring.store, "running", &list, &n) != ERR_OK) {
        return;
    }
    DL_FOREACH(operations->executions, execution) {
        execution->listed = false;
    }
    for (size_t i = 0; i < n; i++) {
        execution = operations_find(operations, list[i].id);
        if (execution) {
            execution->listed = true;
        } else {
            operations_add(operations, &list[i]);
        }
    }
    store_operations_free(list, n);
    DL_FOREACH_SAFE(operations->executions, execution, next) {
        if (!execution->listed &&
            (!execution->batch || operation_batch_is_ready(execution->batch))) {
            operations_remove(operations, execution);
        }
    }
}

/* ---- a batch --------------------------------------------------------------------------------- */

/* The audit line of an operation that is done. */
static void operations_log_end(struct operations *operations, const char *id) {
    struct store_operation *list;
    size_t n;
    if (store_operations(operations->wiring.store, id, &list, &n) != ERR_OK) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        log_event(LOG_AUDIT, "operation_done", KS("operation", id), KS("action", list[i].action),
                  KS("caller", list[i].by), KS("selector", list[i].selector),
                  KI("total", list[i].total), KI("done", list[i].done),
                  KI("skipped", list[i].skipped), KI("failed", list[i].failed));
    }
    store_operations_free(list, n);
}

/* A round trip that takes longer than the rate allows is made up for, up to a bound. */
static void operations_pace(struct execution *execution, size_t clients) {
    int64_t now_ms = clock_ms();
    int64_t rate = execution->operation->rate > 0 ? execution->operation->rate : 1;
    execution->next_ms += (int64_t)clients * 1000 / rate;
    if (execution->next_ms < now_ms - LAG_MS_MAX) {
        execution->next_ms = now_ms - LAG_MS_MAX;
    }
}

static void operations_commit(struct operations *operations, struct execution *execution) {
    struct operation_batch *batch = execution->batch;
    struct store_step_item items[STORE_BATCH_MAX];
    char incarnation[TEXT_ID_LEN];
    bool ended = false;
    node_incarnation(operations->wiring.node, incarnation);
    const struct store_member executor = {node_name(operations->wiring.node), incarnation};
    operation_batch_items(batch, items);
    enum err err = store_operation_step(operations->wiring.store, &executor, execution->operation,
                                        batch->position, items, batch->n, &ended);
    if (err == ERR_OK) {
        operations_pace(execution, batch->n);
    }
    if (ended) {
        operations_log_end(operations, execution->operation->id);
    }
    if (err != ERR_OK || batch->has_later) {
        execution->next_ms = clock_ms() + RETRY_MS;
    }
    execution->batch = NULL;
    operation_batch_destroy(batch);
    operations->woken = operations->woken || ended || err == ERR_WRONG_STATE;
}

static enum err operations_prepare_batch(struct operations *operations, struct execution *execution,
                                         struct operation_batch *batch) {
    enum err err = ERR_OK;
    bool asks = false;
    for (size_t i = 0; i < batch->n && err == ERR_OK; i++) {
        struct operation_change *change = &batch->changes[i];
        if (batch->rows[i].state == STORE_ABSENT) {
            change->what = STORE_STEP_SKIPPED;
            change->reason = "not_found";
        } else {
            err = operations->prepare(operations->prepare_context, execution->operation,
                                      execution->action, execution->patch, &batch->rows[i], change);
        }
        asks = asks || change->what == STORE_STEP_DONE;
    }
    return err == ERR_OK && asks ? operation_batch_ask_owners(batch) : err;
}

static size_t operations_batch_len(const struct execution *execution) {
    int64_t len = execution->operation->rate / BATCHES_PER_S;
    return len < 1 ? 1 : len < STORE_BATCH_MAX ? (size_t)len : STORE_BATCH_MAX;
}

static void operations_begin_batch(struct operations *operations, struct execution *execution) {
    struct store_client *rows;
    size_t n;
    int64_t position;
    enum err err = store_operation_batch(operations->wiring.store, execution->operation->id,
                                         operations_batch_len(execution), &position, &rows, &n);
    struct operation_batch *batch =
        err == ERR_OK
            ? operation_batch_create(&operations->wiring, execution->action, position, rows, n)
            : NULL;
    if (batch) {
        err = operations_prepare_batch(operations, execution, batch);
    }
    if (!batch || err != ERR_OK) { /* nothing was sent */
        operation_batch_destroy(batch);
        execution->next_ms = clock_ms() + RETRY_MS;
        operations->woken = operations->woken || err == ERR_WRONG_STATE;
        return;
    }
    execution->batch = batch;
}

static void operations_continue(struct operations *operations, struct execution *execution) {
    if (!execution->batch) {
        operations_begin_batch(operations, execution);
    }
    if (execution->batch && operation_batch_is_ready(execution->batch)) {
        operations_commit(operations, execution);
    }
}

/* ---- the turn -------------------------------------------------------------------------------- */

static int64_t operations_due_ms(const struct execution *execution) {
    return execution->batch     ? clock_ms() + POLL_MS
           : execution->blocked ? INT64_MAX
                                : execution->next_ms;
}

/* The one that is due and waits for the longest time; NULL: none. */
static struct execution *operations_most_urgent(const struct operations *operations) {
    struct execution *execution, *urgent = NULL;
    int64_t now_ms = clock_ms();
    DL_FOREACH(operations->executions, execution) {
        bool due = execution->batch ? operation_batch_is_ready(execution->batch)
                                    : execution->next_ms <= now_ms && !execution->blocked;
        if (due && (!urgent || execution->next_ms < urgent->next_ms)) {
            urgent = execution;
        }
    }
    return urgent;
}

int64_t operations_step(struct operations *operations) {
    int64_t since_ms = clock_ms() - operations->refreshed_ms;
    int64_t period_ms = operations->woken ? REFRESH_MS_MIN : REFRESH_MS;
    if (operations->refreshed_ms == 0 || since_ms >= period_ms) {
        operations_refresh(operations);
    }
    struct execution *execution = operations_most_urgent(operations);
    if (execution) {
        operations_continue(operations, execution);
    }
    int64_t next_ms = operations->refreshed_ms + (operations->woken ? REFRESH_MS_MIN : REFRESH_MS);
    DL_FOREACH(operations->executions, execution) {
        int64_t due_ms = operations_due_ms(execution);
        next_ms = due_ms < next_ms ? due_ms : next_ms;
    }
    return next_ms;
}
