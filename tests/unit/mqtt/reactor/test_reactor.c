/* The engine `reactor`: the life of a connection and publications, with a simulated broker. */
#include "mqtt/reactor_fixture.h"

#define BUFFER_BYTES 4194304

static void setup(void) {
    bench_setup(5, BUFFER_BYTES);
}

/* ---- publications and sessions ---- */

static void publish_one(void) {
    ck_assert_int_eq(bench_publish(1, 1, 1), ERR_OK);
}

START_TEST(what_is_published_from_within_connected_goes_out_once_and_after_what_is_resumed) {
    bench_up(false);
    ck_assert_int_eq(bench_publish(0, 1, 1), ERR_OK);
    bench_expect(PACKET_PUBLISH);
    bench_break();
    bench.on_connected = publish_one;
    bench_up(true);
    struct seen first = bench_expect(PACKET_PUBLISH);
    bench_send(
        (const uint8_t[]){0x40, 2, (uint8_t)(first.packet_id >> 8), (uint8_t)first.packet_id}, 4);
    struct seen second = bench_expect(PACKET_PUBLISH);
    ck_assert_int_eq(first.flags, 8 | 2);
    ck_assert_int_eq(second.flags, 2);
    ck_assert_int_ne(first.packet_id, second.packet_id);
    engine_reactor.close(bench.connection, false);
    bench_expect(PACKET_DISCONNECT);
}
END_TEST

static void close_politely(void) {
    engine_reactor.close(bench.connection, false);
}

START_TEST(a_host_may_close_when_it_hears_that_the_session_is_lost) {
    bench_up(false);
    ck_assert_int_eq(bench_publish(0, 1, 1), ERR_OK);
    bench_expect(PACKET_PUBLISH);
    bench_break();
    bench.on_published = close_politely;
    bench_open();
    bench_accept_connection(false);
    UNTIL(bench.closed == 1);
    ck_assert_int_eq(bench.connected, 0);
    ck_assert_str_eq(bench.code, "closed_by_us");
    ck_assert_int_eq(bench.answers[0], 1);
    ck_assert_int_eq(bench.results[0].err, ERR_UNAVAILABLE);
}
END_TEST

START_TEST(a_publication_that_the_server_has_already_completed_is_no_failure) {
    bench_up(false);
    ck_assert_int_eq(bench_publish(0, 2, 1), ERR_OK);
    uint16_t id = bench_expect(PACKET_PUBLISH).packet_id;
    const uint8_t high = (uint8_t)(id >> 8), low = (uint8_t)id;
    bench_send((const uint8_t[]){0x50, 2, high, low}, 4);
    bench_expect(PACKET_PUBREL);
    bench_break();
    bench_up(true);
    ck_assert_int_eq(bench_expect(PACKET_PUBREL).packet_id, id);
    bench_send((const uint8_t[]){0x70, 3, high, low, 0x92}, 5);
    UNTIL(bench.answers[0] == 1);
    ck_assert_int_eq(bench.results[0].err, ERR_OK);
    ck_assert_int_eq(bench.results[0].reason_code, 0);
}
END_TEST

START_TEST(publications_beyond_the_bound_are_refused_and_the_connection_stays) {
    uint64_t taken = 0;
    bench_up(false);
    enum err err = ERR_OK;
    while (taken < TOKENS_MAX - 1 && (err = bench_publish(taken, 0, 200000)) == ERR_OK) {
        taken++;
    }
    ck_assert_int_eq(err, ERR_FULL);
    ck_assert_uint_gt(taken, 4);
    for (uint64_t i = 0; i < taken; i++) {
        bench_expect(PACKET_PUBLISH);
    }
    UNTIL(bench.answers[taken - 1] == 1);
    ck_assert_int_eq(bench_publish(taken, 0, 200000), ERR_OK);
    bench_expect(PACKET_PUBLISH);
}
END_TEST

