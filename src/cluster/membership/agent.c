/* Owns the agent and its loop over the queue, the wake-up channel and a table of periodic steps.
 * The steps are in membership.c, reconcile.c and handover.c. The agent thread; claim.c runs on
 * other threads. */
#include "cluster/membership/agent.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/system/thread_watchdog.h"
#include "base/text.h"
#include "agent_internal.h"
#include "redis_watch.h"

#define AGENT_TASKS_PER_TURN_MAX 1000
#define AGENT_WAKE_RETRY_MS      1000
#define RELEASE_BATCH_LEN        1000
#define REDIS_WATCH_MS           10000
#define LEAVE_JUDGED_SHARE       4 /* part of stop_timeout_ms */
#define LEAVE_HISTORIES_SHARE    8
#define LEAVE_JUDGED_POLL_MS     5

static void agent_check_redis(struct agent *agent) {
    if (node_lease_valid(agent->wiring.node)) {
        redis_watch_step(agent->redis_watch, agent->wiring.store);
    }
}

bool agent_redis_facts(struct agent *agent, struct redis_info *out) {
    return redis_watch_facts(agent->redis_watch, out);
}

static void agent_share_quotas(struct agent *agent) {
    if (agent->quota_shares) {
        quota_shares_step(agent->quota_shares);
    }
}

/* The periodic steps of a member. Reconciliation also runs when reconcile_now is set. */
static const struct {
    const char *name;
    int64_t period_ms;
    void (*step)(struct agent *agent);
} periodic[] = {
    {"reconcile", 250, reconcile_step},
    {"releases", 50, handover_step},
    {"drain", 250, drain_step},
    {"redis", REDIS_WATCH_MS, agent_check_redis},
    {"fleet", 10000, membership_fleet_step},
    {"salvage", 50, salvage_step},
    {"rebalance", 500, rebalance_step},
    {"profiles", 100, profile_changes_step},
    {"histories", HISTORIES_MS, histories_step},
    {"quotas", QUOTA_SHARES_MS, agent_share_quotas},
};

#define PERIODIC_COUNT (sizeof(periodic) / sizeof(periodic[0]))

struct agent *agent_create(const struct agent_wiring *wiring) {
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent) {
        return NULL;
    }
    agent->wiring = *wiring;
    agent->unreleased_count = -1;
    const struct conf *conf = wiring->conf;
    /* Each client can have one AGENT_TASK_RELEASE and one AGENT_TASK_STABLE in the queue. */
    agent->tasks = queue_create((size_t)conf->node_size * 2 + 1024);
    agent->wake_subscriber = redis_create(wiring->redis_url, conf->redis_timeout_ms);
    agent->wake_channel = store_wake_channel(conf->key_prefix, conf->node_name);
    agent->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    agent->redis_watch = redis_watch_create();
    agent->fleet_settings = fleet_settings_create(conf, wiring->store);
    agent->resources =
        resources_create(conf, wiring->node, wiring->store, wiring->secrets, wiring->sinks);
    agent->profile_changes = profile_changes_create();
    if (wiring->sinks) {
        agent->quota_shares =
            quota_shares_create(wiring->node, wiring->store, sinks_quotas(wiring->sinks));
    }
    agent->applied_rev = -1;
    if (!agent->resources || !agent->profile_changes || !agent->tasks || !agent->wake_subscriber ||
        (wiring->sinks && !agent->quota_shares) || !agent->wake_channel || agent->stop_fd < 0 ||
        !agent->redis_watch || !agent->fleet_settings) {
        agent_destroy(agent);
        return NULL;
    }
    return agent;
}

void agent_task_free(struct agent_task *task) {
    if (task) {
        free(task->id);
        free(task->message);
        free(task);
    }
}

void agent_destroy(struct agent *agent) {
    if (!agent) {
        return;
    }
    void *task;
    while (agent->tasks && queue_pop(agent->tasks, &task, 0) == ERR_OK) {
        agent_task_free(task);
    }
    handover_clear(agent);
    destinations_fini(&agent->destinations);
    salvage_clear(agent);
    profile_changes_destroy(agent->profile_changes);
    quota_shares_destroy(agent->quota_shares);
    redis_watch_destroy(agent->redis_watch);
    resources_destroy(agent->resources);
    fleet_settings_destroy(agent->fleet_settings);
    queue_destroy(agent->tasks);
    redis_destroy(agent->wake_subscriber);
    free(agent->wake_channel);
    if (agent->stop_fd >= 0) {
        close(agent->stop_fd);
    }
    free(agent);
}

struct store_member agent_member(struct agent *agent, char incarnation[TEXT_ID_LEN]) {
    node_incarnation(agent->wiring.node, incarnation);
    return (struct store_member){node_name(agent->wiring.node), incarnation};
}

bool agent_may_continue(struct agent *agent) {
    thread_watchdog_kick();
    node_set_applied_rev(agent->wiring.node, agent->applied_rev);
    return !atomic_load(&agent->stopping) && node_membership(agent->wiring.node) == NODE_MEMBER;
}

