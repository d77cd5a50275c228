#include <check.h>
#include <stdlib.h>
#include "mqtt/broker/connect_limiter.h"

static struct brokers brokers;
static struct connect_limiter limiter;
static struct connect_limiter_ticket tickets[1000];

static void setup(void) {
    brokers = (struct brokers){.incidents = incidents_create()};
    for (size_t i = 0; i < 1000; i++) {
        tickets[i] = (struct connect_limiter_ticket){0};
    }
}

START_TEST(no_more_than_the_limit_are_in_flight_to_one_broker) {
    struct broker *broker = broker_acquire(&brokers, "h", 1);
    connect_limiter_init(&limiter, 64, 0);
    for (int i = 0; i < 100; i++) {
        connect_limiter_join(&limiter, &tickets[i], broker);
    }
    for (int i = 0; i < 64; i++) {
        ck_assert_ptr_eq(connect_limiter_next(&limiter, 0),
                         &tickets[i]); /* first come, first served */
    }
    ck_assert_ptr_null(connect_limiter_next(&limiter, 0));
    connect_limiter_leave(&limiter, &tickets[10]);
    ck_assert_ptr_eq(connect_limiter_next(&limiter, 0), &tickets[64]);
    ck_assert_ptr_null(connect_limiter_next(&limiter, 0));
    connect_limiter_leave(&limiter, &tickets[65]); /* left while waiting */
    connect_limiter_leave(&limiter, &tickets[65]);
    connect_limiter_leave(&limiter, &tickets[11]);
    ck_assert_ptr_eq(connect_limiter_next(&limiter, 0), &tickets[66]);
    for (int i = 0; i < 100; i++) {
        connect_limiter_leave(&limiter, &tickets[i]);
    }
    broker_release(&brokers, broker);
    ck_assert_ptr_null(brokers.table);
}
END_TEST

/* KNOWN-FAILURES 8 */
START_TEST(kf08_a_dead_broker_delays_nobody_else) {
    struct broker *dead = broker_acquire(&brokers, "dead", 1);
    struct broker *alive = broker_acquire(&brokers, "alive", 1);
    connect_limiter_init(&limiter, 4, 0);
    for (int i = 0; i < 500; i++) {
        connect_limiter_join(&limiter, &tickets[i], dead);
    }
    for (int i = 500; i < 1000; i++) {
        connect_limiter_join(&limiter, &tickets[i], alive);
    }
    int dead_count = 0, alive_count = 0;
    for (struct connect_limiter_ticket *ticket; (ticket = connect_limiter_next(&limiter, 0));) {
        if (ticket->broker == alive) {
            alive_count++;
            connect_limiter_leave(&limiter, ticket); /* connected at once */
        } else {
            dead_count++;
            ck_assert_int_le(dead_count, alive_count + 1); /* in turn */
        }
    }
    ck_assert_int_eq(dead_count, 4);
    ck_assert_int_eq(alive_count, 500);
    for (int i = 0; i < 500; i++) {
        connect_limiter_leave(&limiter, &tickets[i]);
    }
    broker_release(&brokers, dead);
    broker_release(&brokers, alive);
}
END_TEST

START_TEST(the_rate_bounds_what_is_begun) {
    struct broker *broker = broker_acquire(&brokers, "h", 1);
    connect_limiter_init(&limiter, 1000, 100);
    for (int i = 0; i < 1000; i++) {
        connect_limiter_join(&limiter, &tickets[i], broker);
    }
    int begun = 0;
    for (int64_t now_us = 1000000; now_us < 3000000; now_us += 1000) {
        while (connect_limiter_next(&limiter, now_us)) {
            begun++;
        }
        ck_assert_int_gt(connect_limiter_wait_ms(&limiter, now_us, 1000), 0);
        ck_assert_int_le(connect_limiter_wait_ms(&limiter, now_us, 1000), 10);
    }
    ck_assert_int_ge(begun, 195);
    ck_assert_int_le(begun, 210);
    for (int i = 0; i < 1000; i++) {
        connect_limiter_leave(&limiter, &tickets[i]);
    }
    broker_release(&brokers, broker);
}
END_TEST

