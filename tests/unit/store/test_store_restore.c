/* Tests of list_assignments, ownership_status, restore and orphans with a real Redis. */
#include "fleet_check.h"

static const char *const NODES[] = {"a", "b", NULL};

/* ERR_REFUSED: not its own. */
static enum err restore_at(struct store_member who, const char *id, int64_t epoch, int64_t version,
                           int64_t *now) {
    struct store_restore_item item = {
        .id = id, .epoch = epoch, .config = "{\"c\":1}", .identity = "b/x", .version = version};
    struct store_restore_result restored = {0};
    size_t done;
    enum err err = store_restore(store, &who, &item, 1, &restored, &done);
    ck_assert_uint_eq(done, err == ERR_OK);
    if (now) {
        *now = restored.epoch;
    }
    return err == ERR_OK && !restored.mine ? ERR_REFUSED : err;
}

/* With the version in Redis, if the id is known. */
static enum err restore(struct store_member who, const char *id, int64_t epoch, int64_t *now) {
    int64_t version = version_of(id);
    return restore_at(who, id, epoch, version ? version : 4, now);
}

static enum store_ownership_status evidence_at(struct store_member who, const char *id,
                                               int64_t epoch, int64_t version) {
    struct store_held held = {.id = id, .epoch = epoch, .version = version};
    enum store_ownership_status found;
    ck_assert_int_eq(store_ownership_status(store, &who, &held, 1, &found), ERR_OK);
    return found;
}

static enum store_ownership_status evidence(struct store_member who, const char *id,
                                            int64_t epoch) {
    return evidence_at(who, id, epoch, version_of(id));
}

/* ---- assigned ------------------------------------------------------------------------------ */

START_TEST(assigned_lists_all_a_member_owns_by_id) {
    struct store_member a = joined("a", "1", 1000);
    struct store_assignment *rows;
    size_t n;
    int64_t epoch = 0;
    struct store_set set;
    for (int i = 0; i < 450; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%03d", i);
        must_create(id);
        epoch = must_assign(a, id);
    }
    int64_t version = must_update("id-449", "{}", "b/new");
    ck_assert_int_eq(store_list_assignments(store, &a, &rows, &n, &set), ERR_OK);
    ck_assert_uint_eq(n, 450);
    ck_assert_int_eq(set.rev, rev_of("a"));
    ck_assert(!set.restoring);
    ck_assert_str_eq(rows[0].id, "id-000");
    ck_assert_str_eq(rows[449].id, "id-449");
    ck_assert_int_eq(rows[449].epoch, epoch);
    ck_assert_int_eq(rows[449].version, version);
    ck_assert_int_eq(rows[448].version, version_of("id-448"));
    store_assignments_free(rows, n);
}
END_TEST

START_TEST(assigned_is_empty_for_a_new_member_and_fenced_for_any_other) {
    struct store_member a = joined("a", "1", 10), old = member("a", "0");
    struct store_assignment *rows;
    size_t n;
    struct store_set set;
    ck_assert_int_eq(store_list_assignments(store, &a, &rows, &n, &set), ERR_OK);
    ck_assert_uint_eq(n, 0);
    store_assignments_free(rows, n);
    ck_assert_int_eq(store_list_assignments(store, &old, &rows, &n, &set), ERR_FENCED);
}
END_TEST

START_TEST(assigned_leaves_out_rubbish_in_the_list) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_assignment *rows;
    size_t n;
    struct store_set set;
    must_create("x");
    must_create("y");
    must_assign(a, "x");
    must_assign(b, "y");
    RAW("RPUSH", "node_bind:a", "unheard of", "y", "x");
    ck_assert_int_eq(store_list_assignments(store, &a, &rows, &n, &set), ERR_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(rows[0].id, "x");
    store_assignments_free(rows, n);
}
END_TEST

/* ---- evidence ------------------------------------------------------------------------------ */

