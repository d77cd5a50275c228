/* Visits of all clients, while clients come and go. */
#include "base/telemetry/log.h"
#include "mqtt/owner_fixture.h"

#define PAUSED      "\"desired\":\"paused\",\"labels\":{\"tenant\":\"acme\"}"
#define KEPT_COUNT  600 /* more than two slices */
#define CHURN_COUNT 300

static struct fixture *f;

static void setup(void) {
    static const char *const sets[] = {"node_info.name=test", "workers=3"};
    log_setup(LOG_ERROR, LOG_LOGFMT);
    f = fixture_create(sets, sizeof sets / sizeof sets[0]);
}

static void teardown(void) {
    fixture_destroy(f);
}

static void start_paused(const char *prefix, int number) {
    char id[32];
    snprintf(id, sizeof(id), "%s%d", prefix, number);
    fixture_start(f, fixture_client(id, 1883, PAUSED), 1);
}

static void check_facts(void *context, const struct workers_visited *client) {
    ++*(int *)context;
    ck_assert_str_eq(client->facts.id, "one");
    ck_assert_str_eq(client->facts.node, "m1");
    ck_assert_str_eq(client->facts.broker, "127.0.0.1:1883");
    ck_assert(client->facts.label_count == 1 && !client->facts.error && !client->facts.degraded);
    ck_assert_str_eq(client->facts.labels[0].value, "acme");
    ck_assert_int_eq(client->version, 7);
}

START_TEST(the_settings_say_how_many_workers_there_are) {
    bool single = strcmp(f->conf->engine, "paho") == 0; /* one serves all clients */
    ck_assert_uint_eq(workers_thread_count(f->workers), single ? 1 : 3);
}
END_TEST

START_TEST(a_visit_sees_what_a_selector_selects_by) {
    int count = 0;
    fixture_start(f, fixture_client("one", 1883, PAUSED), 7);
    EVENTUALLY(fixture_state(f, "one") == CLIENT_PAUSED);
    workers_visit(f->workers, "m1", check_facts, &count);
    ck_assert_int_eq(count, 1);
}
END_TEST

/* Takes all unsaved histories in pages; the number of clients. */
static size_t save_all(size_t page) {
    size_t from = 0, saved = 0, n;
    struct workers_unsaved *rows;
    do {
        ck_assert_int_eq(workers_list_unsaved(f->workers, &from, page, &rows, &n), ERR_OK);
        ck_assert_uint_le(n, page);
        for (size_t i = 0; i < n; i++) {
            workers_mark_saved(f->workers, &rows[i]);
        }
        saved += n;
        workers_unsaved_free(rows, n);
    } while (from > 0);
    return saved;
}

START_TEST(histories_are_saved_once_and_again_after_a_change) {
    for (int i = 0; i < 50; i++) {
        start_paused("c", i);
    }
    EVENTUALLY(fixture_state(f, "c49") == CLIENT_PAUSED && fixture_state(f, "c0") == CLIENT_PAUSED);
    (void)save_all(7);
    EVENTUALLY(save_all(7) == 0);
    for (int i = 0; i < 20; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%d", i);
        ck_assert_int_eq(workers_stop(f->workers, id, 0, "test", NULL, NULL), ERR_OK);
        EVENTUALLY(!workers_has_client(f->workers, id, &(struct workers_client){0}));
        start_paused("c", i);
    }
    EVENTUALLY(fixture_state(f, "c19") == CLIENT_PAUSED);
    ck_assert_uint_ge(save_all(7), 20);
    EVENTUALLY(save_all(100) == 0);
    workers_forget_saved(f->workers);
    ck_assert_uint_eq(save_all(100), 50);
    ck_assert_uint_eq(save_all(100), 0);
}
END_TEST

