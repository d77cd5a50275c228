/* The engine `reactor`: messages that are read and discarded instead of ending the connection. */
#include "mqtt/reactor/reactor.h"
#include "mqtt/reactor_fixture.h"

#define BOUND      2048  /* max_packet_bytes of these tests */
#define FULL_BYTES 65536 /* buffer_bytes, where they are to be full */

static void setup(void) {
    bench_setup(4, 1048576);
    bench.conf.max_packet_bytes = BOUND;
}

static void setup_full(void) {
    bench_setup(4, FULL_BYTES);
    bench.conf.max_packet_bytes = BOUND;
}

static void setup_v5(void) {
    bench_setup(5, 1048576);
    bench.conf.max_packet_bytes = BOUND;
}

static void wait_messages(int count) {
    UNTIL(bench.message_count == count);
}

static bool is_v5(void) {
    return bench.config.protocol_version == 5;
}

/* A PUBLISH of that topic; properties only under MQTT 5. Its length. */
static size_t make_publish(uint8_t *out, uint8_t first, const char *topic, uint16_t packet_id,
                           const char *properties, size_t properties_len, size_t payload_len) {
    uint8_t body[300];
    size_t topic_len = strlen(topic), n = 0, at = 1;
    body[n++] = (uint8_t)(topic_len >> 8);
    body[n++] = (uint8_t)topic_len;
    memcpy(body + n, topic, topic_len);
    n += topic_len;
    if (first & 6) {
        body[n++] = (uint8_t)(packet_id >> 8);
        body[n++] = (uint8_t)packet_id;
    }
    if (is_v5()) {
        body[n++] = (uint8_t)properties_len;
        memcpy(body + n, properties, properties_len);
        n += properties_len;
    }
    size_t left = n + payload_len;
    out[0] = first;
    do {
        out[at++] = (uint8_t)(left % 128 | (left >= 128 ? 128 : 0));
        left /= 128;
    } while (left > 0);
    memcpy(out + at, body, n);
    memset(out + at + n, 'x', payload_len);
    return at + n + payload_len;
}

static uint8_t bytes[400000];

static void send_large(uint8_t first, uint16_t packet_id, size_t payload_len) {
    size_t len = make_publish(bytes, first, "big", packet_id, "", 0, payload_len);
    for (size_t at = 0; at < len;) {
        size_t n = len - at < 30000 ? len - at : 30000;
        bench_send(bytes + at, n);
        engine_reactor.poll(bench.engine, 0);
        at += n;
    }
}

static void send_small(uint8_t first, uint16_t packet_id) {
    bench_send(bytes, make_publish(bytes, first, "t", packet_id, "", 0, 1));
}

/* ---- too large ---- */

START_TEST(case_C1_a_message_above_the_bound_is_thrown_away_and_acknowledged_in_its_turn) {
    bench_up(false);
    send_small(0x32, 1);
    wait_messages(1);
    send_large(0x32, 2, 300000);
    send_small(0x32, 3);
    wait_messages(2);
    UNTIL(bench.skipped == 1);
    ck_assert_int_eq(bench.skip_reason, ENGINE_SKIP_OVERSIZE);
    ck_assert_str_eq(bench.skipped_topic, "big");
    ck_assert_uint_gt(bench.skipped_bytes, 300000);
    bench_accept(1);
    for (int i = 0; i < 3; i++) {
        engine_reactor.poll(bench.engine, 1);
    }
    bench_take_bytes();
    ck_assert_int_eq(bench.got_len, 0); /* the first is not accepted yet */
    bench_accept(0);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 1);
    struct seen skipped = bench_expect(PACKET_PUBACK);
    ck_assert_int_eq(skipped.packet_id, 2);
    ck_assert_uint_eq(skipped.len, is_v5() ? 5 : 4);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 3);
    ck_assert_int_eq(bench.closed, 0);
}
END_TEST

