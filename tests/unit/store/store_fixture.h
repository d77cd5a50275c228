/* For the tests of the store: one private redis-server per program, emptied before each test, a
 * store on it, short forms of the calls, and raw access to the keys. */
#ifndef MQFLEET_TEST_STORE_FIXTURE_H
#define MQFLEET_TEST_STORE_FIXTURE_H

#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "net/redis/redis.h"
#include "redis_fixture.h"
#include "store/store.h"

#define TTL_MS       60000 /* of heartbeats in tests: they end only when a test ends them */
#define RAW_ARGS_MAX 16

static const char *fixture_url;
static struct store *store;
static struct redis *raw_redis;

/* ---- raw access ---------------------------------------------------------------------------- */

/* One command; ends with NULL. Free the reply. */
static inline struct redis_reply *raw(const char *first, ...) {
    const char *argv[RAW_ARGS_MAX] = {first};
    int argc = 1;
    va_list list;
    va_start(list, first);
    for (const char *arg; (arg = va_arg(list, const char *));) {
        ck_assert_int_lt(argc, RAW_ARGS_MAX);
        argv[argc++] = arg;
    }
    va_end(list);
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_command(raw_redis, argc, argv, NULL, &reply), ERR_OK);
    return reply;
}

#define RAW(...)      redis_reply_free(raw(__VA_ARGS__, NULL))
#define RAW_INT(...)  raw_int(raw(__VA_ARGS__, NULL))
#define RAW_TEXT(...) raw_text(raw(__VA_ARGS__, NULL))

static inline int64_t raw_int(struct redis_reply *reply) {
    int64_t number = redis_reply_int(reply);
    redis_reply_free(reply);
    return number;
}

/* "(nil)" for nil; valid until some calls later. */
static inline const char *raw_text(struct redis_reply *reply) {
    static char texts[8][1024];
    static size_t next;
    char *text = texts[next++ % 8];
    const char *found = redis_reply_str(reply, NULL);
    snprintf(text, sizeof texts[0], "%s", found ? found : "(nil)");
    redis_reply_free(reply);
    return text;
}

/* ---- life ---------------------------------------------------------------------------------- */

static inline void fixture_start(void) {
    fixture_url = redis_fixture_start();
}

static inline void fixture_open(void) {
    raw_redis = redis_create(fixture_url, 5000);
    store = store_open(fixture_url, "", 5000, 2);
    ck_assert_ptr_nonnull(raw_redis);
    ck_assert_ptr_nonnull(store);
    RAW("FLUSHALL");
}

static inline void fixture_close(void) {
    store_close(store);
    redis_destroy(raw_redis);
}

/* Runs a suite of one case; the exit code of the program. */
static inline int fixture_run(const char *name, void (*add)(TCase *)) {
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 240);
    tcase_add_unchecked_fixture(tcase, fixture_start, redis_fixture_stop);
    tcase_add_checked_fixture(tcase, fixture_open, fixture_close);
    add(tcase);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- short forms --------------------------------------------------------------------------- */

static inline struct store_member member(const char *node, const char *incarnation) {
    return (struct store_member){.node = node, .incarnation = incarnation};
}

static inline enum err try_join(struct store_member who, int64_t size, char *generation) {
    struct store_join join = {
        .member = who,
        .host = "127.0.0.1",
        .type = "mqtt",
        .version = "1.2.3",
        .port = 8080,
        .size = size,
        .started_at_ms = 1700000000123,
        .heartbeat_ttl_ms = TTL_MS,
    };
    return store_join(store, &join, generation);
}

static inline struct store_member joined(const char *node, const char *incarnation, int64_t size) {
    char generation[TEXT_ID_LEN];
    struct store_member who = member(node, incarnation);
    ck_assert_int_eq(try_join(who, size, generation), ERR_OK);
    return who;
}

static inline void stop_beating(struct store_member who) {
    char key[128];
    snprintf(key, sizeof key, "beat:mqtt:%s", who.node);
    RAW("DEL", key);
}

static inline struct store_create_result create(const char *id, const char *config,
                                                const char *identity) {
    struct store_create_item item = {.id = id, .config = config, .identity = identity};
    struct store_create_result result;
    size_t done;
    ck_assert_int_eq(store_create(store, &item, 1, &result, &done), ERR_OK);
    ck_assert_uint_eq(done, 1);
    return result;
}

static inline void must_create(const char *id) {
    char identity[160];
    snprintf(identity, sizeof identity, "broker:1883/%s", id);
    ck_assert_int_eq(create(id, "{\"c\":1}", identity).outcome, STORE_CREATED);
}