START_TEST(a_client_goes_on_with_its_history) {
    static const char text[] = "{\"counts\":[4,30,20,300,200,5],\"changes\":"
                               "[[1000,\"online\",\"backoff\",\"r\",\"m9\"]]}";
    struct client_change changes[CLIENT_CHANGES_MAX];
    struct client_status status;
    struct workers_client running;
    size_t n;
    ck_assert_int_eq(workers_start(f->workers, fixture_client("one", 1883, PAUSED),
                                   &(struct workers_assignment){"inc", 1, 1, text}),
                     ERR_OK);
    EVENTUALLY(fixture_state(f, "one") == CLIENT_PAUSED);
    ck_assert_int_eq(workers_status(f->workers, "one", &status), ERR_OK);
    ck_assert_int_eq(status.reconnects, 3);
    ck_assert_int_eq(status.messages_in, 30);
    ck_assert_int_eq(status.messages_out, 20);
    ck_assert_int_eq(status.bytes_in, 300);
    ck_assert_int_eq(status.bytes_out, 200);
    ck_assert_int_eq(status.messages_dropped, 5);
    client_status_fini(&status);
    ck_assert_int_eq(workers_changes(f->workers, "one", changes, &n), ERR_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(changes[0].node, "m9");
    ck_assert_str_eq(changes[1].node, "");
    /* A client that runs keeps its own. */
    ck_assert_int_eq(
        workers_start(f->workers, fixture_client("one", 1883, PAUSED),
                      &(struct workers_assignment){"inc", 2, 1, "{\"counts\":[],\"changes\":[]}"}),
        ERR_OK);
    char *history = workers_history(f->workers, "one");
    ck_assert_ptr_nonnull(strstr(history, "[4,30,20,300,200,5,"));
    ck_assert_ptr_nonnull(strstr(history, "\"m9\"],["));
    ck_assert_ptr_nonnull(strstr(history, "\"test\"]"));
    free(history);
    ck_assert_ptr_null(workers_history(f->workers, "none"));
    /* Unless it was deleted and created again, with version 5, before the node noticed. */
    for (int64_t version = 5; version <= 6; version++) {
        ck_assert_int_eq(
            workers_start(f->workers, fixture_client("one", 1883, PAUSED),
                          &(struct workers_assignment){"inc", version, version, "{\"since\":5}"}),
            ERR_OK);
        EVENTUALLY(workers_has_client(f->workers, "one", &running) && running.epoch == version);
        ck_assert_int_eq(workers_changes(f->workers, "one", changes, &n), ERR_OK);
        ck_assert_uint_eq(n, 1);
        ck_assert_str_eq(changes[0].reason, "created_again");
    }
    history = workers_history(f->workers, "one");
    ck_assert_ptr_nonnull(strstr(history, "[0,0,0,0,0,0,"));
    free(history);
}
END_TEST

static atomic_bool churn_ends;

static void *churn(void *argument) {
    (void)argument;
    for (int i = 0; !churn_ends; i = (i + 1) % CHURN_COUNT) {
        char id[32];
        snprintf(id, sizeof(id), "churn%d", i);
        (void)!workers_stop(f->workers, id, 0, "test", NULL, NULL);
        (void)!workers_start(f->workers, fixture_client(id, 1883, PAUSED),
                             &(struct workers_assignment){"inc", 1, 1, NULL});
        usleep(50);
    }
    return NULL;
}

static void count_kept(void *context, const struct workers_visited *client) {
    int *counts = context;
    if (strncmp(client->facts.id, "kept", 4) == 0) {
        counts[atoi(client->facts.id + 4)]++;
    }
}

START_TEST(a_client_that_stays_is_visited_once_while_others_come_and_go) {
    pthread_t thread;
    for (int i = 0; i < KEPT_COUNT; i++) {
        start_paused("kept", i);
        if (i % 2 == 0) {
            start_paused("churn", i / 2);
        }
    }
    pthread_create(&thread, NULL, churn, NULL);
    for (int round = 0; round < 200; round++) {
        int counts[KEPT_COUNT] = {0};
        workers_visit(f->workers, "m1", count_kept, counts);
        for (int i = 0; i < KEPT_COUNT; i++) {
            ck_assert_msg(counts[i] == 1, "kept%d: %d in round %d", i, counts[i], round);
        }
    }
    churn_ends = true;
    pthread_join(thread, NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("workers_visit");
    TCase *tests = tcase_create("workers_visit");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_settings_say_how_many_workers_there_are);
    tcase_add_test(tests, histories_are_saved_once_and_again_after_a_change);
    tcase_add_test(tests, a_client_goes_on_with_its_history);
    tcase_add_test(tests, a_visit_sees_what_a_selector_selects_by);
    tcase_add_test(tests, a_client_that_stays_is_visited_once_while_others_come_and_go);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
