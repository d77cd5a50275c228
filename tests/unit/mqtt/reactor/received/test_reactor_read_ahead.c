/* The engine `reactor` while a sink has no room: packets behind waiting messages are processed, the
 * messages keep their order, and memory stays bounded. */
#include "mqtt/reactor/reactor.h"
#include "base/telemetry/metrics.h"
#include "mqtt/reactor_fixture.h"

#define BUFFER_BYTES 4194304
#define AHEAD_BYTES  262144

static void setup(void) {
    bench_setup(4, BUFFER_BYTES);
}

static void setup_v5(void) {
    bench_setup(5, BUFFER_BYTES);
}

/* ---- a sink that accepts a given number of QoS 1 messages, and records their first bytes ---- */

static struct {
    int room;
    char taken[4096];
    int count;
    int receipts; /* requests for an acknowledgement */
} sink;

static enum err take(struct message *message, struct receipt *receipt) {
    if (sink.room <= 0 && message->qos > 0) {
        bench.has_room = false;
        return ERR_FULL;
    }
    sink.room -= message->qos > 0;
    ck_assert_int_lt(sink.count, (int)sizeof(sink.taken) - 1);
    sink.taken[sink.count++] =
        message->payload_len > 0 ? (char)message->payload[0] : message->topic[0];
    sink.receipts += receipt != NULL;
    message_destroy(message);
    if (receipt) {
        bench_answer(receipt, ERR_OK);
    }
    return ERR_OK;
}

static void sink_begin(int room) {
    memset(&sink, 0, sizeof(sink));
    sink.room = room;
    bench.on_message = take;
}

static void make_room(int room) {
    sink.room = room;
    bench.has_room = true;
}

static void turns(int n) {
    for (int i = 0; i < n; i++) {
        engine_reactor.poll(bench.engine, 5);
    }
}

/* A message whose payload begins with that byte; packet_id 0: QoS 0. */
static void send_message(int packet_id, char mark, size_t payload_len) {
    static uint8_t packet[70000];
    bool v5 = bench.config.protocol_version == 5;
    size_t rest = 3 + (packet_id > 0 ? 2 : 0) + v5 + payload_len, at = 0;
    packet[at++] = packet_id > 0 ? 0x32 : 0x30;
    for (size_t left = rest; left > 0 || at == 1; left >>= 7) {
        packet[at++] = (uint8_t)((left & 0x7F) | (left > 0x7F ? 0x80 : 0));
    }
    memcpy(packet + at, "\x00\x01t", 3);
    at += 3;
    if (packet_id > 0) {
        packet[at++] = (uint8_t)(packet_id >> 8);
        packet[at++] = (uint8_t)packet_id;
    }
    if (v5) {
        packet[at++] = 0;
    }
    memset(packet + at, mark, payload_len);
    bench_send(packet, at + payload_len);
}

static void send_ack(uint8_t first, uint16_t packet_id) {
    const uint8_t packet[] = {first, 2, (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
    bench_send(packet, sizeof(packet));
}

/* CONNACK received, a publication of that QoS in flight, and the sink full before its answer. */
static uint16_t stall_behind_publication(uint8_t qos) {
    sink_begin(0);
    bench_up(false);
    ck_assert_int_eq(bench_publish(0, qos, 1), ERR_OK);
    uint16_t id = bench_expect(PACKET_PUBLISH).packet_id;
    send_message(1, 'a', 10);
    UNTIL(!bench.has_room);
    return id;
}

static struct engine *engine(void) {
    return bench.engine;
}

/* ---- packets behind waiting messages ---- */

START_TEST(case_F7_puback_behind_a_message_that_waits_for_its_sink_is_heard) {
    uint16_t id = stall_behind_publication(1);
    send_message(2, 'b', 10);
    send_ack(0x40, id);
    send_message(3, 'c', 10);
    UNTIL(bench.answers[0] == 1);
    ck_assert_int_eq(bench.results[0].err, ERR_OK);
    ck_assert_int_eq(sink.count, 0);
    make_room(10);
    UNTIL(sink.count == 3);
    ck_assert_str_eq(sink.taken, "abc");
    for (int i = 1; i <= 3; i++) {
        ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, i);
    }
}
END_TEST

START_TEST(case_F7_qos_2_completes_behind_messages_that_wait) {
    uint16_t id = stall_behind_publication(2);
    send_ack(0x50, id);
    ck_assert_int_eq(bench_expect(PACKET_PUBREL).packet_id, id);
    send_message(2, 'b', 10);
    send_ack(0x70, id);
    UNTIL(bench.answers[0] == 1);
    ck_assert_int_eq(bench.results[0].err, ERR_OK);
}
END_TEST

START_TEST(case_F7_a_client_that_receives_nothing_hears_its_puback_while_another_fills_the_sink) {
    stall_behind_publication(1);
    struct engine_connection *stalled = bench.connection;
    struct engine_session *session = bench.session;
    int peer = bench.peer;
    bench.session = NULL;
    bench_up(false);
    ck_assert_int_eq(bench_publish(1, 1, 1), ERR_OK);
    send_ack(0x40, bench_expect(PACKET_PUBLISH).packet_id);
    UNTIL(bench.answers[1] == 1);
    ck_assert_int_eq(bench.results[1].err, ERR_OK);
    ck_assert(bench.connection->reading == READING_ALL); /* it waits for nothing */
    ck_assert_int_eq(bench.answers[0], 0);
    bench_break();
    engine_reactor.session_end(bench.engine, bench.session);
    bench.connection = stalled;
    bench.session = session;
    bench.peer = peer;
    bench.closed = 0;
}
END_TEST

START_TEST(a_disconnect_behind_messages_that_wait_is_heard) {
    stall_behind_publication(1);
    send_message(0, 'q', 3);
    SEND("\xE0\x01\x8B"); /* the server is shutting down */
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "server_shutting_down");
}
END_TEST

