/* Tests of rejected messages: they move to the dead letter sink, which answers for them. Both sinks
 * have a type that does what the test says. */
#include "sink/sink_types.h"

#include "sink/sink_fixture.h"

#define NUMBERS_MAX 1000

/* What the type does with its messages, by the name of the sink. */
static struct script {
    atomic_bool down;        /* nothing is accepted */
    atomic_bool rejects_all; /* each message is blamed */
    atomic_int slow;         /* no more than so many are attempted in a write; 0: all */
    atomic_bool poison[NUMBERS_MAX];
    atomic_int tried[NUMBERS_MAX];
    int stored[NUMBERS_MAX];
    char reasons[NUMBERS_MAX][REJECTION_REASON_LEN]; /* of what is stored */
    atomic_int stored_count;
} target_script, dead_script;

static const struct sink_field scripted_fields[] = {
    {.name = "script", .kind = SINK_FIELD_CHOICE, .choices = "target|dead", .text = "target"}, {0}};

static enum err scripted_open(void **state, const struct sink_environment *environment,
                              const json_t *settings, char *fault) {
    (void)environment;
    (void)fault;
    *state =
        strcmp(sink_settings_text(settings, "script"), "dead") == 0 ? &dead_script : &target_script;
    return ERR_OK;
}

static void scripted_store(struct script *script, const struct message *message, int number) {
    int at = atomic_load(&script->stored_count);
    script->stored[at] = number;
    snprintf(script->reasons[at], REJECTION_REASON_LEN, "%s",
             message->rejection ? message->rejection->reason : "");
    atomic_store(&script->stored_count, at + 1);
}

static enum err scripted_write(void *state, struct sink_batch *batch) {
    struct script *script = state;
    if (atomic_load(&script->down)) {
        return sink_batch_fail(batch, ERR_UNAVAILABLE, "down");
    }
    size_t slow = (size_t)atomic_load(&script->slow);
    for (size_t i = 0; i < batch->count && (slow == 0 || i < slow); i++) {
        int number = atoi((const char *)batch->messages[i]->payload);
        atomic_fetch_add(&script->tried[number], 1);
        if (atomic_load(&script->rejects_all) || atomic_load(&script->poison[number])) {
            sink_batch_reject(batch, i, "value %d\nis wrong", number);
        } else {
            sink_batch_accept(batch, i);
            scripted_store(script, batch->messages[i], number);
        }
    }
    return ERR_OK;
}

static void scripted_close(void *state) {
    (void)state;
}

static const struct sink_type scripted = {.version = MQFLEET_VERSION,
                                          .name = "scripted",
                                          .fields = scripted_fields,
                                          .open = scripted_open,
                                          .write = scripted_write,
                                          .close = scripted_close};

/* In place of that of sink_types.c. */
const struct sink_type *sink_types_find(const char *name, char *fault) {
    (void)name;
    (void)fault;
    return &scripted;
}

static struct sink_fixture target, dead;
static json_t *target_settings, *dead_settings;
static struct sink_environment environment = {.node = "node"};

static void setup(void) {
    memset(&target_script, 0, sizeof target_script);
    memset(&dead_script, 0, sizeof dead_script);
    target_settings = json_pack("{s:i}", "batch_messages", 10);
    dead_settings = json_pack("{s:s, s:s}", "script", "dead", "dead_letter", "");
}

static void start(void) {
    struct sink *first = create_sink(&(struct sink_config){
        .name = "target", .type = "", .environment = &environment, .settings = target_settings});
    struct sink *second = create_sink(&(struct sink_config){
        .name = "dead", .type = "", .environment = &environment, .settings = dead_settings});
    sink_set_dead_letter(first, second);
    sink_set_dead_letter(second, first); /* has no effect */
    run_sink(&target, first);
    run_sink(&dead, second);
}

/* In the order of main.c. */
static void stop(int64_t timeout_ms) {
    sink_stop(target.sink, timeout_ms);
    sink_await_end(target.sink);
    pthread_join(target.thread, NULL);
    end_sink(&dead, timeout_ms);
    sink_destroy(target.sink);
    json_decref(target_settings);
    json_decref(dead_settings);
}

static void submit_numbers(int begin, int end) {
    for (int i = begin; i < end; i++) {
        submit_waiting(target.sink, i, 1);
    }
}

static int stored(struct script *script) {
    return atomic_load(&script->stored_count);
}