START_TEST(evidence_tells_what_became_of_an_id) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    ck_assert_int_eq(evidence(a, "x", 0), STORE_OWNERSHIP_WAITING);
    ck_assert_int_eq(evidence(a, "x", 5), STORE_OWNERSHIP_OLDER); /* it was owned, says a */
    int64_t epoch = must_assign(b, "x"), version = version_of("x");
    ck_assert_int_eq(evidence(b, "x", epoch), STORE_OWNERSHIP_MINE);
    ck_assert_int_eq(evidence(b, "x", epoch - 1), STORE_OWNERSHIP_STALE);
    ck_assert_int_eq(evidence_at(b, "x", epoch, version - 1), STORE_OWNERSHIP_STALE);
    ck_assert_int_eq(evidence(b, "x", epoch + 1), STORE_OWNERSHIP_OLDER);
    ck_assert_int_eq(evidence_at(b, "x", epoch, version + 1), STORE_OWNERSHIP_OLDER);
    ck_assert_int_eq(evidence(a, "x", 5), STORE_OWNERSHIP_NEWER);
    ck_assert_int_eq(evidence(a, "x", epoch + 1), STORE_OWNERSHIP_OLDER);
    ck_assert_int_eq(evidence_at(a, "x", 5, version + 1), STORE_OWNERSHIP_OLDER);
    ck_assert_int_eq(evidence(a, "unheard of", 5), STORE_OWNERSHIP_NONE);
    ck_assert_uint_eq(release(b, "x", epoch, 0, false), 1);
    ck_assert_int_eq(evidence(b, "x", epoch), STORE_OWNERSHIP_WAITING);
    ck_assert_int_eq(evidence(b, "x", epoch + 1), STORE_OWNERSHIP_OLDER);
    ck_assert_int_eq(evidence_at(b, "x", epoch, version + 1), STORE_OWNERSHIP_OLDER);
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(evidence_at(b, "x", epoch, version), STORE_OWNERSHIP_TOMBSTONE);
    ck_assert_int_eq(evidence_at(b, "x", epoch, version + 1), STORE_OWNERSHIP_TOMBSTONE);
    ck_assert_int_eq(evidence_at(b, "x", epoch, version + 3600000), STORE_OWNERSHIP_NONE);
    /* Redis' clock may have jumped: only the absence of the tombstone counts. */
    RAW("ZADD", "mqtt_fleet:tombstones", "1", "x");
    ck_assert_int_eq(evidence_at(b, "x", epoch, version), STORE_OWNERSHIP_TOMBSTONE);
    RAW("HDEL", "mqtt_fleet:buried",
        "x"); /* a tombstone of an older version applies to every version */
    ck_assert_int_eq(evidence_at(b, "x", epoch, version + 1), STORE_OWNERSHIP_TOMBSTONE);
    RAW("ZREM", "mqtt_fleet:tombstones", "x");
    ck_assert_int_eq(evidence_at(b, "x", epoch, version), STORE_OWNERSHIP_NONE);
}
END_TEST

START_TEST(evidence_of_450_is_cut_into_batches) {
    static struct store_held held[450];
    static enum store_ownership_status found[450];
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    for (size_t i = 0; i < 450; i++) {
        held[i] = (struct store_held){.id = i % 2 ? "x" : "y", .version = 1};
    }
    ck_assert_int_eq(store_ownership_status(store, &a, held, 450, found), ERR_OK);
    for (size_t i = 0; i < 450; i++) {
        ck_assert_int_eq(found[i], i % 2 ? STORE_OWNERSHIP_WAITING : STORE_OWNERSHIP_NONE);
    }
}
END_TEST

/* ---- restore ------------------------------------------------------------------------------- */

START_TEST(restore_puts_back_what_redis_lost_with_a_newer_epoch) {
    struct store_member a = joined("a", "1", 10);
    int64_t ahead = 5000000000000000, epoch, again;
    ck_assert_int_eq(restore(a, "x", ahead, &epoch), ERR_OK);
    ck_assert_int_gt(epoch, ahead);
    ck_assert_int_eq(restore(a, "x", ahead, &again), ERR_OK);
    ck_assert_int_eq(again, epoch);
    struct store_client client;
    ck_assert_int_eq(store_get(store, "x", &client), ERR_OK);
    ck_assert_str_eq(client.config, "{\"c\":1}");
    ck_assert_int_eq(client.version, 4);
    ck_assert_str_eq(client.owner.node, "a");
    store_client_fini(&client);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_fleet:identity", "b/x"), "x");
    assert_fleet(NODES);
}
END_TEST

START_TEST(restore_is_not_held_back_by_the_size) {
    struct store_member a = joined("a", "1", 0);
    ck_assert_int_eq(restore(a, "x", 5, NULL), ERR_OK);
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 1);
    assert_fleet(NODES);
}
END_TEST

START_TEST(restore_refuses_a_tombstone) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x"), version = version_of("x");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(restore_at(a, "x", epoch, version, NULL), ERR_REFUSED);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
}
END_TEST