START_TEST(a_suback_and_pings_behind_messages_that_wait_are_heard) {
    struct client_subscription filter = {.filter = "t", .qos = 1};
    size_t n = 1;
    sink_begin(0);
    bench_up(false);
    ck_assert_int_eq(engine_reactor.subscribe(bench.connection, &filter, &n), ERR_OK);
    uint16_t id = bench_expect(PACKET_SUBSCRIBE).packet_id;
    send_message(1, 'a', 1);
    UNTIL(!bench.has_room);
    bench_send((const uint8_t[]){0x90, 3, (uint8_t)(id >> 8), (uint8_t)id, 1}, 5);
    UNTIL(bench.subscribed == 1);
    for (int i = 0; i < 3; i++) {
        clock_advance_ms(58000);
        bench_expect(PACKET_PINGREQ);
        SEND("\xD0\x00");
        UNTIL(bench.connection->ping_at_ms == 0);
    }
    clock_advance_ms(58000);
    bench_expect(PACKET_PINGREQ);
    clock_advance_ms(58000); /* an unreachable broker is detected */
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "keepalive_timeout");
}
END_TEST

START_TEST(packets_that_come_byte_by_byte_are_sorted_like_others) {
    uint16_t id = stall_behind_publication(1);
    const uint8_t bytes[] = {0x32,        6,    0, 1, 't', 0,   2, 'b', 0x40, 2, (uint8_t)(id >> 8),
                             (uint8_t)id, 0x32, 6, 0, 1,   't', 0, 3,   'c'};
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bench_send(bytes + i, 1);
        turns(1);
    }
    UNTIL(bench.answers[0] == 1);
    make_room(10);
    UNTIL(sink.count == 3);
    ck_assert_str_eq(sink.taken, "abc");
}
END_TEST

/* In the middle of a message above the bound, and not reading because `out` is behind. */
static void stop_reading_within_skipped(void) {
    static const uint8_t head[] = "\x30\xA0\x8D\x06\x00\x01t"; /* of 100000 bytes */
    static const uint8_t payload[50000];
    const int least = 4096;
    bench.conf.max_packet_bytes = 2048;
    bench_up(false);
    setsockopt(bench.connection->stream.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
    setsockopt(bench.peer, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least));
    bench_send(head, sizeof(head) - 1);
    UNTIL(bench.connection->skip != NULL);
    ck_assert_int_eq(bench_publish(0, 0, 1 << 20), ERR_OK);
    UNTIL(output_is_behind(bench.connection));
    bench_send(payload, sizeof(payload));
    UNTIL(bench.connection->reading == READING_NOTHING);
}

