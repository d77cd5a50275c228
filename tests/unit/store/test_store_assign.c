/* Tests of assign, release, set_cooldown and mark_stable with a real Redis. */
#include "fleet_check.h"

static const char *const NODES[] = {"a", "b", "c", NULL};

/* Everything known about an id; store_client_fini. */
static struct store_client known(const char *id) {
    struct store_client client;
    ck_assert_int_eq(store_get(store, id, &client), ERR_OK);
    return client;
}

static enum store_assign_outcome assign_as(struct store_member target, const char *id,
                                           const char *identity) {
    struct store_assign_result result;
    ck_assert_int_eq(try_assign(target, id, identity, &result), ERR_OK);
    return result.outcome;
}

/* ---- assign -------------------------------------------------------------------------------- */

START_TEST(assign_moves_a_waiting_id_to_its_new_owner) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t rev = rev_of("a");
    int64_t epoch = must_assign(a, "x");
    struct store_client client = known("x");
    ck_assert_int_eq(client.state, STORE_OWNED);
    ck_assert_str_eq(client.owner.node, "a");
    ck_assert_str_eq(client.owner.incarnation, "1");
    ck_assert_int_eq(client.owner.epoch, epoch);
    ck_assert_int_gt(client.owner.since_ms, 1600000000000);
    store_client_fini(&client);
    ck_assert_int_gt(rev_of("a"), rev);
    ck_assert_str_eq(RAW_TEXT("LINDEX", "node_bind:a", "0"), "x");
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 1);
    assert_fleet(NODES);
}
END_TEST

START_TEST(assign_repeated_answers_the_same_epoch_again) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x"), rev = rev_of("a");
    ck_assert_int_eq(must_assign(a, "x"), epoch);
    ck_assert_int_eq(rev_of("a"), rev);
    assert_fleet(NODES);
}
END_TEST

START_TEST(assign_of_what_another_owns_or_nobody_has_is_gone) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    must_assign(a, "x");
    ck_assert_int_eq(assign(b, "x", NULL), STORE_ASSIGN_GONE);
    ck_assert_int_eq(assign(b, "unheard of", NULL), STORE_ASSIGN_GONE);
}
END_TEST

START_TEST(assign_is_fenced_unless_registered_alive_and_beating) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    ck_assert_int_eq(assign_err(member("a", "0"), "x"), ERR_FENCED);
    ck_assert_int_eq(assign_err(member("nobody", "1"), "x"), ERR_FENCED);
    stop_beating(a);
    ck_assert_int_eq(assign_err(a, "x"), ERR_FENCED);
    ck_assert_int_eq(store_fence(store, &b, &a), ERR_OK);
    ck_assert_int_eq(assign_err(a, "x"), ERR_FENCED);
    ck_assert_int_eq(where("x"), STORE_WAITING);
}
END_TEST

START_TEST(assign_never_exceeds_the_size_also_within_one_batch_failure_4) {
    struct store_member a = joined("a", "1", 3);
    struct store_assign_item items[5];
    struct store_assign_result results[5];
    static const char *const ids[] = {"v", "w", "x", "y", "z"};
    size_t done;
    for (size_t i = 0; i < 5; i++) {
        must_create(ids[i]);
        items[i] = (struct store_assign_item){.id = ids[i], .identity = ""};
    }
    RAW("SET", "mqtt_size:a", "-7");
    for (int run = 0; run < 2; run++) {
        ck_assert_int_eq(store_assign(store, &a, items, 5, results, &done), ERR_OK);
        for (size_t i = 0; i < 5; i++) {
            ck_assert_int_eq(results[i].outcome, i < 3 ? STORE_ASSIGNED : STORE_ASSIGN_FULL);
        }
    }
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 3);
    assert_fleet(NODES);
}
END_TEST

START_TEST(assign_waits_for_the_time_before_which_it_may_not_be) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    ck_assert_int_eq(store_set_cooldown(store, "x", 60000, "unreadable", "why", NULL), ERR_OK);
    ck_assert_int_eq(assign(a, "x", NULL), STORE_ASSIGN_COOLDOWN);
    RAW("ZADD", "mqtt_fleet:retry", "1", "x");
    ck_assert_int_eq(assign(a, "x", NULL), STORE_ASSIGNED);
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:retry"), 0);
}
END_TEST

