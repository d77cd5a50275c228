/* Tests of min_replicas with replicas that are present, late or gone, and of the store across a
 * failover by sentinels. */
#include <check.h>
#include "redis_servers.h"
#include "whole_life.h"

#define WAIT_MS    300   /* for waits that must time out */
#define PATIENT_MS 10000 /* for waits that must not time out */

static struct server *master, *replica;

static void setup(void) {
    servers_begin();
    master = SERVER_START("--repl-diskless-sync-delay", "0");
    replica = server_start_replica(master);
    EVENTUALLY(SERVER_SAYS(master, "state=online", "INFO", "replication"));
    store = store_open(master->url, "", 2000, 2);
    store_require_replicas(store, 1, PATIENT_MS);
}

static void teardown(void) {
    store_close(store);
    servers_end();
}

static enum err create_err(const char *id) {
    struct store_create_item item = {.id = id, .config = "{}", .identity = id};
    struct store_create_result result;
    size_t done;
    enum err err = store_create(store, &item, 1, &result, &done);
    ck_assert_uint_eq(done, err == ERR_OK);
    return err;
}

START_TEST(with_a_replica_that_follows_every_transition_works) {
    live_a_whole_life();
    ck_assert(SERVER_SAYS(replica, "{}", "HGET", "mqtt_config:no", "c2"));
}
END_TEST

START_TEST(a_write_that_no_replica_has_in_time_is_an_unknown_outcome_until_one_has) {
    int64_t version;
    char *other_id;
    must_create("a");
    must_create("b");
    store_require_replicas(store, 1, WAIT_MS);
    kill(replica->pid, SIGSTOP);
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(create_err("c"), ERR_TIMEOUT);
    ck_assert_int_ge(clock_ms() - begin_ms, WAIT_MS - 5);
    ck_assert_int_eq(create_err("c"), ERR_TIMEOUT); /* present, but the write is not replicated */
    ck_assert_int_eq(store_update(store, &(struct store_configuration){"a", 0, "{}", "a", NULL},
                                  &version, &other_id),
                     ERR_TIMEOUT);
    ck_assert_int_eq(store_delete(store, "b", 0, NULL), ERR_TIMEOUT);
    ck_assert_int_eq(store_delete(store, "b", 0, NULL), ERR_TIMEOUT);
    kill(replica->pid, SIGCONT);
    EVENTUALLY(create_err("c") == ERR_OK);
    ck_assert_int_eq(store_delete(store, "b", 0, NULL), ERR_NOT_FOUND);
}
END_TEST

START_TEST(an_assignment_that_no_replica_has_is_valid_and_logged) {
    char generation[TEXT_ID_LEN], path[96], line[1024];
    bool said = false;
    struct store_member who = life_join("n1", 60000, generation);
    must_create("a");
    store_require_replicas(store, 1, WAIT_MS);
    kill(replica->pid, SIGSTOP);
    snprintf(path, sizeof path, "%s/stderr", servers.folder);
    ck_assert_ptr_nonnull(freopen(path, "w", stderr));
    must_assign(who, "a");
    FILE *log = fopen(path, "r");
    while (fgets(line, sizeof line, log)) {
        said = said || (strstr(line, "store_not_replicated") && strstr(line, "script=assign"));
    }
    fclose(log);
    ck_assert(said);
    kill(replica->pid, SIGCONT);
}
END_TEST

START_TEST(what_was_acknowledged_survives_the_death_of_the_master) {
    char url[128], id[16];
    int created = 0;
    struct server *sentinel = server_start_sentinel(master, 1);
    EVENTUALLY(SERVER_SAYS(sentinel, "slaves=1", "INFO", "sentinel"));
    snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/fleet/0", sentinel->port);
    store_close(store);
    store = store_open(url, "", 1000, 2);
    store_require_replicas(store, 1, PATIENT_MS);
    for (; created < 300; created++) {
        snprintf(id, sizeof id, "c%d", created);
        must_create(id);
    }
    server_kill(master);
    store_require_replicas(store, 0, WAIT_MS); /* there is none left */
    EVENTUALLY(create_err("after") ==
               ERR_OK); /* the scripts are unknown there and are loaded again */
    for (int i = 0; i < created; i++) {
        snprintf(id, sizeof id, "c%d", i);
        ck_assert_int_eq(where(id), STORE_WAITING);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store_replicas");
    TCase *tcase = tcase_create("store_replicas");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, with_a_replica_that_follows_every_transition_works);
    tcase_add_test(tcase, a_write_that_no_replica_has_in_time_is_an_unknown_outcome_until_one_has);
    tcase_add_test(tcase, an_assignment_that_no_replica_has_is_valid_and_logged);
    tcase_add_test(tcase, what_was_acknowledged_survives_the_death_of_the_master);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