START_TEST(what_looks_like_an_acknowledgement_within_a_skipped_message_is_none) {
    static uint8_t rest[100000 - 50000 - 3]; /* the topic counts */
    stop_reading_within_skipped();
    ck_assert_int_eq(bench_publish(1, 1, 1), ERR_OK);
    for (size_t i = 0; i + 4 <= sizeof(rest); i += 4) {
        uint16_t id = bench.session->outbound->packet_id;
        memcpy(rest + i, (const uint8_t[]){0x40, 2, (uint8_t)(id >> 8), (uint8_t)id}, 4);
    }
    sink_begin(0);
    bench.has_room = false;
    UNTIL((bench_take_bytes(), bench.got_len = 0, !output_is_behind(bench.connection)));
    bench_send(rest, sizeof(rest));
    UNTIL(bench.skipped == 1); /* it needs no sink */
    ck_assert_int_eq(bench.answers[1], 0);
    send_message(2, 'b', 10);
    turns(5);
    make_room(10);
    UNTIL(sink.count == 1);
    ck_assert_str_eq(sink.taken, "b");
    ck_assert_int_eq(bench.closed, 0);
}
END_TEST

static void close_it(void) {
    engine_reactor.close(bench.connection, false);
}

START_TEST(the_host_may_close_at_what_it_hears_while_its_sink_is_full) {
    stall_behind_publication(1);
    struct engine_connection *stalled = bench.connection;
    struct engine_session *session = bench.session;
    int peer = bench.peer;
    bench.session = NULL;
    bench_up(false);
    ck_assert_int_eq(bench_publish(1, 1, 1), ERR_OK);
    bench.on_published = close_it;
    send_ack(0x40, bench_expect(PACKET_PUBLISH).packet_id);
    bench_expect(PACKET_DISCONNECT);
    bench_hang_up(false);
    UNTIL(bench.closed == 1);
    bench.on_published = NULL;
    engine_reactor.session_end(bench.engine, bench.session);
    bench.connection = stalled;
    bench.session = session;
    bench.peer = peer;
    bench.closed = 0;
}
END_TEST

START_TEST(the_host_may_close_at_what_stands_behind_a_large_message) {
    static uint8_t packet[50009 + 4 + 3] = "\x32\xD5\x86\x03\x00\x01t\x00\x01";
    sink_begin(10);
    bench_up(false);
    ck_assert_int_eq(bench_publish(1, 1, 1), ERR_OK);
    uint16_t id = bench_expect(PACKET_PUBLISH).packet_id;
    memcpy(packet + 50009, (const uint8_t[]){0x40, 2, (uint8_t)(id >> 8), (uint8_t)id}, 4);
    bench_send(packet, 40000);
    UNTIL(bench.connection->in.len == 40000);
    bench.on_published = close_it;
    bench_send(packet + 40000, sizeof(packet) - 40000);
    UNTIL(bench.answers[1] == 1);
    bench.on_published = NULL;
    ck_assert_uint_eq(bench.connection->in.len, 0); /* closing frees what it held */
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 1);
    bench_expect(PACKET_DISCONNECT);
}
END_TEST

/* ---- order, fairness ---- */

START_TEST(messages_keep_their_order_whatever_their_qos_and_however_little_room_there_is) {
    char wanted[27] = "";
    stall_behind_publication(1);
    strcpy(wanted, "a");
    for (int i = 1; i < 26; i++) {
        wanted[i] = (char)('a' + i);
        send_message(i % 3 == 0 ? 0 : i + 1, wanted[i], 1 + (size_t)i * 100);
    }
    turns(5);
    while (sink.count < 26) {
        make_room(1 + sink.count % 3);
        turns(3);
    }
    ck_assert_str_eq(sink.taken, wanted);
    ck_assert_uint_eq(engine()->held_back, 0);
}
END_TEST

/* A second connection of the same engine, both with waiting messages. */
START_TEST(those_that_wait_are_served_in_turn) {
    sink_begin(0);
    bench_up(false);
    for (int i = 1; i <= 20; i++) {
        send_message(i, 'a', 10);
    }
    UNTIL(!bench.has_room);
    struct engine_connection *first = bench.connection;
    struct engine_session *session = bench.session;
    int peer = bench.peer;
    bench.session = NULL;
    bench_up(false);
    for (int i = 1; i <= 20; i++) {
        send_message(i, 'b', 10);
    }
    UNTIL(engine()->held_back_count == 2);
    for (int served = 0; served < 20; served = sink.count) {
        make_room(2);
        UNTIL(sink.count == served + 2);
    }
    int of_b = 0;
    for (int i = 0; i < 20; i++) {
        of_b += sink.taken[i] == 'b';
    }
    ck_assert_msg(of_b >= 8 && of_b <= 12, "%s", sink.taken);
    bench_break();
    engine_reactor.session_end(bench.engine, bench.session);
    bench.connection = first;
    bench.session = session;
    bench.peer = peer;
    bench.closed = 0;
}
END_TEST

