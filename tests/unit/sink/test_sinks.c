/* The sinks of a node: names, what the router sends them, status, threads. */
#include "sink/sinks.h"

#include "base/config/conf.h"
#include "message/sink_name.h"
#include "sink_fixture.h"

static struct router *router;
static struct sinks *sinks;
static struct route route;
static char folder[] = "/tmp/mqfleet-test-sinks-XXXXXX";
static struct conf conf = {.secrets_files_allow = folder};

static void setup(void) {
    router = router_create();
    sinks = sinks_create(&(struct sink_environment){.node = "n",
                                                    .conf = &conf,
                                                    .redis_url = "",
                                                    .key_prefix = "",
                                                    .redis_timeout_ms = 300,
                                                    .redis_replicas_timeout_ms = 300},
                         router);
    route = (struct route){0};
    ck_assert(router && sinks && receipts_init(&answers));
}

static void teardown(void) {
    sinks_stop(sinks, WAIT_MS);
    collect_answers();
    route_fini(&route);
    sinks_destroy(sinks);
    router_destroy(router);
    receipts_fini(&answers);
}

static void add(const char *name, const char *label) {
    char fault[SINK_FAULT_LEN] = "";
    enum err err = sinks_add(
        sinks, &(struct sink_config){.name = name, .label = label, .type = "null"}, fault);
    ck_assert_msg(err == ERR_OK, "%s", fault);
}

static void start(void) {
    char fault[SINK_FAULT_LEN] = "";
    ck_assert_msg(sinks_start(sinks, fault) == ERR_OK, "%s", fault);
}

static struct sink_status status_of(const char *name) {
    struct sink_status status;
    size_t cursor = 0;
    while (sinks_next(sinks, &cursor, &status)) {
        if (strcmp(status.name, name) == 0) {
            return status;
        }
    }
    ck_abort_msg("no sink %s", name);
}

static void send_to(const char *name, int count) {
    route_set(&route, router, name, NULL, NULL);
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(route_submit(&route, numbered_message(i, 0), NULL), ERR_OK);
    }
    router_flush(router);
}

START_TEST(a_name_is_lowercase_letters_digits_and_two_signs) {
    static const char *const good[] = {"a", "0", "a-b_c9", "default"};
    static const char *const bad[] = {"", "-a", "_a", "A", "a.b", "a/b", "a b", "\xC3\xA4"};
    char longest[SINK_NAME_MAX + 2];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_msg(sink_name_is_valid(good[i]), "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(!sink_name_is_valid(bad[i]), "%s", bad[i]);
    }
    memset(longest, 'a', sizeof longest);
    longest[SINK_NAME_MAX + 1] = '\0';
    ck_assert(!sink_name_is_valid(longest));
    longest[SINK_NAME_MAX] = '\0';
    ck_assert(sink_name_is_valid(longest));
}
END_TEST

START_TEST(messages_go_to_the_sink_that_is_named_and_else_to_the_first) {
    add("default", "null");
    add("other", NULL);
    start();
    send_to("other", 3);
    send_to(NULL, 5);
    send_to("default", 7);
    send_to("null", 11); /* the label of the default */
    AWAIT(status_of("other").accepted == 3 && status_of("default").accepted == 23);
}
END_TEST

static int thread_count(void) {
    int count = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status)) {
        (void)sscanf(line, "Threads: %d", &count);
    }
    fclose(status);
    return count;
}

static void add_rarely_used(const char *name, const char *dead_letter) {
    char fault[SINK_FAULT_LEN] = "";
    json_t *settings = json_pack("{s:s}", "dead_letter", dead_letter);
    enum err err =
        sinks_add(sinks,
                  &(struct sink_config){
                      .name = name, .type = "null", .settings = settings, .rarely_used = true},
                  fault);
    json_decref(settings);
    ck_assert_msg(err == ERR_OK, "%s", fault);
}

static void *do_nothing(void *argument) {
    return argument;
}

/* ThreadSanitizer starts a thread of its own with the first one. */
#ifdef __SANITIZE_THREAD__
#define SANITIZER_THREADS 1
#else
#define SANITIZER_THREADS 0
#endif

static void start_any_thread(void) {
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, do_nothing, NULL), 0);
    pthread_join(thread, NULL);
}

