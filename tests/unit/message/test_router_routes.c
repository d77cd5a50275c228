/* Tests of the router with routes: they come, change and go while clients submit. */
#include "message/router.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "router_fixture.h"

#define THREADS 2
#define CHANGES 300

static void setup(void) {
    setup_router();
    route_set(&route, router, NULL, NULL, NULL);
}

static enum err submit(const char *topic, uint8_t qos) {
    struct message *message = message_to(topic, qos);
    enum err err = route_submit(&route, message, NULL);
    if (err != ERR_OK) {
        message_destroy(message);
    }
    return err;
}

START_TEST(routes_take_effect_when_the_route_is_set_again) {
    uint16_t generation = router_generation(router);
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert(
        router_set_routes(router, table_of("[{\"match\":{\"topic\":\"a\"},\"to\":[\"second\"]}]")));
    ck_assert_uint_ne(router_generation(router), generation);
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 2);
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_int_eq(submit("b", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
    ck_assert_uint_eq(drain(second), 1);
    ck_assert(router_set_routes(router, NULL));
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
    ck_assert_int_eq(route.messages, 5);
}
END_TEST

START_TEST(a_client_may_have_routes_of_its_own) {
    struct route_table *own = table_of("[{\"match\":{\"topic\":\"a\"},\"to\":[\"second\"]}]");
    ck_assert(route_set(&route, router, NULL, own, NULL));
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_int_eq(submit("b", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
    ck_assert_uint_eq(drain(second), 1);
    ck_assert(router_set_routes(router, table_of("[{\"to\":[\"first\"]}]")));
    ck_assert(route_set(&route, router, NULL, own, NULL));
    route_table_release(own); /* the route keeps it */
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
    ck_assert_uint_eq(drain(second), 1);
    router_remove_sink(router, "second");
    ck_assert_int_eq(submit("b", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
    ck_assert(route_set(&route, router, NULL, NULL, NULL));
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
}
END_TEST

START_TEST(the_labels_of_the_client_decide) {
    ck_assert(router_set_routes(
        router, table_of("[{\"match\":{\"labels\":{\"site\":\"oslo\"}},\"to\":[\"second\"]}]")));
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
    route_set(&route, router, NULL, NULL, oslo());
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(drain(second), 1);
}
END_TEST

START_TEST(without_routes_messages_still_refer_to_the_client) {
    struct message *batch[1];
    route_set(&route, router, NULL, NULL, oslo());
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(message_queue_peek(first, batch, 1, SIZE_MAX, 0), 1);
    ck_assert_str_eq(message_origin_label(batch[0]->origin, "site"), "oslo");
}
END_TEST

START_TEST(a_sink_that_is_removed_holds_its_messages_until_it_is_back) {
    ck_assert(router_set_routes(router, table_of("[{\"to\":[\"first\",\"second\"]}]")));
    route_set(&route, router, NULL, NULL, NULL);
    message_queue_close(second);
    router_remove_sink(router, "second");
    ck_assert_int_eq(submit("a", 1), ERR_FULL); /* before and after it is noticed */
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(submit("a", 1), ERR_FULL);
    ck_assert(!route_has_room(&route));
    ck_assert_uint_eq(drain(first), 0);
    ck_assert_int_eq(message_queue_resize(second, 100, 1000000, 10), ERR_OK);
    ck_assert(router_add_sink(router, "second", second));
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert(route_has_room(&route));
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(drain(first), 1);
    ck_assert_uint_eq(drain(second), 1);
}
END_TEST

START_TEST(a_full_sink_of_several_has_room_again_when_it_has_taken_something) {
    ck_assert(router_set_routes(router, table_of("[{\"to\":[\"first\",\"second\"]}]")));
    route_set(&route, router, NULL, NULL, NULL);
    int taken = 0;
    while (submit("a", 1) == ERR_OK) {
        taken++;
        drain(first);
    }
    ck_assert_int_gt(taken, 10);
    ck_assert(!route_has_room(&route));
    drain(second);
    ck_assert(route_has_room(&route));
}
END_TEST

static size_t holds_of(struct route_hold *holds) {
    return route_get_holds(&route, NULL, holds);
}

START_TEST(what_holds_a_client_is_told) {
    struct route_hold holds[ROUTE_HOLDS_MAX];
    ck_assert_uint_eq(holds_of(holds), 0);
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(holds_of(holds), 1);
    ck_assert_str_eq(holds[0].sink, "first");
    ck_assert_int_eq(holds[0].reason, ROUTE_HOLD_QUEUED);
    while (submit("a", 1) == ERR_OK) {
    }
    ck_assert_uint_eq(holds_of(holds), 1);
    ck_assert_int_eq(holds[0].reason, ROUTE_HOLD_FULL);
    ck_assert_int_gt(holds[0].since_ms, 0);
    drain(first);
    ck_assert_uint_eq(holds_of(holds), 0);
    route_set(&route, router, "other", NULL, NULL);
    ck_assert_uint_eq(route_get_holds(&route, "other", holds), 1);
    ck_assert_str_eq(holds[0].sink, "other");
    ck_assert_int_eq(holds[0].reason, ROUTE_HOLD_MISSING);
}
END_TEST

START_TEST(what_holds_a_client_with_routes_is_told) {
    struct route_hold holds[ROUTE_HOLDS_MAX];
    ck_assert(router_set_routes(router, table_of("[{\"to\":[\"first\",\"second\",\"third\"]}]")));
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(submit("a", 1), ERR_FULL);
    ck_assert_uint_eq(holds_of(holds), 1);
    ck_assert_str_eq(holds[0].sink, "third");
    ck_assert_int_eq(holds[0].reason, ROUTE_HOLD_MISSING);
    ck_assert_int_gt(holds[0].since_ms, 0);
    ck_assert(router_set_routes(router, table_of("[{\"to\":[\"first\",\"second\"]}]")));
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_uint_eq(holds_of(holds), 0);
    while (submit("a", 1) == ERR_OK) {
        drain(first);
    }
    ck_assert_uint_eq(holds_of(holds), 1);
    ck_assert_str_eq(holds[0].sink, "second");
    ck_assert_int_eq(holds[0].reason, ROUTE_HOLD_FULL);
    drain(second);
    ck_assert_int_eq(submit("a", 1), ERR_OK);
    ck_assert_uint_eq(holds_of(holds), 2);
    ck_assert(holds[0].reason == ROUTE_HOLD_QUEUED && holds[1].reason == ROUTE_HOLD_QUEUED);
}
END_TEST

START_TEST(dropped_messages_are_counted_across_changes) {
    int64_t dropped[MESSAGE_DROP_COUNT];
    router_remove_sink(router, "second");
    ck_assert(router_set_routes(router, table_of("[{\"to\":[\"second\"]}]")));
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(submit("a", 0), ERR_OK);
    route_set(&route, router, NULL, NULL, oslo());
    route_count_dropped(&route, DROP_MEMORY);
    route_set(&route, router, NULL, NULL, NULL);
    ck_assert_int_eq(route_get_dropped(&route, dropped), 2);
    ck_assert_int_eq(dropped[DROP_SINK_FULL], 1);
    ck_assert_int_eq(dropped[DROP_MEMORY], 1);
}
END_TEST

static struct route routes[THREADS];
static atomic_bool over;

static void *submit_always(void *argument) {
    struct route *mine = argument;
    int64_t dropped[MESSAGE_DROP_COUNT];
    while (!over) {
        struct message *message = message_to("a", 1);
        if (route_submit(mine, message, NULL) != ERR_OK) {
            message_destroy(message);
        }
        route_count_dropped(mine, DROP_MEMORY);
        route_get_dropped(mine, dropped);
        route_has_room(mine);
        route_flush(mine);
    }
    return NULL;
}

/* As with Paho: one thread submits, another one sets the route. */
START_TEST(routes_change_while_threads_submit) {
    static const char *const lists[] = {
        "[{\"to\":[\"first\",\"second\"]}]", "[{\"to\":[\"second\"],\"also\":[\"first\"]}]",
        "[{\"match\":{\"labels\":{\"site\":\"oslo\"}},\"to\":[\"second\"],"
        "\"lua\":\"return function(m) return {m, m} end\"}]",
        "[]"};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        routes[i] = (struct route){0};
        route_set(&routes[i], router, NULL, NULL, NULL);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_always, &routes[i]), 0);
    }
    for (int change = 0; change < CHANGES; change++) {
        ck_assert(router_set_routes(router, change % 5 == 4 ? NULL : table_of(lists[change % 5])));
        for (int i = 0; i < THREADS; i++) {
            route_set(&routes[i], router, change % 2 ? "second" : NULL, NULL,
                      change % 3 ? oslo() : NULL);
        }
        drain(first);
        drain(second);
        usleep(500);
    }
    over = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_gt(routes[i].messages, CHANGES);
        route_fini(&routes[i]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router_routes");
    TCase *tcase = tcase_create("router_routes");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown_router);
    tcase_add_test(tcase, routes_take_effect_when_the_route_is_set_again);
    tcase_add_test(tcase, a_client_may_have_routes_of_its_own);
    tcase_add_test(tcase, the_labels_of_the_client_decide);
    tcase_add_test(tcase, without_routes_messages_still_refer_to_the_client);
    tcase_add_test(tcase, a_sink_that_is_removed_holds_its_messages_until_it_is_back);
    tcase_add_test(tcase, a_full_sink_of_several_has_room_again_when_it_has_taken_something);
    tcase_add_test(tcase, what_holds_a_client_is_told);
    tcase_add_test(tcase, what_holds_a_client_with_routes_is_told);
    tcase_add_test(tcase, dropped_messages_are_counted_across_changes);
    tcase_add_test(tcase, routes_change_while_threads_submit);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
