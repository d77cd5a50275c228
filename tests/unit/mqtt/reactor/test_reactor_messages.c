/* The engine `reactor`: received messages, from the simulated broker to the sink, and their
 * acknowledgements. */
#include "mqtt/reactor/reactor.h"
#include "mqtt/reactor_fixture.h"

#define BUFFER_BYTES 1048576

static void setup(void) {
    bench_setup(4, BUFFER_BYTES);
}

static void setup_v5(void) {
    bench_setup(5, BUFFER_BYTES);
}

static void wait_messages(int count) {
    UNTIL(bench.message_count == count);
}

/* Makes sure that everything before has been processed. */
static void turn_around(void) {
    SEND("\x62\x02\x03\xE7"); /* PUBREL of an unknown identifier */
    ck_assert_int_eq(bench_expect(PACKET_PUBCOMP).packet_id, 999);
}

START_TEST(acknowledgements_go_out_in_the_order_of_arrival) {
    bench_up(false);
    SEND("\x32\x05\x00\x01t\x00\x01");
    SEND("\x34\x05\x00\x01t\x00\x02");
    SEND("\x32\x05\x00\x01t\x00\x03");
    wait_messages(3);
    bench_accept(2);
    bench_accept(1);
    turn_around();
    bench_accept(0);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 1);
    ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, 2);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 3);
}
END_TEST

START_TEST(qos_2_is_offered_once_until_pubrel_whether_the_broker_says_dup_or_not) {
    static const char again[] = "\x34\x05\x00\x01t\x00\x09", dup[] = "\x3C\x05\x00\x01t\x00\x09";
    bench_up(false);
    bench_send(again, 7);
    wait_messages(1);
    bench_send(again, 7);
    bench_accept(0);
    bench_expect(PACKET_PUBREC);
    bench_break();
    bench_up(true);
    bench_send(_i ? dup : again, 7);
    ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, 9);
    bench_send(_i ? dup : again, 7);
    ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, 9);
    SEND("\x62\x02\x00\x09");
    bench_expect(PACKET_PUBCOMP);
    ck_assert_int_eq(bench.message_count, 1);
    bench_send(again, 7);
    wait_messages(2);
}
END_TEST

START_TEST(qos_1_accepted_after_the_connection_broke_is_acknowledged_when_it_comes_again) {
    bench_up(false);
    SEND("\x32\x05\x00\x01t\x00\x05");
    SEND("\x32\x05\x00\x01t\x00\x06");
    wait_messages(2);
    bench_break();
    bench_accept(0);
    bench_up(true);
    SEND("\x3A\x05\x00\x01t\x00\x05");
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 5);
    SEND("\x3A\x05\x00\x01t\x00\x06");
    turn_around();
    bench_accept(1);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 6);
    ck_assert_int_eq(bench.message_count, 2);
}
END_TEST

START_TEST(an_identifier_of_qos_1_without_dup_is_a_new_message_on_the_next_connection) {
    bench_up(false);
    SEND("\x32\x05\x00\x01t\x00\x05");
    wait_messages(1);
    bench_break();
    bench_up(true);
    SEND("\x32\x05\x00\x01t\x00\x05");
    wait_messages(2);
    bench_accept(0); /* of the discarded message */
    turn_around();
    bench_accept(1);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 5);
}
END_TEST

START_TEST(what_no_sink_takes_is_not_acknowledged_and_offered_again) {
    bench_up(false);
    SEND("\x34\x05\x00\x01t\x00\x05");
    wait_messages(1);
    bench_answer(bench.receipts[0], ERR_UNAVAILABLE);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "sink_unavailable");
    bench_hang_up(false);
    bench_up(true);
    SEND("\x3C\x05\x00\x01t\x00\x05");
    wait_messages(2);
    bench_accept(1);
    ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, 5);
}
END_TEST

START_TEST(a_message_that_finds_no_room_waits_and_keeps_its_place) {
    bench_up(false);
    bench.takes_messages = ERR_FULL;
    SEND("\x32\x05\x00\x01t\x00\x01");
    UNTIL(!bench.has_room);
    SEND("\x32\x05\x00\x01t\x00\x02");
    for (int i = 0; i < 20; i++) {
        engine_reactor.poll(bench.engine, 5);
    }
    ck_assert_int_eq(bench.message_count, 0);
    bench.takes_messages = ERR_OK;
    bench.has_room = true;
    wait_messages(2);
    bench_accept(1);
    bench_accept(0);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 1);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 2);
}
END_TEST