static inline enum err try_assign(struct store_member target, const char *id, const char *identity,
                                  struct store_assign_result *result) {
    struct store_assign_item item = {.id = id, .identity = identity};
    size_t done;
    enum err err = store_assign(store, &target, &item, 1, result, &done);
    ck_assert_uint_eq(done, err == ERR_OK);
    return err;
}

/* The outcome; epoch (may be NULL) of an assigned id. */
static inline enum store_assign_outcome assign(struct store_member target, const char *id,
                                               int64_t *epoch) {
    struct store_assign_result result;
    ck_assert_int_eq(try_assign(target, id, "", &result), ERR_OK);
    if (epoch) {
        *epoch = result.epoch;
    }
    return result.outcome;
}

static inline enum err assign_err(struct store_member target, const char *id) {
    struct store_assign_result result;
    return try_assign(target, id, "", &result);
}

static inline int64_t must_assign(struct store_member who, const char *id) {
    int64_t epoch;
    ck_assert_int_eq(assign(who, id, &epoch), STORE_ASSIGNED);
    return epoch;
}

static inline size_t release(struct store_member who, const char *id, int64_t epoch,
                             int64_t delay_ms, bool failed) {
    struct store_release_item item = {.id = id,
                                      .epoch = epoch,
                                      .delay_ms = delay_ms,
                                      .code = "stopping",
                                      .message = "because",
                                      .failed = failed};
    size_t released;
    ck_assert_int_eq(store_release(store, &who, &item, 1, &released), ERR_OK);
    return released;
}

/* As release, with a target. */
static inline size_t release_to(struct store_member who, const char *id, int64_t epoch,
                                int64_t delay_ms, struct store_member target) {
    struct store_release_item item = {.id = id,
                                      .epoch = epoch,
                                      .delay_ms = delay_ms,
                                      .code = "moved",
                                      .message = "",
                                      .target = target};
    size_t released;
    ck_assert_int_eq(store_release(store, &who, &item, 1, &released), ERR_OK);
    return released;
}

static inline enum store_client_state where(const char *id) {
    struct store_client client;
    enum err err = store_get(store, id, &client);
    enum store_client_state found = client.state;
    ck_assert(err == (found == STORE_ABSENT ? ERR_NOT_FOUND : ERR_OK));
    store_client_fini(&client);
    return found;
}

/* 0: no such client. */
static inline int64_t version_of(const char *id) {
    struct store_client client;
    int64_t version = store_get(store, id, &client) == ERR_OK ? client.version : 0;
    store_client_fini(&client);
    return version;
}

static inline int64_t must_update(const char *id, const char *config, const char *identity) {
    int64_t version;
    char *other_id;
    ck_assert_int_eq(store_update(store,
                                  &(struct store_configuration){id, 0, config, identity, NULL},
                                  &version, &other_id),
                     ERR_OK);
    return version;
}

/* As if the time of restoring were over. */
static inline void restoring_is_over(void) {
    RAW("DEL", "mqtt_fleet:restoring");
}

/* ---- a Redis that goes back ------------------------------------------------------------------ */

/* Saves the data for go_back() in database 1. */
static inline void take_snapshot(void) {
    RAW("EVAL",
        "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do "
        "all[key] = {redis.call('DUMP', key), redis.call('PTTL', key)} end "
        "redis.call('SELECT', 1) redis.call('DEL', 'dumps', 'ttls') "
        "for key, row in pairs(all) do redis.call('HSET', 'dumps', key, row[1]) "
        "redis.call('HSET', 'ttls', key, row[2]) end",
        "0");
}

/* Like a replica that lacks the last writes, or an older file. */
static inline void go_back(void) {
    RAW("EVAL",
        "redis.call('SELECT', 1) local dumps = redis.call('HGETALL', 'dumps') local ttls = {} "
        "for i = 1, #dumps, 2 do ttls[i] = redis.call('HGET', 'ttls', dumps[i]) end "
        "redis.call('SELECT', 0) redis.call('FLUSHDB') for i = 1, #dumps, 2 do "
        "redis.call('RESTORE', dumps[i], math.max(tonumber(ttls[i]), 0), dumps[i + 1]) end",
        "0");
    clock_sleep_ms(
        5); /* longer than the versions of one ms are ahead of the clock, as a failover */
}

static inline int64_t rev_of(const char *node) {
    char key[128];
    snprintf(key, sizeof key, "mqtt_fleet:rev:%s", node);
    return RAW_INT("GET", key);
}

#endif