START_TEST(assign_leaves_an_identity_of_another_id_waiting) {
    struct store_member a = joined("a", "1", 10);
    create("x", "{}", "b/same");
    RAW("HSET", "mqtt_config:no", "y", "{}");
    ck_assert_int_eq(assign_as(a, "y", "b/same"), STORE_ASSIGN_IDENTITY);
    ck_assert_int_eq(where("y"), STORE_WAITING);
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(assign_as(a, "y", "b/same"), STORE_ASSIGNED);
    struct store_create_result result = create("z", "{}", "b/same");
    ck_assert_int_eq(result.outcome, STORE_IDENTITY_TAKEN);
    ck_assert_str_eq(result.other_id, "y");
    free(result.other_id);
    assert_fleet(NODES);
}
END_TEST

START_TEST(assign_takes_what_was_written_by_hand_as_version_1) {
    struct store_member a = joined("a", "1", 10);
    RAW("HSET", "mqtt_config:no", "x", "rubbish, not json");
    must_assign(a, "x");
    struct store_client client = known("x");
    ck_assert_str_eq(client.config, "rubbish, not json");
    ck_assert_int_eq(client.version, 1);
    store_client_fini(&client);
    assert_fleet(NODES);
}
END_TEST

START_TEST(assign_forgets_the_tombstone_of_what_was_written_by_hand_again) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    RAW("HSET", "mqtt_config:no", "x", "{}");
    must_assign(a, "x");
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:tombstones"), 0);
}
END_TEST

START_TEST(a_text_written_by_hand_over_an_owned_id_updates_it_in_place_failure_9) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x"), rev = rev_of("a"), version = version_of("x");
    RAW("HSET", "mqtt_config:no", "x", "{\"c\":2}");
    ck_assert_int_eq(assign_as(b, "x", "b/new"), STORE_ASSIGN_GONE);
    ck_assert_int_eq(assign_as(b, "x", "b/new"), STORE_ASSIGN_GONE);
    struct store_client client = known("x");
    ck_assert_str_eq(client.config, "{\"c\":2}");
    ck_assert_int_gt(client.version, version);
    version = client.version;
    ck_assert_int_eq(client.owner.epoch, epoch);
    store_client_fini(&client);
    ck_assert_int_gt(rev_of("a"), rev);
    assert_fleet(NODES);
    RAW("HSET", "mqtt_config:no", "x", "{\"c\":3}");
    ck_assert_int_eq(must_assign(a, "x"), epoch);
    client = known("x");
    ck_assert_str_eq(client.config, "{\"c\":3}");
    ck_assert_int_gt(client.version, version);
    store_client_fini(&client);
    assert_fleet(NODES);
}
END_TEST

START_TEST(the_same_text_written_over_an_owned_id_is_no_new_version) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    must_assign(a, "x");
    int64_t version = version_of("x");
    RAW("HSET", "mqtt_config:no", "x", "{\"c\":1}");
    must_assign(a, "x");
    ck_assert_int_eq(version_of("x"), version);
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_waiting_id_that_is_also_in_use_without_owner_is_assigned) {
    struct store_member a = joined("a", "1", 10);
    RAW("HSET", "mqtt_config:use", "x", "{\"old\":1}");
    RAW("HSET", "mqtt_config:no", "x", "{\"new\":1}");
    must_assign(a, "x");
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_config:use", "x"), "{\"new\":1}");
    assert_fleet(NODES);
}
END_TEST

START_TEST(epochs_grow_although_the_counter_is_lost_or_ahead) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t first = must_assign(a, "x");
    release(a, "x", first, 0, false);
    RAW("DEL", "mqtt_fleet:epoch");
    int64_t second = must_assign(a, "x");
    ck_assert_int_gt(second, first);
    release(a, "x", second, 0, false);
    RAW("SET", "mqtt_fleet:epoch", "4000000000000001");
    ck_assert_int_eq(must_assign(a, "x"), 4000000000000002);
    ck_assert_str_eq(RAW_TEXT("GET", "mqtt_fleet:epoch"), "4000000000000002");
    assert_fleet(NODES);
}
END_TEST

/* ---- release ------------------------------------------------------------------------------- */

