/* Tests of create, update, delete, get, page and counts with a real Redis. */
#include "fleet_check.h"

static const char *const NODES[] = {"a", "b", NULL};

/* ---- create -------------------------------------------------------------------------------- */

START_TEST(create_puts_an_absent_id_into_no) {
    struct store_create_result result = create("x", "{\"c\":1}", "b/x");
    ck_assert_int_eq(result.outcome, STORE_CREATED);
    ck_assert_int_gt(result.version, 1600000000000);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_config:no", "x"), "{\"c\":1}");
    ck_assert_int_eq(RAW_INT("HEXISTS", "mqtt_config:use", "x"), 0);
    assert_fleet(NODES);
}
END_TEST

START_TEST(create_of_the_same_again_is_unchanged_waiting_or_owned) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    ck_assert_int_eq(create("x", "{\"c\":1}", "broker:1883/x").outcome, STORE_UNCHANGED);
    must_assign(a, "x");
    ck_assert_int_eq(create("x", "{\"c\":1}", "broker:1883/x").outcome, STORE_UNCHANGED);
    assert_fleet(NODES);
}
END_TEST

START_TEST(create_refuses_another_configuration_under_that_id) {
    must_create("x");
    ck_assert_int_eq(create("x", "{\"c\":2}", "b/x").outcome, STORE_OTHER_CONFIG);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_config:no", "x"), "{\"c\":1}");
}
END_TEST

START_TEST(create_refuses_an_identity_of_another_id_and_names_it) {
    create("x", "{}", "b/same");
    struct store_create_result result = create("y", "{}", "b/same");
    ck_assert_int_eq(result.outcome, STORE_IDENTITY_TAKEN);
    ck_assert_str_eq(result.other_id, "x");
    free(result.other_id);
    ck_assert_int_eq(where("y"), STORE_ABSENT);
}
END_TEST

START_TEST(create_takes_over_an_identity_whose_id_is_gone) {
    RAW("HSET", "mqtt_fleet:identity", "b/same", "long-gone");
    ck_assert_int_eq(create("y", "{}", "b/same").outcome, STORE_CREATED);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_fleet:identity", "b/same"), "y");
}
END_TEST

START_TEST(create_after_delete_starts_anew_without_tombstone_or_attempt) {
    must_create("x");
    ck_assert_int_eq(store_set_cooldown(store, "x", 60000, "unreadable", "why", NULL), ERR_OK);
    RAW("HSET", "mqtt_fleet:attempt", "y", "{\"count\":7}");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    must_create("x");
    must_create("y");
    struct store_client client;
    ck_assert_int_eq(store_get(store, "x", &client), ERR_OK);
    ck_assert_int_eq(client.cooldown_ms, 0);
    ck_assert_ptr_null(client.attempt_code);
    store_client_fini(&client);
    ck_assert_int_eq(store_get(store, "y", &client), ERR_OK);
    ck_assert_int_eq(client.attempts, 0);
    store_client_fini(&client);
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:tombstones"), 0);
}
END_TEST

START_TEST(create_of_450_is_cut_into_batches_and_safe_to_repeat) {
    static struct store_create_item items[450];
    static struct store_create_result results[450];
    static char ids[450][16];
    size_t done;
    for (size_t i = 0; i < 450; i++) {
        snprintf(ids[i], sizeof ids[i], "id-%zu", i);
        items[i] = (struct store_create_item){.id = ids[i], .config = "{}", .identity = ids[i]};
    }
    for (int run = 0; run < 2; run++) {
        ck_assert_int_eq(store_create(store, items, 450, results, &done), ERR_OK);
        ck_assert_uint_eq(done, 450);
        for (size_t i = 0; i < 450; i++) {
            ck_assert_int_eq(results[i].outcome, run == 0 ? STORE_CREATED : STORE_UNCHANGED);
        }
    }
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_config:no"), 450);
}
END_TEST

START_TEST(ids_and_texts_keep_their_odd_bytes) {
    static const char *const ids[] = {"with space", "a:b:c", "\"{'\\", "\xff\xfe\x01\n\r", "*?[x]"};
    struct store_member a = joined("node: \"a\"", "1", 10);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(create(ids[i], "\xff not \x01 json\r\n", ids[i]).outcome, STORE_CREATED);
        must_assign(a, ids[i]);
        struct store_client client;
        ck_assert_int_eq(store_get(store, ids[i], &client), ERR_OK);
        ck_assert_str_eq(client.id, ids[i]);
        ck_assert_str_eq(client.config, "\xff not \x01 json\r\n");
        ck_assert_uint_eq(client.config_len, 14);
        ck_assert_str_eq(client.owner.node, "node: \"a\"");
        store_client_fini(&client);
    }
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:node: \"a\""), 5);
}
END_TEST