START_TEST(case_C1_of_qos_2_the_exchange_goes_to_its_end) {
    bench_up(false);
    send_large(0x34, 2, 300000);
    struct seen pubrec = bench_expect(PACKET_PUBREC);
    ck_assert_int_eq(pubrec.packet_id, 2);
    if (is_v5()) { /* a refusal is its end */
        ck_assert_uint_eq(pubrec.len, 5);
        SEND("\x62\x02\x00\x02");
        ck_assert_uint_eq(bench_expect(PACKET_PUBCOMP).len, 5);
    } else {
        send_large(0x3C, 2, 300000);
        ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, 2);
        SEND("\x62\x02\x00\x02");
        ck_assert_uint_eq(bench_expect(PACKET_PUBCOMP).len, 4);
    }
    ck_assert_int_eq(bench.skipped, 1);
    send_small(0x34, 2);
    wait_messages(1);
}
END_TEST

/* So many that there is no room for another one. */
START_TEST(case_C1_what_comes_again_needs_no_further_place) {
    const int most = FULL_BYTES / 2 / (int)sizeof(struct inbound);
    bench_up(false);
    for (int packet_id = 1; packet_id <= most; packet_id++) {
        send_large(0x34, (uint16_t)packet_id, BOUND);
        ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, packet_id);
    }
    send_large(0x3C, 1, BOUND);
    ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, 1);
    ck_assert_int_eq(bench.skipped, most);
    ck_assert_int_eq(bench.closed, 0);
}
END_TEST

START_TEST(case_C1_of_qos_0_nothing_is_acknowledged) {
    bench_up(false);
    send_large(0x30, 0, 100000);
    send_small(0x30, 0);
    wait_messages(1);
    ck_assert_int_eq(bench.skipped, 1);
    bench_take_bytes();
    ck_assert_int_eq(bench.got_len, 0);
}
END_TEST

START_TEST(case_C1_the_header_may_be_cut_anywhere) {
    for (size_t cut = 1; cut < 12; cut++) {
        bench.skipped = bench.message_count = 0;
        bench_up(false);
        size_t len = make_publish(bytes, 0x32, "big", 2, "\x03\x00\x01t", 4, 5000);
        len += make_publish(bytes + len, 0x30, "t", 0, "", 0, 1);
        bench_send(bytes, cut);
        for (int i = 0; i < 3; i++) {
            engine_reactor.poll(bench.engine, 1);
        }
        bench_send(bytes + cut, len - cut);
        ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 2);
        wait_messages(1);
        ck_assert_int_eq(bench.skipped, 1);
        bench_break();
    }
}
END_TEST

START_TEST(case_C1_what_breaks_off_is_not_acknowledged_and_comes_again) {
    bench_up(false);
    size_t len = make_publish(bytes, 0x32, "big", 2, "", 0, 5000);
    bench_send(bytes, len - 1);
    for (int i = 0; i < 3; i++) {
        engine_reactor.poll(bench.engine, 1);
    }
    bench_break();
    ck_assert_int_eq(bench.skipped, 0);
    bench_up(true);
    bytes[0] |= 8;
    bench_send(bytes, len);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 2);
    ck_assert_int_eq(bench.skipped, 1);
}
END_TEST

START_TEST(case_C1_a_paused_socket_goes_on_with_it) {
    bench_up(false);
    bench.takes_messages = ERR_FULL;
    size_t len = make_publish(bytes, 0x32, "t", 1, "", 0, 1);
    len += make_publish(bytes + len, 0x32, "big", 2, "", 0, 50000);
    bench_send(bytes, len);
    UNTIL(!bench.has_room);
    for (int i = 0; i < 5; i++) {
        engine_reactor.poll(bench.engine, 5);
    }
    ck_assert_int_eq(bench.skipped, 0);
    bench.takes_messages = ERR_OK;
    bench.has_room = true;
    wait_messages(1);
    bench_accept(0);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 1);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 2);
}
END_TEST