START_TEST(release_moves_its_own_to_waiting_and_notes_why) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x"), rev = rev_of("a");
    ck_assert_uint_eq(release(a, "x", epoch, 60000, true), 1);
    struct store_client client = known("x");
    ck_assert_int_eq(client.state, STORE_WAITING);
    ck_assert_ptr_null(client.owner.node);
    ck_assert_int_eq(client.attempts, 1);
    ck_assert_str_eq(client.attempt_code, "stopping");
    ck_assert_str_eq(client.attempt_message, "because");
    ck_assert_str_eq(client.attempt_node, "a");
    ck_assert_int_gt(client.cooldown_ms, 30000);
    ck_assert_int_le(client.cooldown_ms, 60000);
    store_client_fini(&client);
    ck_assert_int_gt(rev_of("a"), rev);
    ck_assert_int_eq(assign(b, "x", NULL), STORE_ASSIGN_COOLDOWN);
    assert_fleet(NODES);
}
END_TEST

START_TEST(release_repeated_or_by_another_or_of_an_old_epoch_does_nothing) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    int64_t first = must_assign(a, "x");
    ck_assert_uint_eq(release(b, "x", first, 0, true), 0);
    ck_assert_uint_eq(release(member("a", "0"), "x", first, 0, true), 0);
    ck_assert_uint_eq(release(a, "x", first, 0, true), 1);
    ck_assert_uint_eq(release(a, "x", first, 0, true), 0);
    int64_t second = must_assign(a, "x");
    ck_assert_uint_eq(release(a, "x", first, 0, true), 0);
    ck_assert_int_eq(where("x"), STORE_OWNED);
    struct store_client client = known("x");
    ck_assert_int_eq(client.attempts, 1);
    ck_assert_int_eq(client.owner.epoch, second);
    store_client_fini(&client);
    assert_fleet(NODES);
}
END_TEST

/* ---- release to a target ------------------------------------------------------------------- */

START_TEST(a_release_to_a_target_is_assigned_in_the_same_step) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x"), rev_a = rev_of("a"), rev_b = rev_of("b");
    ck_assert_uint_eq(release_to(a, "x", epoch, 0, b), 1);
    ck_assert_uint_eq(release_to(a, "x", epoch, 0, b), 0); /* the reply was lost */
    struct store_client client = known("x");
    ck_assert_str_eq(client.owner.node, "b");
    ck_assert_int_gt(client.owner.epoch, epoch);
    ck_assert_str_eq(client.attempt_code, "moved");
    store_client_fini(&client);
    ck_assert_int_gt(rev_of("a"), rev_a);
    ck_assert_int_gt(rev_of("b"), rev_b);
    assert_fleet(NODES);
}
END_TEST

static void assert_waits_if_released_to(struct store_member from, struct store_member target) {
    int64_t epoch = must_assign(from, "x");
    ck_assert_uint_eq(release_to(from, "x", epoch, 0, target), 1);
    ck_assert_int_eq(where("x"), STORE_WAITING);
    assert_fleet(NODES);
}

START_TEST(a_release_to_a_target_that_does_not_accept_it_waits) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 1), c = joined("c", "1", 10);
    must_create("x");
    assert_waits_if_released_to(a, a);
    assert_waits_if_released_to(a, member("b", "0"));
    assert_waits_if_released_to(a, member("nobody", "1"));
    RAW("DEL", "beat:mqtt:c");
    assert_waits_if_released_to(a, c);
    must_create("y");
    must_assign(b, "y");
    assert_waits_if_released_to(a, b); /* full */
    ck_assert_int_eq(store_delete(store, "y", 0, NULL), ERR_OK);
    ck_assert_int_eq(store_drain(store, "b", true), ERR_OK);
    assert_waits_if_released_to(a, b);
    ck_assert_int_eq(store_drain(store, "b", false), ERR_OK);
    int64_t epoch = must_assign(a, "x");
    ck_assert_uint_eq(release_to(a, "x", epoch, 60000, b), 1);
    ck_assert_int_eq(where("x"), STORE_WAITING);
    RAW("DEL", "mqtt_fleet:retry");
    epoch = must_assign(a, "x");
    RAW("SET", "mqtt_fleet:restoring", "60000", "PX", "60000");
    ck_assert_uint_eq(release_to(a, "x", epoch, 0, b), 1);
    ck_assert_int_eq(where("x"), STORE_WAITING);
}
END_TEST

