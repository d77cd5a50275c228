/* Owns the role of this node, the checks of heartbeats, and the times of scheduler rounds. The
 * leader thread. */
#include "cluster/membership/leader.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/system/thread_watchdog.h"
#include "cluster/operations/operations.h"
#include "leader_internal.h"

#define LEADER_TTL_MS            1500
#define ELECTION_MS              300
#define LEADER_CHECK_MS          250
#define ORPHANS_MS               5000
#define STRAYS_MS                5000
#define QUOTAS_MS                1000
#define REAP_CALLS_MAX           100 /* in one step */
#define WAKES_MAX                1000
#define WAKE_RETRY_MS            1000
#define SCHEDULE_COOLDOWN_MS     100 /* clients written by hand wake nobody */
#define SCHEDULE_COOLDOWN_MS_MAX 2000

struct leader *leader_create(const struct conf *conf, struct node *node, struct store *store,
                             const char *redis_url) {
    struct leader *leader = calloc(1, sizeof *leader);
    if (!leader) {
        return NULL;
    }
    leader->conf = conf;
    leader->node = node;
    leader->store = store;
    leader->redis_url = redis_url;
    leader->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    leader->wake_channel = store_wake_channel(conf->key_prefix, NULL);
    int64_t gap_ms = conf->heartbeat_ttl_ms / 2;
    leader->failure_detector = failure_detector_create(&(struct failure_detector_rules){
        .reclaim_grace_ms = conf->reclaim_grace_ms,
        .mass_death_wait_ms = conf->mass_death_wait_ms,
        .check_gap_ms_max = gap_ms > 2 * LEADER_CHECK_MS ? gap_ms : 2 * LEADER_CHECK_MS});
    if (leader->stop_fd < 0 || !leader->wake_channel || !leader->failure_detector) {
        leader_destroy(leader);
        return NULL;
    }
    return leader;
}

void leader_destroy(struct leader *leader) {
    if (!leader) {
        return;
    }
    failure_detector_destroy(leader->failure_detector);
    redis_destroy(leader->wake_subscriber);
    free(leader->wake_channel);
    free(leader->unplaced_json);
    if (leader->stop_fd >= 0) {
        close(leader->stop_fd);
    }
    free(leader);
}

void leader_set_sinks(struct leader *leader, struct sinks *sinks) {
    leader->sinks = sinks;
}

void leader_set_operations(struct leader *leader, struct operations *operations) {
    leader->operations = operations;
}

struct store_member leader_member(struct leader *leader, char incarnation[TEXT_ID_LEN]) {
    node_incarnation(leader->node, incarnation);
    return (struct store_member){node_name(leader->node), incarnation};
}

static bool leader_may_continue(struct leader *leader) {
    thread_watchdog_kick();
    return !atomic_load(&leader->stopping) && node_membership(leader->node) == NODE_MEMBER;
}

/* ---- role --------------------------------------------------------------------------------------
 */

static void leader_set_role(struct leader *leader, enum store_role role) {
    if (role == leader->role) {
        return;
    }
    if (role == STORE_ROLE_LEADER || leader->role == STORE_ROLE_LEADER) {
        log_event(LOG_INFO, role == STORE_ROLE_LEADER ? "leading" : "no_longer_leading",
                  KS("node", node_name(leader->node)));
    }
    if (leader->role == STORE_ROLE_NONE) {
        failure_detector_reset(leader->failure_detector);
    }
    if (role == STORE_ROLE_NONE) {
        redis_destroy(leader->wake_subscriber);
        leader->wake_subscriber = NULL;
    }
    leader->role = role;
    leader->schedule_next_ms = 0;
    leader->last_sweep_ms = 0; /* a new leader counts the waiting clients at once */
    node_set_role(leader->node, role, -1);
}

