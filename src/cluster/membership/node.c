/* Owns the membership, the heartbeat and the lease of this node, and the loop of the heartbeat
 * thread. */
#include "cluster/membership/node.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/system/clock.h"
#include "base/system/condition.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/system/thread_watchdog.h"

#define WARNING_PERIOD_MS 60000
#define COUNTS_AGE_MS_MAX 5000

struct node {
    const struct conf *conf;
    struct store *store;
    int64_t started_at_ms;
    int event_fd;
    atomic_size_t fleet_size; /* 0: not known */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t stop_changed;
    bool stopping;
    bool heartbeat_wanted; /* before the period has ended */
    enum node_membership membership;
    char incarnation[TEXT_ID_LEN];
    char generation[TEXT_ID_LEN];
    int64_t
        heartbeat_sent_ms; /* when the last answered heartbeat was sent; -1: none was answered */
    int64_t redis_recovered_ms;
    bool unreconciled; /* registered again; other nodes may own its running clients by now */
    bool redis_failing;
    int64_t warned_ms;                     /* of the last warning about Redis */
    char redis_error[STORE_ERROR_LEN];     /* "": Redis answers */
    struct store_heartbeat last_heartbeat; /* answer to the last heartbeat */
    char *(*make_facts)(void *context, int64_t lag_ms);
    void *facts_context;
    bool agent_stalled; /* as last logged; heartbeat thread only */
    int64_t applied_rev;
    int64_t lag_since_ms, lag_rev; /* of the oldest change not applied; 0: all are applied */
    enum store_role role;
    int64_t other_count;
};

const char *node_membership_name(enum node_membership membership) {
    static const char *const names[] = {"outside", "member", "fenced", "lost"};
    return names[membership];
}

struct node *node_create(const struct conf *conf, struct store *store) {
    struct node *node = calloc(1, sizeof *node);
    if (!node) {
        return NULL;
    }
    node->conf = conf;
    node->store = store;
    node->started_at_ms = clock_wall_ms();
    node->heartbeat_sent_ms = -1;
    node->other_count = -1;
    node->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&node->lock, NULL);
    condition_init(&node->stop_changed);
    if (node->event_fd < 0) {
        node_destroy(node);
        return NULL;
    }
    return node;
}

void node_destroy(struct node *node) {
    if (!node) {
        return;
    }
    if (node->event_fd >= 0) {
        close(node->event_fd);
    }
    pthread_cond_destroy(&node->stop_changed);
    pthread_mutex_destroy(&node->lock);
    free(node);
}

void node_set_facts_source(struct node *node, char *(*make)(void *context, int64_t lag_ms),
                           void *context) {
    node->make_facts = make;
    node->facts_context = context;
}

static void node_signal(struct node *node) {
    /* Fails only if the counter would overflow; the descriptor is readable then. */
    (void)!write(node->event_fd, &(uint64_t){1}, sizeof(uint64_t));
}

int node_event_fd(struct node *node) {
    return node->event_fd;
}

void node_clear_event(struct node *node) {
    uint64_t count;
    (void)!read(node->event_fd, &count, sizeof(count));
}

/* ---- heartbeat ------------------------------------------------------------------------------- */

/* Under the lock. Updates the time since when a change is not applied. */
static void node_update_lag(struct node *node) {
    if (node->lag_since_ms != 0 && node->applied_rev >= node->lag_rev) {
        node->lag_since_ms = 0;
    }
    if (node->lag_since_ms == 0 && node->applied_rev < node->last_heartbeat.rev) {
        node->lag_since_ms = clock_ms();
        node->lag_rev = node->last_heartbeat.rev;
    }
}

