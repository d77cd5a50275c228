/* Tests of a Redis that lost data: the last writes in a failover, or by an older file. They cover
 * who notices the loss, and what is restored. With a real Redis. */
#include "fleet_check.h"

static const char *const NODES[] = {"a", "b", NULL};

static const char *generation(void) {
    return RAW_TEXT("GET", "mqtt_fleet:generation");
}

/* What a node runs. */
static struct store_restore_item run_by(const char *id, int64_t epoch, int64_t version,
                                        const char *config) {
    return (struct store_restore_item){
        .id = id, .epoch = epoch, .config = config, .identity = id, .version = version};
}

static struct store_restore_result restore(struct store_member who,
                                           struct store_restore_item item) {
    struct store_restore_result restored;
    size_t done;
    ck_assert_int_eq(store_restore(store, &who, &item, 1, &restored, &done), ERR_OK);
    ck_assert_uint_eq(done, 1);
    return restored;
}

static enum store_ownership_status evidence(struct store_member who,
                                            const struct store_restore_item *item) {
    struct store_held held = {item->id, item->epoch, item->version};
    enum store_ownership_status found;
    ck_assert_int_eq(store_ownership_status(store, &who, &held, 1, &found), ERR_OK);
    return found;
}

static const char *text_of(const char *id) {
    const char *text = RAW_TEXT("HGET", "mqtt_config:use", id);
    return strcmp(text, "(nil)") == 0 ? RAW_TEXT("HGET", "mqtt_config:no", id) : text;
}

static void must_own(struct store_member who, const char *id, const char *text) {
    struct store_client client;
    ck_assert_int_eq(store_get(store, id, &client), ERR_OK);
    ck_assert_int_eq(client.state, STORE_OWNED);
    ck_assert_str_eq(client.owner.node, who.node);
    ck_assert_str_eq(client.config, text);
    store_client_fini(&client);
    assert_fleet(NODES);
}

/* A client with this very text, owned. */
static struct store_restore_item owned(struct store_member who, const char *id,
                                       const char *config) {
    ck_assert_int_eq(create(id, config, id).outcome, STORE_CREATED);
    int64_t epoch = must_assign(who, id);
    return run_by(id, epoch, version_of(id), config);
}

static void updated(struct store_restore_item *item, const char *config) {
    item->version = must_update(item->id, config, item->id);
    item->config = config;
}

/* ---- who notices -------------------------------------------------------------------------------
 */

START_TEST(each_process_is_told_once_and_one_generation_is_drawn) {
    char before[TEXT_ID_LEN], after[TEXT_ID_LEN];
    struct store *first = store;
    struct store *thread = store_open(fixture_url, "", 5000, 1); /* of the first process */
    struct store *second = store_open(fixture_url, "", 5000, 1);
    store_share_history(thread, first);
    joined("a", "1", 10);
    snprintf(before, sizeof before, "%s", generation());
    take_snapshot();
    must_create("lost-1");
    store = second;
    must_create("lost-2");
    store = first;
    ck_assert(!store_noticed_rollback(first) && !store_noticed_rollback(second));
    go_back();
    must_create("x"); /* notices it, and succeeds nevertheless */
    ck_assert_int_eq(where("x"), STORE_WAITING);
    snprintf(after, sizeof after, "%s", generation());
    ck_assert_str_ne(after, before);
    ck_assert(store_noticed_rollback(first) && !store_noticed_rollback(first) &&
              !store_noticed_rollback(thread));
    store = second;
    must_create("y");
    ck_assert(store_noticed_rollback(second) && !store_noticed_rollback(second));
    store = thread;
    must_create("z");
    ck_assert(!store_noticed_rollback(thread) && !store_noticed_rollback(first));
    ck_assert_str_eq(generation(), after);
    store = first;
    store_close(thread);
    store_close(second);
}
END_TEST