void leader_election_step(struct leader *leader) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = leader_member(leader, incarnation);
    enum store_role role = STORE_ROLE_NONE;
    if (leader->role == STORE_ROLE_NONE && !node_leader_wanted(leader->node)) {
        return;
    }
    const char *unplaced = leader->unplaced_json ? leader->unplaced_json : "";
    if (store_lead(leader->store, &member, LEADER_TTL_MS, unplaced, &role) != ERR_OK) {
        role = STORE_ROLE_NONE;
    }
    leader_set_role(leader, role);
}

/* ---- fence and reap -------------------------------------------------------------------------- */

static void leader_reap_node(struct leader *leader, const struct store_missing *node) {
    struct store_member target = {node->name, node->incarnation};
    size_t total = 0;
    bool finished = false;
    for (int i = 0; i < REAP_CALLS_MAX && !finished && leader_may_continue(leader); i++) {
        size_t moved = 0;
        if (store_reap(leader->store, &target, &moved, &finished) != ERR_OK) {
            break;
        }
        total += moved;
    }
    int64_t since_ms = failure_detector_missing_since_ms(leader->failure_detector, node->name);
    metric_add(METRIC_REAPED, (int64_t)total);
    metric_add(METRIC_NODES_REAPED, finished);
    if (finished && since_ms > 0) {
        histogram_add(HISTOGRAM_REHOME, (clock_ms() - since_ms) * 1000, 1);
    }
    log_event(LOG_WARN, "node_reaped", KS("node", node->name), KI("clients", total),
              KS("finished", finished ? "yes" : "no"));
    leader->schedule_next_ms = 0;
}

static bool leader_fence_node(struct leader *leader, const struct store_missing *node) {
    char incarnation[TEXT_ID_LEN];
    struct store_member caller = leader_member(leader, incarnation);
    struct store_member target = {node->name, node->incarnation};
    enum err err = store_fence(leader->store, &caller, &target);
    log_event(LOG_WARN, "node_fenced", KS("node", node->name), KS("result", err_name(err)));
    return err == ERR_OK;
}

/* Fences all nodes before it reaps one: reaping takes time, and a verdict holds only now. */
static void leader_fence_and_reap(struct leader *leader, struct store_missing *missing, size_t n,
                                  const bool *verdicts) {
    for (size_t i = 0; i < n; i++) {
        if (verdicts[i] && leader_fence_node(leader, &missing[i])) {
            missing[i].state = STORE_NODE_DEAD;
        }
    }
    for (size_t i = 0; i < n && leader_may_continue(leader); i++) {
        if (missing[i].state == STORE_NODE_DEAD) {
            leader_reap_node(leader, &missing[i]);
        }
    }
}

/* After a join with a new incarnation, old snapshots do not count. */
static void leader_reset_on_rejoin(struct leader *leader) {
    char incarnation[TEXT_ID_LEN];
    node_incarnation(leader->node, incarnation);
    if (strcmp(incarnation, leader->incarnation) != 0) {
        memcpy(leader->incarnation, incarnation, sizeof(incarnation));
        failure_detector_reset(leader->failure_detector);
    }
}

/* The number of other nodes with a heartbeat. */
static int64_t leader_count_others(struct leader *leader,
                                   const struct failure_detector_snapshot *snapshot) {
    bool own_missing = false;
    for (size_t i = 0; i < snapshot->missing_count; i++) {
        own_missing =
            own_missing || strcmp(snapshot->missing[i].name, node_name(leader->node)) == 0;
    }
    int64_t others = (int64_t)snapshot->registered_count - (int64_t)snapshot->missing_count -
                     (own_missing ? 0 : 1);
    return others > 0 ? others : 0;
}