/* Under the lock. */
static void node_heartbeat_answered(struct node *node, const struct store_heartbeat *heartbeat,
                                    int64_t sent_ms) {
    bool changed = heartbeat->rev != node->last_heartbeat.rev ||
                   heartbeat->draining != node->last_heartbeat.draining ||
                   heartbeat->resources_revision != node->last_heartbeat.resources_revision;
    node->heartbeat_sent_ms = sent_ms;
    node->last_heartbeat = *heartbeat;
    node->fleet_size = heartbeat->nodes > 0 ? (size_t)heartbeat->nodes : 0;
    node_update_lag(node);
    node->redis_error[0] = '\0';
    if (node->redis_failing) {
        node->redis_failing = false;
        node->redis_recovered_ms = clock_ms();
        log_event(LOG_INFO, "redis_back", KS("node", node->conf->node_name));
    }
    if (changed) {
        node_signal(node);
    }
}

/* Under the lock. Logs the first failure, then one per minute. */
static void node_warn_failing(struct node *node, const char *event, enum err err,
                              struct store *store) {
    store_last_error(store, node->redis_error);
    if (!node->redis_failing || clock_ms() - node->warned_ms >= WARNING_PERIOD_MS) {
        node->warned_ms = clock_ms();
        log_event(LOG_WARN, event, KS("node", node->conf->node_name), KS("error", err_name(err)),
                  KS("detail", node->redis_error));
    }
    node->redis_failing = true;
}

static void node_heartbeat_failed(struct node *node, enum err err) {
    metric_add(METRIC_HEARTBEATS_FAILED, 1);
    node_warn_failing(node, "heartbeat_failed", err, node->store);
}

static void node_set_membership(struct node *node, enum node_membership membership) {
    if (node->membership == membership) {
        return;
    }
    bool lost = membership == NODE_FENCED || membership == NODE_LOST;
    log_event(lost ? LOG_WARN : LOG_INFO, "node_membership", KS("node", node->conf->node_name),
              KS("from", node_membership_name(node->membership)),
              KS("to", node_membership_name(membership)), KS("incarnation", node->incarnation));
    node->membership = membership;
    node_signal(node);
}

/* A node whose agent stalls neither starts nor stops clients. Without heartbeats, it is fenced, and
 * its clients run elsewhere. */
static bool node_agent_is_stalled(struct node *node) {
    bool stalled = thread_watchdog_idle_ms("agent") > node->conf->stall_ms;
    if (stalled != node->agent_stalled) {
        node->agent_stalled = stalled;
        log_event(
            stalled ? LOG_ERROR : LOG_WARN, stalled ? "agent_stalled" : "agent_goes_on",
            KS("node", node->conf->node_name),
            KS("detail", stalled ? "heartbeats are suspended while the agent thread stalls" : ""));
    }
    return stalled;
}

/* The content of a heartbeat when it was sent. */
struct heartbeat_call {
    char incarnation[TEXT_ID_LEN], generation[TEXT_ID_LEN];
    int64_t lag_ms, sent_ms;
};

/* False: no heartbeat is due. */
static bool node_heartbeat_prepare(struct node *node, struct heartbeat_call *call) {
    pthread_mutex_lock(&node->lock);
    bool member = node->membership == NODE_MEMBER;
    memcpy(call->incarnation, node->incarnation, sizeof(call->incarnation));
    memcpy(call->generation, node->generation, sizeof(call->generation));
    call->lag_ms = node->lag_since_ms ? clock_ms() - node->lag_since_ms : 0;
    pthread_mutex_unlock(&node->lock);
    call->sent_ms = clock_ms();
    return member && !node_agent_is_stalled(node);
}

/* Under the lock. */
static void node_heartbeat_apply(struct node *node, enum err err,
                                 const struct store_heartbeat *heartbeat, int64_t sent_ms) {
    /* An answer shows that Redis has lost data. Other nodes learn it from the new generation. */
    if (err == ERR_OK && store_noticed_rollback(node->store)) {
        err = ERR_WRONG_STATE;
    }
    if (err == ERR_OK) {
        metric_add(METRIC_HEARTBEATS_OK, 1);
        node_heartbeat_answered(node, heartbeat, sent_ms);
    } else if (err == ERR_FENCED) {
        metric_add(METRIC_FENCED, 1);
        node_set_membership(node, NODE_FENCED);
    } else if (err == ERR_WRONG_STATE) {
        node_set_membership(node, NODE_LOST);
    } else {
        node_heartbeat_failed(node, err);
    }
}