START_TEST(a_request_beyond_the_maximum_packet_size_of_the_server_is_not_sent) {
    char filter[200];
    struct client_subscription subscription = {.filter = filter};
    memset(filter, 'x', sizeof(filter) - 1);
    filter[sizeof(filter) - 1] = '\0';
    bench_open();
    SEND("\x20\x08\x00\x00\x05\x27\x00\x00\x00\x64");
    UNTIL(bench.connected == 1);
    size_t n = 1;
    ck_assert_int_eq(engine_reactor.subscribe(bench.connection, &subscription, &n), ERR_ARGUMENT);
    ck_assert_uint_eq(n, 0);
    subscription.filter = "a";
    n = 1;
    ck_assert_int_eq(engine_reactor.subscribe(bench.connection, &subscription, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_lt(bench_expect(PACKET_SUBSCRIBE).len, 20);
    engine_reactor.close(bench.connection, false);
    bench_expect(PACKET_DISCONNECT);
}
END_TEST

/* ---- the end ---- */

START_TEST(why_a_broker_was_refused_is_said_although_it_has_gone_already) {
    bench_up(false);
    SEND("\x00\x00");
    bench_hang_up(true);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "malformed_packet");
}
END_TEST

START_TEST(nothing_comes_after_disconnect) {
    bench_up(false);
    SEND("\x32\x06\x00\x01t\x00\x07\x00");
    UNTIL(bench.message_count == 1);
    engine_reactor.close(bench.connection, false);
    ck_assert_int_eq(bench_publish(0, 0, 1), ERR_WRONG_STATE);
    bench_accept(0);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 7);
    bench_expect(PACKET_DISCONNECT);
    bench_hang_up(false);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "closed_by_us");
    ck_assert_uint_eq(bench.got_len, 0);
}
END_TEST

/* ---- keepalive ---- */

START_TEST(a_broker_that_talks_may_take_its_time_for_pingresp) {
    bench_up(false);
    clock_advance_ms(56000);
    bench_expect(PACKET_PINGREQ);
    for (int i = 0; i < 3; i++) { /* 30 s of silence are allowed */
        clock_advance_ms(20000);
        SEND("\x30\x04\x00\x01t\x00");
        UNTIL(bench.message_count == i + 1);
    }
    bench_expect(PACKET_PINGREQ);
    ck_assert_int_eq(bench.closed, 0);
    clock_advance_ms(40000);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "keepalive_timeout");
}
END_TEST

START_TEST(a_broker_that_takes_nothing_is_left_although_it_is_not_listened_to) {
    const int receive_bytes = 65536; /* otherwise the kernel may accept more data much later */
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    uint64_t token = 0;
    ck_assert_int_eq(
        setsockopt(bench.listener, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes)),
        0);
    bench_up(false);
    int last_answered = -1;
    while (token < TOKENS_MAX && bench_publish(token, 0, 1000000) == ERR_OK &&
           fixture_now_ms() < until_ms) {
        engine_reactor.poll(bench.engine, 50);
        last_answered = bench.answers[token] ? (int)token : last_answered;
        token++;
    }
    ck_assert_int_lt(last_answered, (int)token - 1); /* the socket is full */
    SEND("\x30\x04\x00\x01t\x00");
    UNTIL(bench.message_count == 1);
    for (int i = 0; i < 10 && bench.closed == 0; i++) {
        clock_advance_ms(58000);
        int64_t turn_until_ms = fixture_now_ms() + 2000;
        while (bench.closed == 0 && fixture_now_ms() < turn_until_ms) {
            engine_reactor.poll(bench.engine, 10);
        }
    }
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "keepalive_timeout");
    for (uint64_t i = 0; i < token; i++) {
        ck_assert_int_eq(bench.answers[i], 1);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reactor");
    TCase *tcase = tcase_create("reactor");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, bench_teardown);
    tcase_add_test(tcase,
                   what_is_published_from_within_connected_goes_out_once_and_after_what_is_resumed);
    tcase_add_test(tcase, a_host_may_close_when_it_hears_that_the_session_is_lost);
    tcase_add_test(tcase, a_publication_that_the_server_has_already_completed_is_no_failure);
    tcase_add_test(tcase, publications_beyond_the_bound_are_refused_and_the_connection_stays);
    tcase_add_test(tcase, a_request_beyond_the_maximum_packet_size_of_the_server_is_not_sent);
    tcase_add_test(tcase, why_a_broker_was_refused_is_said_although_it_has_gone_already);
    tcase_add_test(tcase, nothing_comes_after_disconnect);
    tcase_add_test(tcase, a_broker_that_talks_may_take_its_time_for_pingresp);
    tcase_add_test(tcase, a_broker_that_takes_nothing_is_left_although_it_is_not_listened_to);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