START_TEST(a_second_loss_while_nodes_restore_draws_a_generation_of_its_own) {
    char first_loss[TEXT_ID_LEN], second_loss[TEXT_ID_LEN];
    struct store *first = store;
    struct store *second = store_open(fixture_url, "", 5000, 1);
    store_set_restoring_ms(first, 77000);
    store_set_restoring_ms(second, 77000);
    joined("a", "1", 10);
    take_snapshot();
    must_create("lost-1");
    store = second;
    must_create("lost-2");
    go_back();
    must_create("x");
    store = first;
    must_create("y"); /* of the same loss */
    snprintf(first_loss, sizeof first_loss, "%s", generation());
    ck_assert(store_noticed_rollback(first) && store_noticed_rollback(second));
    take_snapshot(); /* of while they restore */
    must_create("lost-3");
    store = second;
    must_create("lost-4");
    go_back();
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:restoring"), 1);
    must_create("z");
    snprintf(second_loss, sizeof second_loss, "%s", generation());
    ck_assert_str_ne(first_loss, second_loss);
    store = first;
    must_create("lost-3");
    ck_assert(store_noticed_rollback(first) && store_noticed_rollback(second));
    ck_assert_str_eq(generation(), second_loss);
    store_close(second);
}
END_TEST

START_TEST(who_lost_nothing_notices_nothing_and_looking_never_does) {
    struct store_counts counts;
    must_create("x");
    take_snapshot();
    go_back();
    must_create("y");
    ck_assert(!store_noticed_rollback(store));
    go_back();
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(where("y"), STORE_ABSENT);
    ck_assert(!store_noticed_rollback(store));
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:restoring"), 0);
    must_create("z");
    ck_assert(store_noticed_rollback(store));
}
END_TEST

START_TEST(beats_are_told_by_the_new_generation) {
    struct store_member a = joined("a", "1", 10);
    struct store_heartbeat beat;
    char old[TEXT_ID_LEN];
    snprintf(old, sizeof old, "%s", generation());
    struct store *another = store_open(fixture_url, "", 5000, 1), *mine = store;
    take_snapshot();
    store = another;
    must_create("lost");
    go_back();
    must_create("x");
    store = mine; /* it has lost nothing itself */
    ck_assert_int_eq(store_heartbeat(store, &a, old, TTL_MS, "{}", &beat), ERR_WRONG_STATE);
    ck_assert(!store_noticed_rollback(store));
    joined("a", "1", 10);
    ck_assert_int_eq(store_heartbeat(store, &a, generation(), TTL_MS, "{}", &beat), ERR_OK);
    store_close(another);
}
END_TEST

START_TEST(nothing_is_assigned_while_nodes_put_back_what_they_run) {
    struct store_member a = joined("a", "1", 10);
    struct store_assignment *list;
    struct store_change *rows;
    struct store_set set;
    size_t n;
    store_set_restoring_ms(store, 77000);
    take_snapshot();
    must_create("lost");
    go_back();
    must_create("x");
    ck_assert_int_eq(assign_err(a, "x"), ERR_WRONG_STATE);
    ck_assert_int_gt(RAW_INT("PTTL", "mqtt_fleet:restoring"), 60000);
    ck_assert_int_eq(store_list_assignments(store, &a, &list, &n, &set), ERR_OK);
    store_assignments_free(list, n);
    ck_assert(set.restoring);
    ck_assert_int_eq(store_changes(store, &a, 0, NULL, &set, &rows, &n), ERR_OK);
    store_changes_free(rows, n);
    ck_assert(set.restoring);
    RAW("PEXPIRE", "mqtt_fleet:restoring", "50");
    for (int i = 0; assign_err(a, "x") == ERR_WRONG_STATE; i++) { /* it ends by itself */
        ck_assert_int_lt(i, 2000);
        clock_sleep_ms(5);
    }
    ck_assert_int_eq(where("x"), STORE_OWNED);
}
END_TEST

/* Redis' clock went back while nodes restored, or somebody wrote the key: it must not block
 * placement longer than intended. */