/* ---- update -------------------------------------------------------------------------------- */

static enum err update(const char *id, int64_t expected, const char *config, int64_t *version) {
    char *other = NULL;
    int64_t unused;
    enum err err =
        store_update(store, &(struct store_configuration){id, expected, config, "b/x", NULL},
                     version ? version : &unused, &other);
    free(other);
    return err;
}

START_TEST(update_of_an_owned_id_makes_a_version_and_bumps_its_node) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    must_assign(a, "x");
    int64_t rev = rev_of("a"), created = version_of("x"), version;
    ck_assert_int_eq(update("x", created, "{\"c\":2}", &version), ERR_OK);
    ck_assert_int_gt(version, created);
    ck_assert_int_gt(rev_of("a"), rev);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_config:use", "x"), "{\"c\":2}");
    assert_fleet(NODES);
}
END_TEST

START_TEST(update_repeated_with_its_expected_version_is_the_same_again) {
    int64_t version, again;
    must_create("x");
    int64_t created = version_of("x");
    ck_assert_int_eq(update("x", created, "{\"c\":2}", &version), ERR_OK);
    ck_assert_int_eq(update("x", created, "{\"c\":2}", &again), ERR_OK);
    ck_assert_int_eq(again, version);
    ck_assert_int_eq(update("x", 0, "{\"c\":2}", &again), ERR_OK);
    ck_assert_int_eq(again, version);
}
END_TEST

START_TEST(update_refuses_another_version) {
    must_create("x");
    ck_assert_int_eq(update("x", 3, "{\"c\":2}", NULL), ERR_VERSION);
    ck_assert_int_eq(update("x", 3, "{\"c\":1}", NULL), ERR_VERSION);
    ck_assert_str_eq(RAW_TEXT("HGET", "mqtt_config:no", "x"), "{\"c\":1}");
}
END_TEST

START_TEST(update_refuses_an_unknown_id) {
    ck_assert_int_eq(update("x", 0, "{}", NULL), ERR_NOT_FOUND);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
}
END_TEST

START_TEST(update_moves_the_identity_and_refuses_that_of_another) {
    char *other = NULL;
    int64_t version;
    create("x", "{}", "b/x");
    create("y", "{}", "b/y");
    ck_assert_int_eq(store_update(store, &(struct store_configuration){"x", 0, "{1}", "b/y", NULL},
                                  &version, &other),
                     ERR_EXISTS);
    ck_assert_str_eq(other, "y");
    free(other);
    ck_assert_int_eq(store_update(store,
                                  &(struct store_configuration){"x", 0, "{1}", "b/new", NULL},
                                  &version, &other),
                     ERR_OK);
    ck_assert_int_eq(create("z", "{}", "b/x").outcome, STORE_CREATED);
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_client_of_several_brokers_has_an_identity_at_each) {
    char *other = NULL;
    int64_t version;
    struct store_member a = joined("a", "1", 10);
    create("x", "{}", "a/x\nb/x");
    struct store_create_result second = create("y", "{}", "b/x");
    ck_assert_int_eq(second.outcome, STORE_IDENTITY_TAKEN);
    ck_assert_str_eq(second.other_id, "x");
    free(second.other_id);
    create("y", "{}", "c/y");
    ck_assert_int_eq(store_update(store,
                                  &(struct store_configuration){"y", 0, "{1}", "c/x\na/x", NULL},
                                  &version, &other),
                     ERR_EXISTS);
    ck_assert_str_eq(other, "x");
    free(other);
    ck_assert_int_eq(assign(a, "x", NULL), STORE_ASSIGNED);
    ck_assert_int_eq(store_update(store,
                                  &(struct store_configuration){"x", 0, "{1}", "b/x\nd/x", NULL},
                                  &version, &other),
                     ERR_OK);
    ck_assert_int_eq(store_update(store,
                                  &(struct store_configuration){"y", 0, "{1}", "c/x\na/x", NULL},
                                  &version, &other),
                     ERR_OK);
    assert_fleet(NODES);
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(store_delete(store, "y", 0, NULL), ERR_OK);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:identity"), 0);
}
END_TEST

