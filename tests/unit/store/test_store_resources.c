/* Tests of the sinks and profiles of the fleet in Redis: versions, types, revision. With a real
 * Redis. */
#include "fleet_check.h"
#include "store/quotas.h"

static int64_t version;
static bool created;
static char *type;

static enum err put_sink(const char *name, int64_t expected, const char *of_type,
                         const char *document) {
    struct store_put put = {.expected_version = expected};
    free(type);
    enum err err = store_put_resource(store, STORE_SINKS,
                                      &(struct store_resource){.name = (char *)name,
                                                               .type = (char *)of_type,
                                                               .document = (char *)document},
                                      &put);
    version = put.version;
    created = put.created;
    type = put.other_type;
    return err;
}

static int64_t revision(void) {
    struct store_resource *sinks;
    size_t n;
    int64_t now;
    ck_assert_int_eq(store_resources(store, STORE_SINKS, NULL, &sinks, &n, &now), ERR_OK);
    store_resources_free(sinks, n);
    return now;
}

START_TEST(a_sink_has_versions_and_keeps_its_type) {
    int64_t first, none = revision();
    ck_assert_int_eq(put_sink("a", 7, "null", "{}"), ERR_NOT_FOUND);
    ck_assert_int_eq(put_sink("a", 0, "null", "{}"), ERR_OK);
    ck_assert(created && version > none && revision() == version);
    first = version;
    ck_assert_int_eq(put_sink("a", 0, "null", "{}"), ERR_OK); /* again: nothing changes */
    ck_assert(!created && version == first && revision() == first);
    ck_assert_int_eq(put_sink("a", first, "null", "{\"x\":\n1}"), ERR_OK);
    ck_assert(!created && version > first && revision() == version);
    ck_assert_int_eq(put_sink("a", first, "null", "{\"x\":\n1}"), ERR_OK); /* a repeated call */
    ck_assert_int_eq(put_sink("a", first, "null", "{\"y\":2}"), ERR_VERSION);
    ck_assert_int_eq(put_sink("a", 0, "file", "{}"), ERR_WRONG_STATE);
    ck_assert_str_eq(type, "null");
}
END_TEST