START_TEST(case_F13_a_hold_that_would_last_longer_than_it_was_made_for_is_none) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    RAW("SET", "mqtt_fleet:restoring", "3000", "PX", "3600000");
    must_assign(a, "x");
    must_create("y");
    RAW("SET", "mqtt_fleet:restoring", "3000");
    must_assign(a, "y");
    must_create("z");
    RAW("SET", "mqtt_fleet:restoring", "3000", "PX", "3000");
    ck_assert_int_eq(assign_err(a, "z"), ERR_WRONG_STATE);
    RAW("DEL", "mqtt_fleet:restoring");
    RAW("SADD", "mqtt_fleet:restoring", "of another type");
    must_assign(a, "z");
}
END_TEST

START_TEST(keys_of_a_wrong_type_do_not_stop_beats_and_writes) {
    struct store_member a = joined("a", "1", 10);
    struct store_heartbeat beat;
    RAW("DEL", "mqtt_fleet:sequence", "mqtt_fleet:fenced");
    RAW("SET", "mqtt_fleet:sequence", "of another type");
    (void)store_noticed_rollback(store);
    must_create("x");
    ck_assert(store_noticed_rollback(store)); /* everything known is gone */
    joined("a", "1", 10);
    RAW("DEL", "mqtt_fleet:fenced");
    RAW("SET", "mqtt_fleet:fenced", "of another type");
    ck_assert_int_eq(store_heartbeat(store, &a, generation(), TTL_MS, "{}", &beat), ERR_OK);
}
END_TEST

START_TEST(a_restore_holds_assignments_back_for_a_second_more) {
    struct store_member a = joined("a", "1", 10);
    take_snapshot();
    struct store_restore_item x = owned(a, "x", "{1}");
    go_back();
    must_create("y");
    RAW("PEXPIRE", "mqtt_fleet:restoring", "300");
    ck_assert(restore(a, x).mine);
    ck_assert_int_gt(RAW_INT("PTTL", "mqtt_fleet:restoring"), 500);
    restoring_is_over();
    ck_assert(restore(a, x).mine); /* a second time: sets no generation and blocks nothing */
    must_assign(a, "y");
}
END_TEST

START_TEST(a_join_after_a_loss_holds_assignments_back) {
    struct store_member a = joined("a", "1", 10);
    char unused[TEXT_ID_LEN];
    struct store_join join = {.member = a,
                              .host = "127.0.0.1",
                              .type = "mqtt",
                              .version = "1",
                              .size = 10,
                              .heartbeat_ttl_ms = TTL_MS,
                              .rejoin = true};
    must_create("x");
    ck_assert_int_eq(store_join(store, &join, unused), ERR_OK);
    ck_assert_int_eq(assign_err(a, "x"), ERR_WRONG_STATE);
}
END_TEST

START_TEST(processes_that_have_long_been_silent_are_forgotten_in_the_end) {
    size_t moved;
    must_create("x");
    RAW("HSET", "mqtt_fleet:sequence", "rubbish", "what");
    RAW("EVAL",
        "for i = 1, 2000 do redis.call('HSET', 'mqtt_fleet:sequence', 'gone' .. i, '17 1000') end",
        "0");
    for (int i = 0; i < 5000 && RAW_INT("HLEN", "mqtt_fleet:sequence") > 1; i++) {
        ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    }
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:sequence"), 1);
    must_create("y");
    ck_assert(!store_noticed_rollback(store));
}
END_TEST

/* ---- what is put back ---------------------------------------------------------------------- */

START_TEST(case_F2_a_lost_create_is_put_back) {
    struct store_member a = joined("a", "1", 10);
    take_snapshot();
    struct store_restore_item x = owned(a, "x", "{1}");
    go_back();
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_NONE);
    struct store_restore_result restored = restore(a, x);
    ck_assert(restored.mine && restored.epoch > x.epoch && restored.version == x.version);
    must_own(a, "x", "{1}");
    x.epoch = restored.epoch;
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_MINE);
}
END_TEST