/* Scripts of older versions look up the owner of an identity like this, and do not support
 * several. */
START_TEST(nodes_of_an_older_version_leave_the_identities_of_several_brokers_alone) {
    static const char older[] =
        "local holder = redis.call('HGET', 'mqtt_fleet:identity', ARGV[1])\n"
        "local meta = holder and cjson.decode(redis.call('HGET', 'mqtt_fleet:meta', holder))\n"
        "if meta and (meta.identity == '' or meta.identity == ARGV[1]) then\n"
        "    return holder\n"
        "end";
    create("x", "{}", "a/x\nb/x");
    create("y", "{}", "a/y");
    ck_assert_str_eq(RAW_TEXT("EVAL", older, "0", "a/x"), "x");
    ck_assert_str_eq(RAW_TEXT("EVAL", older, "0", "b/x"), "x");
    ck_assert_str_eq(RAW_TEXT("EVAL", older, "0", "a/y"), "y");
    ck_assert_str_eq(RAW_TEXT("EVAL", older, "0", "c/x"), "(nil)");
}
END_TEST

START_TEST(update_of_a_waiting_id_lets_it_be_tried_at_once) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    ck_assert_int_eq(store_set_cooldown(store, "x", 60000, "unreadable", "why", NULL), ERR_OK);
    ck_assert_int_eq(assign(a, "x", NULL), STORE_ASSIGN_COOLDOWN);
    ck_assert_int_eq(update("x", 0, "{\"c\":2}", NULL), ERR_OK);
    ck_assert_int_eq(assign(a, "x", NULL), STORE_ASSIGNED);
}
END_TEST

/* ---- delete -------------------------------------------------------------------------------- */

START_TEST(delete_of_an_owned_id_leaves_nothing_but_a_tombstone) {
    struct store_member a = joined("a", "1", 10);
    must_create("x");
    int64_t epoch = must_assign(a, "x"), rev = rev_of("a");
    int64_t version = version_of("x");
    ck_assert_int_eq(store_delete(store, "x", version, NULL), ERR_OK);
    ck_assert_int_eq(where("x"), STORE_ABSENT);
    ck_assert_int_eq(RAW_INT("GET", "mqtt_size:a"), 0);
    ck_assert_int_gt(rev_of("a"), rev);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:meta"), 0);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:owner"), 0);
    ck_assert_int_eq(RAW_INT("HLEN", "mqtt_fleet:identity"), 0);
    struct store_held held = {.id = "x", .epoch = epoch, .version = version};
    enum store_ownership_status evidence;
    ck_assert_int_eq(store_ownership_status(store, &a, &held, 1, &evidence), ERR_OK);
    ck_assert_int_eq(evidence, STORE_OWNERSHIP_TOMBSTONE);
    assert_fleet(NODES);
}
END_TEST

START_TEST(delete_refuses_an_unknown_id_and_another_version) {
    must_create("x");
    ck_assert_int_eq(store_delete(store, "y", 0, NULL), ERR_NOT_FOUND);
    ck_assert_int_eq(store_delete(store, "x", 2, NULL), ERR_VERSION);
    int64_t version = version_of("x");
    ck_assert_int_eq(store_delete(store, "x", version, NULL), ERR_OK);
    ck_assert_int_eq(store_delete(store, "x", version, NULL), ERR_NOT_FOUND);
}
END_TEST

START_TEST(old_tombstones_go_a_few_at_a_time) {
    for (int i = 0; i < 15; i++) {
        char name[16];
        snprintf(name, sizeof name, "old-%d", i);
        RAW("ZADD", "mqtt_fleet:tombstones", "1", name);
    }
    must_create("x");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:tombstones"), 6);
}
END_TEST

/* ---- looking ------------------------------------------------------------------------------- */

