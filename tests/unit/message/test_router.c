/* Tests of the path of a message from a client's route to a queue, and of its counters. */
#include "message/router.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include "base/telemetry/metrics.h"

#define SUBMITTED 20000 /* while the route is set */

static const bool ALL[2] = {true, true};

static struct router *router;
static struct message_queue *first, *second;
static struct route route;
static int prepared, shown, forgotten;

static struct message *message_of(uint8_t qos) {
    return message_create(&(struct message){.id = "i",
                                            .client_id = "c",
                                            .topic = "t",
                                            .payload = (const uint8_t *)"12345",
                                            .payload_len = 5,
                                            .received_us = 7000,
                                            .qos = qos});
}

static void *prepare(void *context, const struct message *message) {
    prepared++;
    return message->qos == 0 ? NULL : context;
}

static void show(void *context, void *what, bool taken) {
    ck_assert_ptr_eq(what, context);
    shown += taken;
    forgotten += !taken;
}

static void setup(void) {
    router = router_create();
    first = message_queue_create(2, 100000, 100);
    second = message_queue_create(2, 100000, 100);
    router_add_sink(router, "redis_stream", first);
    router_add_sink(router, "null", second);
    route = (struct route){0};
    route_set(&route, router, NULL, NULL, NULL);
}

static int64_t dropped(enum message_drop reason) {
    int64_t counts[MESSAGE_DROP_COUNT];
    route_get_dropped(&route, counts);
    return counts[reason];
}

static int64_t dropped_in_all(void) {
    int64_t counts[MESSAGE_DROP_COUNT];
    return route_get_dropped(&route, counts);
}

static size_t queued(struct message_queue *queue) {
    struct message_queue_status status;
    message_queue_get_status(queue, &status);
    return status.messages;
}

static void drain(struct message_queue *queue) {
    struct message *batch[2];
    struct message_queue_entry entries[2];
    size_t n = message_queue_peek(queue, batch, 2, SIZE_MAX, 0);
    message_queue_take(queue, ALL, entries, n);
    for (size_t i = 0; i < n; i++) {
        message_destroy(entries[i].message);
    }
}

static void teardown(void) {
    drain(first);
    drain(second);
    route_fini(&route);
    router_destroy(router);
    message_queue_destroy(first);
    message_queue_destroy(second);
}

START_TEST(a_route_leads_to_the_sink_of_its_name_or_to_the_default) {
    ck_assert_int_eq(route_submit(&route, message_of(1), NULL), ERR_OK);
    ck_assert(queued(first) == 1 && queued(second) == 0);
    route_set(&route, router, "null", NULL, NULL);
    ck_assert_int_eq(route_submit(&route, message_of(1), NULL), ERR_OK);
    ck_assert(queued(first) == 1 && queued(second) == 1);
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(route_submit(&route, message_of(1), NULL), ERR_OK);
    ck_assert(queued(first) == 2 && queued(second) == 1);
    ck_assert_int_eq(route.messages, 3); /* the counts stay */
}
END_TEST

static void *submit_many(void *context) {
    (void)context;
    for (int i = 0; i < SUBMITTED; i++) {
        ck_assert_int_eq(route_submit(&route, message_of(0), NULL), ERR_OK);
        route_flush(&route);
    }
    return NULL;
}

/* As with Paho, whose thread submits. ThreadSanitizer judges. */
START_TEST(a_route_may_be_set_while_another_thread_submits_to_it) {
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, submit_many, NULL), 0);
    for (int i = 0; route.messages < SUBMITTED; i++) {
        route_set(&route, router, i % 2 == 0 ? "null" : NULL, NULL, NULL);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(queued(first) + queued(second) + (size_t)dropped_in_all(), SUBMITTED);
}
END_TEST

START_TEST(what_is_received_is_counted_once_and_what_is_refused_is_not) {
    struct receipt receipt = {0};
    struct message_queue_entry entry;
    int64_t qos_1 = metric_get(METRIC_RECEIVED_QOS0 + 1);
    struct message *held = message_of(1);
    ck_assert_int_eq(route_submit(&route, message_of(1), &receipt), ERR_OK);
    ck_assert_int_eq(route_submit(&route, message_of(2), NULL), ERR_OK);
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_FULL);
    ck_assert(!route_has_room(&route));
    ck_assert_int_eq(route.messages, 2);
    ck_assert_int_eq(route.bytes, 10);
    ck_assert_int_eq(route.last_message_at_ms, 7);
    ck_assert_int_eq(route_submit(&route, message_of(0), NULL), ERR_OK); /* dropped */
    ck_assert_int_eq(route.messages, 3);
    ck_assert_int_eq(dropped(DROP_SINK_FULL), 1);
    ck_assert_int_eq(dropped_in_all(), 1);
    ck_assert_int_eq(metric_get(METRIC_DROPPED_SINK_FULL), 1);
    message_queue_take(first, ALL, &entry, 1);
    ck_assert_ptr_eq(entry.receipt, &receipt);
    message_destroy(entry.message);
    ck_assert(route_has_room(&route));
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_OK);
    ck_assert_int_eq(metric_get(METRIC_RECEIVED_QOS0 + 1) - qos_1, 2);
}
END_TEST

START_TEST(what_comes_after_the_sink_has_stopped_is_not_taken) {
    router_stop(router);
    message_queue_close(first);
    struct message *late = message_of(1), *late_0 = message_of(0);
    ck_assert_int_eq(route_submit(&route, late, NULL), ERR_WRONG_STATE);
    ck_assert_int_eq(dropped_in_all(), 0); /* the broker still has it */
    ck_assert_int_eq(route_submit(&route, late_0, NULL), ERR_WRONG_STATE);
    ck_assert_int_eq(dropped(DROP_SINK_REFUSED), 1);
    ck_assert_int_eq(metric_get(METRIC_DROPPED_SINK_REFUSED), 1);
    ck_assert_int_eq(route.messages, 0);
    message_destroy(late);
    message_destroy(late_0);
}
END_TEST

START_TEST(an_observer_is_shown_what_is_taken) {
    router_observe(router,
                   &(struct router_observer){.context = &route, .prepare = prepare, .show = show});
    struct message *held = message_of(1);
    ck_assert_int_eq(route_submit(&route, message_of(0), NULL), ERR_OK); /* nobody watches it */
    ck_assert_int_eq(route_submit(&route, message_of(1), NULL), ERR_OK);
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_FULL);
    ck_assert(prepared == 3 && shown == 1 && forgotten == 1);
    message_destroy(held);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router");
    TCase *tcase = tcase_create("router");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_route_leads_to_the_sink_of_its_name_or_to_the_default);
    tcase_add_test(tcase, a_route_may_be_set_while_another_thread_submits_to_it);
    tcase_add_test(tcase, what_is_received_is_counted_once_and_what_is_refused_is_not);
    tcase_add_test(tcase, what_comes_after_the_sink_has_stopped_is_not_taken);
    tcase_add_test(tcase, an_observer_is_shown_what_is_taken);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
