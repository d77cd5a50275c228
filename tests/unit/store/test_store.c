/* Tests of the pool, the prefix, wake-ups, and properties of every script, with a real Redis. */
#include <pthread.h>
#include "base/buffer.h"
#include "fleet_check.h"
#include "store/internal.h"
#include "store/scripts.h"

/* Lua compiles a function with at most 200 local variables, and a script is a function. */
#define LOCALS_FREE_MIN 5

START_TEST(ping_answers) {
    ck_assert_int_eq(store_ping(store), ERR_OK);
}
END_TEST

START_TEST(a_redis_that_is_not_there_is_unavailable_and_not_waited_for) {
    struct store *nowhere = store_open("unix:/nonexistent/redis.sock", "", 5000, 1);
    struct store_counts counts;
    int64_t before_ms = clock_ms();
    ck_assert_int_eq(store_ping(nowhere), ERR_UNAVAILABLE);
    ck_assert_int_eq(store_counts(nowhere, &counts), ERR_UNAVAILABLE);
    ck_assert_int_lt(clock_ms() - before_ms, 4000);
    store_close(nowhere);
}
END_TEST

START_TEST(a_bad_url_opens_no_store) {
    ck_assert_ptr_null(store_open("nonsense", "", 1000, 2));
    store_close(NULL);
}
END_TEST

