/* Owns the clients that leave this node:
 *
 *   worker gives up ------------------------> [ releases ] --store_release--> waiting, or assigned
 *   operator, drain --workers_stop--> closed ------^                          to another node
 *
 * A release that cannot be written stays in the list and is tried again. The agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "cluster/membership/agent_internal.h"

#define RELEASE_RETRY_MS       500
#define HANDOVER_STOP_RETRY_MS 15000
#define DESTINATIONS_AGE_MS    500

bool handover_is_pending(struct agent *agent, const char *id) {
    struct handover *handover;
    struct agent_task *release;
    HASH_FIND_STR(agent->handovers, id, handover);
    HASH_FIND_STR(agent->releases, id, release);
    return handover || release;
}

static void handover_free(struct agent *agent, struct handover *handover) {
    HASH_DEL(agent->handovers, handover);
    free(handover->id);
    free(handover->target);
    free(handover->config);
    free(handover->identity);
    free(handover->history);
    free(handover);
}

static void handover_drop_task(struct agent_task **tasks, struct agent_task *task) {
    HASH_DEL(*tasks, task);
    agent_task_free(task);
}

/* Keeps one task per id, for the newest epoch. Workers ask again while Redis does not answer. */
static void handover_keep_task(struct agent_task **tasks, struct agent_task *task) {
    struct agent_task *known;
    HASH_FIND_STR(*tasks, task->id, known);
    if (known && known->epoch > task->epoch) {
        agent_task_free(task);
        return;
    }
    if (known) {
        handover_drop_task(tasks, known);
    }
    HASH_ADD_KEYPTR(hh, *tasks, task->id, strlen(task->id), task);
}

void handover_clear(struct agent *agent) {
    while (agent->releases) {
        handover_drop_task(&agent->releases, agent->releases);
    }
    while (agent->stable) {
        handover_drop_task(&agent->stable, agent->stable);
    }
    struct handover *handover, *next;
    HASH_ITER(hh, agent->handovers, handover, next) {
        handover_free(agent, handover);
    }
}

/* ---- stopping before releasing --------------------------------------------------------------- */

struct handover_stopped {
    struct agent *agent;
    int64_t epoch;
    char id[];
};

/* The client has closed. Worker thread. */
static void handover_client_stopped(void *context) {
    struct handover_stopped *stopped = context;
    struct agent_task *task = calloc(1, sizeof *task);
    if (task) {
        task->kind = AGENT_TASK_STOPPED;
        task->epoch = stopped->epoch;
        task->id = text_dup(stopped->id);
    }
    if (!task || !task->id || queue_push(stopped->agent->tasks, task) != ERR_OK) {
        agent_task_free(task); /* the agent stops it again after HANDOVER_STOP_RETRY_MS */
    }
    free(stopped);
}

static void handover_stop_client(struct agent *agent, struct handover *handover) {
    size_t len = strlen(handover->id);
    struct handover_stopped *stopped = malloc(sizeof *stopped + len + 1);
    handover->stop_asked_ms = clock_ms();
    if (!stopped) {
        return;
    }
    stopped->agent = agent;
    stopped->epoch = handover->epoch;
    memcpy(stopped->id, handover->id, len + 1);
    if (workers_stop(agent->wiring.workers, handover->id, handover->epoch, handover->reason,
                     handover_client_stopped, stopped) != ERR_OK) {
        free(stopped);
    }
}

/* After a client has closed, its configuration is only in Redis. This copy is for the case that
 * Redis loses it. Its history is for the next node. */
static void handover_remember_client(struct agent *agent, struct handover *handover) {
    struct client_status status;
    handover->history = workers_history(agent->wiring.workers, handover->id);
    enum err err =
        workers_config(agent->wiring.workers, handover->id, &handover->config, &handover->identity);
    if (err == ERR_OK && workers_status(agent->wiring.workers, handover->id, &status) == ERR_OK) {
        handover->version = status.version;
        client_status_fini(&status);
    }
}

static struct handover *handover_create(const struct handover_request *request) {
    struct handover *handover = calloc(1, sizeof *handover);
    if (!handover) {
        return NULL;
    }
    *handover = (struct handover){.id = text_dup(request->id),
                                  .epoch = request->epoch,
                                  .reason = request->reason,
                                  .failed_here = request->failed};
    if (request->target) {
        handover->target = text_dup(request->target->name);
        snprintf(handover->target_incarnation, TEXT_ID_LEN, "%s", request->target->incarnation);
    }
    if (!handover->id || (request->target && !handover->target)) {
        free(handover->id);
        free(handover->target);
        free(handover);
        return NULL;
    }
    return handover;
}