bool agent_redis_is_unusable(enum err err) {
    return err == ERR_TIMEOUT || err == ERR_UNAVAILABLE || err == ERR_FENCED;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Reads all wake-ups. Each one says that the assignments of this node have changed. */
static void agent_read_wakes(struct agent *agent) {
    int64_t now_ms = clock_ms();
    if (now_ms < agent->wake_retry_ms) {
        return;
    }
    for (int i = 0; i < AGENT_TASKS_PER_TURN_MAX; i++) {
        char *payload = NULL;
        enum err err = redis_next_message(agent->wake_subscriber, agent->wake_channel, 0, &payload);
        if (err == ERR_UNAVAILABLE) {
            /* Nothing depends on wake-ups: the periodic reconciliation finds the change later. */
            agent->wake_retry_ms = now_ms + AGENT_WAKE_RETRY_MS;
        }
        if (err != ERR_OK) {
            return;
        }
        agent->reconcile_now = true;
        free(payload);
    }
}

static void agent_read_tasks(struct agent *agent) {
    void *task;
    for (int i = 0; i < AGENT_TASKS_PER_TURN_MAX; i++) {
        if (queue_pop(agent->tasks, &task, 0) != ERR_OK) {
            return;
        }
        handover_take_task(agent, task);
    }
}

static void agent_wait(struct agent *agent, int64_t until_ms) {
    int64_t left_ms = until_ms - clock_ms();
    if (left_ms <= 0) {
        return;
    }
    struct pollfd fds[] = {{.fd = agent->stop_fd, .events = POLLIN},
                           {.fd = queue_fd(agent->tasks), .events = POLLIN},
                           {.fd = node_event_fd(agent->wiring.node), .events = POLLIN},
                           {.fd = redis_fd(agent->wake_subscriber), .events = POLLIN}};
    poll(fds, sizeof(fds) / sizeof(fds[0]), (int)left_ms);
    if (fds[2].revents & POLLIN) {
        node_clear_event(agent->wiring.node);
    }
}

/* Before its period is over. */
static bool agent_step_is_wanted(struct agent *agent, size_t row) {
    int64_t now_ms = clock_ms();
    return (periodic[row].step == reconcile_step && agent->reconcile_now &&
            now_ms >= agent->reconcile_next_ms) ||
           (periodic[row].step == handover_step && agent->release_now &&
            now_ms >= agent->release_next_ms);
}

/* Runs the steps that are due. Returns when the next one is due. */
static int64_t agent_run_periodic(struct agent *agent, int64_t next_ms[PERIODIC_COUNT]) {
    int64_t soonest_ms = INT64_MAX;
    for (size_t i = 0; i < PERIODIC_COUNT; i++) {
        if (clock_ms() >= next_ms[i] || agent_step_is_wanted(agent, i)) {
            periodic[i].step(agent);
            next_ms[i] = clock_ms() + periodic[i].period_ms;
        }
        if (agent_step_is_wanted(agent, i)) {
            soonest_ms = 0;
        }
        if (next_ms[i] < soonest_ms) {
            soonest_ms = next_ms[i];
        }
    }
    return soonest_ms;
}

void *agent_run(void *argument) {
    struct agent *agent = argument;
    int64_t next_ms[PERIODIC_COUNT] = {0};
    while (!atomic_load(&agent->stopping) && !atomic_load(&agent->fault)) {
        thread_watchdog_kick();
        node_set_applied_rev(agent->wiring.node, agent->applied_rev);
        agent_read_tasks(agent);
        agent_read_wakes(agent);
        int64_t until_ms = clock_ms() + 50;
        if (membership_step(agent) && resources_step(agent->resources)) {
            until_ms = agent_run_periodic(agent, next_ms);
        }
        agent_wait(agent, until_ms);
    }
    return NULL;
}

void agent_stop(struct agent *agent) {
    atomic_store(&agent->stopping, true);
    (void)!write(agent->stop_fd, &(uint64_t){1}, sizeof(uint64_t));
}

const char *agent_fault(struct agent *agent) {
    return atomic_load(&agent->fault);
}

void agent_fleet_fault(struct agent *agent, char out[FLEET_FAULT_LEN]) {
    fleet_settings_fault(agent->fleet_settings, out);
}

bool agent_in_other_fleet(struct agent *agent) {
    char fault[FLEET_FAULT_LEN];
    fleet_settings_fault(agent->fleet_settings, fault);
    return fault[0] != '\0';
}

/* ---- leaving --------------------------------------------------------------------------------- */

/* Before clients are closed: only running clients can be restored if Redis has lost them. */
static void agent_wait_reconciled(struct agent *agent) {
    struct node *node = agent->wiring.node;
    int64_t begun_ms = clock_ms();
    int64_t deadline_ms = begun_ms + agent->wiring.conf->stop_timeout_ms / LEAVE_JUDGED_SHARE;
    node_heartbeat_now(node);
    while (!node_reconciled_since(node, begun_ms) && clock_ms() < deadline_ms) {
        clock_sleep_ms(LEAVE_JUDGED_POLL_MS);
    }
}

void agent_announce_leave(struct agent *agent) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    enum err err =
        incarnation[0] ? store_mark_leaving(agent->wiring.store, &member) : ERR_UNAVAILABLE;
    if (err != ERR_OK && err != ERR_FENCED) {
        return; /* without Redis, no client can be assigned either */
    }
    agent_wait_reconciled(agent);
    err = store_mark_leaving(agent->wiring.store, &member); /* it may have joined again */
    if (err == ERR_OK) {
        histories_save_all(agent, clock_ms() +
                                      agent->wiring.conf->stop_timeout_ms / LEAVE_HISTORIES_SHARE);
    }
}