/* Standbys check heartbeats, too: the next leader then knows since when a heartbeat is missing. */
void leader_check_step(struct leader *leader) {
    struct store_missing *missing = NULL;
    struct failure_detector_snapshot snapshot = {0};
    int64_t ttl_ms = leader->conf->heartbeat_ttl_ms, begun_ms = clock_ms();
    leader_reset_on_rejoin(leader);
    if (store_find_missing(leader->store, &missing, &snapshot.missing_count,
                           &snapshot.registered_count) != ERR_OK) {
        failure_detector_reset(leader->failure_detector);
        return;
    }
    snapshot.missing = missing;
    snapshot.now_ms = clock_ms();
    snapshot.redis_recovered_ms = node_redis_recovered_ms(leader->node);
    int64_t age_ms = node_heartbeat_age_ms(leader->node);
    /* A slow answer describes an unknown moment. */
    snapshot.own_is_fresh =
        age_ms >= 0 && age_ms < ttl_ms && snapshot.now_ms - begun_ms < ttl_ms / 2;
    bool *verdicts = calloc(snapshot.missing_count + 1, sizeof *verdicts);
    if (verdicts) {
        node_set_role(leader->node, leader->role, leader_count_others(leader, &snapshot));
        failure_detector_check(leader->failure_detector, &snapshot, verdicts, NULL);
    }
    if (verdicts && leader->role == STORE_ROLE_LEADER) {
        leader_fence_and_reap(leader, missing, snapshot.missing_count, verdicts);
    }
    free(verdicts);
    store_missing_free(missing, snapshot.missing_count);
}

void leader_orphans_step(struct leader *leader) {
    size_t moved = 0;
    if (store_adopt_orphans(leader->store, &moved) == ERR_OK && moved > 0) {
        log_event(LOG_WARN, "orphans_adopted", KI("clients", moved));
    }
}

static void leader_clean_strays_step(struct leader *leader) {
    struct store_strays strays;
    if (store_clean_strays(leader->store, &strays) != ERR_OK) {
        return;
    }
    for (size_t i = 0; i < strays.n; i++) {
        log_event(LOG_WARN, "stray_list_cleaned", KS("node", strays.rows[i].node),
                  KI("ids", strays.rows[i].ids));
    }
}

/* Goes round and round: nodes of an earlier version change clients without counting them. */
static void leader_count_quotas_step(struct leader *leader) {
    if (store_count_quotas(leader->store, &leader->quota_scan) == ERR_OK) {
        leader->quota_scan.hash %= STORE_QUOTA_HASHES;
    }
}

/* ---- when to schedule ------------------------------------------------------------------------ */

/* Reads all wake-ups. Nothing depends on them: the next periodic round finds the same clients. */
static void leader_read_wakes(struct leader *leader) {
    int64_t now_ms = clock_ms();
    if (!leader->wake_subscriber) {
        leader->wake_subscriber = redis_create(leader->redis_url, leader->conf->redis_timeout_ms);
    }
    if (!leader->wake_subscriber || now_ms < leader->wake_retry_ms) {
        return;
    }
    for (int i = 0; i < WAKES_MAX; i++) {
        char *payload = NULL;
        enum err err =
            redis_next_message(leader->wake_subscriber, leader->wake_channel, 0, &payload);
        if (err == ERR_UNAVAILABLE) {
            leader->wake_retry_ms = now_ms + WAKE_RETRY_MS;
        }
        if (err != ERR_OK) {
            return;
        }
        leader->schedule_next_ms = 0;
        if (leader->operations) {
            operations_wake(leader->operations);
            leader->operations_next_ms = 0;
        }
        free(payload);
    }
}

/* A long round that assigns nothing is followed by a long pause: many clients may be cooling down.
 */
static int64_t leader_cooldown_ms(int64_t took_ms) {
    int64_t cooldown_ms = 4 * took_ms;
    if (cooldown_ms < SCHEDULE_COOLDOWN_MS) {
        return SCHEDULE_COOLDOWN_MS;
    }
    return cooldown_ms < SCHEDULE_COOLDOWN_MS_MAX ? cooldown_ms : SCHEDULE_COOLDOWN_MS_MAX;
}

static void leader_schedule_step(struct leader *leader) {
    int64_t begun_ms = clock_ms();
    if (begun_ms < leader->schedule_next_ms) {
        return;
    }
    bool more = node_lease_valid(leader->node) && scheduler_round(leader);
    int64_t now_ms = clock_ms();
    leader->schedule_next_ms = more ? now_ms : now_ms + leader_cooldown_ms(now_ms - begun_ms);
}

