/* Tests of the quotas of the fleet in Redis: the limit, and which clients count. With a real Redis.
 */
#include "fleet_check.h"
#include "store/quotas.h"

#define ACME   "{\"labels\":{\"tenant\":\"acme\"}}"
#define GLOBEX "{\"labels\":{\"tenant\":\"globex\"}}"
#define QUOTAS                                                                                     \
    "[{\"label\":\"tenant\",\"value\":\"acme\",\"scope\":\"label.tenant=acme\",\"clients\":2}]"

static int64_t put(const char *document, int64_t expected, enum err result) {
    int64_t version;
    ck_assert_int_eq(store_put_quotas(store, document, expected, &version), result);
    return version;
}

static int64_t counted(void) {
    const char *const scopes[] = {"label.tenant=acme"};
    int64_t clients, version;
    char *document;
    ck_assert_int_eq(store_quotas(store, scopes, 1, &clients, &document, &version), ERR_OK);
    free(document);
    return clients;
}

static void count_all(void) {
    struct store_quota_scan scan = {0};
    for (int i = 0; i < 100 && scan.hash < STORE_QUOTA_HASHES; i++) {
        ck_assert_int_eq(store_count_quotas(store, &scan), ERR_OK);
    }
    ck_assert_uint_eq(scan.hash, STORE_QUOTA_HASHES);
}

static enum store_create_outcome outcome(const char *id, const char *config) {
    struct store_create_result result = create(id, config, id);
    free(result.other_id);
    return result.outcome;
}

START_TEST(they_have_versions) {
    int64_t first = put(QUOTAS, 0, ERR_OK);
    ck_assert_int_eq(put(QUOTAS, 0, ERR_OK), first); /* a repeated call */
    put("[]", 0, ERR_VERSION);
    put("[]", first + 1, ERR_VERSION);
    ck_assert_int_gt(put("[]", first, ERR_OK), first);
}
END_TEST

START_TEST(beyond_the_quota_no_client_is_created) {
    put(QUOTAS, STORE_VERSION_ANY, ERR_OK);
    ck_assert_int_eq(outcome("a", ACME), STORE_CREATED);
    ck_assert_int_eq(outcome("b", ACME), STORE_CREATED);
    struct store_create_result result = create("c", ACME, "c");
    ck_assert_int_eq(result.outcome, STORE_OVER_QUOTA);
    ck_assert_int_eq(result.version, 2);
    ck_assert_str_eq(result.other_id, "label.tenant=acme");
    free(result.other_id);
    ck_assert_int_eq(outcome("a", ACME), STORE_UNCHANGED);
    ck_assert_int_eq(outcome("c", GLOBEX), STORE_CREATED);
    ck_assert_int_eq(outcome("d", "no JSON"), STORE_CREATED);
    ck_assert_int_eq(store_delete(store, "a", 0, NULL), ERR_OK);
    ck_assert_int_eq(counted(), 1);
    ck_assert_int_eq(outcome("a", ACME), STORE_CREATED);
}
END_TEST

START_TEST(a_client_counts_for_the_label_that_it_has_now) {
    int64_t version;
    char *other_id;
    put(QUOTAS, STORE_VERSION_ANY, ERR_OK);
    ck_assert_int_eq(outcome("a", ACME), STORE_CREATED);
    const char *const texts[] = {GLOBEX, ACME, ACME};
    for (int i = 0; i < 3; i++) {
        struct store_configuration change = {.id = "a", .config = texts[i], .identity = "a"};
        ck_assert_int_eq(store_update(store, &change, &version, &other_id), ERR_OK);
        ck_assert_int_eq(counted(), i == 0 ? 0 : 1);
    }
}
END_TEST

START_TEST(what_was_not_counted_is_found_and_nothing_counts_twice) {
    ck_assert_int_eq(outcome("a", ACME), STORE_CREATED);
    ck_assert_int_eq(outcome("b", ACME), STORE_CREATED);
    ck_assert_int_eq(outcome("c", ACME), STORE_CREATED);
    count_all();
    ck_assert_int_eq(counted(), 0); /* no quota */
    put(QUOTAS, STORE_VERSION_ANY, ERR_OK);
    count_all();
    count_all();
    ck_assert_int_eq(counted(), 3);     /* more than allowed */
    RAW("HDEL", "mqtt_config:no", "a"); /* by a node that does not count */
    count_all();
    ck_assert_int_eq(counted(), 2);
    put("[]", STORE_VERSION_ANY, ERR_OK);
    count_all();
    ck_assert_int_eq(counted(), 0);
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:counted"), 0);
}
END_TEST

START_TEST(nodes_read_what_the_others_use_until_it_is_old) {
    struct store_member a = joined("a", "a1", 10), b = joined("b", "b1", 10);
    struct store_quota_use *rows;
    size_t n;
    ck_assert_int_eq(store_report_quota_use(store, &a, "{\"a\":1}", &rows, &n), ERR_OK);
    ck_assert(n == 1 && strcmp(rows[0].node, "a") == 0 && strcmp(rows[0].report, "{\"a\":1}") == 0);
    store_quota_uses_free(rows, n);
    ck_assert_int_eq(store_report_quota_use(store, &b, "{}", &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 2);
    store_quota_uses_free(rows, n);
    struct store_member dead = {"a", "a0"};
    ck_assert_int_eq(store_report_quota_use(store, &dead, "{}", &rows, &n), ERR_WRONG_STATE);
    RAW("HSET", "mqtt_fleet:quota_use", "a", "1000\n{}");
    RAW("HSET", "mqtt_fleet:quota_use", "c", "by hand");
    ck_assert_int_eq(store_quota_uses(store, &rows, &n), ERR_OK);
    ck_assert(n == 1 && strcmp(rows[0].node, "b") == 0);
    store_quota_uses_free(rows, n);
    ck_assert_int_eq(store_report_quota_use(store, &b, "{}", &rows, &n), ERR_OK);
    store_quota_uses_free(rows, n);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:quota_use"), 1);
}
END_TEST

START_TEST(nodes_are_told_of_other_quotas) {
    int64_t revision, version;
    struct store_resource *rows;
    size_t n;
    version = put(QUOTAS, STORE_VERSION_ANY, ERR_OK);
    ck_assert_int_eq(store_resources(store, STORE_SINKS, NULL, &rows, &n, &revision), ERR_OK);
    store_resources_free(rows, n);
    ck_assert_int_eq(revision, version);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, nodes_read_what_the_others_use_until_it_is_old);
    tcase_add_test(tcase, nodes_are_told_of_other_quotas);
    tcase_add_test(tcase, they_have_versions);
    tcase_add_test(tcase, beyond_the_quota_no_client_is_created);
    tcase_add_test(tcase, a_client_counts_for_the_label_that_it_has_now);
    tcase_add_test(tcase, what_was_not_counted_is_found_and_nothing_counts_twice);
}

int main(void) {
    return fixture_run("store_quotas", add);
}