START_TEST(a_sink_that_is_rarely_used_gets_its_thread_with_its_first_message) {
    add("default", NULL);
    add_rarely_used("rare", "");
    int alone = thread_count();
    start_any_thread();
    AWAIT(thread_count() == alone + SANITIZER_THREADS); /* one that ends counts for a moment */
    int before = thread_count();
    start();
    AWAIT(thread_count() == before + 1);
    send_to("rare", 3);
    AWAIT(status_of("rare").accepted == 3);
    send_to("rare", 4);
    AWAIT(status_of("rare").accepted == 7);
    AWAIT(thread_count() == before + 2);
}
END_TEST

START_TEST(what_no_longer_starts_a_thread_is_written_at_the_stop) {
    char fault[SINK_FAULT_LEN] = "";
    add("default", NULL);
    add_rarely_used("rare", "dead_letter");
    add_rarely_used("dead_letter", "");
    ck_assert_int_eq(sinks_connect_dead_letters(sinks, fault), ERR_OK);
    start();
    route_set(&route, router, "rare", NULL, NULL);
    ck_assert_int_eq(route_submit(&route, numbered_message(0, 0), NULL), ERR_OK);
    route_set(&route, router, "dead_letter", NULL, NULL);
    ck_assert_int_eq(route_submit(&route, numbered_message(1, 0), NULL), ERR_OK);
    sinks_stop(sinks, WAIT_MS); /* without a flush */
    ck_assert_int_eq(status_of("rare").accepted, 1);
    ck_assert_int_eq(status_of("dead_letter").accepted, 1);
}
END_TEST

START_TEST(the_default_has_its_type_as_a_second_name) {
    add("default", "null");
    add("other", NULL);
    ck_assert(sinks_has(sinks, "default") && sinks_has(sinks, "null") && sinks_has(sinks, "other"));
    ck_assert(!sinks_has(sinks, "file") && !sinks_has(NULL, "default"));
    ck_assert_str_eq(status_of("default").label, "null");
    ck_assert_str_eq(status_of("other").label, "other");
}
END_TEST

START_TEST(a_wrong_sink_is_not_added) {
    char fault[SINK_FAULT_LEN] = "";
    struct sink_status status;
    size_t cursor = 0;
    ck_assert_int_eq(sinks_add(sinks, &(struct sink_config){.name = "a", .type = "pigeon"}, fault),
                     ERR_ARGUMENT);
    ck_assert(strstr(fault, "pigeon") && !sinks_next(sinks, &cursor, &status));
    for (int i = 0; i < SINKS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        add(name, NULL);
    }
    ck_assert_int_eq(sinks_add(sinks, &(struct sink_config){.name = "a", .type = "null"}, fault),
                     ERR_FULL);
}
END_TEST

/* ---- sinks of the fleet ---------------------------------------------------------------------- */

static void setup_fleet(void) {
    setup();
    strcpy(folder, "/tmp/mqfleet-test-sinks-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    add("default", "null");
    add("dead_letter", NULL);
    start();
}

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void teardown_fleet(void) {
    static const char *const names[] = {"a", "b"};
    teardown();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        unlink(path_of(names[i]));
    }
    rmdir(folder);
}

/* The fleet has one sink, `kept`. settings: consumed; NULL: it has none. */
static void apply(const char *type, int64_t version, json_t *settings) {
    struct sinks_document document = {
        .name = "kept", .type = type, .version = version, .settings = settings};
    sinks_apply(sinks, &document, settings ? 1 : 0);
    json_decref(settings);
}

static void apply_file(const char *name, int64_t version) {
    apply("file", version, json_pack("{s:s}", "path", path_of(name)));
}

/* As the main thread does. */
static bool is_applied(int64_t version) {
    sinks_maintain(sinks);
    struct sink_status status = status_of("kept");
    return status.version == version && !status.changing && !*status.fault && !status.leaving;
}

