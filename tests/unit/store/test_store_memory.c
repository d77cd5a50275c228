/* Tests of the store while Redis is out of memory: writes that need memory are rejected, all others
 * work. */
#include "whole_life.h"

static void out_of_memory(void) {
    RAW("CONFIG", "SET", "maxmemory", "1");
}

static void memory_again(void) {
    RAW("CONFIG", "SET", "maxmemory", "0");
}

START_TEST(case_F6_beats_takeovers_and_deletes_go_on) {
    char generation[TEXT_ID_LEN];
    bool finished;
    enum store_role role;
    size_t moved;
    struct store_heartbeat beat;
    struct store_member two = life_join("two", TTL_MS, generation);
    must_create("a");
    must_create("b");
    must_create("c");
    int64_t epoch = must_assign(two, "a");
    must_assign(two, "b");
    out_of_memory();
    struct store_member one = life_join("one", TTL_MS, generation);
    ck_assert_int_eq(store_heartbeat(store, &one, generation, TTL_MS, "{}", &beat), ERR_OK);
    ck_assert_int_eq(store_lead(store, &one, TTL_MS, "{}", &role), ERR_OK);
    ck_assert_int_eq(role, STORE_ROLE_LEADER);
    struct store_assignment *assigned;
    enum store_ownership_status evidence;
    size_t n;
    struct store_set set;
    ck_assert_int_eq(store_list_assignments(store, &two, &assigned, &n, &set), ERR_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(
        store_ownership_status(store, &two, &(struct store_held){"a", epoch, 1}, 1, &evidence),
        ERR_OK);
    store_assignments_free(assigned, n);
    ck_assert_uint_eq(release(two, "a", epoch, 0, false), 1);
    must_assign(one, "a");
    stop_beating(two);
    ck_assert_int_eq(store_fence(store, &one, &two), ERR_OK);
    ck_assert_int_eq(store_reap(store, &two, &moved, &finished), ERR_OK);
    ck_assert(finished);
    ck_assert_int_eq(where("b"), STORE_WAITING);
    ck_assert_int_eq(store_delete(store, "a", 0, NULL), ERR_OK);
    ck_assert_int_eq(store_delete(store, "b", 0, NULL), ERR_OK);
    ck_assert_int_eq(where("a"), STORE_ABSENT);
    ck_assert_int_eq(store_leave(store, &one), ERR_OK);
    memory_again();
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:none"), 0);
}
END_TEST

START_TEST(case_F6_creating_and_changing_is_refused_and_changes_nothing) {
    char trouble[STORE_ERROR_LEN], *other_id;
    int64_t version;
    size_t done;
    struct store_create_result result;
    must_create("a");
    out_of_memory();
    struct store_create_item item = {.id = "b", .config = "{}", .identity = "b"};
    ck_assert_int_eq(store_create(store, &item, 1, &result, &done), ERR_FULL);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(store_update(store,
                                  &(struct store_configuration){"a", 0, "{\"c\":2}", "other", NULL},
                                  &version, &other_id),
                     ERR_FULL);
    store_last_error(store, trouble);
    ck_assert_msg(strstr(trouble, "out of memory"), "%s", trouble);
    memory_again();
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_config:no", "a"), "{\"c\":1}");
    ck_assert_int_eq(where("b"), STORE_ABSENT);
    must_create("b");
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:none"), 0);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, case_F6_beats_takeovers_and_deletes_go_on);
    tcase_add_test(tcase, case_F6_creating_and_changing_is_refused_and_changes_nothing);
}

int main(void) {
    return fixture_run("store_memory", add);
}