START_TEST(connections_that_died_while_idle_are_replaced) {
    must_create("x");
    for (int i = 0; i < 3; i++) {
        RAW("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
        ck_assert_int_eq(where("x"), STORE_WAITING);
    }
}
END_TEST

START_TEST(scripts_are_loaded_again_when_redis_forgot_them) {
    must_create("x");
    RAW("SCRIPT", "FLUSH");
    ck_assert_int_eq(where("x"), STORE_WAITING);
}
END_TEST

START_TEST(a_prefix_stands_before_every_key) {
    struct store *other = store_open(fixture_url, "fleet2:", 5000, 1);
    struct store *unprefixed = store;
    must_create("x");
    store = other;
    struct store_member a = joined("a", "1", 10);
    ck_assert_int_eq(assign(a, "x", NULL), STORE_ASSIGN_GONE);
    must_create("y");
    must_assign(a, "y");
    ck_assert_str_eq(RAW_TEXT("HGET", "fleet2:mqtt_config:use", "y"), "{\"c\":1}");
    ck_assert_int_eq(RAW_INT("LLEN", "fleet2:node_bind:a"), 1);
    store = unprefixed;
    store_close(other);
    struct redis_reply *keys = raw("KEYS", "*", NULL);
    for (size_t i = 0; i < redis_reply_count(keys); i++) {
        const char *key = redis_reply_str(redis_reply_at(keys, i), NULL);
        ck_assert_msg(
            strncmp(key, "fleet2:", 7) == 0 || strcmp(key, "mqtt_config:no") == 0 ||
                strcmp(key, "mqtt_fleet:meta") == 0 || strcmp(key, "mqtt_fleet:history") == 0 ||
                strcmp(key, "mqtt_fleet:sequence") == 0 || strcmp(key, "mqtt_fleet:identity") == 0,
            "%s", key);
    }
    redis_reply_free(keys);
}
END_TEST

/* ---- every script -------------------------------------------------------------------------- */

static const char *const KEYS[] = {
    "mqtt_config:no",        "mqtt_config:use",    "register:mqtt",       "mqtt_fleet:owner",
    "mqtt_fleet:meta",       "mqtt_fleet:attempt", "mqtt_fleet:identity", "mqtt_fleet:retry",
    "mqtt_fleet:tombstones", "mqtt_fleet:epoch",   "mqtt_fleet:fenced",   "mqtt_fleet:buried"};

/* A digest of all data except the heartbeats, which expire, and the numbers of calls. */
static const char *digest(void) {
    return RAW_TEXT(
        "EVAL",
        "local keys = redis.call('KEYS', '*') table.sort(keys) local all = {} "
        "for _, key in ipairs(keys) do if not key:find('^beat:') and key ~= 'mqtt_fleet:sequence' then "
        "all[#all + 1] = key .. '=' .. redis.call('DUMP', key) end end "
        "return redis.sha1hex(table.concat(all, ';'))",
        "0");
}

/* Every transition that writes, as far as a wrong type permits. */
static void call_everything(struct store_member a, int64_t epoch) {
    struct store_create_item new = {.id = "new", .config = "{}", .identity = "b/new"};
    struct store_create_result created;
    struct store_release_item released = {.id = "owned", .epoch = epoch, .code = "", .message = ""};
    struct store_restore_item restored = {
        .id = "lost", .epoch = 5, .config = "{}", .identity = "b/lost", .version = 1};
    struct store_member dead = member("dead", "1");
    struct store_restore_result back;
    char generation[TEXT_ID_LEN], *other = NULL;
    const char *id = "owned";
    int64_t number;
    size_t n;
    bool flag;
    const enum err err[] = {
        store_create(store, &new, 1, &created, &n),
        assign_err(a, "waiting"),
        store_release(store, &a, &released, 1, &n),
        store_update(store, &(struct store_configuration){"owned", 0, "{\"c\":2}", "b/2", NULL},
                     &number, &other),
        store_delete(store, "owned", 0, NULL),
        store_set_cooldown(store, "waiting", 1000, "", "", NULL),
        store_mark_stable(store, &a, &id, 1),
        store_restore(store, &a, &restored, 1, &back, &n),
        store_mark_leaving(store, &a),
        try_join(a, 10, generation),
        store_fence(store, &a, &dead),
        store_leave(store, &a),
        store_drain(store, "a", true),
        store_reap(store, &dead, &n, &flag),
        store_adopt_orphans(store, &n),
    };
    free(other);
    for (size_t i = 0; i < sizeof err / sizeof err[0]; i++) {
        ck_assert_msg(err[i] == ERR_PROTOCOL, "call %zu: %s", i, err_name(err[i]));
    }
}

START_TEST(a_key_of_a_wrong_type_is_an_error_and_nothing_is_written) {
    struct store_member a = joined("a", "1", 10);
    must_create("waiting");
    must_create("owned");
    int64_t epoch = must_assign(a, "owned");
    RAW("HSET", "register:mqtt", "dead", "{\"incarnation\":\"1\",\"state\":\"dead\"}");
    RAW("ZADD", "mqtt_fleet:fenced", "1", "an incarnation");
    RAW("HSET", "mqtt_fleet:buried", "an id", "1 1");
    for (size_t i = 0; i < sizeof KEYS / sizeof KEYS[0]; i++) {
        RAW("RENAME", KEYS[i], "aside");
        RAW("RPUSH", KEYS[i], "of another type");
        const char *before = digest();
        ck_assert_uint_eq(strlen(before), 40);
        call_everything(a, epoch);
        ck_assert_str_eq(digest(), before);
        RAW("DEL", KEYS[i]);
        RAW("RENAME", "aside", KEYS[i]);
    }
}
END_TEST

START_TEST(a_node_list_of_a_wrong_type_stops_what_would_change_it_before_it_writes) {
    struct store_member a = joined("a", "1", 10), b = joined("b", "1", 10);
    struct store_release_item item = {.id = "x", .code = "", .message = ""};
    struct store_restore_item older = {.id = "x", .config = "{}", .identity = "", .version = 1};
    struct store_restore_result back;
    size_t n;
    must_create("x");
    must_create("y");
    item.epoch = must_assign(a, "x");
    older.epoch = item.epoch + 1;
    RAW("SET", "node_bind:a", "no list");
    const char *before = digest();
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_PROTOCOL);
    ck_assert_int_eq(store_release(store, &a, &item, 1, &n), ERR_PROTOCOL);
    ck_assert_int_eq(assign_err(a, "y"), ERR_PROTOCOL);
    ck_assert_int_eq(store_restore(store, &b, &older, 1, &back, &n), ERR_PROTOCOL);
    ck_assert_int_eq(store_leave(store, &a), ERR_PROTOCOL);
    ck_assert_str_eq(digest(), before);
}
END_TEST

