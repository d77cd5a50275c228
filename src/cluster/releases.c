/* Clients on their way out of this node:
 *
 *   host gives up --------------------------> [ releases ] --store_release--> waiting
 *   operator, drain --hosts_stop--> closed ------^
 *
 * A release that cannot be written stays in the list and is tried again. Agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "agent_internal.h"

#define RELEASE_RETRY_MS 500
#define LEAVING_RETRY_MS 15000
#define DRAIN_AT_ONCE    500

bool releases_leaving(struct agent *agent, const char *id) {
    struct leaving *leaving;
    struct agent_task *release;
    HASH_FIND_STR(agent->leaving, id, leaving);
    HASH_FIND_STR(agent->releases, id, release);
    return leaving != NULL || release != NULL;
}

static void leaving_free(struct agent *agent, struct leaving *leaving) {
    HASH_DEL(agent->leaving, leaving);
    free(leaving->id);
    free(leaving->config);
    free(leaving->identity);
    free(leaving);
}

static void task_drop(struct agent_task **tasks, struct agent_task *task) {
    HASH_DEL(*tasks, task);
    agent_task_free(task);
}

/* One task for each id, the newest epoch's: hosts ask again while Redis is away. */
static void task_keep(struct agent_task **tasks, struct agent_task *task) {
    struct agent_task *known;
    HASH_FIND_STR(*tasks, task->id, known);
    if (known && known->epoch > task->epoch) {
        agent_task_free(task);
        return;
    }
    if (known) {
        task_drop(tasks, known);
    }
    HASH_ADD_KEYPTR(hh, *tasks, task->id, strlen(task->id), task);
}

void releases_forget(struct agent *agent) {
    while (agent->releases) {
        task_drop(&agent->releases, agent->releases);
    }
    while (agent->stable) {
        task_drop(&agent->stable, agent->stable);
    }
    struct leaving *leaving, *next;
    HASH_ITER(hh, agent->leaving, leaving, next) {
        leaving_free(agent, leaving);
    }
}

/* ---- stopping before releasing --------------------------------------------------------------- */

struct stopped_note {
    struct agent *agent;
    int64_t epoch;
    char id[];
};

/* On a host's thread: the client has closed. */
static void client_stopped(void *context) {
    struct stopped_note *note = context;
    struct agent_task *task = calloc(1, sizeof(*task));
    if (task) {
        task->kind = TASK_STOPPED;
        task->epoch = note->epoch;
        task->id = text_dup(note->id);
    }
    if (!task || !task->id || queue_push(note->agent->tasks, task) != ERR_OK) {
        agent_task_free(task); /* asked again after LEAVING_RETRY_MS */
    }
    free(note);
}

static void leaving_stop(struct agent *agent, struct leaving *leaving) {
    size_t len = strlen(leaving->id);
    struct stopped_note *note = malloc(sizeof(*note) + len + 1);
    leaving->asked_ms = clock_ms();
    if (!note) {
        return;
    }
    note->agent = agent;
    note->epoch = leaving->epoch;
    memcpy(note->id, leaving->id, len + 1);
    if (hosts_stop(agent->wiring.hosts, leaving->id, leaving->epoch, leaving->reason,
                   client_stopped, note) != ERR_OK) {
        free(note);
    }
}

/* Once it has closed nobody but Redis knows it; this is for the case that Redis does not either. */
static void leaving_remember(struct agent *agent, struct leaving *leaving) {
    struct client_status status;
    enum err known =
        hosts_config(agent->wiring.hosts, leaving->id, &leaving->config, &leaving->identity);
    if (known == ERR_OK && hosts_status(agent->wiring.hosts, leaving->id, &status) == ERR_OK) {
        leaving->version = status.version;
        client_status_fini(&status);
    }
}