START_TEST(a_batch_released_to_a_target_does_not_exceed_its_size) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 2);
    struct store_release_item items[4];
    char ids[4][8];
    size_t released;
    for (int i = 0; i < 4; i++) {
        snprintf(ids[i], sizeof ids[i], "x%d", i);
        must_create(ids[i]);
        items[i] = (struct store_release_item){.id = ids[i],
                                               .epoch = must_assign(a, ids[i]),
                                               .code = "moved",
                                               .message = "",
                                               .target = b};
    }
    ck_assert_int_eq(store_release(store, &a, items, 4, &released), ERR_OK);
    ck_assert_uint_eq(released, 4);
    ck_assert_int_eq(RAW_INT("LLEN", "node_bind:b"), 2);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_config:no"), 2);
    assert_fleet(NODES);
}
END_TEST

/* Otherwise a node whose address policy denies the broker would get it, and give it back, for ever.
 */
START_TEST(a_client_is_not_moved_to_a_node_that_has_denied_its_broker) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "2", 10);
    const char *ids[] = {"x"};
    must_create("x");
    size_t released;
    struct store_release_item denied = {.id = "x",
                                        .epoch = must_assign(b, "x"),
                                        .code = "broker_denied",
                                        .message = "",
                                        .delay_ms = 1000,
                                        .failed = true};
    ck_assert_int_eq(store_release(store, &b, &denied, 1, &released), ERR_OK);
    int64_t epoch = must_assign(a, "x");
    ck_assert_int_eq(store_mark_stable(store, &a, ids, 1), ERR_OK);
    ck_assert_uint_eq(release_to(a, "x", epoch, 0, b), 1);
    ck_assert_int_eq(where("x"), STORE_WAITING);
}
END_TEST

START_TEST(release_of_what_was_deleted_does_not_bring_it_back) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_uint_eq(release(a, "x", epoch, 0, false), 0);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
}
END_TEST

START_TEST(release_of_450_empties_the_node_and_keeps_the_rest_in_order) {
    static struct store_release_item items[450];
    static char ids[452][16];
    struct store_member a = joined("a", "1", 1000);
    size_t released;
    for (size_t i = 0; i < 452; i++) {
        snprintf(ids[i], sizeof ids[i], "id-%zu", i);
        must_create(ids[i]);
        int64_t epoch = must_assign(a, ids[i]);
        if (i < 450) { /* every other from either end, so that no order helps */
            items[i % 2 ? i : 449 - i - 1] = (struct store_release_item){
                .id = ids[i], .epoch = epoch, .code = "stopping", .message = ""};
        }
    }
    ck_assert_int_eq(store_release(store, &a, items, 450, &released), ERR_OK);
    ck_assert_uint_eq(released, 450);
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 2);
    ck_assert_str_eq(RAW_TEXT("LINDEX", "node_bind:a", "0"), "id-450");
    ck_assert_str_eq(RAW_TEXT("LINDEX", "node_bind:a", "1"), "id-451");
    assert_fleet(NODES);
}
END_TEST

/* ---- attempts ------------------------------------------------------------------------------ */

START_TEST(attempts_count_failures_only_and_are_forgotten_once_stable) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    const char *id = "x";
    must_create(id);
    release(a, id, must_assign(a, id), 0, true);
    release(b, id, must_assign(b, id), 0, true);
    release(b, id, must_assign(b, id), 0, false);
    struct store_client client = known(id);
    ck_assert_int_eq(client.attempts, 2);
    ck_assert_str_eq(client.attempt_node, "b");
    store_client_fini(&client);
    must_assign(a, id);
    ck_assert_int_eq(store_mark_stable(store, &b, &id, 1), ERR_OK);
    ck_assert_int_eq(RAW_INT("HEXISTS", "mqtt_fleet:attempt", id), 1);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_mark_stable(store, &a, &id, 1), ERR_OK);
    }
    client = known(id);
    ck_assert_int_eq(client.attempts, 0);
    ck_assert_ptr_null(client.attempt_code);
    store_client_fini(&client);
}
END_TEST

/* Claims and releases into a cool-down of 1,000 to 5,000 ms; returns its length. */
static int64_t rest_ms(struct store_member who, const char *id) {
    struct store_release_item item = {.id = id,
                                      .delay_ms = 1000,
                                      .cooldown_ms_max = 5000,
                                      .code = "taken_over",
                                      .message = "",
                                      .failed = true};
    size_t released;
    RAW("ZREM", "mqtt_fleet:retry", id);
    item.epoch = must_assign(who, id);
    for (int i = 0; i < 2; i++) { /* a reply may be lost */
        ck_assert_int_eq(store_release(store, &who, &item, 1, &released), ERR_OK);
        ck_assert_uint_eq(released, i == 0);
    }
    struct store_client client = known(id);
    int64_t rest_ms = RAW_INT("ZSCORE", "mqtt_fleet:retry", id) - client.attempt_at_ms;
    store_client_fini(&client);
    return rest_ms;
}