/* Sends one heartbeat. False: no answer; the next attempt comes early. */
static bool node_heartbeat_send(struct node *node) {
    struct heartbeat_call call;
    if (!node_heartbeat_prepare(node, &call)) {
        return true;
    }
    struct store_heartbeat heartbeat = {0};
    int64_t sent_us = clock_us();
    char *facts = node->make_facts ? node->make_facts(node->facts_context, call.lag_ms) : NULL;
    enum err err = store_heartbeat(
        node->store, &(struct store_member){node->conf->node_name, call.incarnation},
        call.generation, node->conf->heartbeat_ttl_ms, facts ? facts : "{}", &heartbeat);
    free(facts);
    if (err == ERR_OK) {
        histogram_add(HISTOGRAM_HEARTBEAT, clock_us() - sent_us, 1);
    }
    pthread_mutex_lock(&node->lock);
    /* If the agent has joined again meanwhile, the answer is outdated. */
    if (node->membership == NODE_MEMBER && strcmp(node->incarnation, call.incarnation) == 0) {
        node_heartbeat_apply(node, err, &heartbeat, call.sent_ms);
    }
    pthread_mutex_unlock(&node->lock);
    return err == ERR_OK || err == ERR_FENCED || err == ERR_WRONG_STATE;
}

/* Waits until `*at_ms`, until a heartbeat is wanted at once, which sets *at_ms, or until node_stop.
 * False: the node stops. */
static bool node_heartbeat_wait(struct node *node, int64_t *at_ms) {
    pthread_mutex_lock(&node->lock);
    int64_t left_ms = *at_ms - clock_ms();
    if (!node->stopping && !node->heartbeat_wanted && left_ms > 0) {
        struct timespec until = condition_deadline(left_ms);
        pthread_cond_timedwait(&node->stop_changed, &node->lock, &until);
    }
    *at_ms = node->heartbeat_wanted ? clock_ms() : *at_ms;
    node->heartbeat_wanted = false;
    bool stopping = node->stopping;
    pthread_mutex_unlock(&node->lock);
    return !stopping;
}

void *node_heartbeat_run(void *argument) {
    struct node *node = argument;
    int64_t period_ms = node->conf->heartbeat_ms;
    int64_t next_ms = clock_ms();
    while (node_heartbeat_wait(node, &next_ms)) {
        int64_t now_ms = clock_ms();
        thread_watchdog_kick();
        if (now_ms < next_ms) {
            continue; /* woken early */
        }
        next_ms = now_ms + (node_heartbeat_send(node) ? period_ms : period_ms / 4);
    }
    return NULL;
}

void node_heartbeat_now(struct node *node) {
    pthread_mutex_lock(&node->lock);
    node->heartbeat_wanted = true;
    pthread_cond_signal(&node->stop_changed);
    pthread_mutex_unlock(&node->lock);
}

void node_stop(struct node *node) {
    pthread_mutex_lock(&node->lock);
    node->stopping = true;
    pthread_cond_signal(&node->stop_changed);
    pthread_mutex_unlock(&node->lock);
}

/* ---- joining and leaving --------------------------------------------------------------------- */

enum err node_join(struct node *node, struct store *store) {
    const struct conf *conf = node->conf;
    char incarnation[TEXT_ID_LEN], generation[TEXT_ID_LEN] = "";
    pthread_mutex_lock(&node->lock);
    bool again = node->membership == NODE_LOST;
    bool draining =
        node->last_heartbeat.draining; /* set by an operator; survives a new incarnation */
    memcpy(incarnation, node->incarnation, sizeof(incarnation));
    pthread_mutex_unlock(&node->lock);
    if (!again) {
        text_random_id(incarnation);
    }