static void append_source(struct buffer *text, const char *name) {
    const struct store_script_source *row = store_script_sources;
    while (strcmp(row->name, name) != 0) {
        row++;
    }
    buffer_append_str(text, row->text);
}

/* Redis compiles a script when it gets it: one that is wrong fails at its first call only. */
START_TEST(every_script_compiles_with_a_few_more_local_variables) {
    static const char *const names[] = {
#define SCRIPT_NAME(symbol, name, kind) [symbol] = name,
        SCRIPT_TABLE(SCRIPT_NAME)
#undef SCRIPT_NAME
    };
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        struct buffer text;
        struct redis_reply *reply = NULL;
        buffer_init(&text);
        buffer_append_str(&text, "local free_1");
        for (int n = 2; n <= LOCALS_FREE_MIN; n++) {
            buffer_printf(&text, ", free_%d", n);
        }
        buffer_append_str(&text, "\n");
        buffer_append_str(&text, store->scripts[i].text);
        const char *argv[] = {"SCRIPT", "LOAD", text.data};
        ck_assert_int_eq(redis_command(raw_redis, 3, argv, NULL, &reply), ERR_OK);
        ck_assert_msg(redis_reply_type(reply) != REDIS_ERROR, "%s: %s", names[i],
                      redis_reply_str(reply, NULL));
        redis_reply_free(reply);
        buffer_fini(&text);
    }
}
END_TEST