START_TEST(a_paused_connection_still_pings_and_can_be_closed) {
    bench_up(false);
    bench.takes_messages = ERR_FULL;
    SEND("\x32\x05\x00\x01t\x00\x01");
    UNTIL(!bench.has_room);
    for (int i = 0; i < 4; i++) {
        clock_advance_ms(58000);
        bench_expect(PACKET_PINGREQ);
        SEND("\xD0\x00"); /* it is read */
        UNTIL(bench.connection->ping_at_ms == 0);
    }
    ck_assert_int_eq(bench.closed, 0);
    engine_reactor.close(bench.connection, false);
    bench_expect(PACKET_DISCONNECT);
    bench_hang_up(false);
    UNTIL(bench.closed == 1);
    ck_assert_int_eq(bench.message_count, 0);
}
END_TEST

START_TEST(topics_kept_for_aliases_count_as_memory) {
    static uint8_t publish[65540] = {
        0x30,       0x80 | (65536 & 0x7F), 0x80 | (65536 >> 7 & 0x7F), 65536 >> 14,
        65530 >> 8, 65530 & 0xFF};
    bench.config.topic_alias_maximum = 32;
    bench_up(false);
    memset(publish + 6, 't', 65530);
    memcpy(publish + 6 + 65530, "\x03\x23\x00", 3);
    for (uint8_t alias = 1; alias <= 32 && bench.closed == 0; alias++) {
        publish[sizeof(publish) - 1] = alias;
        if (send(bench.peer, publish, sizeof(publish), MSG_NOSIGNAL) != sizeof(publish)) {
            break;
        }
        UNTIL(bench.message_count == alias || bench.closed == 1);
    }
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "buffers_full");
    ck_assert_int_ge(bench.message_count, 10);
    bench_hang_up(false);
    bench_up(true);
}
END_TEST

START_TEST(more_than_the_receive_maximum_is_refused) {
    bench.config.receive_maximum = 2;
    bench_up(false);
    SEND("\x32\x06\x00\x01t\x00\x01\x00");
    SEND("\x32\x06\x00\x01t\x00\x02\x00");
    wait_messages(2);
    bench_accept(0);
    bench_expect(PACKET_PUBACK);
    SEND("\x32\x06\x00\x01t\x00\x03\x00");
    wait_messages(3);
    SEND("\x32\x06\x00\x01t\x00\x04\x00");
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "receive_maximum_exceeded");
    ck_assert_int_eq(bench.message_count, 3);
}
END_TEST

static enum err accept_at_once(struct message *message, struct receipt *receipt) {
    bench.message_count++;
    message_destroy(message);
    bench_answer(receipt, ERR_OK);
    return ERR_OK;
}