    char *facts = node->make_facts ? node->make_facts(node->facts_context, 0) : NULL;
    struct store_join join = {
        .member = {conf->node_name, incarnation},
        .host = conf->node_host,
        .type = conf->node_type,
        .version = MQFLEET_VERSION,
        .port = conf->node_port,
        .size = conf->node_size,
        .started_at_ms = node->started_at_ms,
        .heartbeat_ttl_ms = conf->heartbeat_ttl_ms,
        .draining = draining,
        .rejoin = again,
        .facts = facts,
    };
    int64_t sent_ms = clock_ms();
    enum err err = store_join(store, &join, generation);
    free(facts);
    if (err != ERR_OK) {
        if (err != ERR_EXISTS && err != ERR_FENCED) {
            node_join_failed(node, err, store);
        }
        return err;
    }
    pthread_mutex_lock(&node->lock);
    node->redis_failing = false;
    node->redis_error[0] = '\0';
    memcpy(node->incarnation, incarnation, sizeof(incarnation));
    memcpy(node->generation, generation, sizeof(generation));
    node->heartbeat_sent_ms = sent_ms;
    node->unreconciled = again;
    /* Assumed until the first answer: the first node of a fleet leads at once. */
    node->last_heartbeat = (struct store_heartbeat){
        .draining = draining, .candidate_wanted = true, .resources_revision = -1};
    node->lag_since_ms = 0;
    node->applied_rev = -1;
    (void)store_noticed_rollback(store); /* clears it; a full pass always follows */
    node_set_membership(node, NODE_MEMBER);
    pthread_mutex_unlock(&node->lock);
    return ERR_OK;
}

void node_join_failed(struct node *node, enum err err, struct store *store) {
    pthread_mutex_lock(&node->lock);
    node_warn_failing(node, "join_failed", err, store);
    pthread_mutex_unlock(&node->lock);
}

void node_set_outside(struct node *node) {
    pthread_mutex_lock(&node->lock);
    node_set_membership(node, NODE_OUTSIDE);
    pthread_mutex_unlock(&node->lock);
}

/* ---- for other threads ----------------------------------------------------------------------- */

const char *node_name(const struct node *node) {
    return node->conf->node_name;
}

int64_t node_started_at_ms(const struct node *node) {
    return node->started_at_ms;
}

enum node_membership node_membership(struct node *node) {
    pthread_mutex_lock(&node->lock);
    enum node_membership membership = node->membership;
    pthread_mutex_unlock(&node->lock);
    return membership;
}

void node_incarnation(struct node *node, char out[TEXT_ID_LEN]) {
    pthread_mutex_lock(&node->lock);
    memcpy(out, node->incarnation, TEXT_ID_LEN);
    pthread_mutex_unlock(&node->lock);
}

static int64_t node_lease_ms_of(const struct conf *conf) {
    return conf->heartbeat_ttl_ms + conf->reclaim_grace_ms / 2;
}

int64_t node_restoring_ms(const struct conf *conf) {
    int64_t beats_ms = 3 * conf->heartbeat_ms;
    return node_lease_ms_of(conf) > beats_ms ? node_lease_ms_of(conf) : beats_ms;
}

void node_mark_reconciled(struct node *node) {
    pthread_mutex_lock(&node->lock);
    node->unreconciled = false;
    pthread_mutex_unlock(&node->lock);
}

bool node_lease_valid(struct node *node) {
    pthread_mutex_lock(&node->lock);
    bool valid = node->membership == NODE_MEMBER && !node->unreconciled &&
                 node->heartbeat_sent_ms >= 0 &&
                 clock_ms() - node->heartbeat_sent_ms < node_lease_ms_of(node->conf);
    pthread_mutex_unlock(&node->lock);
    return valid;
}

bool node_reconciled_since(struct node *node, int64_t since_ms) {
    pthread_mutex_lock(&node->lock);
    bool open = node->membership == NODE_LOST ||
                (node->membership == NODE_MEMBER &&
                 (node->unreconciled || node->heartbeat_sent_ms < since_ms));
    pthread_mutex_unlock(&node->lock);
    return !open;
}