static void leader_operations_step(struct leader *leader) {
    if (leader->operations && clock_ms() >= leader->operations_next_ms) {
        leader->operations_next_ms = operations_step(leader->operations);
    }
}

/* ---- the loop -------------------------------------------------------------------------------- */

static const struct {
    enum store_role role_min;
    int64_t period_ms;
    void (*step)(struct leader *leader);
} periodic[] = {
    {STORE_ROLE_NONE, ELECTION_MS, leader_election_step},
    {STORE_ROLE_STANDBY, LEADER_CHECK_MS, leader_check_step},
    {STORE_ROLE_STANDBY, 0, leader_read_wakes},
    {STORE_ROLE_LEADER, ORPHANS_MS, leader_orphans_step},
    {STORE_ROLE_LEADER, STRAYS_MS, leader_clean_strays_step},
    {STORE_ROLE_LEADER, QUOTAS_MS, leader_count_quotas_step},
    {STORE_ROLE_LEADER, 0, leader_schedule_step},   /* does nothing before schedule_next_ms */
    {STORE_ROLE_LEADER, 0, leader_operations_step}, /* nor before operations_next_ms */
};

#define PERIODIC_COUNT (sizeof(periodic) / sizeof(periodic[0]))

/* Runs the steps that are due. Returns when the next one is due. */
static int64_t leader_run_periodic(struct leader *leader, int64_t next_ms[PERIODIC_COUNT]) {
    int64_t soonest_ms = INT64_MAX;
    for (size_t i = 0; i < PERIODIC_COUNT && leader_may_continue(leader); i++) {
        if (leader->role < periodic[i].role_min) {
            continue;
        }
        if (clock_ms() >= next_ms[i]) {
            periodic[i].step(leader);
            next_ms[i] = clock_ms() + periodic[i].period_ms;
        }
        if (periodic[i].period_ms > 0 && next_ms[i] < soonest_ms) {
            soonest_ms = next_ms[i];
        }
    }
    if (leader->role != STORE_ROLE_LEADER) {
        return soonest_ms;
    }
    soonest_ms = leader->schedule_next_ms < soonest_ms ? leader->schedule_next_ms : soonest_ms;
    return leader->operations && leader->operations_next_ms < soonest_ms
               ? leader->operations_next_ms
               : soonest_ms;
}

static void leader_wait_until(struct leader *leader, int64_t until_ms) {
    int64_t left_ms = until_ms - clock_ms();
    if (left_ms <= 0) {
        return;
    }
    struct pollfd fds[] = {
        {.fd = leader->stop_fd, .events = POLLIN},
        {.fd = leader->wake_subscriber ? redis_fd(leader->wake_subscriber) : -1, .events = POLLIN},
    };
    poll(fds, sizeof(fds) / sizeof(fds[0]), left_ms < ELECTION_MS ? (int)left_ms : ELECTION_MS);
}

void *leader_run(void *argument) {
    struct leader *leader = argument;
    int64_t next_ms[PERIODIC_COUNT] = {0};
    while (!atomic_load(&leader->stopping)) {
        int64_t until_ms = clock_ms() + ELECTION_MS;
        if (leader_may_continue(leader)) {
            int64_t soonest_ms = leader_run_periodic(leader, next_ms);
            until_ms = soonest_ms < until_ms ? soonest_ms : until_ms;
        } else {
            leader_set_role(leader, STORE_ROLE_NONE);
        }
        leader_wait_until(leader, until_ms);
    }
    char incarnation[TEXT_ID_LEN];
    struct store_member member = leader_member(leader, incarnation);
    if (leader->role != STORE_ROLE_NONE) {
        enum err err = store_resign(leader->store, &member);
        (void)err; /* the role expires */
        leader_set_role(leader, STORE_ROLE_NONE);
    }
    return NULL;
}

void leader_stop(struct leader *leader) {
    atomic_store(&leader->stopping, true);
    (void)!write(leader->stop_fd, &(uint64_t){1}, sizeof(uint64_t));
}