START_TEST(a_rejected_message_moves_and_the_others_are_accepted_in_order) {
    atomic_store(&target_script.poison[50], true);
    start();
    submit_numbers(0, 100);
    AWAIT(atomic_load(&accepted_count) == 100);
    ck_assert_int_eq(stored(&target_script), 99);
    for (int i = 0; i < 99; i++) {
        ck_assert_int_eq(target_script.stored[i], i < 50 ? i : i + 1);
    }
    ck_assert_int_eq(stored(&dead_script), 1);
    ck_assert_int_eq(dead_script.stored[0], 50);
    ck_assert_str_eq(dead_script.reasons[0], "value 50 is wrong");
    struct sink_status status;
    sink_status(target.sink, &status);
    ck_assert_int_eq(status.accepted, 99);
    ck_assert_int_eq(status.rejected, 1);
    ck_assert_int_eq(status.expired, 0);
    ck_assert(!status.failing);
    stop(WAIT_MS);
}
END_TEST

START_TEST(a_message_that_another_sink_has_too_is_copied) {
    atomic_store(&target_script.poison[5], true);
    start();
    submit_numbers(0, 5);
    struct message *message = message_retain(numbered_message(5, 1));
    ck_assert_int_eq(submit(target.sink, message), ERR_OK);
    flush(target.sink);
    AWAIT(stored(&dead_script) == 1);
    AWAIT(atomic_load(&message->references) == 1);
    ck_assert_ptr_null(message->rejection);
    ck_assert_str_eq(dead_script.reasons[0], "value 5 is wrong");
    message_destroy(message);
    stop(WAIT_MS);
}
END_TEST

START_TEST(a_dead_letter_is_answered_only_when_its_sink_has_it_and_is_not_written_again) {
    atomic_store(&target_script.poison[50], true);
    atomic_store(&dead_script.down, true);
    start();
    submit_numbers(0, 100);
    AWAIT(stored(&target_script) == 99);
    struct sink_status status;
    AWAIT((sink_status(dead.sink, &status), status.failing));
    AWAIT(atomic_load(&accepted_count) == 99);
    atomic_store(&dead_script.down, false);
    AWAIT(atomic_load(&accepted_count) == 100);
    ck_assert_int_eq(atomic_load(&target_script.tried[50]), 1);
    stop(WAIT_MS);
}
END_TEST

START_TEST(while_the_dead_letter_sink_is_full_rejected_messages_wait_and_others_go_on) {
    struct sink_status status;
    json_object_set_new(dead_settings, "queue_messages", json_integer(1));
    json_object_set_new(target_settings, "queue_messages", json_integer(8));
    for (int i = 100; i < 200; i++) {
        atomic_store(&target_script.poison[i], true);
    }
    atomic_store(&dead_script.down, true);
    start();
    submit_numbers(0, 1);
    AWAIT(stored(&target_script) == 1);
    submit_numbers(100, 104); /* one of them in the queue of the dead letter sink */
    AWAIT((sink_status(target.sink, &status), status.rejected == 4 && status.queued_messages == 3));
    submit_numbers(1, 60);
    AWAIT(stored(&target_script) == 60);
    AWAIT(atomic_load(&accepted_count) == 60);

    submit_numbers(104, 109); /* those that wait fill the queue */
    AWAIT((sink_status(target.sink, &status), status.rejected == 9));
    ck_assert_uint_eq(status.queued_messages, 8);
    struct message *held = numbered_message(60, 1);
    ck_assert_int_eq(submit(target.sink, held), ERR_FULL);

    atomic_store(&dead_script.down, false);
    AWAIT(stored(&dead_script) == 9);
    for (int i = 0; i < 9; i++) {
        ck_assert_int_eq(dead_script.stored[i], 100 + i);
        ck_assert_int_eq(atomic_load(&target_script.tried[100 + i]), 1);
    }
    AWAIT(message_queue_has_room(sink_queue(target.sink), NULL));
    ck_assert_int_eq(submit(target.sink, held), ERR_OK);
    flush(target.sink);
    AWAIT(atomic_load(&accepted_count) == 70);
    sink_status(target.sink, &status);
    ck_assert_uint_eq(status.queued_messages, 0);
    ck_assert_uint_eq(status.queued_bytes, 0);
    stop(WAIT_MS);
}
END_TEST

START_TEST(of_qos_0_what_the_dead_letter_sink_has_no_room_for_is_dropped_and_counted) {
    json_object_set_new(dead_settings, "queue_messages", json_integer(1));
    for (int i = 100; i < 104; i++) {
        atomic_store(&target_script.poison[i], true);
    }
    atomic_store(&dead_script.down, true);
    start();
    submit_numbers(0, 1);
    AWAIT(stored(&target_script) == 1);
    for (int i = 100; i < 104; i++) {
        struct message *message = numbered_message(i, 0);
        ck_assert_int_eq(message_queue_put(sink_queue(target.sink), NULL, message, NULL), ERR_OK);
    }
    flush(target.sink);
    AWAIT(metric_get(METRIC_DROPPED_DEAD_LETTER) == 3);
    atomic_store(&dead_script.down, false);
    AWAIT(stored(&dead_script) == 1);
    ck_assert_int_eq(metric_get(METRIC_DROPPED_SINK_FULL), 0);
    stop(WAIT_MS);
}
END_TEST