bool handover_begin(struct agent *agent, const struct handover_request *request) {
    struct handover *handover =
        handover_is_pending(agent, request->id) ? NULL : handover_create(request);
    if (!handover) {
        return false;
    }
    HASH_ADD_KEYPTR(hh, agent->handovers, handover->id, strlen(handover->id), handover);
    handover_remember_client(agent, handover);
    handover_stop_client(agent, handover);
    return true;
}

/* An operator asks. Without a node that can run the client at once, the leader chooses one. */
static void handover_begin_for_operator(struct agent *agent, const char *id, int64_t epoch) {
    struct handover_request request = {
        .id = id, .epoch = epoch, .reason = "operator", .failed = true};
    if (destinations_refresh(&agent->destinations, agent, DESTINATIONS_AGE_MS) == ERR_OK) {
        request.target = destinations_take(&agent->destinations, agent, id, NULL, NULL);
    }
    (void)handover_begin(agent, &request);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* A client that does not get online stays here if no other node can try it. A client in conflict is
 * always released, because the whole fleet must know its cool-down. */
static bool handover_is_worth_releasing(struct agent *agent, const struct agent_task *task) {
    return !node_is_alone(agent->wiring.node) || client_error_is_conflict(task->error);
}

static void handover_queue_release(struct agent *agent, struct agent_task *task) {
    if (!handover_is_worth_releasing(agent, task) &&
        workers_retry(agent->wiring.workers, task->id, task->epoch, task->delay_ms) == ERR_OK) {
        agent_task_free(task);
        return;
    }
    handover_keep_task(&agent->releases, task);
}

static void handover_queue_stopped(struct agent *agent, struct agent_task *task) {
    struct handover *handover;
    HASH_FIND_STR(agent->handovers, task->id, handover);
    if (!handover || handover->epoch != task->epoch) {
        agent_task_free(task);
        return;
    }
    task->reason = handover->reason;
    handover_keep_task(&agent->releases, task);
    agent->release_now = true;
}

void handover_take_task(struct agent *agent, struct agent_task *task) {
    switch (task->kind) {
    case AGENT_TASK_RELEASE:
        handover_queue_release(agent, task);
        return;
    case AGENT_TASK_STOPPED:
        handover_queue_stopped(agent, task);
        return;
    case AGENT_TASK_STABLE:
        handover_keep_task(&agent->stable, task);
        return;
    case AGENT_TASK_HAND_OVER:
        handover_begin_for_operator(agent, task->id, task->epoch);
        agent_task_free(task);
        return;
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static struct handover *handover_find(struct agent *agent, const struct agent_task *task) {
    struct handover *handover;
    HASH_FIND_STR(agent->handovers, task->id, handover);
    return handover && handover->epoch == task->epoch ? handover : NULL;
}

static void handover_finish_release(struct agent *agent, struct agent_task *task) {
    struct handover *handover = handover_find(agent, task);
    if (handover) {
        handover_free(agent, handover);
    }
    handover_drop_task(&agent->releases, task);
}

/* The first n clients wait now. Those that a worker gave up are still listed there, and are
 * stopped. */
static void handover_finish_releases(struct agent *agent, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct agent_task *task = agent->releases;
        enum err err =
            workers_stop(agent->wiring.workers, task->id, task->epoch, "released", NULL, NULL);
        (void)err; /* the reconciliation stops it otherwise */
        handover_finish_release(agent, task);
    }
}

/* A client that has closed here and that Redis has lost: restores it, so that it runs again. */
static enum err handover_restore(struct agent *agent, const struct store_member *member,
                                 const struct handover *handover) {
    struct store_restore_result restored = {0};
    size_t done = 0;
    enum err err = store_restore(agent->wiring.store, member,
                                 &(struct store_restore_item){.id = handover->id,
                                                              .epoch = handover->epoch,
                                                              .config = handover->config,
                                                              .identity = handover->identity,
                                                              .version = handover->version},
                                 1, &restored, &done);
    log_event(LOG_WARN, "leaving_restored", KS("client", handover->id),
              KS("result", err != ERR_OK   ? err_name(err)
                           : restored.mine ? "ok"
                                           : "refused"));
    return err;
}

static struct store_held handover_held_client(struct agent *agent, const struct agent_task *task) {
    struct workers_client running = {.version = 0};
    const struct handover *handover = handover_find(agent, task);
    (void)workers_has_client(agent->wiring.workers, task->id, &running);
    return (struct store_held){.id = task->id,
                               .epoch = task->epoch,
                               .version = handover ? handover->version : running.version};
}

/* Not all of the first n clients could be released: some already wait, belong to another node, or
 * are lost in Redis. Handles the closed ones; the reconciliation handles the running ones. */
static enum err handover_resolve_unreleased(struct agent *agent, const struct store_member *member,
                                            size_t n) {
    struct store_held held[STORE_BATCH_MAX];
    enum store_ownership_status status[STORE_BATCH_MAX];
    size_t at = 0;
    for (struct agent_task *task = agent->releases; at < n; task = task->hh.next) {
        held[at++] = handover_held_client(agent, task);
    }
    enum err err = store_ownership_status(agent->wiring.store, member, held, n, status);
    struct agent_task *task = agent->releases;
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        struct agent_task *next = task->hh.next;
        const struct handover *handover = handover_find(agent, task);
        bool lost = status[i] == STORE_OWNERSHIP_NONE || status[i] == STORE_OWNERSHIP_OLDER;
        if (lost && handover && handover->identity) {
            err = handover_restore(agent, member, handover);
        }
        if (err == ERR_OK) {
            handover_finish_release(agent, task);
        }
        task = next;
    }
    agent->reconcile_now = true;
    return err;
}

static const char *handover_release_code(const struct agent_task *task) {
    if (task->error != CLIENT_ERROR_NONE) {
        return client_error_code(task->error);
    }
    return task->reason ? task->reason : "released";
}

static const char *handover_release_error_name(const struct agent_task *task) {
    return task->error != CLIENT_ERROR_NONE ? client_error_name(task->error) : NULL;
}

static struct store_member handover_target(const struct handover *handover) {
    bool has = handover && handover->target;
    return has ? (struct store_member){handover->target, handover->target_incarnation}
               : (struct store_member){0};
}

/* Of a client that still runs here, its present one: *owned, to be freed. */
static const char *handover_history(struct agent *agent, const struct agent_task *task,
                                    const struct handover *handover, char **owned) {
    *owned = handover ? NULL : workers_history(agent->wiring.workers, task->id);
    return handover ? handover->history : *owned;
}

static void handover_write_releases(struct agent *agent) {
    char *histories[STORE_BATCH_MAX];
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    struct store_release_item items[STORE_BATCH_MAX];
    size_t n = 0, released = 0;
    for (struct agent_task *task = agent->releases; task && n < STORE_BATCH_MAX;
         task = task->hh.next) {
        struct handover *handover = handover_find(agent, task);
        items[n] = (struct store_release_item){
            .id = task->id,
            .epoch = task->epoch,
            .version = handover_held_client(agent, task).version,
            .delay_ms = task->delay_ms,
            .cooldown_ms_max = task->cooldown_ms_max,
            .code = handover_release_code(task),
            .message = task->message ? task->message : "",
            .error = handover_release_error_name(task),
            .failed = !handover || handover->failed_here,
            .target = handover_target(handover),
            .history = handover_history(agent, task, handover, &histories[n])};
        n++;
    }
    enum err err = store_release(agent->wiring.store, &member, items, n, &released);
    for (size_t i = 0; i < n; i++) {
        free(histories[i]);
    }
    metric_add(METRIC_RELEASED, (int64_t)released);
    if (err == ERR_OK && released == n) {
        handover_finish_releases(agent, n);
    } else if (err == ERR_OK) {
        err = handover_resolve_unreleased(agent, &member, n);
    }
    if (err != ERR_OK) {
        agent->release_next_ms = clock_ms() + RELEASE_RETRY_MS;
    }
}

static void handover_write_stable(struct agent *agent) {
    const char *ids[STORE_BATCH_MAX];
    size_t n = 0;
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    for (struct agent_task *task = agent->stable; task && n < STORE_BATCH_MAX;
         task = task->hh.next) {
        ids[n++] = task->id;
    }
    enum err err = store_mark_stable(agent->wiring.store, &member, ids, n);
    if (err != ERR_OK) {
        agent->release_next_ms = clock_ms() + RELEASE_RETRY_MS;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        handover_drop_task(&agent->stable, agent->stable);
    }
}

void handover_step(struct agent *agent) {
    if (clock_ms() < agent->release_next_ms) {
        return;
    }
    agent->release_now = false;
    for (int i = 0; i < 20 && agent->releases && clock_ms() >= agent->release_next_ms; i++) {
        handover_write_releases(agent);
    }
    for (int i = 0; i < 20 && agent->stable && clock_ms() >= agent->release_next_ms; i++) {
        handover_write_stable(agent);
    }
    struct handover *handover, *next;
    HASH_ITER(hh, agent->handovers, handover, next) {
        struct agent_task *closed;
        HASH_FIND_STR(agent->releases, handover->id, closed);
        if (!closed && clock_ms() - handover->stop_asked_ms > HANDOVER_STOP_RETRY_MS) {
            handover_stop_client(agent, handover);
        }
    }
}
