/* The engine `reactor` and the limits of a client: QoS 1 and 2 wait in order, packets behind them
 * are processed, QoS 0 is dropped. A message has 1,000 bytes, and one byte per second is allowed:
 * the first passes, the next one waits for 1,000 s of a clock that the tests move. */
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "mqtt/reactor/reactor.h"
#include "mqtt/reactor_fixture.h"

#define PAYLOAD_LEN 1000
#define WAIT_MS     1001000

static const struct rate_limit_values slow = {.bytes_per_s = 1};

static char taken[64];
static int taken_count;
static bool full;

static enum err take(struct message *message, struct receipt *receipt) {
    if (full) {
        bench.has_room = false;
        return ERR_FULL;
    }
    taken[taken_count++] = (char)message->payload[0];
    message_destroy(message);
    if (receipt) {
        bench_answer(receipt, ERR_OK);
    }
    return ERR_OK;
}

static void setup(void) {
    bench_setup(4, 4194304);
    bench.config.keepalive_s = 0;
    bench.on_message = take;
    memset(taken, 0, sizeof taken);
    taken_count = 0;
    full = false;
    ck_assert(route_set_limits(&bench.route, &slow));
}

/* packet_id 0: QoS 0. */
static void send_message(uint16_t packet_id, char mark) {
    uint8_t packet[PAYLOAD_LEN + 10];
    size_t rest = 3 + (packet_id > 0 ? 2 : 0) + PAYLOAD_LEN, at = 0;
    packet[at++] = packet_id > 0 ? 0x32 : 0x30;
    packet[at++] = (uint8_t)(rest & 0x7F) | 0x80;
    packet[at++] = (uint8_t)(rest >> 7);
    memcpy(packet + at, "\x00\x01t", 3);
    at += 3;
    if (packet_id > 0) {
        packet[at++] = (uint8_t)(packet_id >> 8);
        packet[at++] = (uint8_t)packet_id;
    }
    memset(packet + at, mark, PAYLOAD_LEN);
    bench_send(packet, at + PAYLOAD_LEN);
}

static int64_t dropped(void) {
    int64_t counts[MESSAGE_DROP_COUNT];
    route_get_dropped(&bench.route, counts);
    return counts[DROP_OVER_LIMIT];
}

/* The first message has passed, the second one waits. */
static void reach_limit(void) {
    bench_up(false);
    send_message(1, 'a');
    send_message(2, 'b');
    UNTIL(bench.engine->held_back > 0);
    ck_assert_str_eq(taken, "a");
    ck_assert(route_is_limited(&bench.route));
}

START_TEST(qos_1_beyond_the_limits_waits_in_order_and_passes_later) {
    reach_limit();
    ck_assert_int_eq(metric_get(METRIC_LIMIT_PAUSES), 1);
    ck_assert_ptr_null(bench.engine->paused); /* it is not asked again and again */
    send_message(3, 'c');
    clock_advance_ms(WAIT_MS);
    UNTIL(taken_count == 2);
    clock_advance_ms(WAIT_MS);
    UNTIL(taken_count == 3);
    ck_assert_str_eq(taken, "abc");
    for (int i = 1; i <= 3; i++) {
        ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, i);
    }
    ck_assert_int_eq(bench.engine->held_back, 0);
}
END_TEST

/* The limits may have changed, so it looks once a second, without a try. */
START_TEST(a_message_that_waits_is_not_tried_before_it_may_pass) {
    reach_limit();
    for (int i = 0; i < 3; i++) {
        clock_advance_ms(2000);
        for (int turn = 0; turn < 60; turn++) {
            engine_reactor.poll(bench.engine, 10);
        }
    }
    ck_assert_int_eq(metric_get(METRIC_LIMIT_PAUSES), 1);
    ck_assert_ptr_null(bench.engine->paused);
}
END_TEST