START_TEST(a_lost_update_is_put_back) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    take_snapshot();
    updated(&x, "{2}");
    go_back();
    ck_assert_str_eq(text_of("x"), "{1}");
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_OLDER);
    struct store_restore_result restored = restore(a, x);
    ck_assert(restored.mine && restored.version == x.version && restored.epoch == x.epoch);
    must_own(a, "x", "{2}");
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_MINE);
}
END_TEST

/* The node that ran it provides the text, not the client. */
START_TEST(an_update_that_was_lost_while_another_node_owns_the_client_is_kept) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    take_snapshot();
    updated(&x, "{2}");
    go_back();
    ck_assert_uint_eq(release(a, "x", x.epoch, 0, false), 1);
    restoring_is_over();
    must_assign(b, "x");
    int64_t rev = rev_of("b");
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_OLDER);
    ck_assert(!restore(a, x).mine);
    must_own(b, "x", "{2}");
    ck_assert_int_eq(version_of("x"), x.version);
    ck_assert_int_gt(rev_of("b"), rev); /* which b is told */
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_NEWER);
}
END_TEST

START_TEST(an_update_that_was_lost_while_the_client_waits_is_kept) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    take_snapshot();
    updated(&x, "{2}");
    go_back();
    ck_assert_uint_eq(release(a, "x", x.epoch, 0, false), 1);
    ck_assert(!restore(a, x).mine);
    ck_assert_int_eq(where("x"), STORE_WAITING);
    ck_assert_str_eq(text_of("x"), "{2}");
    ck_assert_int_eq(version_of("x"), x.version);
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_lost_assignment_is_put_back_with_the_newer_text_of_the_two) {
    struct store_member a = joined("a", "1", 10);
    create("x", "{1}", "x");
    create("y", "{1}", "y");
    take_snapshot();
    struct store_restore_item x = run_by("x", must_assign(a, "x"), version_of("x"), "{1}");
    struct store_restore_item y = run_by("y", must_assign(a, "y"), version_of("y"), "{1}");
    go_back();
    int64_t version = must_update("y", "{2}", "y"); /* while it seems to wait */
    ck_assert(restore(a, x).mine);
    must_own(a, "x", "{1}");
    struct store_restore_result restored = restore(a, y);
    ck_assert(restored.mine && restored.version == version);
    must_own(a, "y", "{2}");
}
END_TEST

START_TEST(a_client_that_was_deleted_and_created_again_since_is_put_back) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}"), old = x;
    take_snapshot();
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    x = owned(a, "x", "{2}");
    ck_assert_int_gt(x.version, old.version);
    go_back();
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_OLDER);
    struct store_restore_result restored = restore(a, x);
    ck_assert(restored.mine && restored.version == x.version && restored.epoch >= x.epoch);
    must_own(a, "x", "{2}");
}
END_TEST

START_TEST(a_tombstone_stands_only_against_what_is_not_newer) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}"), old = x;
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    take_snapshot(); /* with the tombstone */
    x = owned(a, "x", "{2}");
    go_back();
    ck_assert_int_eq(evidence(a, &old), STORE_OWNERSHIP_TOMBSTONE);
    ck_assert(!restore(a, old).mine);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_NONE);
    ck_assert(restore(a, x).mine);
    must_own(a, "x", "{2}");
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:tombstones"), 0);
}
END_TEST

/* Two texts of one version can only be from one millisecond: the one in Redis was acknowledged
 * later. */
START_TEST(of_two_texts_of_one_version_the_one_that_redis_has_is_kept) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    x.epoch++;
    x.config = "{2}";
    ck_assert(restore(b, x).mine);
    must_own(b, "x", "{1}");
}
END_TEST

