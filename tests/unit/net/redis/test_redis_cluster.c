/* Tests of net/redis with a real cluster of three nodes: redirections, and the loss of a node. */
#include "net/redis/redis.h"

#include <check.h>
#include "redis_cluster.h"

#define TIMEOUT_MS 1000

static struct redis *redis;
static struct server *owner, *other; /* of the slot of {fleet}, and a node that is not */

static void setup(void) {
    servers_begin();
    cluster_start();
    owner = cluster_owner("{fleet}:key");
    other = cluster_other(owner);
    redis = redis_create(other->url, TIMEOUT_MS);
    ck_assert_ptr_nonnull(redis);
}

static void teardown(void) {
    redis_destroy(redis);
    servers_end();
}

static enum err call(struct redis *connection, const char *verb, const char *key,
                     const char *value) {
    struct redis_reply *reply = NULL;
    enum err err =
        redis_command(connection, value ? 3 : 2, (const char *[]){verb, key, value}, NULL, &reply);
    if (err == ERR_OK) {
        ck_assert_int_ne(redis_reply_type(reply), REDIS_ERROR);
        redis_reply_free(reply);
    }
    return err;
}

START_TEST(a_redirection_is_followed_and_remembered_by_all_connections_of_the_url) {
    struct redis *second = redis_create(other->url, TIMEOUT_MS);
    ck_assert_int_eq(call(second, "SET", "{fleet}:second", "1"), ERR_OK);
    server_kill(other); /* the url leads nowhere now */
    ck_assert_int_eq(call(redis, "SET", "{fleet}:key", "1"), ERR_OK);
    ck_assert(SERVER_SAYS(owner, "1", "GET", "{fleet}:key"));
    redis_destroy(second);
}
END_TEST

START_TEST(a_pipeline_that_is_redirected_fails_once_and_then_works) {
    const char *set[] = {"SET", "{fleet}:key", "1"};
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_append(redis, 3, set, NULL), ERR_OK);
    ck_assert_int_eq(redis_append(redis, 3, set, NULL), ERR_OK);
    ck_assert_int_eq(redis_read(redis, &reply), ERR_UNAVAILABLE);
    ck_assert_int_eq(redis_read(redis, &reply), ERR_UNAVAILABLE);
    ck_assert_int_eq(redis_append(redis, 3, set, NULL), ERR_OK);
    ck_assert_int_eq(redis_read(redis, &reply), ERR_OK);
    redis_reply_free(reply);
}
END_TEST

START_TEST(a_script_is_redirected_and_its_message_reaches_a_subscriber_on_another_node) {
    const char *text = "redis.call('SET', '{fleet}:other', '1') "
                       "return redis.call('PUBLISH', 'wake', ARGV[1])";
    const char *argv[] = {"{fleet}:key", "up"};
    struct redis *listener = redis_create(other->url, TIMEOUT_MS);
    struct redis_reply *reply = NULL;
    char *payload = NULL;
    char sha[41];
    redis_script_sha(text, sha);
    ck_assert_int_eq(redis_next_message(listener, "wake", 10, &payload), ERR_TIMEOUT);
    EVENTUALLY(SERVER_SAYS(other, "pubsub_channels:1", "INFO", "stats"));
    ck_assert_int_eq(redis_script(redis, sha, text, 1, 2, argv, NULL, &reply), ERR_OK);
    redis_reply_free(reply);
    EVENTUALLY(redis_next_message(listener, "wake", 10, &payload) == ERR_OK);
    ck_assert_str_eq(payload, "up");
    free(payload);
    redis_destroy(listener);
}
END_TEST

START_TEST(when_a_slot_moves_the_next_call_follows_it) {
    ck_assert_int_eq(call(redis, "SET", "{fleet}:key", "1"), ERR_OK);
    cluster_move_slot(owner, other, "{fleet}:key");
    ck_assert_int_eq(call(redis, "SET", "{fleet}:key", "2"), ERR_OK);
    ck_assert(SERVER_SAYS(other, "2", "GET", "{fleet}:key"));
}
END_TEST

START_TEST(while_a_slot_is_on_its_way_it_is_unavailable) {
    ck_assert_int_eq(call(redis, "SET", "{fleet}:key", "1"), ERR_OK);
    cluster_begin_move(owner, other, "{fleet}:key");
    ck_assert_int_eq(call(redis, "GET", "{fleet}:absent", NULL), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(redis), "ASK"));
    EVENTUALLY(call(redis, "DEL", "{fleet}:key", "{fleet}:absent") == ERR_UNAVAILABLE &&
               strstr(redis_error(redis), "TRYAGAIN"));
    cluster_move_slot(owner, other, "{fleet}:key");
    EVENTUALLY(call(redis, "SET", "{fleet}:key", "2") == ERR_OK);
}
END_TEST

START_TEST(redirections_are_bounded) {
    /* Two nodes that redirect to each other for the same slot. */
    cluster_disagree(owner, other, "{fleet}:key");
    ck_assert_int_eq(call(redis, "GET", "{fleet}:key", NULL), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(redis), "MOVED"));
}
END_TEST

START_TEST(of_several_nodes_in_the_url_any_that_answers_will_do) {
    char text[128];
    snprintf(text, sizeof text, "redis://127.0.0.1:%d,127.0.0.1:%d", other->port, owner->port);
    server_kill(other);
    struct redis *two = redis_create(text, TIMEOUT_MS);
    EVENTUALLY(call(two, "SET", "{fleet}:key", "1") == ERR_OK);
    redis_destroy(two);
}
END_TEST

START_TEST(several_servers_that_are_no_cluster_are_refused) {
    char text[128];
    struct server *alone = SERVER_START("--appendonly", "no");
    snprintf(text, sizeof text, "redis://127.0.0.1:%d,127.0.0.1:%d", alone->port, alone->port);
    struct redis *two = redis_create(text, TIMEOUT_MS);
    ck_assert_int_eq(call(two, "GET", "{fleet}:key", NULL), ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(redis_error(two), "cluster"));
    redis_destroy(two);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("redis_cluster");
    TCase *tcase = tcase_create("redis_cluster");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_redirection_is_followed_and_remembered_by_all_connections_of_the_url);
    tcase_add_test(tcase, a_pipeline_that_is_redirected_fails_once_and_then_works);
    tcase_add_test(tcase,
                   a_script_is_redirected_and_its_message_reaches_a_subscriber_on_another_node);
    tcase_add_test(tcase, when_a_slot_moves_the_next_call_follows_it);
    tcase_add_test(tcase, while_a_slot_is_on_its_way_it_is_unavailable);
    tcase_add_test(tcase, redirections_are_bounded);
    tcase_add_test(tcase, of_several_nodes_in_the_url_any_that_answers_will_do);
    tcase_add_test(tcase, several_servers_that_are_no_cluster_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