/* ---- bounds ---- */

/* Sends until the socket is full, or that many bytes are sent. */
static size_t flood(size_t most) {
    static uint8_t packet[1006] = {0x32, 0x80 | (1003 & 0x7F), 1003 >> 7, 0, 1, 't', 0, 9};
    size_t sent = 0;
    int idle = 0;
    while (sent < most && idle < 50) {
        ssize_t n = send(bench.peer, packet + sent % sizeof(packet),
                         sizeof(packet) - sent % sizeof(packet), MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle + 1;
        engine_reactor.poll(bench.engine, idle > 0 ? 5 : 0);
    }
    return sent;
}

START_TEST(beyond_the_bound_nothing_is_read_and_the_answer_says_so) {
    stall_behind_publication(1);
    ck_assert(!engine_reactor.is_read_blocked(bench.connection));
    flood(8 << 20);
    turns(20);
    ck_assert(engine_reactor.is_read_blocked(bench.connection));
    ck_assert_uint_ge(engine()->held_back, AHEAD_BYTES - 70000);
    ck_assert_uint_le(bench.connection->in.len, AHEAD_BYTES + REACTOR_INPUT_SIZE + 20);
    struct engine_buffers buffers;
    engine_reactor.buffers(bench.engine, &buffers);
    ck_assert_uint_eq(buffers.held_back_bytes, engine()->held_back);
    ck_assert_uint_eq(buffers.held_back_clients, 1);
    ck_assert_uint_le(buffers.bytes, buffers.bytes_max / 2);
    for (int i = 0; i < 4; i++) { /* the node's own pause does not count as silence of the broker */
        clock_advance_ms(58000);
        bench_expect(PACKET_PINGREQ);
    }
    ck_assert_int_eq(bench.closed, 0);
}
END_TEST

START_TEST(all_connections_that_wait_hold_half_of_the_buffers_and_none_ends) {
    struct engine_connection *connections[40];
    struct engine_session *sessions[40];
    int peers[40];
    sink_begin(0);
    for (int i = 0; i < 40; i++) {
        bench.session = NULL;
        bench_up(false);
        flood(400000);
        connections[i] = bench.connection;
        sessions[i] = bench.session;
        peers[i] = bench.peer;
    }
    turns(20);
    ck_assert_int_eq(bench.closed, 0);
    ck_assert_uint_le(engine()->buffered, BUFFER_BYTES / 2);
    ck_assert_uint_ge(engine()->buffered, BUFFER_BYTES / 4);
    /* A connection that waits for its broker's answer is read nevertheless. */
    ck_assert(bench.connection->reading == READING_NOTHING);
    bench.session = NULL;
    bench_up(false);
    ck_assert_int_eq(bench_publish(1, 1, 1), ERR_OK);
    send_ack(0x40, bench_expect(PACKET_PUBLISH).packet_id);
    UNTIL(bench.answers[1] == 1);
    bench_break();
    engine_reactor.session_end(bench.engine, bench.session);
    for (int i = 0; i < 40; i++) {
        bench.connection = connections[i];
        bench.session = sessions[i];
        bench.peer = peers[i];
        if (i < 39) {
            bench.closed = 0;
            bench_break();
            engine_reactor.session_end(bench.engine, bench.session);
        }
    }
    bench.closed = 0;
}
END_TEST

/* ---- the end while messages wait ---- */

static int64_t dropped(void) {
    return metric_get(METRIC_DROPPED_SESSION_ENDED);
}

static void end_it(int how) {
    switch (how) {
    case 0:
        bench_hang_up(false);
        break;
    case 1:
        bench_hang_up(true);
        break;
    case 2:
        engine_reactor.close(bench.connection, false);
        bench_expect(PACKET_DISCONNECT);
        bench_hang_up(false);
        break;
    default:
        engine_reactor.close(bench.connection, true);
    }
    UNTIL(bench.closed == 1);
}

START_TEST(of_what_waits_qos_0_is_offered_a_last_time_and_a_kept_session_has_the_rest) {
    stall_behind_publication(1);
    send_message(0, 'x', 3);
    send_message(2, 'b', 3);
    send_message(0, 'y', 3);
    UNTIL(engine()->held_back > 30);
    turns(3);
    sink.room = 10; /* the engine does not know yet */
    end_it(_i);
    ck_assert_str_eq(sink.taken, "xy");
    ck_assert_int_eq(dropped(), 0);
    ck_assert_uint_eq(engine()->held_back, 0);
    ck_assert_uint_eq(engine()->held_back_count, 0);
    if (_i == 3) {
        bench_hang_up(false);
    }
    make_room(10);
    bench_up(true); /* the broker sends again what was not acknowledged */
    SEND("\x3A\x06\x00\x01t\x00\x01"
         "a");
    SEND("\x3A\x06\x00\x01t\x00\x02"
         "b");
    ck_assert_int_eq(bench_expect(PACKET_PUBLISH).packet_id > 0, 1);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 1);
    ck_assert_int_eq(bench_expect(PACKET_PUBACK).packet_id, 2);
    ck_assert_str_eq(sink.taken, "xyab");
}
END_TEST