START_TEST(pages_bring_every_id_with_all_that_is_known) {
    struct store_member a = joined("a", "1", 1000);
    size_t found = 0, owned = 0;
    for (int i = 0; i < 700; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        must_create(id);
        if (i % 7 == 0) {
            must_assign(a, id);
        }
    }
    for (int pass = 0; pass < 2; pass++) {
        uint64_t cursor = 0;
        do {
            struct store_client *rows;
            size_t n;
            int64_t redis_ms = 0;
            ck_assert_int_eq(store_page(store, pass ? STORE_OWNED : STORE_WAITING, &cursor, 50,
                                        &rows, &n, &redis_ms),
                             ERR_OK);
            ck_assert_int_gt(redis_ms, 1600000000000);
            for (size_t i = 0; i < n; i++) {
                ck_assert_str_eq(rows[i].config, "{\"c\":1}");
                ck_assert_int_eq(rows[i].state, pass ? STORE_OWNED : STORE_WAITING);
                ck_assert((rows[i].owner.node != NULL) == (pass == 1));
            }
            *(pass ? &owned : &found) += n;
            store_clients_free(rows, n);
        } while (cursor != 0);
    }
    ck_assert_uint_ge(found, 600);
    ck_assert_uint_ge(owned, 100);
    struct store_counts counts;
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.waiting, 600);
    ck_assert_int_eq(counts.cooling_down, 0);
    ck_assert_int_eq(counts.owned, 100);
}
END_TEST

START_TEST(facts_of_waiting_ids_are_those_of_the_page) {
    struct store_member a = joined("a", "1", 1000);
    char id[16];
    for (int i = 0; i < 500; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        must_create(id);
    }
    ck_assert_uint_eq(release(a, "id-7", must_assign(a, "id-7"), 60000, true), 1);
    const char *profiled = "{\"profile\":\"north\"}"; /* stored behind a mark */
    struct store_create_item item = {.id = "profiled", .config = profiled, .identity = "h:1/p"};
    struct store_create_result made = {0};
    size_t done = 0, seen[4] = {0};
    ck_assert_int_eq(store_create(store, &item, 1, &made, &done), ERR_OK);
    ck_assert_int_eq(made.outcome, STORE_CREATED);
    for (unsigned wanted = 0; wanted < 4; wanted++) {
        bool with_config = wanted & STORE_FACTS_CONFIGS,
             with_version = wanted & STORE_FACTS_VERSIONS;
        uint64_t cursor = 0;
        do {
            struct store_client *rows, whole;
            size_t n;
            ck_assert_int_eq(store_waiting_facts(store, wanted, &cursor, &rows, &n), ERR_OK);
            for (size_t i = 0; i < n; i++) {
                ck_assert_int_eq(store_get(store, rows[i].id, &whole), ERR_OK);
                ck_assert_str_eq(rows[i].config, with_config ? whole.config : "");
                ck_assert(rows[i].state == STORE_WAITING);
                ck_assert(!with_version || rows[i].version == whole.version);
                ck_assert(rows[i].attempt_at_ms == whole.attempt_at_ms);
                ck_assert((rows[i].attempt_code != NULL) == (strcmp(rows[i].id, "id-7") == 0));
                ck_assert((rows[i].cooldown_ms > 0) == (whole.cooldown_ms > 0));
                store_client_fini(&whole);
            }
            seen[wanted] += n;
            store_clients_free(rows, n);
        } while (cursor != 0);
        ck_assert_uint_ge(seen[wanted], 501);
    }
}
END_TEST