START_TEST(qos_0_beyond_the_limits_is_dropped_and_counted) {
    bench_up(false);
    send_message(0, 'a');
    send_message(0, 'b');
    send_message(0, 'c');
    UNTIL(dropped() == 2);
    ck_assert_str_eq(taken, "a");
    ck_assert_int_eq(metric_get(METRIC_DROPPED_OVER_LIMIT), 2);
    ck_assert_int_eq(bench.route.messages, 3);
    ck_assert_int_eq(bench.engine->held_back, 0);
    clock_advance_ms(WAIT_MS);
    send_message(0, 'd');
    UNTIL(taken_count == 2);
    ck_assert_str_eq(taken, "ad");
}
END_TEST

START_TEST(qos_0_does_not_overtake_a_message_that_waits) {
    reach_limit();
    send_message(0, 'c');
    send_message(3, 'd');
    clock_advance_ms(WAIT_MS);
    UNTIL(dropped() == 1); /* after "b", which has used up everything */
    ck_assert_str_eq(taken, "ab");
    clock_advance_ms(WAIT_MS);
    UNTIL(taken_count == 3);
    ck_assert_str_eq(taken, "abd");
}
END_TEST

START_TEST(an_answer_behind_a_message_that_waits_is_heard) {
    reach_limit();
    ck_assert_int_eq(bench_publish(0, 1, 1), ERR_OK);
    bench_expect(PACKET_PUBACK);
    uint16_t id = bench_expect(PACKET_PUBLISH).packet_id;
    const uint8_t puback[] = {0x40, 2, (uint8_t)(id >> 8), (uint8_t)id};
    bench_send(puback, sizeof puback);
    UNTIL(bench.answers[0] == 1);
    ck_assert_int_eq(bench.results[0].err, ERR_OK);
    ck_assert_str_eq(taken, "a");
}
END_TEST

START_TEST(limits_may_go_while_messages_wait) {
    reach_limit();
    ck_assert(route_set_limits(&bench.route, NULL));
    UNTIL(taken_count == 2);
    ck_assert(!route_is_limited(&bench.route));
}
END_TEST

START_TEST(after_the_limits_a_full_sink_may_hold_the_message) {
    reach_limit();
    full = true;
    clock_advance_ms(WAIT_MS);
    UNTIL(!bench.has_room);
    ck_assert_str_eq(taken, "a");
    full = false;
    bench.has_room = true;
    UNTIL(taken_count == 2);
}
END_TEST

START_TEST(what_the_broker_does_not_send_again_passes_when_the_connection_ends) {
    bench.config.clean_start = true;
    bench.config.session_expiry_s = 0;
    reach_limit();
    bench_hang_up(false);
    UNTIL(bench.closed == 1);
    bench.connection = NULL;
    ck_assert_str_eq(taken, "ab");
}
END_TEST

START_TEST(a_connection_that_waits_may_be_closed) {
    reach_limit();
    engine_reactor.close(bench.connection, _i != 0);
    UNTIL(bench.closed == 1);
    bench.connection = NULL;
    ck_assert_int_eq(bench.engine->held_back, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reactor_limits");
    TCase *tcase = tcase_create("reactor_limits");
    tcase_add_checked_fixture(tcase, setup, bench_teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, qos_1_beyond_the_limits_waits_in_order_and_passes_later);
    tcase_add_test(tcase, a_message_that_waits_is_not_tried_before_it_may_pass);
    tcase_add_test(tcase, qos_0_beyond_the_limits_is_dropped_and_counted);
    tcase_add_test(tcase, qos_0_does_not_overtake_a_message_that_waits);
    tcase_add_test(tcase, an_answer_behind_a_message_that_waits_is_heard);
    tcase_add_test(tcase, limits_may_go_while_messages_wait);
    tcase_add_test(tcase, after_the_limits_a_full_sink_may_hold_the_message);
    tcase_add_test(tcase, what_the_broker_does_not_send_again_passes_when_the_connection_ends);
    tcase_add_loop_test(tcase, a_connection_that_waits_may_be_closed, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