START_TEST(restore_refuses_a_newer_epoch) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(b, "x");
    ck_assert_int_eq(restore(a, "x", epoch - 1, NULL), ERR_REFUSED);
    ck_assert_int_eq(restore(a, "x", epoch, NULL), ERR_REFUSED);
    ck_assert_int_eq(evidence(b, "x", epoch), STORE_OWNERSHIP_MINE);
}
END_TEST

START_TEST(restore_takes_over_from_an_owner_of_an_older_epoch) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    int64_t old = must_assign(b, "x"), rev = rev_of("b"), epoch;
    ck_assert_int_eq(restore(a, "x", old + 7, &epoch), ERR_OK);
    ck_assert_int_eq(evidence(a, "x", epoch), STORE_OWNERSHIP_MINE);
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:b"), 0);
    ck_assert_int_gt(rev_of("b"), rev);
    assert_fleet(NODES);
}
END_TEST

START_TEST(restore_claims_a_waiting_id_back_only_with_its_own_text) {
    struct store_member a = joined("a", "1", 10);
    create("x", "{\"c\":1}", "b/x");
    create("y", "{\"c\":2}", "b/y");
    RAW("HSET", "mqtt_config:no", "z", "{\"by hand\":1}");
    ck_assert_int_eq(restore(a, "x", 5, NULL), ERR_OK);
    ck_assert_int_eq(restore(a, "y", 5, NULL), ERR_REFUSED);
    ck_assert_int_eq(restore(a, "z", 5, NULL), ERR_REFUSED);
    ck_assert_int_eq(where("y"), STORE_WAITING);
    ck_assert_int_eq(where("z"), STORE_WAITING);
    assert_fleet(NODES);
}
END_TEST

START_TEST(restore_takes_up_what_is_in_use_without_owner) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    must_assign(a, "x");
    RAW("HDEL", "mqtt_fleet:owner", "x");
    ck_assert_int_eq(restore(a, "x", 5, NULL), ERR_OK);
    ck_assert_int_eq(where("x"), STORE_OWNED);
    assert_fleet_by_hand(NODES);
}
END_TEST

START_TEST(restore_lists_an_id_once_whatever_node_its_record_names) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x");
    RAW("HSET", "mqtt_fleet:owner", "x",
        "{\"node\":\"b\",\"incarnation\":\"0\",\"epoch\":\"7\",\"version\":1}");
    ck_assert_int_eq(restore(a, "x", epoch, NULL), ERR_OK);
    assert_fleet_by_hand(NODES);
    RAW("DEL", "mqtt_config:use");
    ck_assert_int_eq(restore(a, "x", epoch, NULL), ERR_OK);
    assert_fleet_by_hand(NODES);
}
END_TEST

START_TEST(restore_lets_an_id_wait_whose_identity_another_took) {
    struct store_member a = joined("a", "1", 10);
    create("thief", "{}", "b/x");
    ck_assert_int_eq(restore(a, "x", 5, NULL), ERR_REFUSED);
    ck_assert_int_eq(restore(a, "x", 5, NULL), ERR_REFUSED);
    ck_assert_int_eq(where("x"), STORE_WAITING);
    assert_fleet(NODES);
}
END_TEST

START_TEST(restore_is_fenced_unless_the_member_is_registered) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    ck_assert_int_eq(restore(member("a", "0"), "x", 5, NULL), ERR_FENCED);
    stop_beating(a);
    ck_assert_int_eq(restore(a, "x", 5, NULL), ERR_OK);
    ck_assert_int_eq(store_fence(store, &b, &a), ERR_OK);
    ck_assert_int_eq(restore(a, "y", 5, NULL), ERR_FENCED);
}
END_TEST

/* ---- orphans ------------------------------------------------------------------------------- */

START_TEST(orphans_go_to_waiting_from_anywhere_in_use) {
    struct store_member a = joined("a", "1", 1000);
    size_t moved;
    for (int i = 0; i < 700; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        if (i % 2) {
            must_create(id);
            must_assign(a, id);
        } else {
            RAW("HSET", "mqtt_config:use", id, "{}");
        }
    }
    ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    ck_assert_uint_eq(moved, 350);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_config:no"), 350);
    ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    ck_assert_uint_eq(moved, 0);
    assert_fleet(NODES);
}
END_TEST