/* A node of an older version records only the time: details of an earlier delete do not apply. */
START_TEST(a_tombstone_by_an_older_version_stands_against_all) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    char *noted = strdup(RAW_TEXT("HGET", "mqtt_fleet:buried", "x"));
    struct store_restore_item x = owned(a, "x", "{2}");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    RAW("HSET", "mqtt_fleet:buried", "x", noted);
    RAW("ZADD", "mqtt_fleet:tombstones", "1796020000000", "x");
    free(noted);
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_TOMBSTONE);
    ck_assert(!restore(a, x).mine);
}
END_TEST

/* Version 0.1 counts versions from 1. */
static void create_by_older_version(const char *id, const char *config) {
    enum err err = store_delete(store, id, 0, NULL);
    ck_assert(err == ERR_OK || err == ERR_NOT_FOUND);
    RAW("ZREM", "mqtt_fleet:tombstones", id);
    RAW("HSET", "mqtt_config:no", id, config);
    RAW("HSET", "mqtt_fleet:meta", id, "{\"version\":1,\"identity\":\"\"}");
}

START_TEST(a_client_that_an_older_version_created_anew_keeps_its_text) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}"), y = owned(a, "y", "{1}");
    create_by_older_version("x", "{2}");
    create_by_older_version("y", "{2}");
    must_create("z");
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_WAITING);
    ck_assert(!restore(a, x).mine);
    ck_assert_str_eq(text_of("x"), "{2}");

    must_assign(b, "x");
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_NEWER);
    ck_assert(!restore(a, x).mine);
    must_own(b, "x", "{2}");

    x = run_by("x", must_assign(a, "z"), 2, "{1}"); /* also when that version had counted, too */
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_NEWER);

    must_assign(a, "y");
    ck_assert_int_eq(evidence(a, &y), STORE_OWNERSHIP_STALE);
    struct store_restore_result kept = restore(a, y);
    ck_assert(kept.mine && kept.version == 1);
    must_own(a, "y", "{2}");
}
END_TEST

START_TEST(a_lost_update_of_a_client_by_an_older_version_is_put_back) {
    struct store_member a = joined("a", "1", 10);
    create_by_older_version("x", "{1}");
    struct store_restore_item x = run_by("x", must_assign(a, "x"), 1, "{1}");
    take_snapshot();
    updated(&x, "{2}");
    go_back();
    ck_assert_int_eq(assign_err(a, "x"), ERR_WRONG_STATE); /* notices it */
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_OLDER);
    ck_assert(restore(a, x).mine);
    must_own(a, "x", "{2}");
}
END_TEST

/* The assignment is lost, and the delete came after the loss: it is not older than what runs. */
START_TEST(a_delete_after_the_loss_stands_although_redis_never_knew_the_owner) {
    struct store_member a = joined("a", "1", 10);
    create("x", "{1}", "x");
    take_snapshot();
    struct store_restore_item x = run_by("x", must_assign(a, "x"), version_of("x"), "{1}");
    go_back();
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_TOMBSTONE);
    ck_assert(!restore(a, x).mine);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
}
END_TEST

/* The deleted text is older than the one that Redis has lost; the delete came after both. */
START_TEST(a_delete_after_the_loss_stands_against_a_text_that_redis_has_lost) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    take_snapshot();
    updated(&x, "{2}");
    go_back();
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_TOMBSTONE);
    ck_assert(!restore(a, x).mine);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
    create("x", "{3}", "x");
    ck_assert_int_gt(version_of("x"), x.version);
}
END_TEST

START_TEST(a_release_does_not_forget_a_text_that_redis_has_lost) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    struct store_release_item item = {.id = "x", .epoch = x.epoch, .code = "", .message = ""};
    size_t released;
    take_snapshot();
    updated(&x, "{2}");
    item.version = x.version;
    go_back();
    ck_assert_int_eq(store_release(store, &a, &item, 1, &released), ERR_OK);
    ck_assert_uint_eq(released, 0);
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_OLDER);
    ck_assert(restore(a, x).mine);
    ck_assert_int_eq(store_release(store, &a, &item, 1, &released), ERR_OK);
    ck_assert_uint_eq(released, 1);
    ck_assert_str_eq(text_of("x"), "{2}");
}
END_TEST

