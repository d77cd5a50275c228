/* An agent and a leader whose steps a test calls one by one. Node, store and Redis are real.
 * doubles/store_double.h injects faults into the agent's calls, and doubles/workers_double.h
 * replaces the workers. The node's heartbeat runs on a thread of its own, by real time; everything
 * else sees a clock that clock_advance_ms moves. */
#ifndef MQFLEET_TEST_AGENT_FIXTURE_H
#define MQFLEET_TEST_AGENT_FIXTURE_H

#include <pthread.h>
#include "cluster/membership/agent_internal.h"
#include "base/config/conf.h"
#include "cluster/membership/leader_internal.h"
#include "doubles/workers_double.h"
#include "doubles/store_double.h"
#include "store/store_fixture.h"

#define HEARTBEAT_MS 100
#define BEAT_TTL_MS  60000 /* by real time: heartbeats end when a test ends them */
#define GRACE_MS     1500
#define BOUND_MS     20000

static struct conf *conf;
static struct store *beat_store, *agent_store;
static struct node *node;
static struct agent *agent;
static struct leader *leader;
static pthread_t heartbeat;

static inline void agent_fixture_open(void) {
    static const char *const sets[] = {
        "node_info.name=n1",           "node_info.size=5000",   "heartbeat_ms=100",
        "heartbeat_ttl_ms=60000",      "reclaim_grace_ms=1500", "redis_config.url=embedded",
        "redis_config.timeout_ms=5000"};
    char fault[CONF_FAULT_LEN] = "";
    fixture_open();
    workers_double_reset();
    ck_assert_msg(conf_load(&conf, NULL, sets, sizeof sets / sizeof sets[0], fault) == ERR_OK, "%s",
                  fault);
    beat_store = store_open(fixture_url, "", 5000, 1);
    agent_store = store_open(fixture_url, "", 5000, 2);
    store_share_history(agent_store, beat_store);
    store_double_reset(agent_store);
    node = node_create(conf, beat_store);
    agent = agent_create(&(struct agent_wiring){.conf = conf,
                                                .node = node,
                                                .store = agent_store,
                                                .redis_url = fixture_url,
                                                .workers = workers_double()});
    leader = leader_create(conf, node, agent_store, fixture_url);
    ck_assert(agent && leader);
    ck_assert_int_eq(pthread_create(&heartbeat, NULL, node_heartbeat_run, node), 0);
}

static inline void agent_fixture_close(void) {
    node_stop(node);
    pthread_join(heartbeat, NULL);
    leader_destroy(leader);
    agent_destroy(agent);
    node_destroy(node);
    store_close(agent_store);
    store_close(beat_store);
    conf_destroy(conf);
    workers_double_reset();
    store_double_reset(NULL);
    fixture_close();
}

static inline int agent_fixture_run(const char *name, void (*add)(TCase *)) {
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_add_unchecked_fixture(tcase, fixture_start, redis_fixture_stop);
    tcase_add_checked_fixture(tcase, agent_fixture_open, agent_fixture_close);
    add(tcase);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- short forms --------------------------------------------------------------------------- */

/* From now on, nothing fails. */
static inline void all_is_well(void) {
    store_double_reset(agent_store);
}

/* One turn of the agent: tasks from other threads, then membership. */
static inline bool turn(void) {
    void *task;
    while (queue_pop(agent->tasks, &task, 0) == ERR_OK) {
        handover_take_task(agent, task);
    }
    return membership_step(agent);
}

/* Runs turns, `step_ms` of the clock apart, until the node is a member. */
static inline void become_member(int64_t step_ms) {
    for (int i = 0; !turn(); i++) {
        ck_assert_msg(i < 1000, "not a member after 1000 turns");
        clock_advance_ms(step_ms);
    }
}

/* Polls, by real time, until the heartbeat has reported it. */
static inline void wait_membership(enum node_membership wanted) {
    for (int i = 0; node_membership(node) != wanted; i++) {
        ck_assert_msg(i < BOUND_MS / 10, "membership stays %s",
                      node_membership_name(node_membership(node)));
        clock_sleep_ms(10);
    }
}

/* Waits until a heartbeat has reported other nodes. */
static inline void wait_not_alone(void) {
    for (int i = 0; node_is_alone(node); i++) {
        ck_assert_int_lt(i, BOUND_MS / 10);
        clock_sleep_ms(10);
    }
}

/* Waits until a heartbeat has reported work for a leader. */
static inline void lead_fleet(void) {
    for (int i = 0; !node_leader_wanted(node); i++) {
        ck_assert_int_lt(i, BOUND_MS / 10);
        clock_sleep_ms(10);
    }
    leader_election_step(leader);
}

static inline struct store_member me(void) {
    static char incarnation[TEXT_ID_LEN];
    return agent_member(agent, incarnation);
}

/* Creates a client of `owner`; returns its epoch. */
static inline int64_t given(struct store_member owner, const char *id) {
    char config[160], identity[96];
    snprintf(config, sizeof config, "{\"id\":\"%s\",\"url\":\"mqtt://broker:1883\"}", id);
    snprintf(identity, sizeof identity, "broker:1883/%s", id);
    ck_assert_int_eq(create(id, config, identity).outcome, STORE_CREATED);
    return must_assign(owner, id);
}

/* Creates a client that runs on this node; returns its epoch. */
static inline int64_t running(const char *id) {
    int64_t epoch = given(me(), id);
    workers_double_run(id, epoch, version_of(id));
    return epoch;
}

#endif
