/* Sinks that come and go while clients receive. */
#include "message/router.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/telemetry/metrics.h"

#define THREADS   2
#define SUBMITTED 20000 /* by each thread */
#define CHANGES   3000

static struct router *router;
static struct message_queue *first, *second;
static struct route route;

static struct message *message_of(uint8_t qos) {
    return message_create(&(struct message){
        .id = "i", .client_id = "c", .topic = "t", .payload = (const uint8_t *)"", .qos = qos});
}

static void setup(void) {
    router = router_create();
    first = message_queue_create(10, 100000, 100);
    second = message_queue_create(10, 100000, 100);
    router_add_sink(router, "default", first);
    route = (struct route){0};
    route_set(&route, router, "later", NULL, NULL);
}

static size_t queued(struct message_queue *queue) {
    struct message_queue_status status;
    message_queue_get_status(queue, &status);
    return status.messages;
}

static size_t drain(struct message_queue *queue) {
    struct message *batch[10];
    struct message_queue_entry entries[10];
    static const bool all[10] = {true, true, true, true, true, true, true, true, true, true};
    size_t sum = 0;
    while (queued(queue) > 0) {
        size_t n = message_queue_peek(queue, batch, 10, SIZE_MAX, 0);
        message_queue_take(queue, all, entries, n);
        for (size_t i = 0; i < n; i++) {
            message_destroy(entries[i].message);
        }
        sum += n;
    }
    return sum;
}

static void teardown(void) {
    route_fini(&route);
    drain(first);
    drain(second);
    router_destroy(router);
    message_queue_destroy(first);
    message_queue_destroy(second);
}

START_TEST(messages_for_a_sink_that_is_not_there_are_held_and_go_to_no_other) {
    struct message *held = message_of(1), *dropped = message_of(0);
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_FULL);
    ck_assert_int_eq(route_submit(&route, dropped, NULL), ERR_FULL);
    ck_assert(!route_has_room(&route));
    int64_t dropped_by_reason[MESSAGE_DROP_COUNT];
    ck_assert_int_eq(route_get_dropped(&route, dropped_by_reason), 1);
    router_flush(router);
    route_flush(&route);
    ck_assert(router_add_sink(router, "later", second));
    route_set(&route, router, "later", NULL, NULL);
    ck_assert(route_has_room(&route));
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_OK);
    ck_assert(queued(first) == 0 && queued(second) == 1);
    message_destroy(dropped);
}
END_TEST

START_TEST(each_change_has_a_generation) {
    uint16_t generation = router_generation(router);
    router_add_sink(router, "later", second);
    ck_assert_uint_ne(router_generation(router), generation);
    generation = router_generation(router);
    router_remove_sink(router, "nobody");
    ck_assert_uint_eq(router_generation(router), generation);
    router_remove_sink(router, "later");
    ck_assert_uint_ne(router_generation(router), generation);
}
END_TEST

START_TEST(a_removed_sink_holds_what_comes_and_its_name_may_come_back) {
    struct message *held = message_of(1);
    router_add_sink(router, "later", second);
    route_set(&route, router, "later", NULL, NULL);
    router_remove_sink(router, "later");
    message_queue_close(second);
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_FULL); /* the route is outdated */
    route_set(&route, router, "later", NULL, NULL);
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_FULL); /* it leads nowhere */
    ck_assert_int_eq(message_queue_resize(second, 10, 100000, 100), ERR_OK);
    router_add_sink(router, "later", second);
    route_set(&route, router, "later", NULL, NULL);
    ck_assert_int_eq(route_submit(&route, held, NULL), ERR_OK);
    ck_assert_uint_eq(queued(second), 1);
}
END_TEST

START_TEST(the_end_of_the_node_is_told_and_does_not_hold) {
    struct message *late = message_of(1);
    router_add_sink(router, "later", second);
    route_set(&route, router, "later", NULL, NULL);
    router_stop(router);
    message_queue_close(second);
    ck_assert_int_eq(route_submit(&route, late, NULL), ERR_WRONG_STATE);
    message_destroy(late);
}
END_TEST

START_TEST(there_are_no_more_sinks_than_places) {
    char name[16];
    for (int i = 1; i < ROUTER_SINKS_MAX; i++) {
        snprintf(name, sizeof name, "s%d", i);
        ck_assert(router_add_sink(router, name, second));
    }
    ck_assert(!router_add_sink(router, "more", second));
    router_remove_sink(router, "s7");
    ck_assert(router_add_sink(router, "more", second));
}
END_TEST