/* How many connects it starts within a second if none ever finishes. */
static int begun(struct connect_limiter *one) {
    struct broker *broker = broker_acquire(&brokers, "h", 1);
    int n = 0;
    for (size_t i = 0; i < 1000; i++) {
        connect_limiter_join(one, &tickets[i], broker);
    }
    for (int64_t now_us = 1000000; now_us < 2000000; now_us += 1000) {
        while (connect_limiter_next(one, now_us)) {
            n++;
        }
    }
    for (size_t i = 0; i < 1000; i++) {
        connect_limiter_leave(one, &tickets[i]);
    }
    broker_release(&brokers, broker);
    return n;
}

START_TEST(pacers_that_share_limits_keep_them_together) {
    static const struct {
        size_t in_flight, count;
        int most;
    } cases[] = {{64, 1, 64}, {64, 2, 64}, {7, 3, 7}, {2, 3, 3}};
    int in_flight = 0, paced = 0;
    for (size_t i = 0; i < cases[_i].count; i++) {
        struct connect_limiter narrow, slow;
        connect_limiter_init(&narrow, cases[_i].in_flight, 0);
        connect_limiter_share(&narrow, i, cases[_i].count);
        in_flight += begun(&narrow);
        connect_limiter_init(&slow, 1000, 60);
        connect_limiter_share(&slow, i, cases[_i].count);
        paced += begun(&slow);
    }
    ck_assert_int_eq(in_flight, cases[_i].most);
    ck_assert_int_ge(paced, 57);
    ck_assert_int_le(
        paced, 60 + 3 + (int)cases[_i].count); /* a twentieth at once, and the first of each */
}
END_TEST

/* As many as are admitted now. */
static int admitted(void) {
    int n = 0;
    while (connect_limiter_next(&limiter, 0)) {
        n++;
    }
    return n;
}

static struct broker *with_waiting(size_t in_flight_max, size_t waiting) {
    struct broker *broker = broker_acquire(&brokers, "h", 1);
    connect_limiter_init(&limiter, in_flight_max, 0);
    for (size_t i = 0; i < waiting; i++) {
        connect_limiter_join(&limiter, &tickets[i], broker);
    }
    return broker;
}

static void all_leave(struct broker *broker) {
    for (size_t i = 0; i < 1000; i++) {
        connect_limiter_leave(&limiter, &tickets[i]);
    }
    broker_release(&brokers, broker);
}

START_TEST(nodes_divide_what_is_in_flight_but_each_keeps_a_few) {
    static const struct {
        size_t all, nodes;
        int most;
    } cases[] = {{64, 0, 64}, {64, 1, 64},   {64, 2, 32}, {64, 3, 21},
                 {64, 9, 8},  {64, 1000, 8}, {3, 2, 3},   {200, 4, 50}};
    struct broker *broker = with_waiting(cases[_i].all, 300);
    connect_limiter_set_nodes(&limiter, &brokers, cases[_i].nodes);
    ck_assert_int_eq(admitted(), cases[_i].most);
    all_leave(broker);
}
END_TEST

START_TEST(workers_divide_the_part_of_their_node) {
    int in_flight = 0;
    for (size_t i = 0; i < 3; i++) {
        struct connect_limiter narrow;
        connect_limiter_init(&narrow, 64, 0);
        connect_limiter_share(&narrow, i, 3);
        connect_limiter_set_nodes(&narrow, &brokers, 2);
        in_flight += begun(&narrow);
    }
    ck_assert_int_eq(in_flight, 32);
}
END_TEST

START_TEST(what_is_above_a_lower_limit_leaves_before_others_are_admitted) {
    struct broker *broker = with_waiting(64, 200);
    ck_assert_int_eq(admitted(), 64);
    connect_limiter_set_nodes(&limiter, &brokers, 2); /* another node has joined */
    ck_assert(!connect_limiter_acquire_socket(&limiter, broker));
    for (int i = 0; i < 32; i++) {
        connect_limiter_leave(&limiter, &tickets[i]);
        ck_assert_int_eq(admitted(), 0);
    }
    connect_limiter_leave(&limiter, &tickets[32]);
    ck_assert_int_eq(admitted(), 1);
    all_leave(broker);
}
END_TEST