/* The topic of the first message is unknown, and no later alias is accepted. */
START_TEST(what_waits_under_a_wrong_alias_is_counted_when_its_session_ends) {
    static const uint8_t unknown[] = {0x32, 9, 0, 0, 0, 2, 3, 0x23, 0, 5, 'b'},
                         sets[] = {0x32, 10, 0, 1, 't', 0, 3, 3, 0x23, 0, 1, 'c'};
    bench.config.clean_start = true;
    bench.config.session_expiry_s = 0;
    bench.config.topic_alias_maximum = 10;
    stall_behind_publication(1);
    bench_send(unknown, sizeof(unknown));
    bench_send(sets, sizeof(sets));
    UNTIL(engine()->held_back > sizeof(unknown) + sizeof(sets));
    turns(3);
    sink.room = 10;
    engine_reactor.close(bench.connection, false);
    ck_assert_str_eq(sink.taken, "a");
    ck_assert_int_eq(dropped(), 2);
    UNTIL(bench.closed == 1);
}
END_TEST

START_TEST(a_session_that_ends_takes_nothing_along_without_a_word) {
    bench.config.clean_start = true;
    bench.config.session_expiry_s = 0;
    stall_behind_publication(1);
    send_message(2, 'b', 3);
    send_message(3, 'c', 3);
    UNTIL(engine()->held_back > 25);
    turns(3);
    sink.room = 2;
    end_it(_i);
    ck_assert_str_eq(sink.taken, "ab");
    ck_assert_int_eq(sink.receipts, 0);
    ck_assert_int_eq(dropped(), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reactor_read_ahead");
    TCase *tcase = tcase_create("v4"), *v5 = tcase_create("v5");
    tcase_set_timeout(tcase, 120);
    tcase_set_timeout(v5, 120);
    tcase_add_checked_fixture(tcase, setup, bench_teardown);
    tcase_add_checked_fixture(v5, setup_v5, bench_teardown);
    tcase_add_test(tcase, case_F7_puback_behind_a_message_that_waits_for_its_sink_is_heard);
    tcase_add_test(tcase, case_F7_qos_2_completes_behind_messages_that_wait);
    tcase_add_test(
        tcase,
        case_F7_a_client_that_receives_nothing_hears_its_puback_while_another_fills_the_sink);
    tcase_add_test(v5, a_disconnect_behind_messages_that_wait_is_heard);
    tcase_add_test(tcase, a_suback_and_pings_behind_messages_that_wait_are_heard);
    tcase_add_test(tcase, packets_that_come_byte_by_byte_are_sorted_like_others);
    tcase_add_test(tcase, what_looks_like_an_acknowledgement_within_a_skipped_message_is_none);
    tcase_add_test(tcase, the_host_may_close_at_what_it_hears_while_its_sink_is_full);
    tcase_add_test(tcase, the_host_may_close_at_what_stands_behind_a_large_message);
    tcase_add_test(v5,
                   messages_keep_their_order_whatever_their_qos_and_however_little_room_there_is);
    tcase_add_test(tcase, those_that_wait_are_served_in_turn);
    tcase_add_test(tcase, beyond_the_bound_nothing_is_read_and_the_answer_says_so);
    tcase_add_test(tcase, all_connections_that_wait_hold_half_of_the_buffers_and_none_ends);
    tcase_add_loop_test(
        tcase, of_what_waits_qos_0_is_offered_a_last_time_and_a_kept_session_has_the_rest, 0, 4);
    tcase_add_loop_test(tcase, a_session_that_ends_takes_nothing_along_without_a_word, 0, 4);
    tcase_add_test(v5, what_waits_under_a_wrong_alias_is_counted_when_its_session_ends);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, v5);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