/* As if that much time had passed since the last cool-down. */
static void age_rest(const char *id, int64_t rest_ms, int64_t peace_ms) {
    char text[200];
    struct store_client client = known(id);
    snprintf(text, sizeof text, "{\"count\":0,\"rest\":%lld,\"rest_until\":%lld,\"calm\":true}",
             (long long)rest_ms, (long long)(client.attempt_at_ms - peace_ms));
    store_client_fini(&client);
    RAW("HSET", "mqtt_fleet:attempt", id, text);
}

START_TEST(each_rest_is_twice_the_one_before_on_whichever_node) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("x");
    ck_assert_int_eq(rest_ms(a, "x"), 1000);
    ck_assert_int_eq(rest_ms(b, "x"), 2000);
    RAW("ZREM", "mqtt_fleet:retry", "x");
    release(a, "x", must_assign(a, "x"), 0, false); /* for another reason */
    ck_assert_int_eq(rest_ms(a, "x"), 4000);
    ck_assert_int_eq(rest_ms(b, "x"), 5000);
    ck_assert_int_eq(rest_ms(a, "x"), 5000);
    must_create("y");
    ck_assert_int_eq(rest_ms(a, "y"), 1000);
}
END_TEST

START_TEST(the_length_of_a_rest_is_forgotten_once_stable_and_at_peace_for_longer) {
    struct store_member a = joined("a", "1", 10);
    const char *id = "x";
    must_create(id);
    rest_ms(a, id);
    RAW("HSET", "mqtt_fleet:attempt", id, "{\"count\":1,\"rest\":1000,\"rest_until\":1}");
    ck_assert_int_eq(rest_ms(a, id), 2000); /* enough time, but never stable */
    RAW("ZREM", "mqtt_fleet:retry", id);
    int64_t epoch = must_assign(a, id);
    ck_assert_int_eq(store_mark_stable(store, &a, &id, 1), ERR_OK);
    struct store_client client = known(id); /* stable, but the other may only be in its cool-down */
    ck_assert_int_eq(client.attempts, 0);
    ck_assert_ptr_null(client.attempt_code);
    store_client_fini(&client);
    release(a, id, epoch, 0, false);
    ck_assert_int_eq(rest_ms(a, id), 4000);
    age_rest(id, 1000, 1500);
    ck_assert_int_eq(rest_ms(a, id), 2000);
    age_rest(id, 2000, 5000);
    ck_assert_int_eq(rest_ms(a, id), 1000);
    age_rest(id, 1000, 5000);
    RAW("ZREM", "mqtt_fleet:retry", id);
    must_assign(a, id);
    ck_assert_int_eq(store_mark_stable(store, &a, &id, 1), ERR_OK);
    ck_assert_int_eq(RAW_INT("HEXISTS", "mqtt_fleet:attempt", id), 0);
}
END_TEST

START_TEST(defer_touches_waiting_ids_only) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    for (int i = 0; i < 2; i++) {
        bool again;
        ck_assert_int_eq(store_set_cooldown(store, "x", 60000, "unreadable", "line 1", &again),
                         ERR_OK);
        ck_assert_int_eq(again, i);
    }
    struct store_client client = known("x");
    ck_assert_str_eq(client.attempt_code, "unreadable");
    ck_assert_str_eq(client.attempt_message, "line 1");
    ck_assert_int_eq(client.attempts, 0);
    ck_assert_int_gt(client.cooldown_ms, 30000);
    ck_assert_int_le(client.cooldown_ms, 60000);
    store_client_fini(&client);
    must_create("y");
    must_assign(a, "y");
    ck_assert_int_eq(store_set_cooldown(store, "y", 60000, "unreadable", "", NULL), ERR_OK);
    ck_assert_int_eq(store_set_cooldown(store, "absent", 60000, "unreadable", "", NULL), ERR_OK);
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:retry"), 1);
    struct store_counts counts;
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.cooling_down, 1);
    ck_assert_int_eq(RAW_INT("ZADD", "mqtt_fleet:retry", "1", "x"), 0); /* its time has come */
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.cooling_down, 0);
    assert_fleet(NODES);
}
END_TEST