START_TEST(a_higher_limit_admits_at_once_who_waited_for_a_lower_one) {
    struct broker *broker = with_waiting(64, 200);
    connect_limiter_set_nodes(&limiter, &brokers, 2);
    ck_assert_int_eq(admitted(), 32);
    connect_limiter_set_nodes(&limiter, &brokers, 1); /* the other one is dead */
    ck_assert_int_eq(admitted(), 32);
    all_leave(broker);
}
END_TEST

START_TEST(tickets_that_a_quota_holds_delay_nobody) {
    static const struct rate_quota_row row = {
        .value = "acme", .scope = "label.tenant=acme", .per_s = {[RATE_CONNECTS] = 2}};
    static const struct message_label label = {"tenant", "acme"};
    struct rate_quotas *quotas = rate_quotas_create();
    ck_assert(rate_quotas_apply(quotas, "tenant", &row, 1, 1));
    struct rate_quota *quota = rate_quotas_take(quotas, &label, 1);
    struct broker *broker = broker_acquire(&brokers, "h", 1);
    connect_limiter_init(&limiter, 2, 10);
    for (int i = 0; i < 4; i++) {
        connect_limiter_join(&limiter, &tickets[i], broker);
    }
    int64_t now_us = 1000000;
    for (int i = 0; i < 3; i++) { /* with one place in the rate of the broker, and two in flight */
        ck_assert_ptr_eq(connect_limiter_next(&limiter, now_us), &tickets[i]);
        ck_assert(connect_limiter_hold(&limiter, &tickets[i], quota));
    }
    ck_assert_ptr_eq(connect_limiter_next(&limiter, now_us), &tickets[3]);
    ck_assert_ptr_null(connect_limiter_next(&limiter, now_us));
    connect_limiter_leave(&limiter, &tickets[3]);
    ck_assert_int_eq(connect_limiter_held_wait_ms(&limiter, now_us, 100), 0);
    ck_assert(rate_quota_take(quota, RATE_CONNECTS, now_us * 1000));
    ck_assert(rate_quota_take(quota, RATE_CONNECTS, now_us * 1000));
    ck_assert_int_eq(connect_limiter_held_wait_ms(&limiter, now_us, 100), 100);
    connect_limiter_leave(&limiter, &tickets[1]); /* it was stopped */
    ck_assert_ptr_eq(connect_limiter_held_next(&limiter, limiter.holds), &tickets[0]);
    now_us += 1000000;
    connect_limiter_join(&limiter, &tickets[4], broker);
    connect_limiter_join(&limiter, &tickets[0], broker);
    ck_assert_ptr_eq(connect_limiter_next(&limiter, now_us), &tickets[4]);
    ck_assert_ptr_eq(connect_limiter_held_next(&limiter, limiter.holds), &tickets[2]);
    ck_assert_ptr_null(limiter.holds);
    connect_limiter_leave(&limiter, &tickets[0]);
    connect_limiter_leave(&limiter, &tickets[4]);
    broker_release(&brokers, broker);
    rate_quota_release(quota);
    rate_quotas_destroy(quotas);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("connect_limiter");
    TCase *tcase = tcase_create("limiter");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, no_more_than_the_limit_are_in_flight_to_one_broker);
    tcase_add_test(tcase, kf08_a_dead_broker_delays_nobody_else);
    tcase_add_test(tcase, the_rate_bounds_what_is_begun);
    tcase_add_loop_test(tcase, pacers_that_share_limits_keep_them_together, 0, 4);
    tcase_add_loop_test(tcase, nodes_divide_what_is_in_flight_but_each_keeps_a_few, 0, 8);
    tcase_add_test(tcase, workers_divide_the_part_of_their_node);
    tcase_add_test(tcase, what_is_above_a_lower_limit_leaves_before_others_are_admitted);
    tcase_add_test(tcase, a_higher_limit_admits_at_once_who_waited_for_a_lower_one);
    tcase_add_test(tcase, tickets_that_a_quota_holds_delay_nobody);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