START_TEST(a_client_may_want_the_connection_to_end_instead) {
    static char closes[] = "close";
    if (_i == 0) {
        bench.conf.oversize = closes;
    } else {
        bench.config.oversize = OVERSIZE_CLOSE;
    }
    bench_up(false);
    bench_send(bytes, make_publish(bytes, 0x32, "big", 2, "", 0, 5000));
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "packet_too_large");
    ck_assert_int_eq(bench.skipped, 0);
}
END_TEST

START_TEST(other_packets_above_the_bound_end_the_connection) {
    bench_up(false);
    SEND("\x90\xFF\x7F\x00\x01");
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "packet_too_large");
}
END_TEST

START_TEST(beyond_what_was_announced_is_a_protocol_error) {
    bench.config.max_packet_size = _i ? 1000 : 4000; /* below and above the node's bound */
    bench_up(false);
    bench_send(bytes, make_publish(bytes, 0x32, "big", 2, "", 0, 3000));
    if (_i == 0) {
        ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 2);
        bench_send(bytes, make_publish(bytes, 0x32, "big", 3, "", 0, 4000));
    }
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "packet_too_large");
    ck_assert_int_eq(bench.skipped, _i == 0);
}
END_TEST

START_TEST(an_alias_set_by_what_is_thrown_away_holds) {
    bench.config.topic_alias_maximum = 3;
    bench_up(false);
    bench_send(bytes, make_publish(bytes, 0x32, "big", 2, "\x23\x00\x03", 3, 5000));
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 2);
    bench_send(bytes, make_publish(bytes, 0x30, "", 0, "\x23\x00\x03", 3, 5));
    wait_messages(1);
    bench_send(bytes, make_publish(bytes, 0x30, "", 0, "\x23\x00\x03", 3, 5000));
    UNTIL(bench.skipped == 2);
    ck_assert_str_eq(bench.skipped_topic, "big");
}
END_TEST

START_TEST(memory_for_what_is_thrown_away_is_bounded) {
    static uint8_t head[5 + 2 + 65535 + 3] = {0x32, 0x80, 0x80, 0x80, 0x40, 0xFF, 0xFF};
    memset(head + 7, 't', 65535);
    head[sizeof(head) - 2] = 9;
    bench.conf.buffer_bytes = 1048576;
    bench_up(false);
    size_t most = 0, body_len = 134217728, sent = sizeof(head) - 5;
    bench_send(head, sizeof(head));
    memset(bytes, 0, sizeof(bytes));
    while (sent < body_len) {
        size_t n = body_len - sent < sizeof(bytes) ? body_len - sent : sizeof(bytes);
        ssize_t done = send(bench.peer, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += done > 0 ? (size_t)done : 0;
        engine_reactor.poll(bench.engine, 0);
        size_t held = ((struct engine *)bench.engine)->buffered;
        most = held > most ? held : most;
    }
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 9);
    ck_assert_uint_lt(most, 300000);
    ck_assert_uint_eq(strlen(bench.skipped_topic), 251);
}
END_TEST

/* ---- malformed ---- */