/* The node may not reach the broker; returns how long no node tries then. */
static int64_t denied_ms(struct store_member who, const char *id) {
    struct store_release_item item = {.id = id,
                                      .delay_ms = 60000,
                                      .code = "broker_denied",
                                      .message = "10.1.1.1 is denied",
                                      .error = "BROKER_DENIED",
                                      .failed = true};
    size_t released;
    RAW("ZREM", "mqtt_fleet:retry", id);
    item.epoch = must_assign(who, id);
    ck_assert_int_eq(store_release(store, &who, &item, 1, &released), ERR_OK);
    ck_assert_uint_eq(released, 1);
    struct store_client client = known(id);
    ck_assert_str_eq(client.attempt_code, "broker_denied");
    ck_assert_str_eq(client.attempt_message, "10.1.1.1 is denied");
    ck_assert(client.cooldown_ms == 0 || strlen(client.denied_by) == 0);
    int64_t rest_ms = client.cooldown_ms;
    store_client_fini(&client);
    return rest_ms;
}

static void check_near(int64_t ms, int64_t wanted_ms) {
    ck_assert_int_le(ms, wanted_ms);
    ck_assert_int_gt(ms, wanted_ms - 5000);
}

START_TEST(a_denied_client_goes_at_once_to_each_other_node_and_then_rests_F14) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "2", 10);
    char *other;
    int64_t version;
    must_create("x");
    ck_assert_int_eq(denied_ms(a, "x"), 0);
    struct store_client client = known("x");
    ck_assert_str_eq(client.denied_by, "1");
    store_client_fini(&client);
    check_near(denied_ms(b, "x"), 60000);
    ck_assert_int_eq(denied_ms(b, "x"), 0); /* all nodes are asked again */
    check_near(denied_ms(b, "x"),
               120000); /* it was assigned to the same node again: no ping-pong */
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(denied_ms(a, "x"), 0);
        check_near(denied_ms(b, "x"), i == 0 ? 240000 : i == 1 ? 480000 : 600000);
    }
    ck_assert_int_eq(denied_ms(a, "x"), 0);
    ck_assert_int_eq(
        store_update(store, &(struct store_configuration){"x", 0, "{\"other\":1}", "other/x", NULL},
                     &version, &other),
        ERR_OK);
    ck_assert_int_eq(denied_ms(a, "x"), 0); /* another broker, perhaps */
    check_near(denied_ms(b, "x"), 60000);
    stop_beating(b);
    ck_assert(denied_ms(a, "x") > 0); /* nobody else is there */
    assert_fleet(NODES);
}
END_TEST

/* As if Redis' clock had gone back by an hour since the id was delayed. */
static void clock_back_an_hour(const char *id) {
    char text[24];
    snprintf(text, sizeof text, "%lld",
             (long long)RAW_INT("ZSCORE", "mqtt_fleet:retry", id) + 3600000);
    RAW("ZADD", "mqtt_fleet:retry", text, id);
}

START_TEST(no_wait_lasts_longer_than_its_delay_when_the_clock_goes_back_F13) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    must_create("y");
    must_create("z");
    release(a, "x", must_assign(a, "x"), 4000, true);
    ck_assert_int_eq(store_set_cooldown(store, "y", 4000, "unreadable", "", NULL), ERR_OK);
    RAW("ZADD", "mqtt_fleet:retry", "4000000000000", "z"); /* by hand, or by an older version */
    const char *const ids[] = {"x", "y", "z"};
    for (size_t i = 0; i < 3; i++) {
        if (i < 2) {
            ck_assert_int_eq(assign(a, ids[i], NULL), STORE_ASSIGN_COOLDOWN);
            clock_back_an_hour(ids[i]);
        }
        struct store_client client = known(ids[i]);
        ck_assert_int_eq(client.cooldown_ms, 0);
        store_client_fini(&client);
        must_assign(a, ids[i]);
    }
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_rest_of_the_future_is_over_and_the_next_one_short_again_F13) {
    struct store_member a = joined("a", "1", 10);
    const char *id = "x";
    must_create(id);
    rest_ms(a, id);
    ck_assert_int_eq(rest_ms(a, id), 2000);
    age_rest(id, 2000, -3600000);
    ck_assert_int_eq(rest_ms(a, id), 1000);
    age_rest(id, 2000, -1500); /* it has only just begun */
    ck_assert_int_eq(rest_ms(a, id), 4000);
}
END_TEST