static void leaving_begin(struct agent *agent, const char *id, int64_t epoch, const char *reason,
                          bool failed) {
    if (releases_leaving(agent, id)) {
        return;
    }
    struct leaving *leaving = calloc(1, sizeof(*leaving));
    char *copy = text_dup(id);
    if (!leaving || !copy) {
        free(leaving);
        free(copy);
        return;
    }
    *leaving = (struct leaving){.id = copy, .epoch = epoch, .reason = reason, .failed = failed};
    HASH_ADD_KEYPTR(hh, agent->leaving, leaving->id, strlen(leaving->id), leaving);
    leaving_remember(agent, leaving);
    leaving_stop(agent, leaving);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* A client that cannot be brought online stays when there is nobody else to try it; one in conflict
 * goes to waiting all the same, where its rest is known to the whole fleet. */
static bool worth_releasing(struct agent *agent, const struct agent_task *task) {
    return !node_alone(agent->wiring.node) || client_error_is_conflict(task->error);
}

static void task_release(struct agent *agent, struct agent_task *task) {
    if (!worth_releasing(agent, task) &&
        hosts_retry(agent->wiring.hosts, task->id, task->epoch, task->delay_ms) == ERR_OK) {
        agent_task_free(task);
        return;
    }
    task_keep(&agent->releases, task);
}

static void task_stopped(struct agent *agent, struct agent_task *task) {
    struct leaving *leaving;
    HASH_FIND_STR(agent->leaving, task->id, leaving);
    if (!leaving || leaving->epoch != task->epoch) {
        agent_task_free(task);
        return;
    }
    task->reason = leaving->reason;
    task_keep(&agent->releases, task);
}

void releases_task(struct agent *agent, struct agent_task *task) {
    switch (task->kind) {
    case TASK_RELEASE:
        task_release(agent, task);
        return;
    case TASK_STOPPED:
        task_stopped(agent, task);
        return;
    case TASK_STABLE:
        task_keep(&agent->stable, task);
        return;
    case TASK_GIVE_AWAY:
        leaving_begin(agent, task->id, task->epoch, "operator", true);
        agent_task_free(task);
        return;
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static struct leaving *leaving_of(struct agent *agent, const struct agent_task *task) {
    struct leaving *leaving;
    HASH_FIND_STR(agent->leaving, task->id, leaving);
    return leaving && leaving->epoch == task->epoch ? leaving : NULL;
}

static void release_done(struct agent *agent, struct agent_task *task) {
    struct leaving *leaving = leaving_of(agent, task);
    if (leaving) {
        leaving_free(agent, leaving);
    }
    task_drop(&agent->releases, task);
}

/* The first n are waiting now. Those that gave up by themselves are still listed here, and go. */
static void releases_done(struct agent *agent, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct agent_task *task = agent->releases;
        enum err ignored =
            hosts_stop(agent->wiring.hosts, task->id, task->epoch, "released", NULL, NULL);
        (void)ignored; /* the reconciliation stops it otherwise */
        release_done(agent, task);
    }
}

/* A client that has closed here and that Redis has lost: it is put back, and runs again. */
static enum err leaving_restore(struct agent *agent, const struct store_member *member,
                                const struct leaving *leaving) {
    struct store_restored restored = {0};
    size_t done = 0;
    enum err result = store_restore(agent->wiring.store, member,
                                    &(struct store_restore){.id = leaving->id,
                                                            .epoch = leaving->epoch,
                                                            .config = leaving->config,
                                                            .identity = leaving->identity,
                                                            .version = leaving->version},
                                    1, &restored, &done);
    log_event(LOG_WARN, "leaving_restored", KS("client", leaving->id),
              KS("result", result != ERR_OK ? err_name(result)
                           : restored.mine  ? "ok"
                                            : "refused"));
    return result;
}

static struct store_held held_of(struct agent *agent, const struct agent_task *task) {
    struct hosts_client running = {.version = 0};
    const struct leaving *leaving = leaving_of(agent, task);
    (void)hosts_runs(agent->wiring.hosts, task->id, &running);
    return (struct store_held){.id = task->id,
                               .epoch = task->epoch,
                               .version = leaving ? leaving->version : running.version};
}

/* Not all of the first n were this node's: they went already, belong to somebody else, or Redis
 * lost them. What still runs here is judged by the reconciliation, what has closed is judged now.
 */
static enum err releases_judge(struct agent *agent, const struct store_member *member, size_t n) {
    struct store_held held[STORE_BATCH_MAX];
    enum store_evidence evidence[STORE_BATCH_MAX];
    size_t at = 0;
    for (struct agent_task *task = agent->releases; at < n; task = task->hh.next) {
        held[at++] = held_of(agent, task);
    }
    enum err result = store_evidence(agent->wiring.store, member, held, n, evidence);
    struct agent_task *task = agent->releases;
    for (size_t i = 0; result == ERR_OK && i < n; i++) {
        struct agent_task *next = task->hh.next;
        const struct leaving *leaving = leaving_of(agent, task);
        bool lost = evidence[i] == STORE_EVIDENCE_NONE || evidence[i] == STORE_EVIDENCE_OLDER;
        if (lost && leaving && leaving->identity) {
            result = leaving_restore(agent, member, leaving);
        }
        if (result == ERR_OK) {
            release_done(agent, task);
        }
        task = next;
    }
    agent->reconcile_now = true;
    return result;
}

static const char *release_code(const struct agent_task *task) {
    if (task->error != CLIENT_ERROR_NONE) {
        return client_error_code(task->error);
    }
    return task->reason != NULL ? task->reason : "released";
}

static const char *release_error(const struct agent_task *task) {
    return task->error != CLIENT_ERROR_NONE ? client_error_name(task->error) : NULL;
}

static void releases_write(struct agent *agent) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    struct store_release items[STORE_BATCH_MAX];
    size_t n = 0, released = 0;
    for (struct agent_task *task = agent->releases; task && n < STORE_BATCH_MAX;
         task = task->hh.next) {
        struct leaving *leaving = leaving_of(agent, task);
        items[n++] = (struct store_release){.id = task->id,
                                            .epoch = task->epoch,
                                            .version = held_of(agent, task).version,
                                            .delay_ms = task->delay_ms,
                                            .rest_ms_max = task->rest_ms_max,
                                            .code = release_code(task),
                                            .message = task->message ? task->message : "",
                                            .error = release_error(task),
                                            .failed = !leaving || leaving->failed};
    }
    enum err result = store_release(agent->wiring.store, &member, items, n, &released);
    metric_add(METRIC_RELEASED, (int64_t)released);
    if (result == ERR_OK && released == n) {
        releases_done(agent, n);
    } else if (result == ERR_OK) {
        result = releases_judge(agent, &member, n);
    }
    if (result != ERR_OK) {
        agent->release_next_ms = clock_ms() + RELEASE_RETRY_MS;
    }
}

static void stable_write(struct agent *agent) {
    const char *ids[STORE_BATCH_MAX];
    size_t n = 0;
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    for (struct agent_task *task = agent->stable; task && n < STORE_BATCH_MAX;
         task = task->hh.next) {
        ids[n++] = task->id;
    }
    enum err result = store_succeeded(agent->wiring.store, &member, ids, n);
    if (result != ERR_OK) {
        agent->release_next_ms = clock_ms() + RELEASE_RETRY_MS;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        task_drop(&agent->stable, agent->stable);
    }
}

void releases_step(struct agent *agent) {
    if (clock_ms() < agent->release_next_ms) {
        return;
    }
    for (int i = 0; i < 20 && agent->releases && clock_ms() >= agent->release_next_ms; i++) {
        releases_write(agent);
    }
    for (int i = 0; i < 20 && agent->stable && clock_ms() >= agent->release_next_ms; i++) {
        stable_write(agent);
    }
    struct leaving *leaving, *next;
    HASH_ITER(hh, agent->leaving, leaving, next) {
        struct agent_task *closed;
        HASH_FIND_STR(agent->releases, leaving->id, closed);
        if (!closed && clock_ms() - leaving->asked_ms > LEAVING_RETRY_MS) {
            leaving_stop(agent, leaving);
        }
    }
}

/* ---- drain ----------------------------------------------------------------------------------- */

/* Room on the other nodes, beyond what is already on its way there. */
static int64_t room_elsewhere(struct agent *agent) {
    struct store_node *nodes = NULL;
    size_t n = 0;
    int64_t room = 0;
    struct store_counts counts;
    if (store_nodes(agent->wiring.store, agent->wiring.conf->heartbeat_ttl_ms, &nodes, &n, NULL) !=
            ERR_OK ||
        store_counts(agent->wiring.store, &counts) != ERR_OK) {
        store_nodes_free(nodes, n);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        bool other = strcmp(nodes[i].name, node_name(agent->wiring.node)) != 0;
        if (other && nodes[i].beating && nodes[i].state == STORE_NODE_LIVE &&
            nodes[i].size > nodes[i].clients) {
            room += nodes[i].size - nodes[i].clients;
        }
    }
    store_nodes_free(nodes, n);
    return room - counts.waiting - (int64_t)HASH_COUNT(agent->leaving);
}

/* A draining node gives away what the others have room for; the rest goes on running here. */
void releases_drain_step(struct agent *agent) {
    if (!node_draining(agent->wiring.node) || HASH_COUNT(agent->leaving) >= DRAIN_AT_ONCE ||
        hosts_count(agent->wiring.hosts) == 0) {
        return;
    }
    int64_t room = room_elsewhere(agent);
    struct hosts_client *rows = NULL;
    size_t n = 0;
    if (room <= 0 || hosts_list(agent->wiring.hosts, &rows, &n) != ERR_OK) {
        return;
    }
    for (size_t i = 0; i < n && room > 0 && HASH_COUNT(agent->leaving) < DRAIN_AT_ONCE; i++) {
        if (!releases_leaving(agent, rows[i].id)) {
            leaving_begin(agent, rows[i].id, rows[i].epoch, "drained", false);
            room--;
        }
    }
    hosts_list_free(rows, n);
}