/* One more message of QoS 2, to PUBREC. False: the connection ended. */
static bool leave_unreleased(int packet_id) {
    uint8_t publish[] = {0x34, 5, 0, 1, 't', (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
    bench_send(publish, sizeof(publish));
    UNTIL((bench_take_bytes(), bench.got_len >= 4) || bench.closed == 1);
    return bench.closed == 0 && bench_expect(PACKET_PUBREC).packet_id == packet_id;
}

START_TEST(messages_that_a_broker_never_releases_take_half_of_the_buffers) {
    int most = BUFFER_BYTES / 2 / (int)sizeof(struct inbound);
    bench.on_message = accept_at_once;
    bench_up(false);
    for (int packet_id = 1; packet_id <= most; packet_id++) {
        ck_assert(leave_unreleased(packet_id));
    }
    ck_assert(!leave_unreleased(most + 1));
    ck_assert_str_eq(bench.code, "buffers_full");
    ck_assert_int_eq(bench.message_count, most);
    bench_hang_up(false);

    struct engine_session *full = bench.session; /* another client is not affected */
    bench.session = NULL;
    bench_up(false);
    for (int packet_id = 1; packet_id <= 64; packet_id++) {
        ck_assert(leave_unreleased(packet_id));
    }
    ck_assert(!leave_unreleased(65));
    bench_hang_up(false);
    engine_reactor.session_end(bench.engine, bench.session);

    bench.session = full; /* and released messages make room */
    bench_up(true);
    SEND("\x62\x02\x00\x01");
    bench_expect(PACKET_PUBCOMP);
    ck_assert(leave_unreleased(most + 1));
    ck_assert(!leave_unreleased(most + 2));
}
END_TEST

/* Ends caused by the engine itself, while an answer of the sink has not been processed yet. */
static const struct {
    const char *bytes;
    size_t len;
    const char *code;
} endings[] = {
    {"\xD1\x00", 2, "malformed_packet"},
    {"\xD0\xFF\xFF\xFF\x7F", 5, "packet_too_large"},
    {"\x32\x06\x00\x01t\x00\x03\x00", 8, "protocol_error"}, /* an identifier in use */
    {NULL, 0, "keepalive_timeout"},
};

START_TEST(case_C4_what_sinks_have_is_acknowledged_before_the_engine_ends_a_connection) {
    bench_up(false);
    SEND("\x32\x06\x00\x01t\x00\x01\x00");
    SEND("\x34\x06\x00\x01t\x00\x02\x00");
    SEND("\x32\x06\x00\x01t\x00\x03\x00");
    wait_messages(3);
    bench_accept(1);
    if (endings[_i].bytes) {
        bench_send(endings[_i].bytes, endings[_i].len);
        bench_accept(0);
    } else {
        clock_advance_ms(58000);
        bench_expect(PACKET_PINGREQ);
        bench_accept(0);
        clock_advance_ms(58000);
    }
    while (bench.closed == 0) {
        engine_reactor.poll(bench.engine, 10);
    }
    bench_take_bytes();
    ck_assert_str_eq(bench.code, endings[_i].code);
    ck_assert_int_ge(bench.got_len, 8);
    ck_assert_int_eq(memcmp(bench.got, "\x40\x02\x00\x01\x50\x02\x00\x02", 8), 0);
    bench_hang_up(false);
    bench_up(true); /* only the third one is sent again, and its sink is not asked again */
    SEND("\x3A\x06\x00\x01t\x00\x03\x00");
    SEND("\x62\x02\x00\x02");
    ck_assert_int_eq(bench_expect(PACKET_PUBCOMP).packet_id, 2);
    bench_accept(2);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 3);
    ck_assert_int_eq(bench.message_count, 3);
}
END_TEST

START_TEST(case_C4_nothing_behind_what_no_sink_takes_is_acknowledged) {
    bench_up(false);
    SEND("\x32\x05\x00\x01t\x00\x01");
    SEND("\x32\x05\x00\x01t\x00\x02");
    SEND("\x32\x05\x00\x01t\x00\x03");
    wait_messages(3);
    bench_accept(2);
    bench_answer(bench.receipts[1], ERR_UNAVAILABLE);
    bench_accept(0);
    while (bench.closed == 0) {
        engine_reactor.poll(bench.engine, 10);
    }
    bench_take_bytes();
    ck_assert_str_eq(bench.code, "sink_unavailable");
    ck_assert_int_eq(bench.got_len, 4);
    ck_assert_int_eq(memcmp(bench.got, "\x40\x02\x00\x01", 4), 0);
}
END_TEST

START_TEST(a_fence_says_nothing) {
    bench_up(false);
    SEND("\x32\x05\x00\x01t\x00\x01");
    wait_messages(1);
    bench_accept(0);
    engine_reactor.close(bench.connection, true);
    UNTIL(bench.closed == 1);
    bench_take_bytes();
    ck_assert_int_eq(bench.got_len, 0);
}
END_TEST

static struct {
    struct receipt *receipts[BUFFER_BYTES / 2 / sizeof(struct inbound) + 2];
    int count;
} held;

static enum err hold(struct message *message, struct receipt *receipt) {
    ck_assert_uint_lt(held.count, sizeof(held.receipts) / sizeof(held.receipts[0]));
    held.receipts[held.count++] = receipt;
    message_destroy(message);
    return ERR_OK;
}

START_TEST(messages_that_no_sink_has_yet_count_as_unreleased_and_end_nothing) {
    int most = BUFFER_BYTES / 2 / (int)sizeof(struct inbound);
    held.count = 0;
    bench.on_message = hold;
    bench_up(false);
    for (int packet_id = 1; packet_id <= most + 1; packet_id++) {
        uint8_t publish[] = {0x34, 5, 0, 1, 't', (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
        bench_send(publish, sizeof(publish));
        UNTIL(held.count == packet_id || held.count == most);
    }
    for (int i = 0; i < 20; i++) {
        engine_reactor.poll(bench.engine, 10);
    }
    ck_assert_int_eq(held.count, most);
    ck_assert_int_eq(bench.closed, 0);

    bench_break(); /* a new connection makes no room either */
    for (int i = 0; i < most; i++) {
        bench_answer(held.receipts[i], ERR_OK);
    }
    bench_up(true);
    ck_assert(!leave_unreleased(most + 1));
    ck_assert_str_eq(bench.code, "buffers_full");
}
END_TEST

START_TEST(pubrels_behind_a_message_that_finds_no_place_make_room_for_it) {
    int most = BUFFER_BYTES / 2 / (int)sizeof(struct inbound);
    uint8_t publish[] = {0x34, 5, 0, 1, 't', 0, 0};
    held.count = 0;
    bench.on_message = hold;
    bench_up(false);
    for (int packet_id = 1; packet_id <= most + 2; packet_id++) {
        publish[0] = packet_id == most + 2 ? 0x32 : 0x34; /* both QoS count */
        publish[5] = (uint8_t)(packet_id >> 8);
        publish[6] = (uint8_t)packet_id;
        bench_send(publish, sizeof(publish));
        UNTIL(held.count == packet_id || held.count == most);
    }
    for (int i = 0; i < 10; i++) {
        engine_reactor.poll(bench.engine, 5);
    }
    ck_assert_int_eq(held.count, most);
    for (int i = 0; i < most; i++) {
        bench_answer(held.receipts[i], ERR_OK);
    }
    for (int packet_id = 1; packet_id <= most; packet_id++) {
        ck_assert_int_eq(bench_expect(PACKET_PUBREC).packet_id, packet_id);
    }
    for (int i = 0; i < 20; i++) { /* they arrive late */
        engine_reactor.poll(bench.engine, 5);
    }
    SEND("\x62\x02\x00\x01\x62\x02\x00\x02");
    UNTIL(held.count == most + 2 || bench.closed == 1);
    ck_assert_int_eq(bench.closed, 0);
    ck_assert_int_eq(bench_expect(PACKET_PUBCOMP).packet_id, 1);
    ck_assert_int_eq(bench_expect(PACKET_PUBCOMP).packet_id, 2);
}
END_TEST

START_TEST(qos_1_of_broken_connections_counts_towards_the_bound) {
    int most = BUFFER_BYTES / 2 / (int)sizeof(struct inbound);
    held.count = 0;
    bench.on_message = hold;
    bench_up(false);
    for (int packet_id = 1; packet_id <= most; packet_id++) {
        uint8_t publish[] = {0x32, 5, 0, 1, 't', (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
        bench_send(publish, sizeof(publish));
        UNTIL(held.count == packet_id);
    }
    bench_break();
    for (int i = 0; i < most; i++) {
        bench_answer(held.receipts[i], ERR_OK);
    }
    bench_up(true);
    ck_assert_uint_eq(((struct engine *)bench.engine)->inbound.count, most);
    uint8_t more[] = {0x32, 5, 0, 1, 't', 0xFF, 0xFF};
    bench_send(more, sizeof(more)); /* instead of those that should be sent again */
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "buffers_full");
    bench_hang_up(false);
    bench_up(true);
    for (int packet_id = 1; packet_id <= most; packet_id++) {
        uint8_t again[] = {0x3A, 5, 0, 1, 't', (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
        bench_send(again, sizeof(again));
        ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, packet_id);
    }
    bench_send(more, sizeof(more));
    UNTIL(held.count == most + 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reactor_messages");
    TCase *tcase = tcase_create("v4"), *v5 = tcase_create("v5");
    tcase_set_timeout(tcase, 120);
    tcase_set_timeout(v5, 120);
    tcase_add_checked_fixture(tcase, setup, bench_teardown);
    tcase_add_checked_fixture(v5, setup_v5, bench_teardown);
    tcase_add_test(tcase, acknowledgements_go_out_in_the_order_of_arrival);
    tcase_add_loop_test(
        tcase, qos_2_is_offered_once_until_pubrel_whether_the_broker_says_dup_or_not, 0, 2);
    tcase_add_test(tcase,
                   qos_1_accepted_after_the_connection_broke_is_acknowledged_when_it_comes_again);
    tcase_add_test(tcase,
                   an_identifier_of_qos_1_without_dup_is_a_new_message_on_the_next_connection);
    tcase_add_test(tcase, what_no_sink_takes_is_not_acknowledged_and_offered_again);
    tcase_add_test(tcase, a_message_that_finds_no_room_waits_and_keeps_its_place);
    tcase_add_test(tcase, a_paused_connection_still_pings_and_can_be_closed);
    tcase_add_test(tcase, messages_that_a_broker_never_releases_take_half_of_the_buffers);
    tcase_add_test(tcase, messages_that_no_sink_has_yet_count_as_unreleased_and_end_nothing);
    tcase_add_test(tcase, case_C4_nothing_behind_what_no_sink_takes_is_acknowledged);
    tcase_add_test(tcase, a_fence_says_nothing);
    tcase_add_loop_test(v5,
                        case_C4_what_sinks_have_is_acknowledged_before_the_engine_ends_a_connection,
                        0, (int)(sizeof(endings) / sizeof(endings[0])));
    tcase_add_test(tcase, pubrels_behind_a_message_that_finds_no_place_make_room_for_it);
    tcase_add_test(tcase, qos_1_of_broken_connections_counts_towards_the_bound);
    tcase_add_test(v5, topics_kept_for_aliases_count_as_memory);
    tcase_add_test(v5, more_than_the_receive_maximum_is_refused);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, v5);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