START_TEST(rejected_messages_wait_for_another_dead_letter_sink) {
    struct sink_status status;
    json_object_set_new(dead_settings, "queue_messages", json_integer(1));
    atomic_store(&target_script.poison[5], true);
    atomic_store(&target_script.poison[6], true);
    atomic_store(&dead_script.down, true);
    start();
    submit_numbers(0, 10);
    AWAIT((sink_status(target.sink, &status), status.rejected == 2));
    AWAIT((sink_status(dead.sink, &status), status.queued_messages == 1));
    sink_set_dead_letter(target.sink, NULL);
    atomic_store(&dead_script.down, false);
    AWAIT(stored(&dead_script) == 1);
    atomic_store(&target_script.poison[11], true);
    submit_numbers(10, 13);
    AWAIT((sink_status(target.sink, &status), status.failing));
    ck_assert_int_eq(stored(&dead_script), 1);
    sink_set_dead_letter(target.sink, dead.sink);
    AWAIT(atomic_load(&accepted_count) == 13);
    ck_assert_int_eq(stored(&dead_script), 3);
    stop(WAIT_MS);
}
END_TEST

/* Together they are larger than a batch. */
START_TEST(large_rejected_messages_do_not_hide_those_that_are_accepted) {
    static const uint8_t payload[3000000] = "5";
    atomic_store(&target_script.poison[5], true);
    start();
    for (int i = 0; i < 6; i++) {
        struct message *large = message_create(&(struct message){.id = "i",
                                                                 .client_id = "c",
                                                                 .topic = "t",
                                                                 .payload = payload,
                                                                 .payload_len = sizeof payload,
                                                                 .qos = 1});
        ck_assert_int_eq(submit(target.sink, large), ERR_OK);
    }
    submit_numbers(1, 2);
    AWAIT(atomic_load(&accepted_count) == 7);
    ck_assert_int_eq(stored(&dead_script), 6);
    stop(WAIT_MS);
}
END_TEST

START_TEST(a_target_that_blames_each_message_fails_and_loses_none) {
    struct sink_status status;
    atomic_store(&target_script.rejects_all, true);
    start();
    submit_numbers(0, 30);
    AWAIT((sink_status(target.sink, &status), status.failing && status.retried > 20));
    ck_assert_str_eq(status.error, "value 0 is wrong");
    ck_assert_int_eq(status.rejected, 0);
    atomic_store(&target_script.rejects_all, false);
    AWAIT(atomic_load(&accepted_count) == 30);
    ck_assert_int_eq(stored(&dead_script), 0);
    ck_assert_int_eq(target_script.stored[29], 29);
    stop(WAIT_MS);
}
END_TEST

START_TEST(a_dead_letter_sink_tries_again_what_it_rejects_itself) {
    atomic_store(&target_script.poison[5], true);
    atomic_store(&dead_script.poison[5], true);
    start();
    submit_numbers(0, 10);
    AWAIT(atomic_load(&dead_script.tried[5]) > 1);
    ck_assert_int_eq(atomic_load(&accepted_count), 9);
    atomic_store(&dead_script.poison[5], false);
    AWAIT(atomic_load(&accepted_count) == 10);
    ck_assert_int_eq(stored(&dead_script), 1);
    stop(WAIT_MS);
}
END_TEST

/* With a pause after each write it would take longer than the test waits. */
START_TEST(a_message_that_was_not_attempted_did_not_fail_and_does_not_expire) {
    struct sink_status status;
    json_object_set_new(target_settings, "retry_ms", json_integer(1));
    json_object_set_new(target_settings, "batch_messages", json_integer(900));
    atomic_store(&target_script.slow, 1);
    start();
    submit_numbers(0, 900);
    AWAIT(atomic_load(&accepted_count) == 900);
    sink_status(target.sink, &status);
    ck_assert_int_eq(status.accepted, 900);
    ck_assert_int_eq(status.retried, 0);
    ck_assert_str_eq(status.error, "");
    ck_assert_int_eq(stored(&dead_script), 0);
    stop(WAIT_MS);
}
END_TEST