START_TEST(a_lost_delete_is_undone) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    take_snapshot();
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    go_back();
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_MINE);
    must_own(a, "x", "{1}");
}
END_TEST

START_TEST(case_F1_the_second_of_two_updates_has_another_version_when_the_first_was_lost) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    int64_t first = x.version;
    take_snapshot();
    updated(&x, "{lost}");
    go_back();
    int64_t version = must_update("x", "{acknowledged}", "x");
    ck_assert(version > x.version && x.version > first);
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_STALE);
    struct store_restore_result restored = restore(a, x);
    ck_assert(restored.mine && restored.version == version);
    must_own(a, "x", "{acknowledged}");
}
END_TEST

START_TEST(who_owned_it_last_gets_it_back_from_who_owned_it_before) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    take_snapshot();
    ck_assert_uint_eq(release(a, "x", x.epoch, 0, false), 1);
    x.epoch = must_assign(b, "x");
    go_back();
    int64_t rev = rev_of("a");
    ck_assert_int_eq(evidence(b, &x), STORE_OWNERSHIP_OLDER);
    ck_assert(restore(b, x).mine);
    must_own(b, "x", "{1}");
    ck_assert_int_gt(rev_of("a"), rev);
}
END_TEST

START_TEST(an_identity_that_another_took_since_the_loss_stays_with_it) {
    struct store_member a = joined("a", "1", 10);
    take_snapshot();
    struct store_restore_item x = owned(a, "x", "{1}");
    go_back();
    ck_assert_int_eq(create("thief", "{}", "x").outcome, STORE_CREATED);
    ck_assert(!restore(a, x).mine);
    ck_assert_int_eq(where("x"), STORE_WAITING); /* not lost */
    ck_assert_str_eq(text_of("x"), "{1}");
    ck_assert_int_eq(version_of("x"), x.version);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_fleet:identity", "x"), "thief");
    assert_fleet(NODES);
}
END_TEST

/* Its node continues with the text that has its own identity. */
START_TEST(a_newer_text_whose_identity_another_took_since_gives_way_to_the_older) {
    struct store_member a = joined("a", "1", 10);
    struct store_restore_item x = owned(a, "x", "{1}");
    take_snapshot();
    x.version = must_update("x", "{2}", "wanted");
    x.config = "{2}";
    x.identity = "wanted";
    go_back();
    ck_assert_int_eq(create("y", "{}", "wanted").outcome, STORE_CREATED);
    int64_t rev = rev_of("a");
    struct store_restore_result restored = restore(a, x);
    ck_assert(restored.mine && restored.version > x.version);
    must_own(a, "x", "{1}");
    ck_assert_int_gt(rev_of("a"), rev);
    ck_assert_int_eq(evidence(a, &x), STORE_OWNERSHIP_STALE);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_fleet:identity", "wanted"), "y");
}
END_TEST

START_TEST(epochs_go_on_above_all_that_were_given_before_the_loss) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    must_create("y");
    take_snapshot();
    RAW("SET", "mqtt_fleet:epoch", "4000000000000000"); /* ahead of the clock */
    struct store_restore_item x = owned(a, "x", "{1}");
    go_back();
    struct store_restore_result restored = restore(a, x);
    ck_assert_int_gt(restored.epoch, x.epoch);
    restoring_is_over();
    ck_assert_int_gt(must_assign(b, "y"), restored.epoch);
    assert_fleet(NODES);
}
END_TEST