static struct route routes[THREADS];
static atomic_int running;
static atomic_size_t gone; /* messages that no queue has taken */

static void *submit_many(void *argument) {
    struct route *own = argument;
    for (int i = 0; i < SUBMITTED; i++) {
        struct message *message = message_of((uint8_t)(i % 2));
        enum err err = route_submit(own, message, NULL);
        ck_assert_int_ne(err, ERR_WRONG_STATE);
        if (err != ERR_OK) {
            message_destroy(message);
            gone++;
        }
        route_flush(own);
    }
    running--;
    return NULL;
}

/* As with Paho, whose threads submit. ThreadSanitizer judges. */
START_TEST(threads_submit_while_a_sink_comes_and_goes) {
    pthread_t threads[THREADS];
    size_t taken = 0;
    running = THREADS;
    for (size_t i = 0; i < THREADS; i++) {
        route_set(&routes[i], router, "later", NULL, NULL);
        pthread_create(&threads[i], NULL, submit_many, &routes[i]);
    }
    for (int change = 0; running > 0 || change < CHANGES; change++) {
        ck_assert_int_eq(message_queue_resize(second, 5 + (size_t)change % 60, 100000, 100),
                         ERR_OK);
        router_add_sink(router, "later", second);
        route_set(&routes[change % THREADS], router, "later", NULL, NULL);
        taken += drain(second);
        router_remove_sink(router, "later");
        message_queue_close(second);
        taken += drain(second);
        route_set(&routes[change % THREADS], router, "later", NULL, NULL);
        router_flush(router);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        route_fini(&routes[i]);
    }
    taken += drain(second);
    size_t dropped =
        (size_t)(metric_get(METRIC_DROPPED_SINK_FULL) + metric_get(METRIC_DROPPED_OVER_SHARE));
    ck_assert_uint_eq(taken + gone + dropped, (size_t)THREADS * SUBMITTED);
}
END_TEST

START_TEST(other_bounds_keep_what_is_queued_and_its_order) {
    char topic[8];
    struct message *batch[10];
    struct message_queue *queue = message_queue_create(4, 100000, 100);
    static const bool all[10] = {true, true, true, true, true, true, true, true, true, true};
    struct message_queue_entry entries[10];
    for (int i = 0; i < 4; i++) { /* the ring wraps */
        struct message *before = message_create(&(struct message){
            .id = "i", .client_id = "c", .topic = i < 3 ? "old" : "oldest", .qos = 1});
        ck_assert_int_eq(message_queue_put(queue, NULL, before, NULL), ERR_OK);
        message_queue_peek(queue, batch, 1, SIZE_MAX, 0);
        if (i < 2) {
            message_queue_take(queue, all, entries, 1);
            message_destroy(entries[0].message);
        }
    }
    for (int i = 0; i < 6; i++) {
        snprintf(topic, sizeof topic, "%d", i);
        ck_assert_int_eq(message_queue_resize(queue, i < 3 ? 10 : 3, 100000, 100), ERR_OK);
        struct message *message = message_create(
            &(struct message){.id = "i", .client_id = "c", .topic = topic, .qos = 1});
        enum err err = message_queue_put(queue, NULL, message, NULL);
        ck_assert_int_eq(err, i < 3 ? ERR_OK : ERR_FULL);
        if (err != ERR_OK) {
            message_destroy(message);
        }
    }
    ck_assert_uint_eq(message_queue_peek(queue, batch, 10, SIZE_MAX, 0), 5);
    ck_assert_str_eq(batch[0]->topic, "old");
    ck_assert_str_eq(batch[1]->topic, "oldest");
    ck_assert_str_eq(batch[2]->topic, "0");
    ck_assert_str_eq(batch[4]->topic, "2");
    message_queue_take(queue, all, entries, 5);
    for (int i = 0; i < 5; i++) {
        message_destroy(entries[i].message);
    }
    message_queue_destroy(queue);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router_changes");
    TCase *tcase = tcase_create("router_changes");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, messages_for_a_sink_that_is_not_there_are_held_and_go_to_no_other);
    tcase_add_test(tcase, each_change_has_a_generation);
    tcase_add_test(tcase, a_removed_sink_holds_what_comes_and_its_name_may_come_back);
    tcase_add_test(tcase, the_end_of_the_node_is_told_and_does_not_hold);
    tcase_add_test(tcase, there_are_no_more_sinks_than_places);
    tcase_add_test(tcase, threads_submit_while_a_sink_comes_and_goes);
    tcase_add_test(tcase, other_bounds_keep_what_is_queued_and_its_order);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