START_TEST(sinks_are_listed_by_name_with_their_documents) {
    struct store_resource *sinks;
    size_t n;
    ck_assert_int_eq(put_sink("b", 0, "null", "{\"line\":\"1\\n2\"}"), ERR_OK);
    ck_assert_int_eq(put_sink("a", 0, "file", "{}"), ERR_OK);
    RAW("HSET", "mqtt_fleet:sinks", "c", "written by hand");
    ck_assert_int_eq(store_resources(store, STORE_SINKS, NULL, &sinks, &n, NULL), ERR_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(sinks[0].name, "a");
    ck_assert_str_eq(sinks[0].type, "file");
    ck_assert_str_eq(sinks[1].document, "{\"line\":\"1\\n2\"}");
    ck_assert_int_eq(sinks[0].version, version);
    store_resources_free(sinks, n);
    ck_assert_int_eq(store_resources(store, STORE_SINKS, "b", &sinks, &n, NULL), ERR_OK);
    ck_assert(n == 1 && strcmp(sinks[0].name, "b") == 0);
    store_resources_free(sinks, n);
    ck_assert_int_eq(store_resources(store, STORE_SINKS, "none", &sinks, &n, NULL), ERR_OK);
    ck_assert_uint_eq(n, 0);
    store_resources_free(sinks, n);
}
END_TEST

START_TEST(a_deleted_sink_comes_back_with_a_later_version) {
    int64_t first, deleted;
    ck_assert_int_eq(put_sink("a", 0, "null", "{}"), ERR_OK);
    first = version;
    ck_assert_int_eq(store_delete_resource(store, STORE_SINKS, "a", first + 1), ERR_VERSION);
    ck_assert_int_eq(store_delete_resource(store, STORE_SINKS, "a", first), ERR_OK);
    deleted = revision();
    ck_assert_int_gt(deleted, first);
    ck_assert_int_eq(store_delete_resource(store, STORE_SINKS, "a", 0), ERR_NOT_FOUND);
    ck_assert_int_eq(revision(), deleted);
    ck_assert_int_eq(put_sink("a", 0, "file", "{}"), ERR_OK);
    ck_assert_int_gt(version, deleted);
}
END_TEST

START_TEST(there_are_at_most_that_many_sinks) {
    char name[16];
    for (int i = 0; i < STORE_SINKS_MAX; i++) {
        snprintf(name, sizeof name, "s%d", i);
        ck_assert_int_eq(put_sink(name, 0, "null", "{}"), ERR_OK);
    }
    ck_assert_int_eq(put_sink("more", 0, "null", "{}"), ERR_REFUSED);
    ck_assert_int_eq(put_sink("s7", 0, "null", "{\"x\":1}"), ERR_OK);
    ck_assert_int_eq(store_delete_resource(store, STORE_SINKS, "s7", 0), ERR_OK);
    ck_assert_int_eq(put_sink("more", 0, "null", "{}"), ERR_OK);
}
END_TEST

START_TEST(profiles_are_apart_from_sinks_and_limited_in_bytes) {
    static char half[STORE_PROFILES_BYTES_MAX / 2 + 16];
    memset(half, 'x', sizeof half - 1);
    struct store_put put = {.expected_version = 0};
    struct store_resource profile = {.name = "a", .type = "client", .document = half}, *rows;
    size_t n;
    int64_t now;
    ck_assert_int_eq(put_sink("a", 0, "null", "{}"), ERR_OK);
    ck_assert_int_eq(store_put_resource(store, STORE_PROFILES, &profile, &put), ERR_OK);
    ck_assert(put.created && revision() == put.version);
    profile.name = "b";
    ck_assert_int_eq(store_put_resource(store, STORE_PROFILES, &profile, &put), ERR_REFUSED);
    profile.name = "a";
    half[0] = 'y'; /* it takes the place of the other one */
    ck_assert_int_eq(store_put_resource(store, STORE_PROFILES, &profile, &put), ERR_OK);
    ck_assert(!put.created);
    ck_assert_int_eq(store_resources(store, STORE_PROFILES, NULL, &rows, &n, &now), ERR_OK);
    ck_assert(n == 1 && strcmp(rows[0].document, half) == 0 && now == put.version);
    store_resources_free(rows, n);
    ck_assert_int_eq(store_delete_resource(store, STORE_PROFILES, "a", 0), ERR_OK);
    ck_assert_int_eq(store_resources(store, STORE_SINKS, "a", &rows, &n, NULL), ERR_OK);
    ck_assert_uint_eq(n, 1);
    store_resources_free(rows, n);
}
END_TEST

START_TEST(a_heartbeat_tells_the_revision) {
    struct store_member a = joined("a", "1", 10);
    struct store_heartbeat heartbeat;
    const char *generation = RAW_TEXT("GET", "mqtt_fleet:generation");
    ck_assert_int_eq(store_heartbeat(store, &a, generation, TTL_MS, "{}", &heartbeat), ERR_OK);
    ck_assert_int_eq(heartbeat.resources_revision, 0);
    ck_assert_int_eq(put_sink("a", 0, "null", "{}"), ERR_OK);
    generation = RAW_TEXT("GET", "mqtt_fleet:generation");
    ck_assert_int_eq(store_heartbeat(store, &a, generation, TTL_MS, "{}", &heartbeat), ERR_OK);
    ck_assert_int_eq(heartbeat.resources_revision, version);
    RAW("SET", "mqtt_fleet:resources", "rubbish");
    generation = RAW_TEXT("GET", "mqtt_fleet:generation");
    ck_assert_int_eq(store_heartbeat(store, &a, generation, TTL_MS, "{}", &heartbeat), ERR_OK);
    ck_assert_int_eq(heartbeat.resources_revision, 0);
}
END_TEST

static enum err restore(const struct store_resource *sinks, size_t n, int64_t of, bool *restored) {
    return store_restore_resources(store,
                                   &(struct store_all_resources){.sinks = sinks,
                                                                 .sink_count = n,
                                                                 .routes = "[1]",
                                                                 .routes_version = 5,
                                                                 .quotas = "[2]",
                                                                 .quotas_version = 6,
                                                                 .revision = of},
                                   restored);
}

START_TEST(sinks_are_put_back_only_into_a_redis_that_has_none) {
    bool restored;
    int64_t old;
    struct store_resource *sinks;
    size_t n;
    ck_assert_int_eq(put_sink("a", 0, "null", "{\"x\":1}"), ERR_OK);
    old = version;
    ck_assert_int_eq(store_resources(store, STORE_SINKS, NULL, &sinks, &n, NULL), ERR_OK);
    ck_assert_int_eq(restore(sinks, n, old, &restored), ERR_OK);
    ck_assert(!restored);
    ck_assert_int_eq(store_delete_resource(store, STORE_SINKS, "a", 0), ERR_OK);
    ck_assert_int_eq(restore(sinks, n, old, &restored), ERR_OK);
    ck_assert(!restored); /* it was deleted, and not lost */
    RAW("DEL", "mqtt_fleet:sinks", "mqtt_fleet:resources");
    ck_assert_int_eq(restore(sinks, n, old, &restored), ERR_OK);
    ck_assert(restored && revision() == old);
    char *routes;
    int64_t routes_version;
    ck_assert_int_eq(store_routes(store, &routes, &routes_version), ERR_OK);
    ck_assert(routes_version == 5 && strcmp(routes, "[1]") == 0);
    free(routes);
    ck_assert_int_eq(store_quotas(store, NULL, 0, NULL, &routes, &routes_version), ERR_OK);
    ck_assert(routes_version == 6 && strcmp(routes, "[2]") == 0);
    free(routes);
    store_resources_free(sinks, n);
    ck_assert_int_eq(store_resources(store, STORE_SINKS, "a", &sinks, &n, NULL), ERR_OK);
    ck_assert(n == 1 && sinks[0].version == old && strcmp(sinks[0].document, "{\"x\":1}") == 0);
    store_resources_free(sinks, n);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, sinks_are_put_back_only_into_a_redis_that_has_none);
    tcase_add_test(tcase, a_sink_has_versions_and_keeps_its_type);
    tcase_add_test(tcase, sinks_are_listed_by_name_with_their_documents);
    tcase_add_test(tcase, a_deleted_sink_comes_back_with_a_later_version);
    tcase_add_test(tcase, there_are_at_most_that_many_sinks);
    tcase_add_test(tcase, profiles_are_apart_from_sinks_and_limited_in_bytes);
    tcase_add_test(tcase, a_heartbeat_tells_the_revision);
}

int main(void) {
    return fixture_run("store_resources", add);
}