static bool exists(const char *name) {
    struct sink_status status;
    size_t cursor = 0;
    sinks_maintain(sinks);
    while (sinks_next(sinks, &cursor, &status)) {
        if (strcmp(status.name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Appends the numbers of the file's messages. */
static size_t read_numbers(const char *name, int *numbers, size_t n) {
    char line[4096];
    FILE *file = fopen(path_of(name), "r");
    while (file && fgets(line, sizeof line, file)) {
        json_t *message = json_loads(line, 0, NULL);
        numbers[n++] = atoi(json_string_value(json_object_get(message, "payload")));
        json_decref(message);
    }
    if (file) {
        fclose(file);
    }
    return n;
}

static void route_waiting(struct route *to, int number) {
    struct message *message = numbered_message(number, 1);
    struct receipt *receipt = calloc(1, sizeof *receipt);
    receipt->owner = &answers;
    while (route_submit(to, message, receipt) == ERR_FULL) {
        router_flush(router);
        route_set(to, router, "kept", NULL, NULL);
        usleep(50);
    }
    router_flush(router);
}

#define NUMBERS 20000

static void *send_numbers(void *argument) {
    for (int i = 0; i < NUMBERS; i++) {
        route_waiting(argument, i);
    }
    return NULL;
}

START_TEST(a_change_loses_nothing_and_keeps_the_order) {
    static int numbers[NUMBERS * 2];
    pthread_t thread;
    apply_file("a", 1);
    route_set(&route, router, "kept", NULL, NULL);
    pthread_create(&thread, NULL, send_numbers, &route);
    AWAIT(status_of("kept").accepted > NUMBERS / 10);
    apply_file("b", 2);
    AWAIT(is_applied(2));
    pthread_join(thread, NULL);
    AWAIT(status_of("kept").accepted == NUMBERS && accepted_count == NUMBERS);
    size_t first = read_numbers("a", numbers, 0), all = read_numbers("b", numbers, first);
    ck_assert_uint_gt(first, 0);
    ck_assert_uint_lt(first, NUMBERS);
    ck_assert_uint_eq(all, NUMBERS);
    for (int i = 0; i < NUMBERS; i++) {
        ck_assert_int_eq(numbers[i], i);
    }
}
END_TEST

START_TEST(a_message_after_a_change_of_an_idle_sink_is_for_the_new_target) {
    int numbers[16];
    apply_file("a", 1);
    route_set(&route, router, "kept", NULL, NULL);
    route_waiting(&route, 1);
    AWAIT(accepted_count == 1);
    clock_sleep_ms(50); /* it sleeps */
    apply_file("b", 2);
    route_waiting(&route, 2);
    AWAIT(accepted_count == 2);
    ck_assert_uint_eq(read_numbers("a", numbers, 0), 1);
    ck_assert_uint_eq(read_numbers("b", numbers, 0), 1);
}
END_TEST

START_TEST(a_change_ends_the_wait_of_a_broken_target) {
    int numbers[16];
    apply_file("", 1); /* a folder */
    route_set(&route, router, "kept", NULL, NULL);
    for (int i = 0; i < 10; i++) {
        route_waiting(&route, i);
    }
    AWAIT(status_of("kept").failing);
    apply_file("a", 2);
    AWAIT(accepted_count == 10 && !status_of("kept").failing);
    ck_assert_uint_eq(read_numbers("a", numbers, 0), 10);
    ck_assert(numbers[0] == 0 && numbers[9] == 9);
}
END_TEST

START_TEST(settings_that_cannot_be_opened_leave_the_old_ones_in_effect) {
    int64_t retried = 0;
    apply("redis_stream", 1, json_pack("{s:s, s:s}", "key", "k", "url", "redis://127.0.0.1:1"));
    ck_assert(is_applied(1));
    apply("redis_stream", 2, json_pack("{s:s, s:s}", "key", "k", "url", "ftp://x"));
    AWAIT((sinks_maintain(sinks), *status_of("kept").fault));
    ck_assert(strstr(status_of("kept").fault, "url") && sinks_has(sinks, "kept"));
    send_to("kept", 1);
    AWAIT((retried = status_of("kept").retried) > 0); /* the old one is still there */
    apply("redis_stream", 3, json_pack("{s:s, s:i}", "key", "k", "queue_messages", -1));
    AWAIT((sinks_maintain(sinks), strstr(status_of("kept").fault, "queue_messages")));
    apply("redis_stream", 4,
          json_pack("{s:s, s:s, s:i}", "key", "k", "url", "redis://127.0.0.1:1", "queue_messages",
                    77));
    AWAIT(is_applied(4));
    ck_assert_uint_eq(status_of("kept").messages_max, 77);
    ck_assert_uint_eq(status_of("kept").queued_messages, 1); /* what was queued stays */
    sinks_stop(sinks, 100);
}
END_TEST

static void write_text(const char *name, const char *text) {
    FILE *file = fopen(path_of(name), "w");
    ck_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void maintain_for_seconds(int count) {
    for (int i = 0; i < count; i++) {
        clock_advance_ms(1000);
        sinks_maintain(sinks);
    }
}

/* The sink is as it should be for longer than the time between two readings. */
static void check_secret_is_read_again(int64_t version, const char *dead_letter) {
    write_text("a", "redis://127.0.0.1:1");
    apply("redis_stream", version,
          json_pack("{s:s, s:{s:s}, s:s}", "key", "k", "url", "file", path_of("a"), "dead_letter",
                    dead_letter));
    AWAIT((sinks_maintain(sinks),
           status_of("kept").version == version && !status_of("kept").changing));
    maintain_for_seconds(20);
    ck_assert_ptr_null(strstr(status_of("kept").fault, path_of("a")));
    unlink(path_of("a"));
    maintain_for_seconds(6);
    ck_assert_ptr_nonnull(strstr(status_of("kept").fault, path_of("a")));
    write_text("a", "redis://127.0.0.1:2");
    maintain_for_seconds(6);
    AWAIT((sinks_maintain(sinks), !strstr(status_of("kept").fault, path_of("a"))));
}

START_TEST(a_secret_in_a_file_is_read_again_however_long_the_sink_has_been_well) {
    check_secret_is_read_again(1, "");
    check_secret_is_read_again(2, "missing");
    ck_assert_ptr_nonnull(strstr(status_of("kept").fault, "missing"));
}
END_TEST

START_TEST(a_sink_with_an_unreadable_secret_that_gives_way_to_another_leaves_no_trace) {
    write_text("a", "redis://127.0.0.1:1");
    apply("redis_stream", 1, json_pack("{s:s, s:{s:s}}", "key", "k", "url", "file", path_of("a")));
    AWAIT(is_applied(1));
    unlink(path_of("a"));
    apply("redis_stream", 2, json_pack("{s:s, s:{s:s}}", "key", "l", "url", "file", path_of("a")));
    ck_assert_ptr_nonnull(strstr(status_of("kept").fault, path_of("a")));
    apply("null", 3, json_pack("{s:s}", "dead_letter", "missing"));
    AWAIT((sinks_maintain(sinks), strstr(status_of("kept").fault, "missing")));
}
END_TEST

START_TEST(a_removed_sink_writes_what_it_has_and_its_name_may_come_back) {
    int numbers[300];
    apply_file("a", 1);
    route_set(&route, router, "kept", NULL, NULL);
    for (int i = 0; i < 100; i++) {
        route_waiting(&route, i);
    }
    sinks_apply(sinks, NULL, 0);
    ck_assert(!sinks_has(sinks, "kept") && !sinks_knows(sinks, "kept"));
    AWAIT(!exists("kept"));
    AWAIT(accepted_count == 100);
    struct message *held = numbered_message(100, 1);
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_FULL);
    message_destroy(held);
    apply_file("b", 3);
    ck_assert(sinks_has(sinks, "kept"));
    for (int i = 100; i < 200; i++) {
        route_waiting(&route, i);
    }
    AWAIT(accepted_count == 200);
    ck_assert_uint_eq(read_numbers("b", numbers, read_numbers("a", numbers, 0)), 200);
    ck_assert_int_eq(numbers[199], 199);
}
END_TEST

START_TEST(a_sink_of_another_type_takes_the_place_of_the_old_one) {
    apply("null", 1, json_object());
    AWAIT(is_applied(1));
    apply_file("a", 2);
    AWAIT(is_applied(2));
    ck_assert_str_eq(status_of("kept").type, "file");
}
END_TEST

START_TEST(what_a_node_cannot_have_is_known_and_not_had) {
    apply("pigeon", 1, json_object());
    ck_assert(!sinks_has(sinks, "kept") && sinks_knows(sinks, "kept"));
    struct sink_status status = status_of("kept");
    ck_assert(status.unavailable && status.failing && strstr(status.error, "pigeon"));
    struct sinks_document sealed = {
        .name = "kept", .type = "null", .version = 2, .fault = "no key"};
    sinks_apply(sinks, &sealed, 1);
    ck_assert_str_eq(status_of("kept").error, "no key");
    apply("null", 3, json_object());
    AWAIT(is_applied(3) && sinks_has(sinks, "kept"));
    sealed.version = 4;
    sinks_apply(sinks, &sealed, 1); /* the version that it has goes on */
    ck_assert(sinks_has(sinks, "kept") && status_of("kept").version == 3);
    ck_assert_str_eq(status_of("kept").fault, "no key");
}
END_TEST

START_TEST(a_sink_of_the_settings_stays_in_effect) {
    struct sinks_document documents[] = {
        {.name = "default", .type = "file", .version = 1, .settings = json_object()},
        {.name = "null", .type = "file", .version = 1, .settings = json_object()}};
    sinks_apply(sinks, documents, 2);
    ck_assert(status_of("default").shadows && !status_of("default").of_fleet);
    ck_assert_str_eq(status_of("default").type, "null");
    ck_assert(sinks_owns(sinks, "null") && !sinks_owns(sinks, "kept") && !exists("null"));
    json_decref((json_t *)documents[0].settings);
    json_decref((json_t *)documents[1].settings);
}
END_TEST

static atomic_bool reading;

static void *read_status(void *argument) {
    struct sink_status status;
    (void)argument;
    while (reading) {
        size_t cursor = 0;
        while (sinks_next(sinks, &cursor, &status)) {
            ck_assert(*status.name);
        }
        sinks_has(sinks, "kept");
    }
    return NULL;
}

/* ThreadSanitizer judges. */
START_TEST(status_is_read_and_messages_come_while_sinks_come_and_go) {
    static struct route routes[2];
    pthread_t threads[2], reader;
    reading = true;
    pthread_create(&reader, NULL, read_status, NULL);
    apply("null", 1, json_object());
    for (size_t i = 0; i < 2; i++) {
        route_set(&routes[i], router, "kept", NULL, NULL);
        pthread_create(&threads[i], NULL, send_numbers, &routes[i]);
    }
    for (int64_t version = 2; version < 30 || accepted_count < NUMBERS; version++) {
        if (version % 4 == 0) {
            sinks_apply(sinks, NULL, 0);
        } else {
            apply("null", version, json_pack("{s:i}", "queue_messages", 1000 + (int)version % 9));
        }
        sinks_maintain(sinks);
        collect_answers();
        usleep(2000);
    }
    apply("null", INT64_MAX, json_object());
    AWAIT((sinks_maintain(sinks), accepted_count + canceled_count == 2 * NUMBERS));
    reading = false;
    pthread_join(reader, NULL);
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        route_fini(&routes[i]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sinks");
    TCase *tcase = tcase_create("sinks");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_name_is_lowercase_letters_digits_and_two_signs);
    tcase_add_test(tcase, messages_go_to_the_sink_that_is_named_and_else_to_the_first);
    tcase_add_test(tcase, the_default_has_its_type_as_a_second_name);
    tcase_add_test(tcase, a_sink_that_is_rarely_used_gets_its_thread_with_its_first_message);
    tcase_add_test(tcase, what_no_longer_starts_a_thread_is_written_at_the_stop);
    tcase_add_test(tcase, a_wrong_sink_is_not_added);
    suite_add_tcase(suite, tcase);
    TCase *fleet = tcase_create("fleet");
    tcase_set_timeout(fleet, 120);
    tcase_add_checked_fixture(fleet, setup_fleet, teardown_fleet);
    tcase_add_test(fleet, a_change_loses_nothing_and_keeps_the_order);
    tcase_add_test(fleet, a_message_after_a_change_of_an_idle_sink_is_for_the_new_target);
    tcase_add_test(fleet, a_change_ends_the_wait_of_a_broken_target);
    tcase_add_test(fleet, settings_that_cannot_be_opened_leave_the_old_ones_in_effect);
    tcase_add_test(fleet, a_secret_in_a_file_is_read_again_however_long_the_sink_has_been_well);
    tcase_add_test(fleet,
                   a_sink_with_an_unreadable_secret_that_gives_way_to_another_leaves_no_trace);
    tcase_add_test(fleet, a_removed_sink_writes_what_it_has_and_its_name_may_come_back);
    tcase_add_test(fleet, a_sink_of_another_type_takes_the_place_of_the_old_one);
    tcase_add_test(fleet, what_a_node_cannot_have_is_known_and_not_had);
    tcase_add_test(fleet, a_sink_of_the_settings_stays_in_effect);
    tcase_add_test(fleet, status_is_read_and_messages_come_while_sinks_come_and_go);
    suite_add_tcase(suite, fleet);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
