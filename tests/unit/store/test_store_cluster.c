/* The store on a real Redis Cluster of three nodes. */
#include <check.h>
#include "redis_cluster.h"
#include "whole_life.h"

static void setup(void) {
    servers_begin();
    cluster_start();
}

static void teardown(void) {
    store_close(store);
    servers_end();
}

START_TEST(with_a_hash_tag_every_transition_works_through_any_node) {
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        char prefix[24];
        snprintf(prefix, sizeof prefix, "{fleet%zu}:", i);
        store = store_open(servers.list[i].url, prefix, 2000, 2);
        live_a_whole_life();
        store_close(store);
        store = NULL;
    }
}
END_TEST

START_TEST(wake_ups_reach_nodes_of_the_fleet_on_other_nodes_of_the_cluster) {
    struct redis *listeners[CLUSTER_NODES];
    char *text = NULL, *channel = store_wake_channel("{fleet}:", NULL);
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        listeners[i] = redis_create(servers.list[i].url, 2000);
        ck_assert_int_eq(redis_next_message(listeners[i], channel, 20, &text), ERR_TIMEOUT);
        EVENTUALLY(SERVER_SAYS(&servers.list[i], "pubsub_channels:1", "INFO", "stats"));
    }
    store = store_open(servers.list[0].url, "{fleet}:", 2000, 1);
    must_create("a");
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        EVENTUALLY(redis_next_message(listeners[i], channel, 20, &text) == ERR_OK);
        ck_assert_str_eq(text, "");
        free(text);
        redis_destroy(listeners[i]);
    }
    free(channel);
}
END_TEST

START_TEST(without_a_hash_tag_it_is_refused_saying_why) {
    char path[96], line[1024];
    bool said = false;
    struct store_create_item item = {.id = "a", .config = "{}", .identity = "a"};
    struct store_create_result result;
    size_t done;
    snprintf(path, sizeof path, "%s/stderr", servers.folder);
    ck_assert_ptr_nonnull(freopen(path, "w", stderr));
    store = store_open(servers.list[0].url, "fleet:", 2000, 1);
    ck_assert_int_eq(store_create(store, &item, 1, &result, &done), ERR_PROTOCOL);
    FILE *log = fopen(path, "r");
    while (fgets(line, sizeof line, log)) {
        said = said || (strstr(line, "key_prefix=fleet:") && strstr(line, "{fleet}:"));
    }
    fclose(log);
    ck_assert(said);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store_cluster");
    TCase *tcase = tcase_create("store_cluster");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, with_a_hash_tag_every_transition_works_through_any_node);
    tcase_add_test(tcase, wake_ups_reach_nodes_of_the_fleet_on_other_nodes_of_the_cluster);
    tcase_add_test(tcase, without_a_hash_tag_it_is_refused_saying_why);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