START_TEST(many_ids_are_read_at_once_and_absent_ones_are_left_out) {
    struct store_member a = joined("a", "1", 1000);
    char ids[450][16];
    const char *asked[450];
    for (int i = 0; i < 450; i++) { /* three calls */
        snprintf(ids[i], sizeof ids[i], "id-%d", i);
        asked[i] = ids[i];
        if (i % 3 != 0) {
            must_create(ids[i]);
        }
        if (i % 3 == 1) {
            must_assign(a, ids[i]);
        }
    }
    struct store_client *rows;
    size_t n, owned = 0;
    ck_assert_int_eq(store_get_many(store, asked, 450, &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 300);
    for (size_t i = 0; i < n; i++) {
        int number = atoi(rows[i].id + 3);
        ck_assert_int_eq(rows[i].state, number % 3 == 1 ? STORE_OWNED : STORE_WAITING);
        ck_assert_str_eq(rows[i].config, "{\"c\":1}");
        owned += rows[i].owner.node != NULL;
    }
    ck_assert_uint_eq(owned, 150);
    store_clients_free(rows, n);
    ck_assert_int_eq(store_get_many(store, asked, 0, &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 0);
    store_clients_free(rows, n);
}
END_TEST

START_TEST(rubbish_beside_an_id_counts_as_absent) {
    static const char *const rubbish[] = {"",
                                          "{",
                                          "[]",
                                          "7",
                                          "null",
                                          "{\"version\":\"x\"}",
                                          "{\"node\":5,\"epoch\":\"1e400\",\"count\":-1}"};
    struct store_member a = joined("a", "1", 100);
    for (size_t i = 0; i < sizeof rubbish / sizeof rubbish[0]; i++) {
        must_create("x");
        RAW("HSET", "mqtt_fleet:meta", "x", rubbish[i]);
        RAW("HSET", "mqtt_fleet:attempt", "x", rubbish[i]);
        RAW("HSET", "mqtt_fleet:owner", "x", rubbish[i]);
        RAW("SET", "mqtt_fleet:epoch", rubbish[i]);
        RAW("SET", "mqtt_fleet:rev:a", rubbish[i]);
        struct store_client client;
        ck_assert_int_eq(store_get(store, "x", &client), ERR_OK);
        ck_assert_int_eq(client.version, 1);
        ck_assert_int_eq(client.attempts, 0);
        ck_assert_int_eq(client.state, STORE_WAITING);
        store_client_fini(&client);
        int64_t epoch = must_assign(a, "x");
        ck_assert_int_gt(epoch, 1600000000000000);
        ck_assert_uint_eq(release(a, "x", epoch, 0, true), 1);
        ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
        RAW("DEL", "mqtt_fleet:identity"); /* no key said any more that it belongs to x */
        assert_fleet(NODES);
    }
}
END_TEST

START_TEST(an_id_with_a_nul_inside_is_left_out_of_pages) {
    const char *argv[] = {"HSET", "mqtt_config:no", "a\0b", "{}"};
    const size_t lens[] = {4, 14, 3, 2};
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_command(raw_redis, 4, argv, lens, &reply), ERR_OK);
    redis_reply_free(reply);
    must_create("x");
    struct store_client *rows;
    size_t n;
    uint64_t cursor = 0;
    ck_assert_int_eq(store_page(store, STORE_WAITING, &cursor, 10, &rows, &n, NULL), ERR_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(rows[0].id, "x");
    store_clients_free(rows, n);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, create_puts_an_absent_id_into_no);
    tcase_add_test(tcase, create_of_the_same_again_is_unchanged_waiting_or_owned);
    tcase_add_test(tcase, create_refuses_another_configuration_under_that_id);
    tcase_add_test(tcase, create_refuses_an_identity_of_another_id_and_names_it);
    tcase_add_test(tcase, create_takes_over_an_identity_whose_id_is_gone);
    tcase_add_test(tcase, create_after_delete_starts_anew_without_tombstone_or_attempt);
    tcase_add_test(tcase, create_of_450_is_cut_into_batches_and_safe_to_repeat);
    tcase_add_test(tcase, ids_and_texts_keep_their_odd_bytes);
    tcase_add_test(tcase, update_of_an_owned_id_makes_a_version_and_bumps_its_node);
    tcase_add_test(tcase, update_repeated_with_its_expected_version_is_the_same_again);
    tcase_add_test(tcase, update_refuses_another_version);
    tcase_add_test(tcase, update_refuses_an_unknown_id);
    tcase_add_test(tcase, update_moves_the_identity_and_refuses_that_of_another);
    tcase_add_test(tcase, a_client_of_several_brokers_has_an_identity_at_each);
    tcase_add_test(tcase, nodes_of_an_older_version_leave_the_identities_of_several_brokers_alone);
    tcase_add_test(tcase, update_of_a_waiting_id_lets_it_be_tried_at_once);
    tcase_add_test(tcase, delete_of_an_owned_id_leaves_nothing_but_a_tombstone);
    tcase_add_test(tcase, delete_refuses_an_unknown_id_and_another_version);
    tcase_add_test(tcase, old_tombstones_go_a_few_at_a_time);
    tcase_add_test(tcase, pages_bring_every_id_with_all_that_is_known);
    tcase_add_test(tcase, facts_of_waiting_ids_are_those_of_the_page);
    tcase_add_test(tcase, many_ids_are_read_at_once_and_absent_ones_are_left_out);
    tcase_add_test(tcase, rubbish_beside_an_id_counts_as_absent);
    tcase_add_test(tcase, an_id_with_a_nul_inside_is_left_out_of_pages);
}

int main(void) {
    return fixture_run("store_client", add);
}