static const struct {
    const char *bytes;
    size_t len;
    int version; /* 0: both */
    const char *topic;
    uint8_t packet_id;   /* 0: cannot be acknowledged */
    uint8_t reason_code; /* of the acknowledgement */
    enum engine_skip reason;
} malformed[] = {
#define BAD(text) (text), sizeof(text) - 1
    {BAD("\x32\x07\x00\x03t/\xFF\x00\x05"), 4, "t/\\xff", 5, 0x90, ENGINE_SKIP_TOPIC},
    {BAD("\x32\x08\x00\x03t/\xFF\x00\x05\x00"), 5, "t/\\xff", 5, 0x90, ENGINE_SKIP_TOPIC},
    {BAD("\x32\x08\x00\x03t\x00x\x00\x05\x00"), 5, "t\\x00x", 5, 0x90, ENGINE_SKIP_TOPIC},
    {BAD("\x32\x08\x00\x03t/+\x00\x05\x00"), 5, "t/+", 5, 0x90, ENGINE_SKIP_TOPIC},
    {BAD("\x34\x08\x00\x03t/#\x00\x05\x00"), 5, "t/#", 5, 0x90, ENGINE_SKIP_TOPIC},
    {BAD("\x32\x05\x00\x00\x00\x05\x00"), 5, "", 5, 0x90, ENGINE_SKIP_TOPIC},
    {BAD("\x32\x05\x00\x00\x00\x05x"), 4, "", 5, 0x90, ENGINE_SKIP_TOPIC},
    {BAD("\x30\x05\x00\x01+xx"), 4, "+", 0, 0, ENGINE_SKIP_TOPIC},
    {BAD("\x36\x08\x00\x03t/x\x00\x05\x00"), 0, "t/x", 0, 0, ENGINE_SKIP_CONTENT},
    {BAD("\x38\x06\x00\x03t/x\x00"), 0, "t/x", 0, 0, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x08\x00\x03t/x\x00\x00\x00"), 0, "t/x", 0, 0, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x06\x00\x03t/x\x00"), 0, "t/x", 0, 0, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x05\x00\x55t/x"), 0, "", 0, 0, ENGINE_SKIP_TOPIC},
    {BAD("\x32\x07\x00\x01t\x00\x05\x02\x01"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x08\x00\x01t\x00\x05\x02\x01\x02"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x08\x00\x01t\x00\x05\x02\x7E\x00"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x08\x00\x01t\x00\x05\x02\x0B\x00"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x0A\x00\x01t\x00\x05\x04\x08\x00\x01#"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x0A\x00\x01t\x00\x05\x04\x01\x01\x01\x01"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x09\x00\x01t\x00\x05\x03\x23\x00\x00"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x05\x00\x01t\x00\x05"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
    {BAD("\x32\x86\x00\x00\x01t\x00\x05\x00"), 5, "t", 5, 0x80, ENGINE_SKIP_CONTENT},
#undef BAD
};

static void expect_skipped(int _i) {
    UNTIL(bench.skipped == 1);
    ck_assert_int_eq(bench.skip_reason, malformed[_i].reason);
    ck_assert_str_eq(bench.skipped_topic, malformed[_i].topic);
    if (malformed[_i].packet_id == 0) {
        return;
    }
    enum packet_type type = malformed[_i].bytes[0] & 4 ? PACKET_PUBREC : PACKET_PUBACK;
    UNTIL((bench_take_bytes(), bench.got_len >= (is_v5() ? 5 : 4)));
    ck_assert_int_eq(is_v5() ? bench.got[4] : 0, is_v5() ? malformed[_i].reason_code : 0);
    ck_assert_int_eq(bench_expect(type).packet_id, malformed[_i].packet_id);
}

START_TEST(case_C2_what_is_malformed_ends_one_connection_and_is_skipped_on_the_next) {
    int version = malformed[_i].version;
    if (version != 0 && version != bench.config.protocol_version) {
        return;
    }
    bench_up(false);
    send_small(0x32, 1);
    wait_messages(1);
    bench_send(malformed[_i].bytes, malformed[_i].len);
    bench_accept(0);
    UNTIL(bench.closed == 1);
    bench_take_bytes();
    ck_assert_int_eq(memcmp(bench.got, "\x40\x02\x00\x01", 4), 0); /* from the sink */
    ck_assert_uint_eq(bench.got_len, is_v5() ? 4 + 3 : 4);
    ck_assert_ptr_nonnull(strstr(bench.closed_message, "skipped"));
    bench_hang_up(false);
    bench_up(true);
    bench_send(malformed[_i].bytes, malformed[_i].len);
    send_small(0x32, 7);
    expect_skipped(_i);
    wait_messages(2);
    bench_accept(1);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 7);
    ck_assert_int_eq(bench.closed, 0);
}
END_TEST

START_TEST(what_is_not_a_message_ends_each_connection) {
    bench.workarounds = ENGINE_WORKAROUND_SKIP_MALFORMED;
    bench_up(false);
    if (_i == 0) {
        SEND("\xD1\x00");
    } else {
        SEND("\x32\xFF\xFF\xFF\xFF\x01"); /* its end is unknown */
    }
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "malformed_packet");
    ck_assert_int_eq(bench.skipped, 0);
}
END_TEST