START_TEST(a_fault_is_news_once_for_each_text_F18) {
    static const struct {
        const char *text, *message;
        bool again;
    } steps[] = {{"one", "line 1", false}, {"one", "line 1", true},  {"two", "line 1", false},
                 {"two", "line 1", true},  {"two", "line 2", false}, {"one", "line 1", false}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        bool again;
        RAW("HSET", "mqtt_config:no", "x", steps[i].text);
        ck_assert_int_eq(store_set_cooldown(store, "x", 1000, "bad", steps[i].message, &again),
                         ERR_OK);
        ck_assert_int_eq(again, steps[i].again);
    }
}
END_TEST

static size_t clean_strays(const char *node) {
    struct store_strays strays;
    ck_assert_int_eq(store_clean_strays(store, &strays), ERR_OK);
    for (size_t i = 0; i < strays.n; i++) {
        if (strcmp(strays.rows[i].node, node) == 0) {
            return strays.rows[i].ids;
        }
    }
    return 0;
}

START_TEST(a_list_of_no_node_loses_what_is_not_its_own_F18) {
    struct store_member a = joined("a", "1", 10);
    must_create("mine");
    must_create("waits");
    must_assign(a, "mine");
    RAW("HSET", "mqtt_config:use", "bare", "{}"); /* may run on a node of another program */
    RAW("RPUSH", "node_bind:old*", "mine", "bare", "waits", "gone");
    RAW("SET", "mqtt_size:old*", "4");
    RAW("RPUSH", "node_bind:beats", "mine");
    RAW("SET", "beat:mqtt:beats", "x");
    RAW("SET", "node_bind:odd", "no list");
    ck_assert_uint_eq(clean_strays("old*"), 3);
    ck_assert_uint_eq(clean_strays("old*"), 0);
    ck_assert_str_eq(RAW_TEXT("LINDEX", "node_bind:old*", "0"), "bare");
    ck_assert_str_eq(RAW_TEXT("GET", "mqtt_size:old*"), "1");
    ck_assert_int_eq(RAW_INT("LLEN", "node_bind:beats"), 1);
    ck_assert_str_eq(RAW_TEXT("LINDEX", "node_bind:a", "0"), "mine");
    RAW("HDEL", "mqtt_config:use", "bare");
    ck_assert_uint_eq(clean_strays("old*"), 1);
    ck_assert_int_eq(RAW_INT("EXISTS", "node_bind:old*"), 0);
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_size:old*"), 0);
    RAW("DEL", "node_bind:beats", "node_bind:odd", "beat:mqtt:beats");
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_long_list_of_no_node_goes_in_steps_F18) {
    for (int i = 0; i < 1500; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        RAW("RPUSH", "node_bind:old", id);
    }
    ck_assert_uint_eq(clean_strays("old"), 1500);
    ck_assert_int_eq(RAW_INT("EXISTS", "node_bind:old"), 0);
}
END_TEST

/* ---- history ------------------------------------------------------------------------------- */

static void check_history(const char *id, const char *wanted) {
    struct store_client client = known(id);
    ck_assert_str_eq(client.history ? client.history : "(none)", wanted);
    store_client_fini(&client);
}

static void save_history(struct store_member who, const char *id, int64_t epoch,
                         const char *history) {
    const struct store_history_item item = {id, epoch, history};
    ck_assert_int_eq(store_save_histories(store, &who, &item, 1), ERR_OK);
}

/* Of a client that has done nothing yet: the version that it was created with. */
static const char *created_history(const char *id) {
    static char text[64];
    struct store_client client;
    ck_assert_int_eq(store_get(store, id, &client), ERR_OK);
    snprintf(text, sizeof text, "{\"since\":%lld}", (long long)client.version);
    store_client_fini(&client);
    return text;
}