START_TEST(many_are_put_back_in_parts_each_with_its_own_answer) {
    enum { MANY = 45 };
    static struct store_restore_item items[MANY];
    static char ids[MANY][16];
    struct store_restore_result results[MANY];
    struct store_member a = joined("a", "1", 100);
    size_t done;
    take_snapshot();
    for (int i = 0; i < MANY; i++) {
        snprintf(ids[i], sizeof ids[i], "id-%d", i);
        items[i] = owned(a, ids[i], "{1}");
    }
    go_back();
    for (int i = 0; i < MANY; i += 3) { /* created and deleted anew since */
        must_create(ids[i]);
        ck_assert_int_eq(store_delete(store, ids[i], 0, NULL), ERR_OK);
    }
    ck_assert_int_eq(store_restore(store, &a, items, MANY, results, &done), ERR_OK);
    ck_assert_uint_eq(done, MANY);
    for (int i = 0; i < MANY; i++) {
        ck_assert(results[i].mine == (i % 3 != 0));
        ck_assert_int_eq(where(ids[i]), i % 3 ? STORE_OWNED : STORE_ABSENT);
        for (int j = 0; j < i; j++) {
            ck_assert(!results[i].mine || results[i].epoch != results[j].epoch);
        }
    }
    assert_fleet(NODES);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, each_process_is_told_once_and_one_generation_is_drawn);
    tcase_add_test(tcase, a_second_loss_while_nodes_restore_draws_a_generation_of_its_own);
    tcase_add_test(tcase, who_lost_nothing_notices_nothing_and_looking_never_does);
    tcase_add_test(tcase, beats_are_told_by_the_new_generation);
    tcase_add_test(tcase, case_F13_a_hold_that_would_last_longer_than_it_was_made_for_is_none);
    tcase_add_test(tcase, keys_of_a_wrong_type_do_not_stop_beats_and_writes);
    tcase_add_test(tcase, nothing_is_assigned_while_nodes_put_back_what_they_run);
    tcase_add_test(tcase, a_restore_holds_assignments_back_for_a_second_more);
    tcase_add_test(tcase, a_join_after_a_loss_holds_assignments_back);
    tcase_add_test(tcase, processes_that_have_long_been_silent_are_forgotten_in_the_end);
    tcase_add_test(tcase, case_F2_a_lost_create_is_put_back);
    tcase_add_test(tcase, a_lost_update_is_put_back);
    tcase_add_test(tcase, an_update_that_was_lost_while_another_node_owns_the_client_is_kept);
    tcase_add_test(tcase, an_update_that_was_lost_while_the_client_waits_is_kept);
    tcase_add_test(tcase, a_lost_assignment_is_put_back_with_the_newer_text_of_the_two);
    tcase_add_test(tcase, a_client_that_was_deleted_and_created_again_since_is_put_back);
    tcase_add_test(tcase, a_tombstone_stands_only_against_what_is_not_newer);
    tcase_add_test(tcase, a_tombstone_by_an_older_version_stands_against_all);
    tcase_add_test(tcase, a_client_that_an_older_version_created_anew_keeps_its_text);
    tcase_add_test(tcase, a_lost_update_of_a_client_by_an_older_version_is_put_back);
    tcase_add_test(tcase, a_delete_after_the_loss_stands_against_a_text_that_redis_has_lost);
    tcase_add_test(tcase, a_release_does_not_forget_a_text_that_redis_has_lost);
    tcase_add_test(tcase, of_two_texts_of_one_version_the_one_that_redis_has_is_kept);
    tcase_add_test(tcase, a_delete_after_the_loss_stands_although_redis_never_knew_the_owner);
    tcase_add_test(tcase, a_lost_delete_is_undone);
    tcase_add_test(tcase,
                   case_F1_the_second_of_two_updates_has_another_version_when_the_first_was_lost);
    tcase_add_test(tcase, who_owned_it_last_gets_it_back_from_who_owned_it_before);
    tcase_add_test(tcase, an_identity_that_another_took_since_the_loss_stays_with_it);
    tcase_add_test(tcase, a_newer_text_whose_identity_another_took_since_gives_way_to_the_older);
    tcase_add_test(tcase, epochs_go_on_above_all_that_were_given_before_the_loss);
    tcase_add_test(tcase, many_are_put_back_in_parts_each_with_its_own_answer);
}

int main(void) {
    return fixture_run("store_history", add);
}