START_TEST(an_owner_record_that_is_rubbish_or_of_no_node_makes_an_orphan) {
    struct store_member a = joined("a", "1", 10);
    size_t moved;
    must_create("x");
    must_assign(a, "x");
    must_create("y");
    must_assign(a, "y");
    RAW("HSET", "mqtt_fleet:owner", "x", "rubbish");
    RAW("HSET", "mqtt_fleet:owner", "y",
        "{\"node\":\"b\",\"incarnation\":\"0\",\"epoch\":\"7\",\"version\":1}");
    RAW("LTRIM", "node_bind:a", "5", "-1");
    RAW("RPUSH", "node_bind:b", "y");
    RAW("SET", "mqtt_size:a", "0");
    ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    ck_assert_uint_eq(moved, 2);
    assert_fleet_by_hand(NODES);
}
END_TEST

START_TEST(what_may_be_a_beating_go_iot_nodes_is_no_orphan) {
    size_t moved;
    RAW("HSET", "register:mqtt", "go", "{\"host\":\"h\",\"port\":1,\"name\":\"go\",\"size\":5}");
    RAW("SET", "beat:mqtt:go", "go");
    RAW("HSET", "mqtt_config:use", "x", "{}");
    ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    ck_assert_uint_eq(moved, 0);
    RAW("DEL", "beat:mqtt:go");
    ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    ck_assert_uint_eq(moved, 1);
}
END_TEST

START_TEST(an_orphan_leaves_the_list_that_no_record_names_and_its_node_looks_again) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    size_t moved;
    must_create("x");
    must_assign(a, "x");
    must_create("y");
    must_assign(a, "y");
    RAW("HDEL", "mqtt_fleet:owner", "x");
    RAW("HSET", "mqtt_fleet:owner", "y",
        "{\"node\":\"c\",\"incarnation\":\"0\",\"epoch\":\"7\",\"version\":1}");
    int64_t rev = rev_of("a");
    ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    ck_assert_uint_eq(moved, 2);
    ck_assert_int_gt(rev_of("a"), rev);
    must_assign(b, "x");
    must_assign(a, "y");
    assert_fleet_by_hand(NODES);
}
END_TEST

START_TEST(what_was_taken_off_a_list_by_hand_comes_back_with_the_evidence) {
    struct store_member a = joined("a", "1", 10);
    struct store_assignment *rows;
    size_t n;
    struct store_set set;
    must_create("x");
    int64_t epoch = must_assign(a, "x");
    must_create("y");
    must_assign(a, "y");
    RAW("LREM", "node_bind:a", "0", "x");
    RAW("DEL", "mqtt_size:a");
    ck_assert_int_eq(store_list_assignments(store, &a, &rows, &n, &set), ERR_OK);
    store_assignments_free(rows, n);
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 1);
    ck_assert_int_eq(evidence(a, "x", epoch), STORE_OWNERSHIP_MINE);
    ck_assert_int_eq(evidence(a, "x", epoch), STORE_OWNERSHIP_MINE);
    assert_fleet(NODES);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, assigned_lists_all_a_member_owns_by_id);
    tcase_add_test(tcase, assigned_is_empty_for_a_new_member_and_fenced_for_any_other);
    tcase_add_test(tcase, assigned_leaves_out_rubbish_in_the_list);
    tcase_add_test(tcase, evidence_tells_what_became_of_an_id);
    tcase_add_test(tcase, evidence_of_450_is_cut_into_batches);
    tcase_add_test(tcase, restore_puts_back_what_redis_lost_with_a_newer_epoch);
    tcase_add_test(tcase, restore_is_not_held_back_by_the_size);
    tcase_add_test(tcase, restore_refuses_a_tombstone);
    tcase_add_test(tcase, restore_refuses_a_newer_epoch);
    tcase_add_test(tcase, restore_takes_over_from_an_owner_of_an_older_epoch);
    tcase_add_test(tcase, restore_claims_a_waiting_id_back_only_with_its_own_text);
    tcase_add_test(tcase, restore_takes_up_what_is_in_use_without_owner);
    tcase_add_test(tcase, restore_lists_an_id_once_whatever_node_its_record_names);
    tcase_add_test(tcase, restore_lets_an_id_wait_whose_identity_another_took);
    tcase_add_test(tcase, restore_is_fenced_unless_the_member_is_registered);
    tcase_add_test(tcase, orphans_go_to_waiting_from_anywhere_in_use);
    tcase_add_test(tcase, an_owner_record_that_is_rubbish_or_of_no_node_makes_an_orphan);
    tcase_add_test(tcase, what_may_be_a_beating_go_iot_nodes_is_no_orphan);
    tcase_add_test(tcase, an_orphan_leaves_the_list_that_no_record_names_and_its_node_looks_again);
    tcase_add_test(tcase, what_was_taken_off_a_list_by_hand_comes_back_with_the_evidence);
}

int main(void) {
    return fixture_run("store_restore", add);
}