static enum err agent_release_all(struct agent *agent, const struct store_member *member) {
    struct store_assignment *rows = NULL;
    size_t n = 0, released = 0;
    struct store_set set;
    enum err err = store_list_assignments(agent->wiring.store, member, &rows, &n, &set);
    struct store_release_item *items = err == ERR_OK ? calloc(n ? n : 1, sizeof *items) : NULL;
    if (err == ERR_OK && !items) {
        err = ERR_MEMORY;
    }
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        items[i] = (struct store_release_item){.id = rows[i].id,
                                               .epoch = rows[i].epoch,
                                               .code = "node_stopped",
                                               .message = "the node that ran it was stopped"};
    }
    /* In batches, to show the progress. */
    for (size_t at = 0; err == ERR_OK && at < n; at += RELEASE_BATCH_LEN) {
        size_t part = n - at < RELEASE_BATCH_LEN ? n - at : RELEASE_BATCH_LEN;
        size_t moved = 0;
        agent->unreleased_count = (int64_t)(n - at);
        err = store_release(agent->wiring.store, member, items + at, part, &moved);
        released += moved;
    }
    if (err == ERR_OK) {
        agent->unreleased_count = 0;
        log_event(LOG_INFO, "clients_released", KI("clients", released),
                  KS("result", err_name(err)));
    }
    free(items);
    store_assignments_free(rows, n);
    return err;
}

int64_t agent_unreleased_count(struct agent *agent) {
    return agent->unreleased_count;
}

enum err agent_leave(struct agent *agent, int64_t timeout_ms) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    int64_t deadline_ms = clock_ms() + timeout_ms;
    if (incarnation[0] == '\0') {
        return ERR_OK; /* this node never joined */
    }
    for (;;) {
        enum err err = agent_release_all(agent, &member);
        if (err == ERR_OK) {
            err = store_leave(agent->wiring.store, &member);
        }
        if (err == ERR_OK) {
            node_set_outside(agent->wiring.node); /* stops heartbeats, which would fail now */
        }
        /* Fenced: the leader makes all clients of this node wait. */
        if (err == ERR_OK || err == ERR_FENCED || clock_ms() >= deadline_ms) {
            return err == ERR_FENCED ? ERR_OK : err;
        }
        clock_sleep_ms(200);
    }
}

int64_t agent_profile_changes_pending(struct agent *agent) {
    return profile_changes_pending(agent->profile_changes);
}

/* ---- tasks from other threads ---------------------------------------------------------------- */

static enum err agent_push_task(struct agent *agent, enum agent_task_kind kind, const char *id,
                                int64_t epoch, const struct workers_release *release) {
    struct agent_task *task = calloc(1, sizeof *task);
    if (!task) {
        return ERR_MEMORY;
    }
    task->kind = kind;
    task->id = text_dup(id);
    task->epoch = epoch;
    if (release) {
        task->delay_ms = release->delay_ms;
        task->cooldown_ms_max = release->cooldown_ms_max;
        task->error = release->error;
        task->message = text_dup(release->message);
    }
    enum err err = task->id ? queue_push(agent->tasks, task) : ERR_MEMORY;
    if (err != ERR_OK) {
        agent_task_free(task);
    }
    return err;
}

void agent_on_release_wanted(void *context, const struct workers_release *release) {
    if (agent_push_task(context, AGENT_TASK_RELEASE, release->id, release->epoch, release) !=
        ERR_OK) {
        /* The worker asks again while the client waits for its release. */
        log_event(LOG_ERROR, "release_not_queued", KS("client", release->id));
    }
}

void agent_on_client_stable(void *context, const char *id) {
    /* Without the task, Redis keeps an old error, and the next cool-down may be too long. */
    enum err err = agent_push_task(context, AGENT_TASK_STABLE, id, 0, NULL);
    (void)err;
}

enum err agent_hand_over(struct agent *agent, const char *id) {
    struct client_status status;
    enum err err = workers_status(agent->wiring.workers, id, &status);
    if (err != ERR_OK) {
        return err;
    }
    int64_t epoch = status.epoch;
    client_status_fini(&status);
    return agent_push_task(agent, AGENT_TASK_HAND_OVER, id, epoch, NULL);
}