void node_generation(struct node *node, char out[TEXT_ID_LEN]) {
    pthread_mutex_lock(&node->lock);
    memcpy(out, node->generation, TEXT_ID_LEN);
    out[0] = node->unreconciled ? '\0' : out[0];
    pthread_mutex_unlock(&node->lock);
}

int64_t node_heartbeat_age_ms(struct node *node) {
    pthread_mutex_lock(&node->lock);
    int64_t age_ms = node->heartbeat_sent_ms < 0 ? -1 : clock_ms() - node->heartbeat_sent_ms;
    pthread_mutex_unlock(&node->lock);
    return age_ms;
}

int64_t node_redis_recovered_ms(struct node *node) {
    pthread_mutex_lock(&node->lock);
    int64_t back_ms = node->redis_recovered_ms;
    pthread_mutex_unlock(&node->lock);
    return back_ms;
}

void node_redis_error(struct node *node, char out[STORE_ERROR_LEN]) {
    pthread_mutex_lock(&node->lock);
    memcpy(out, node->redis_error, STORE_ERROR_LEN);
    pthread_mutex_unlock(&node->lock);
}

bool node_is_draining(struct node *node) {
    pthread_mutex_lock(&node->lock);
    bool draining = node->last_heartbeat.draining;
    pthread_mutex_unlock(&node->lock);
    return draining;
}

bool node_is_alone(struct node *node) {
    pthread_mutex_lock(&node->lock);
    bool alone = node->other_count >= 0 ? node->other_count == 0 : node->last_heartbeat.nodes == 1;
    pthread_mutex_unlock(&node->lock);
    return alone;
}

size_t node_fleet_size(const struct node *node) {
    return atomic_load_explicit(&node->fleet_size, memory_order_relaxed);
}

bool node_fleet_counts(struct node *node, struct store_counts *out) {
    pthread_mutex_lock(&node->lock);
    *out = node->last_heartbeat.counts;
    bool fresh = node->membership == NODE_MEMBER && node->last_heartbeat.nodes > 0 &&
                 clock_ms() - node->heartbeat_sent_ms < COUNTS_AGE_MS_MAX;
    pthread_mutex_unlock(&node->lock);
    return fresh;
}

void node_fleet_view(struct node *node, struct node_fleet_view *out) {
    pthread_mutex_lock(&node->lock);
    const struct store_heartbeat *heartbeat = &node->last_heartbeat;
    *out = (struct node_fleet_view){.nodes = heartbeat->nodes,
                                    .owned = heartbeat->counts.owned,
                                    .rev = heartbeat->rev,
                                    .resources_revision = heartbeat->resources_revision,
                                    .redis_us = heartbeat->redis_ms * 1000,
                                    .rebalance_rate = heartbeat->rebalance_rate,
                                    .restoring = heartbeat->restoring};
    pthread_mutex_unlock(&node->lock);
}

void node_unplaced_json(struct node *node, char out[STORE_UNPLACED_LEN]) {
    pthread_mutex_lock(&node->lock);
    memcpy(out, node->last_heartbeat.unplaced, STORE_UNPLACED_LEN);
    pthread_mutex_unlock(&node->lock);
}

bool node_leader_wanted(struct node *node) {
    pthread_mutex_lock(&node->lock);
    bool wanted = node->last_heartbeat.candidate_wanted;
    pthread_mutex_unlock(&node->lock);
    return wanted;
}

void node_set_applied_rev(struct node *node, int64_t applied_rev) {
    pthread_mutex_lock(&node->lock);
    node->applied_rev = applied_rev;
    node_update_lag(node);
    pthread_mutex_unlock(&node->lock);
}

void node_set_role(struct node *node, enum store_role role, int64_t others) {
    pthread_mutex_lock(&node->lock);
    node->role = role;
    node->other_count = others;
    pthread_mutex_unlock(&node->lock);
}

enum store_role node_role(struct node *node) {
    pthread_mutex_lock(&node->lock);
    enum store_role role = node->role;
    pthread_mutex_unlock(&node->lock);
    return role;
}