START_TEST(a_history_goes_to_the_next_owner_and_ends_with_the_client) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "2", 10);
    struct store_set set;
    struct store_change *rows;
    size_t n, released;
    must_create("x");
    int64_t epoch = must_assign(a, "x");
    check_history("x", created_history("x"));
    save_history(a, "x", epoch, "{\"saved\":1}");
    check_history("x", "{\"saved\":1}");
    /* Only the owner, at its epoch. */
    save_history(a, "x", epoch - 1, "{\"old\":1}");
    save_history(b, "x", epoch, "{\"foreign\":1}");
    save_history(member("a", "0"), "x", epoch, "{\"fenced\":1}");
    save_history(a, "y", epoch, "{\"unknown\":1}");
    check_history("x", "{\"saved\":1}");
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:history"), 1);
    struct store_release_item item = {
        .id = "x", .epoch = epoch, .code = "moved", .message = "", .history = "{\"moved\":1}"};
    item.target = b;
    ck_assert_int_eq(store_release(store, &a, &item, 1, &released), ERR_OK);
    ck_assert_uint_eq(released, 1);
    check_history("x", "{\"moved\":1}");
    item.history = "{\"late\":1}";
    ck_assert_int_eq(store_release(store, &a, &item, 1, &released), ERR_OK);
    check_history("x", "{\"moved\":1}");
    ck_assert_int_eq(store_changes(store, &b, 0, NULL, &set, &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(rows[0].history, "{\"moved\":1}");
    store_changes_free(rows, n);
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:history"), 0);
    /* What a node of an earlier version left behind does not become that of another client. */
    RAW("HSET", "mqtt_fleet:history", "x", "{\"left\":1}");
    must_create("x");
    check_history("x", created_history("x"));
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, a_history_goes_to_the_next_owner_and_ends_with_the_client);
    tcase_add_test(tcase, assign_moves_a_waiting_id_to_its_new_owner);
    tcase_add_test(tcase, assign_repeated_answers_the_same_epoch_again);
    tcase_add_test(tcase, assign_of_what_another_owns_or_nobody_has_is_gone);
    tcase_add_test(tcase, assign_is_fenced_unless_registered_alive_and_beating);
    tcase_add_test(tcase, assign_never_exceeds_the_size_also_within_one_batch_failure_4);
    tcase_add_test(tcase, assign_waits_for_the_time_before_which_it_may_not_be);
    tcase_add_test(tcase, assign_leaves_an_identity_of_another_id_waiting);
    tcase_add_test(tcase, assign_takes_what_was_written_by_hand_as_version_1);
    tcase_add_test(tcase, assign_forgets_the_tombstone_of_what_was_written_by_hand_again);
    tcase_add_test(tcase, a_text_written_by_hand_over_an_owned_id_updates_it_in_place_failure_9);
    tcase_add_test(tcase, the_same_text_written_over_an_owned_id_is_no_new_version);
    tcase_add_test(tcase, a_waiting_id_that_is_also_in_use_without_owner_is_assigned);
    tcase_add_test(tcase, epochs_grow_although_the_counter_is_lost_or_ahead);
    tcase_add_test(tcase, release_moves_its_own_to_waiting_and_notes_why);
    tcase_add_test(tcase, release_repeated_or_by_another_or_of_an_old_epoch_does_nothing);
    tcase_add_test(tcase, release_of_what_was_deleted_does_not_bring_it_back);
    tcase_add_test(tcase, a_release_to_a_target_is_assigned_in_the_same_step);
    tcase_add_test(tcase, a_release_to_a_target_that_does_not_accept_it_waits);
    tcase_add_test(tcase, a_batch_released_to_a_target_does_not_exceed_its_size);
    tcase_add_test(tcase, a_client_is_not_moved_to_a_node_that_has_denied_its_broker);
    tcase_add_test(tcase, release_of_450_empties_the_node_and_keeps_the_rest_in_order);
    tcase_add_test(tcase, attempts_count_failures_only_and_are_forgotten_once_stable);
    tcase_add_test(tcase, each_rest_is_twice_the_one_before_on_whichever_node);
    tcase_add_test(tcase, the_length_of_a_rest_is_forgotten_once_stable_and_at_peace_for_longer);
    tcase_add_test(tcase, defer_touches_waiting_ids_only);
    tcase_add_test(tcase, a_denied_client_goes_at_once_to_each_other_node_and_then_rests_F14);
    tcase_add_test(tcase, a_fault_is_news_once_for_each_text_F18);
    tcase_add_test(tcase, a_list_of_no_node_loses_what_is_not_its_own_F18);
    tcase_add_test(tcase, a_long_list_of_no_node_goes_in_steps_F18);
    tcase_add_test(tcase, no_wait_lasts_longer_than_its_delay_when_the_clock_goes_back_F13);
    tcase_add_test(tcase, a_rest_of_the_future_is_over_and_the_next_one_short_again_F13);
}

int main(void) {
    return fixture_run("store_assign", add);
}