START_TEST(a_message_that_is_not_accepted_in_time_becomes_a_dead_letter) {
    struct sink_status status;
    json_object_set_new(target_settings, "retry_ms", json_integer(300));
    atomic_store(&target_script.down, true);
    start();
    int64_t begun_ms = clock_ms();
    submit_numbers(0, 25);
    AWAIT(atomic_load(&accepted_count) == 25);
    ck_assert_int_ge(clock_ms() - begun_ms, 290);
    ck_assert_int_eq(stored(&dead_script), 25);
    ck_assert_str_eq(dead_script.reasons[24], "not accepted within 300 ms: down");
    sink_status(target.sink, &status);
    ck_assert_int_eq(status.expired, 25);
    ck_assert_int_eq(status.rejected, 0);
    ck_assert(status.failing);
    atomic_store(&target_script.down, false);
    submit_numbers(30, 40);
    AWAIT(atomic_load(&accepted_count) == 35);
    ck_assert_int_eq(stored(&target_script), 10);
    stop(WAIT_MS);
}
END_TEST

START_TEST(an_old_message_is_tried_for_as_long_as_the_sink_fails) {
    struct sink_status status;
    json_object_set_new(target_settings, "retry_ms", json_integer(60000));
    atomic_store(&target_script.down, true);
    start();
    struct message *message = numbered_message(1, 1);
    message->received_us = clock_us() - 3600000000; /* waited at the broker, and in the queue */
    ck_assert_int_eq(submit(target.sink, message), ERR_OK);
    flush(target.sink);
    AWAIT((sink_status(target.sink, &status), status.retried > 2));
    ck_assert_int_eq(status.expired, 0);
    atomic_store(&target_script.down, false);
    AWAIT(atomic_load(&accepted_count) == 1);
    stop(WAIT_MS);
}
END_TEST

START_TEST(the_stop_waits_for_dead_letters_and_then_cancels_them) {
    json_object_set_new(dead_settings, "queue_messages", json_integer(1));
    for (int i = 10; i < 15; i++) {
        atomic_store(&target_script.poison[i], true);
    }
    atomic_store(&dead_script.down, true);
    start();
    submit_numbers(0, 15);
    AWAIT(stored(&target_script) == 10);
    int64_t begun_ms = clock_ms();
    stop(300);
    ck_assert_int_ge(clock_ms() - begun_ms, 290);
    ck_assert_int_eq(atomic_load(&accepted_count), 10);
    ck_assert_int_eq(atomic_load(&canceled_count), 5);
}
END_TEST

START_TEST(a_stop_loses_no_dead_letter_that_its_sink_can_take) {
    json_object_set_new(dead_settings, "queue_messages", json_integer(1));
    for (int i = 10; i < 60; i++) {
        atomic_store(&target_script.poison[i], true);
    }
    start();
    submit_numbers(0, 60);
    stop(WAIT_MS);
    ck_assert_int_eq(atomic_load(&accepted_count), 60);
    ck_assert_int_eq(atomic_load(&canceled_count), 0);
    ck_assert_int_eq(stored(&dead_script), 50);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dead letters");
    TCase *tcase = tcase_create("dead letters");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, a_message_that_was_not_attempted_did_not_fail_and_does_not_expire);
    tcase_add_test(tcase, a_rejected_message_moves_and_the_others_are_accepted_in_order);
    tcase_add_test(tcase, a_message_that_another_sink_has_too_is_copied);
    tcase_add_test(tcase,
                   a_dead_letter_is_answered_only_when_its_sink_has_it_and_is_not_written_again);
    tcase_add_test(tcase,
                   while_the_dead_letter_sink_is_full_rejected_messages_wait_and_others_go_on);
    tcase_add_test(tcase,
                   of_qos_0_what_the_dead_letter_sink_has_no_room_for_is_dropped_and_counted);
    tcase_add_test(tcase, rejected_messages_wait_for_another_dead_letter_sink);
    tcase_add_test(tcase, large_rejected_messages_do_not_hide_those_that_are_accepted);
    tcase_add_test(tcase, a_target_that_blames_each_message_fails_and_loses_none);
    tcase_add_test(tcase, a_dead_letter_sink_tries_again_what_it_rejects_itself);
    tcase_add_test(tcase, a_message_that_is_not_accepted_in_time_becomes_a_dead_letter);
    tcase_add_test(tcase, an_old_message_is_tried_for_as_long_as_the_sink_fails);
    tcase_add_test(tcase, the_stop_waits_for_dead_letters_and_then_cancels_them);
    tcase_add_test(tcase, a_stop_loses_no_dead_letter_that_its_sink_can_take);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