START_TEST(more_than_200_ids_in_one_call_are_refused) {
    static const struct {
        const char *script;
        int fixed, each;
    } rows[] = {{"create", 1, 4},        {"assign", 2, 3},           {"release", 2, 12},
                {"mark_stable", 2, 1},   {"ownership_status", 2, 3}, {"restore", 2, 5},
                {"save_histories", 2, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static const char *argv[2500];
        struct buffer text;
        struct redis_reply *reply = NULL;
        char sha[41];
        int argc = 2 + rows[i].fixed + rows[i].each * (STORE_BATCH_MAX + 1);
        buffer_init(&text);
        for (const char *const *common = store_common_sources; *common; common++) {
            append_source(&text, *common);
        }
        append_source(&text, rows[i].script);
        for (int arg = 0; arg < argc; arg++) {
            argv[arg] = arg == 0 ? "mqtt_config:no" : arg == 1 ? "" : "1";
        }
        redis_script_sha(text.data, sha);
        ck_assert_int_eq(redis_script(raw_redis, sha, text.data, 1, argc, argv, NULL, &reply),
                         ERR_PROTOCOL);
        ck_assert_ptr_nonnull(strstr(redis_error(raw_redis), "too many ids"));
        buffer_fini(&text);
    }
}
END_TEST

/* ---- wake-ups ------------------------------------------------------------------------------ */

/* The next payload, or "(none)"; valid until the next call. */
static const char *woken(struct redis *subscriber, const char *channel, int64_t wait_ms) {
    static char payload[64];
    char *text = NULL;
    enum err err = redis_next_message(subscriber, channel, wait_ms, &text);
    snprintf(payload, sizeof payload, "%s", err == ERR_OK ? text : "(none)");
    free(text);
    return payload;
}

/* Waits until it receives, and has received everything that was sent to find that out. */
static void listen_to(struct redis *subscriber, const char *channel) {
    for (int i = 0; i < 500 && RAW_INT("PUBLISH", channel, "ready") == 0; i++) {
        (void)woken(subscriber, channel, 10);
    }
    while (strcmp(woken(subscriber, channel, 100), "(none)") != 0) {
    }
}

START_TEST(wake_ups_say_that_something_waits_or_whose_set_changed) {
    char *waits = store_wake_channel("", NULL), *set_of_a = store_wake_channel("", "a");
    struct redis *scheduler = redis_create(fixture_url, 5000);
    struct redis *node = redis_create(fixture_url, 5000);
    struct store_member a = joined("a", "1", 10);
    ck_assert_str_eq(waits, "mqtt_fleet:wake");
    ck_assert_str_eq(set_of_a, "mqtt_fleet:wake:a");
    listen_to(scheduler, waits);
    listen_to(node, set_of_a);
    must_create("x");
    ck_assert_str_eq(woken(scheduler, waits, 5000), "");
    int64_t epoch = must_assign(a, "x");
    ck_assert_str_eq(woken(node, set_of_a, 5000), "");
    must_update("x", "{}", "b/x");
    ck_assert_str_eq(woken(node, set_of_a, 5000), "");
    ck_assert_uint_eq(release(a, "x", epoch, 0, false), 1);
    ck_assert_str_eq(woken(node, set_of_a, 5000), "");
    ck_assert_str_eq(woken(scheduler, waits, 5000), "");
    must_assign(a, "x");
    ck_assert_str_eq(woken(node, set_of_a, 5000), "");
    ck_assert_int_eq(store_delete(store, "x", 0, NULL), ERR_OK);
    ck_assert_str_eq(woken(node, set_of_a, 5000), "");
    ck_assert_str_eq(woken(node, set_of_a, 50), "(none)");
    ck_assert_str_eq(woken(scheduler, waits, 50), "(none)");
    redis_destroy(scheduler);
    redis_destroy(node);
    free(waits);
    free(set_of_a);
}
END_TEST

/* ---- threads ------------------------------------------------------------------------------- */

static void *assign_all(void *argument) {
    const struct store_member *who = argument;
    size_t *assigned = calloc(1, sizeof *assigned);
    for (int i = 0; i < 200; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        *assigned += assign(*who, id, NULL) == STORE_ASSIGNED;
    }
    return assigned;
}

START_TEST(of_many_threads_on_few_connections_each_id_goes_to_one) {
    static const char *const nodes[] = {"n0", "n1", "n2", "n3", "n4", "n5", NULL};
    struct store_member members[6];
    pthread_t threads[6];
    size_t assigned = 0;
    for (int i = 0; i < 200; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        must_create(id);
    }
    for (int i = 0; i < 6; i++) {
        members[i] = joined(nodes[i], "1", 50);
    }
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, assign_all, &members[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        void *count;
        pthread_join(threads[i], &count);
        assigned += *(size_t *)count;
        free(count);
    }
    ck_assert_uint_eq(assigned, 200);
    assert_fleet(nodes);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, ping_answers);
    tcase_add_test(tcase, a_redis_that_is_not_there_is_unavailable_and_not_waited_for);
    tcase_add_test(tcase, a_bad_url_opens_no_store);
    tcase_add_test(tcase, connections_that_died_while_idle_are_replaced);
    tcase_add_test(tcase, scripts_are_loaded_again_when_redis_forgot_them);
    tcase_add_test(tcase, a_prefix_stands_before_every_key);
    tcase_add_test(tcase, a_key_of_a_wrong_type_is_an_error_and_nothing_is_written);
    tcase_add_test(tcase, a_node_list_of_a_wrong_type_stops_what_would_change_it_before_it_writes);
    tcase_add_test(tcase, every_script_compiles_with_a_few_more_local_variables);
    tcase_add_test(tcase, more_than_200_ids_in_one_call_are_refused);
    tcase_add_test(tcase, wake_ups_say_that_something_waits_or_whose_set_changed);
    tcase_add_test(tcase, of_many_threads_on_few_connections_each_id_goes_to_one);
}

int main(void) {
    return fixture_run("store", add);
}