/* ---- aliases ---- */

START_TEST(case_C3_an_unknown_alias_is_followed_by_a_connection_without_aliases_then_skipped) {
    bench.config.topic_alias_maximum = _i ? 10 : 0;
    bench_up(false);
    if (_i) {
        bench_send(bytes, make_publish(bytes, 0x32, "", 5, "\x23\x00\x02", 3, 1));
        UNTIL(bench.closed == 1);
        ck_assert_int_eq(bench.workarounds, ENGINE_WORKAROUND_NO_ALIASES);
        ck_assert_ptr_nonnull(strstr(bench.closed_message, "offer no aliases"));
        bench_hang_up(false);
        bench_up(true);
    }
    bench_send(bytes, make_publish(bytes, 0x32, "", 5, "\x23\x00\x02", 3, 1));
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "topic_alias_invalid");
    bench_hang_up(false);
    bench_up(true);
    bench_send(bytes, make_publish(bytes, 0x32, "", 5, "\x23\x00\x02", 3, 1));
    bench_send(bytes, make_publish(bytes, 0x32, "t/named", 6, "\x23\x00\x02", 3, 1));
    struct seen puback = bench_expect(PACKET_PUBACK);
    ck_assert_int_eq(puback.packet_id, 5);
    ck_assert_uint_eq(puback.len, 5);
    ck_assert_int_eq(bench.skip_reason, ENGINE_SKIP_ALIAS);
    ck_assert_str_eq(bench.skipped_topic, "alias 2");
    wait_messages(1);
    ck_assert_int_eq(bench.closed, 0);
}
END_TEST

static void add_tests_of_both(TCase *tcase) {
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase,
                   case_C1_a_message_above_the_bound_is_thrown_away_and_acknowledged_in_its_turn);
    tcase_add_test(tcase, case_C1_of_qos_2_the_exchange_goes_to_its_end);
    tcase_add_test(tcase, case_C1_of_qos_0_nothing_is_acknowledged);
    tcase_add_test(tcase, case_C1_the_header_may_be_cut_anywhere);
    tcase_add_test(tcase, case_C1_what_breaks_off_is_not_acknowledged_and_comes_again);
    tcase_add_test(tcase, case_C1_a_paused_socket_goes_on_with_it);
    tcase_add_loop_test(tcase, a_client_may_want_the_connection_to_end_instead, 0, 2);
    tcase_add_test(tcase, other_packets_above_the_bound_end_the_connection);
    tcase_add_test(tcase, memory_for_what_is_thrown_away_is_bounded);
    tcase_add_loop_test(tcase,
                        case_C2_what_is_malformed_ends_one_connection_and_is_skipped_on_the_next, 0,
                        (int)(sizeof(malformed) / sizeof(malformed[0])));
    tcase_add_loop_test(tcase, what_is_not_a_message_ends_each_connection, 0, 2);
}

int main(void) {
    Suite *suite = suite_create("reactor_skip");
    TCase *v4 = tcase_create("v4"), *v5 = tcase_create("v5"), *full = tcase_create("full");
    tcase_add_checked_fixture(full, setup_full, bench_teardown);
    tcase_add_test(full, case_C1_what_comes_again_needs_no_further_place);
    suite_add_tcase(suite, full);
    tcase_add_checked_fixture(v4, setup, bench_teardown);
    tcase_add_checked_fixture(v5, setup_v5, bench_teardown);
    add_tests_of_both(v4);
    add_tests_of_both(v5);
    tcase_add_loop_test(v5, beyond_what_was_announced_is_a_protocol_error, 0, 2);
    tcase_add_test(v5, an_alias_set_by_what_is_thrown_away_holds);
    tcase_add_loop_test(
        v5, case_C3_an_unknown_alias_is_followed_by_a_connection_without_aliases_then_skipped, 0,
        2);
    suite_add_tcase(suite, v4);
    suite_add_tcase(suite, v5);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
