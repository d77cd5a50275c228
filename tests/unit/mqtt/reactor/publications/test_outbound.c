/* The engine `reactor`: the publications of a session across its connections, and how it finds
 * those that a broker does not accept. The test simulates the broker and the worker's judgement. */
#include "mqtt/reactor/reactor.h"
#include "mqtt/reactor_fixture.h"

#define BUFFER_BYTES 4194304
#define LARGE        200000

/* Identifiers start at a random number; here they start at 1. */
static void count_from_one(void) {
    const struct outbound *last = bench.session->outbound ? bench.session->outbound->prev : NULL;
    bench.session->last_packet_id = last ? last->packet_id : 0;
}

static void setup(void) {
    bench_setup(5, BUFFER_BYTES);
    bench.on_connected = count_from_one;
}

static void setup_v4(void) {
    bench_setup(4, BUFFER_BYTES);
    bench.on_connected = count_from_one;
}

struct shape {
    const char *topic;
    size_t payload_len;
    uint8_t qos;
    bool retain, text;
};

static void publish_shape(uint64_t token, struct shape shape) {
    static const struct message_property text = {
        .name = "payload_format_indicator", .value = "1", .value_len = 1};
    static uint8_t payload[LARGE];
    struct engine_publication publication = {.topic = shape.topic ? shape.topic : "out",
                                             .payload = payload,
                                             .payload_len = shape.payload_len,
                                             .qos = shape.qos,
                                             .retain = shape.retain,
                                             .properties = &text,
                                             .property_count = shape.text};
    ck_assert_int_eq(engine_reactor.publish(bench.connection, &publication, token), ERR_OK);
}

static void acknowledge(uint8_t first, uint16_t packet_id) {
    bench_send((const uint8_t[]){first, 2, (uint8_t)(packet_id >> 8), (uint8_t)packet_id}, 4);
}

static void puback(uint16_t packet_id) {
    acknowledge(0x40, packet_id);
}

/* Asserts that the client sends nothing, although it has enough time. */
static void expect_nothing(void) {
    for (int i = 0; i < 10; i++) {
        engine_reactor.poll(bench.engine, 2);
        bench_take_bytes();
    }
    ck_assert_uint_eq(bench.got_len, 0);
}

/* The connection breaks, and the publications are to blame. */
static void break_for_them(void) {
    bench_break();
    ck_assert(engine_reactor.publications_blame(bench.engine, bench.session));
}

static void send_n(uint64_t n, uint8_t qos) {
    for (uint64_t token = 0; token < n; token++) {
        publish_shape(token, (struct shape){.qos = qos});
        ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, token + 1);
    }
}

static void expect_given_up(uint64_t token, enum give_up reason) {
    UNTIL(bench.answers[token] == 1);
    ck_assert_int_eq(bench.results[token].err, ERR_REFUSED);
    ck_assert_int_eq(bench.results[token].give_up, reason);
}

static void expect_done(uint64_t token) {
    UNTIL(bench.answers[token] == 1);
    ck_assert_int_eq(bench.results[token].err, ERR_OK);
}

static void disconnect(uint8_t reason_code) {
    bench_send((const uint8_t[]){0xE0, 1, reason_code}, 3);
    UNTIL(bench.closed == 1);
    bench_hang_up(false);
}

/* ---- order and limits ---- */

START_TEST(what_is_owed_waits_for_the_subscriptions) {
    bench_up(false);
    send_n(2, 1);
    bench_break();
    bench.subscribes = true;
    bench_up(true);
    publish_shape(2, (struct shape){.qos = 1});
    expect_nothing();
    engine_reactor.resume_publications(bench.connection);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 1);
}
END_TEST

START_TEST(one_at_a_time_until_one_is_acknowledged_then_the_others_and_the_fresh_in_order) {
    bench_up(false);
    send_n(3, 1);
    bench_break();
    bench_up(true);
    publish_shape(3, (struct shape){.qos = 1});
    struct seen first = bench_expect(PACKET_PUBLISH);
    ck_assert(first.packet_id == 1 && (first.flags & 8));
    expect_nothing();
    puback(1);
    for (uint16_t id = 2; id <= 4; id++) {
        struct seen seen = bench_expect(PACKET_PUBLISH);
        ck_assert_uint_eq(seen.packet_id, id);
        ck_assert_int_eq((seen.flags & 8) != 0, id < 4);
    }
    expect_done(0);
}
END_TEST

START_TEST(fresh_publications_of_a_connection_that_owes_nothing_do_not_wait) {
    bench_up(false);
    send_n(20, 1);
    ck_assert_uint_eq(bench.suspects.count, 0);
}
END_TEST

/* ---- losses without a reason code ---- */

START_TEST(
    a_publication_that_ends_the_connection_twice_is_given_up_and_its_neighbours_arrive_once) {
    bench_up(false);
    send_n(3, 1); /* the second one causes the loss */
    puback(1);
    expect_done(0);
    break_for_them();
    ck_assert_uint_eq(bench.suspects.count, 2);
    ck_assert_str_eq(bench.suspects.suspects[0].topic, "out");
    ck_assert_int_eq(bench.answers[1], 0);
    bench_up(true);
    publish_shape(3, (struct shape){.qos = 1});
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 2);
    expect_nothing(); /* alone */
    break_for_them();
    ck_assert_uint_eq(bench.suspects.count, 1);
    expect_given_up(1, GIVE_UP_CONNECTION_LOST);
    bench_up(true);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 3);
    expect_nothing(); /* it is still a suspect */
    puback(3);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 4);
    puback(4);
    expect_done(2);
    expect_done(3);
}
END_TEST

START_TEST(twenty_of_a_hundred_cost_twenty_one_connections) {
    int connections = 0;
    bench_up(false);
    send_n(100, 1);
    break_for_them();
    for (bool ended = true; ended; connections++) {
        bench_up(true);
        ended = false;
        while (!ended && bench.session->outbound) {
            uint16_t id = bench_expect(PACKET_PUBLISH).packet_id;
            if (id % 5 == 0) {
                ended = true;
                break_for_them();
            } else {
                puback(id);
                UNTIL(bench.answers[id - 1] == 1);
            }
        }
    }
    ck_assert_int_eq(connections, 21);
    for (uint64_t token = 0; token < 100; token++) {
        ck_assert_int_eq(bench.answers[token], 1);
        ck_assert_int_eq(bench.results[token].err, (token + 1) % 5 == 0 ? ERR_REFUSED : ERR_OK);
    }
}
END_TEST

START_TEST(a_loss_that_something_else_explains_is_laid_to_nobody) {
    bench_up(false);
    send_n(2, 1);
    for (int i = 0; i < 5; i++) {
        bench_break();
        bench_up(true);
        bench_expect(PACKET_PUBLISH);
    }
    puback(1);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 2);
    ck_assert_int_eq(bench.answers[1], 0);
}
END_TEST

START_TEST(what_was_not_written_is_no_suspect_and_goes_out_in_a_new_session) {
    static const uint8_t one_at_a_time[] = {0x20, 6, 0, 0, 3, 0x21, 0, 1};
    bench_open();
    bench_send(one_at_a_time, sizeof one_at_a_time);
    UNTIL(bench.connected == 1);
    publish_shape(0, (struct shape){.qos = 1});
    publish_shape(1, (struct shape){.qos = 1});
    bench_expect(PACKET_PUBLISH);
    break_for_them();
    ck_assert_uint_eq(bench.suspects.count, 1);
    bench_up(false);
    UNTIL(bench.answers[0] == 1);
    ck_assert_int_eq(bench.results[0].err, ERR_UNAVAILABLE);
    struct seen seen = bench_expect(PACKET_PUBLISH);
    ck_assert(seen.packet_id == 2 && (seen.flags & 8) == 0);
}
END_TEST

/* A6 */
START_TEST(what_was_ever_on_the_wire_is_not_sent_in_a_new_session) {
    static const uint8_t one_at_a_time[] = {0x20, 6, 1, 0, 3, 0x21, 0, 1};
    bench_up(false);
    send_n(2, 2);
    bench_break();
    bench_open();
    bench_send(one_at_a_time, sizeof one_at_a_time);
    UNTIL(bench.connected == 1);
    bench_expect(PACKET_PUBLISH);
    bench_break(); /* the second was not sent there */
    bench_up(false);
    for (uint64_t token = 0; token < 2; token++) {
        ck_assert_int_eq(bench.answers[token], 1);
        ck_assert_int_eq(bench.results[token].err, ERR_UNAVAILABLE);
    }
    expect_nothing();
}
END_TEST

START_TEST(a_publication_that_is_half_read_is_a_suspect) {
    bench_up(false);
    publish_shape(0, (struct shape){.qos = 1, .payload_len = LARGE});
    UNTIL((bench_take_bytes(), bench.got_len > 1000));
    break_for_them();
    ck_assert_uint_eq(bench.suspects.suspects[0].payload_len, LARGE);
    bench_up(true);
    UNTIL((bench_take_bytes(), bench.got_len > 1000));
    break_for_them();
    expect_given_up(0, GIVE_UP_CONNECTION_LOST);
}
END_TEST

/* ---- QoS 2 ---- */

START_TEST(the_identifier_of_qos_2_is_not_used_again_in_the_session) {
    bench_up(false);
    send_n(1, 2);
    break_for_them();
    bench_up(true);
    bench_expect(PACKET_PUBLISH);
    break_for_them();
    expect_given_up(0, GIVE_UP_CONNECTION_LOST);
    bench_up(true);
    bench.session->last_packet_id = 65535;
    publish_shape(1, (struct shape){.qos = 2});
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 2);
    bench_break();
    bench_up(false); /* another session */
    bench.session->last_packet_id = 65535;
    publish_shape(2, (struct shape){.qos = 2});
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 1);
}
END_TEST

START_TEST(a_broker_that_closes_at_pubrel_keeps_nobody_offline) {
    bench_up(false);
    send_n(1, 2);
    acknowledge(0x50, 1);
    bench_expect(PACKET_PUBREL);
    break_for_them();
    bench_up(true);
    ck_assert_uint_eq(bench_expect(PACKET_PUBREL).packet_id, 1);
    break_for_them();
    expect_given_up(0, GIVE_UP_NOT_COMPLETED);
    bench_up(true);
    expect_nothing();
}
END_TEST

/* A5 */
START_TEST(puback_for_qos_2_is_the_end_of_it) {
    int64_t before = metric_get(METRIC_ACKNOWLEDGED_AT_QOS1);
    bench_up(false);
    send_n(1, 2);
    puback(1);
    expect_done(0);
    ck_assert_int_eq(metric_get(METRIC_ACKNOWLEDGED_AT_QOS1), before + 1);
    bench_break();
    bench_up(true);
    expect_nothing();
}
END_TEST

static const struct {
    uint8_t qos, first; /* of the answer that does not match */
    bool released;
} unfitting[] = {{1, 0x50, false}, {1, 0x70, false}, {2, 0x70, false}, {2, 0x40, true}};

START_TEST(a_wrong_acknowledgement_ends_the_connection_twice_and_not_for_ever) {
    bool released = unfitting[_i].released;
    bench_up(false);
    send_n(1, unfitting[_i].qos);
    for (int i = 0; i < 2; i++) {
        if (released && i == 0) {
            acknowledge(0x50, 1);
        }
        if (released) {
            bench_expect(PACKET_PUBREL);
        }
        acknowledge(unfitting[_i].first, 1);
        UNTIL(bench.closed == 1);
        ck_assert_str_eq(bench.code, "protocol_error");
        bench_hang_up(false);
        bench_up(true);
        if (i == 0 && !released) {
            bench_expect(PACKET_PUBLISH);
        }
    }
    expect_given_up(0, released ? GIVE_UP_NOT_COMPLETED : GIVE_UP_PROTOCOL);
    expect_nothing();
}
END_TEST

/* ---- losses with a reason code ---- */

#define TOLD_MAX 3

static const struct {
    uint8_t reason_code;
    struct shape shapes[TOLD_MAX];
    int given_up; /* which; -1: all have a loss or, with `nobody`, none */
    enum give_up reason;
    bool nobody;
} told[] = {
    {0x95, {{.qos = 1}, {.qos = 1, .payload_len = 900}, {.qos = 1}}, 1, GIVE_UP_TOO_LARGE, false},
    {0x9A, {{.qos = 1}, {.qos = 1}, {.qos = 1, .retain = true}}, 2, GIVE_UP_RETAIN, false},
    {0x9B, {{.qos = 2}, {.qos = 1}, {.qos = 1}}, 0, GIVE_UP_QOS, false},
    {0x99, {{.qos = 1}, {.qos = 1, .text = true}, {.qos = 1}}, 1, GIVE_UP_FORMAT, false},
    {0x87, {{.qos = 1}}, 0, GIVE_UP_NOT_AUTHORIZED, false},
    {0x90, {{.qos = 1}}, 0, GIVE_UP_TOPIC, false},
    {0x87, {{.qos = 1}, {.qos = 1}, {.qos = 1}}, -1, 0, false},
    {0x82, {{.qos = 1}, {.qos = 1}, {.qos = 1}}, -1, 0, false},
    {0x8B, {{.qos = 1}, {.qos = 1}, {.qos = 1}}, -1, 0, true},
    {0x9A, {{.qos = 1}, {.qos = 1}, {.qos = 1}}, -1, 0, false}, /* it cannot refer to any of them */
    {0x9A, {{.qos = 1}}, 0, GIVE_UP_RETAIN, false},
};

START_TEST(a_reason_code_speaks_against_what_it_can_mean) {
    uint64_t n = 0;
    bench_up(false);
    for (; n < TOLD_MAX && told[_i].shapes[n].qos > 0; n++) {
        publish_shape(n, told[_i].shapes[n]);
        bench_expect(PACKET_PUBLISH);
    }
    disconnect(told[_i].reason_code);
    ck_assert_int_eq(bench.suspects.suspicion != SUSPICION_BY_TIME, !told[_i].nobody);
    bench_up(true);
    for (uint64_t token = 0; token < n; token++) {
        struct engine_publication_status status = {0};
        if ((int)token == told[_i].given_up) {
            expect_given_up(token, told[_i].reason);
            continue;
        }
        ck_assert(engine_reactor.publication_status(bench.session, token, &status));
        ck_assert_uint_eq(status.losses, told[_i].given_up < 0 && !told[_i].nobody);
    }
}
END_TEST

START_TEST(a_reason_code_while_a_subscription_is_under_way_may_mean_that) {
    static const struct client_subscription subscription = {.filter = "t", .qos = 1};
    size_t n = 1;
    bench_up(false);
    send_n(1, 1);
    ck_assert_int_eq(engine_reactor.subscribe(bench.connection, &subscription, &n), ERR_OK);
    bench_expect(PACKET_SUBSCRIBE);
    disconnect(0x87);
    ck_assert(bench.suspects.suspicion == SUSPICION_BY_TIME);
    ck_assert_int_eq(bench.answers[0], 0);
}
END_TEST

START_TEST(qos_0_is_named_when_it_was_sent_shortly_before) {
    bench_up(false);
    publish_shape(0, (struct shape){.topic = "a/b", .qos = 0, .payload_len = 7});
    bench_expect(PACKET_PUBLISH);
    expect_done(0);
    clock_advance_ms(_i ? 3000 : 0);
    bench_break();
    ck_assert_uint_eq(bench.suspects.count, _i ? 0 : 1);
    ck_assert_str_eq(bench.suspects.suspects[0].topic, _i ? "" : "a/b");
    ck_assert(!engine_reactor.publications_blame(bench.engine, bench.session));
    bench_up(true);
    expect_nothing();
}
END_TEST

static const struct {
    struct shape before, last;
    int64_t apart_ms;
    bool suspected;
} outlived[] = {
    {{.topic = "a"}, {.topic = "a"}, 3000, false},
    {{.topic = "a", .payload_len = 9}, {.topic = "a", .payload_len = 4000}, 3000, false},
    {{.topic = "a"}, {.topic = "a"}, 1800, false}, /* until the end */
    {{.topic = "a"}, {.topic = "a"}, 900, true},   /* not long enough */
    {{.topic = "a"}, {.topic = "b"}, 3000, true},
    {{.topic = "a"}, {.topic = "a", .retain = true}, 3000, true},
    {{.topic = "a"}, {.topic = "a", .payload_len = 5000}, 3000, true},
};

START_TEST(qos_0_is_no_suspect_where_the_connection_outlived_others_like_it) {
    bench_up(false);
    for (uint64_t token = 0; token < 2; token++) {
        publish_shape(token, token < 1 ? outlived[_i].before : outlived[_i].last);
        bench_expect(PACKET_PUBLISH);
        expect_done(token);
        clock_advance_ms(token < 1 ? outlived[_i].apart_ms : 500);
    }
    bench_break();
    ck_assert_uint_eq(bench.suspects.count, outlived[_i].suspected);
    bench_up(false);
    publish_shape(2, outlived[_i].last);
    bench_expect(PACKET_PUBLISH);
    bench_break();
    ck_assert_uint_eq(bench.suspects.count, 1); /* another connection */
}
END_TEST

START_TEST(qos_0_that_is_harmless_hides_none_that_is_not) {
    static const struct shape harmless = {.topic = "a"};
    bench_up(false);
    for (uint64_t token = 0; token < 4; token++) {
        publish_shape(token, token == 2 ? (struct shape){.topic = "b"} : harmless);
        bench_expect(PACKET_PUBLISH);
        clock_advance_ms(token < 2 ? 3000 : 100);
    }
    bench_break();
    ck_assert_uint_eq(bench.suspects.count, 1);
    ck_assert_str_eq(bench.suspects.suspects[0].topic, "b");
}
END_TEST

START_TEST(a_reason_is_read_although_the_broker_takes_no_more) {
    int small = 4096;
    bench_up(false);
    setsockopt(bench.peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    publish_shape(0, (struct shape){.qos = 1, .payload_len = LARGE});
    UNTIL((bench_take_bytes(), bench.got_len > 1000));
    SEND("\xE0\x01\x95");
    bench_hang_up(false); /* with bytes unread: a reset */
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "packet_too_large");
    expect_given_up(0, GIVE_UP_TOO_LARGE);
}
END_TEST

/* A1, as mosquitto 2.0 does it */
START_TEST(a_code_in_puback_that_only_disconnect_may_have_refuses_the_publication) {
    bench_up(false);
    send_n(1, 1);
    SEND("\x40\x03\x00\x01\x95");
    expect_given_up(0, GIVE_UP_TOO_LARGE);
    bench_break();
    ck_assert(bench.suspects.count == 1 && bench.suspects.suspicion == SUSPICION_GIVEN_UP);
    ck_assert_str_eq(bench.suspects.suspects[0].topic, "out");
    bench_up(true);
    expect_nothing();
}
END_TEST

/* For example, a broker that has restarted and does not accept clients yet. */
START_TEST(a_connection_that_was_refused_speaks_against_no_publication) {
    static const uint8_t not_authorized[] = {0x20, 3, 0, 0x87, 0};
    bench_up(false);
    send_n(1, 1);
    bench_break(); /* something else explains it */
    bench_open();
    bench_send(not_authorized, sizeof not_authorized);
    UNTIL(bench.closed == 1);
    ck_assert_uint_eq(bench.suspects.count, 0);
    bench_hang_up(false);
    bench_up(true);
    ck_assert_int_eq(bench.answers[0], 0);
    bench_expect(PACKET_PUBLISH);
    puback(1);
    expect_done(0);
}
END_TEST

START_TEST(the_identifier_of_qos_2_that_is_no_longer_taken_is_not_used_again) {
    static const uint8_t no_qos_2[] = {0x20, 5, 1, 0, 2, 0x24, 1};
    bench_up(false);
    send_n(1, 2);
    bench_break();
    bench_open();
    bench_send(no_qos_2, sizeof no_qos_2);
    UNTIL(bench.connected == 1);
    UNTIL(bench.answers[0] == 1);
    ck_assert_int_eq(bench.results[0].err, ERR_UNAVAILABLE);
    bench_break();
    bench_up(true);
    bench.session->last_packet_id = 65535;
    publish_shape(1, (struct shape){.qos = 2});
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 2);
}
END_TEST

START_TEST(a_code_that_puback_may_have_is_told_as_it_is) {
    bench_up(false);
    send_n(1, 1);
    SEND("\x40\x03\x00\x01\x99");
    expect_done(0);
    ck_assert_int_eq(bench.results[0].reason_code, 0x99);
}
END_TEST

START_TEST(a_malformed_acknowledgement_keeps_nobody_offline) {
    bench_up(false);
    send_n(1, 1);
    for (int i = 0; i < 2; i++) {
        SEND("\x40\x03\x00\x01\x42");
        UNTIL(bench.closed == 1);
        bench_hang_up(false);
        bench_up(true);
        if (i == 0) {
            bench_expect(PACKET_PUBLISH);
        }
    }
    expect_given_up(0, GIVE_UP_PROTOCOL);
    expect_nothing();
}
END_TEST

/* ---- dropping ---- */

static void up_with_quota(uint8_t receive_maximum) {
    const uint8_t connack[] = {0x20, 6, 0, 0, 3, 0x21, 0, receive_maximum};
    bench_open();
    bench_send(connack, sizeof connack);
    UNTIL(bench.connected == 1);
}

START_TEST(what_is_dropped_offline_is_not_sent_again) {
    bench_up(false);
    send_n(2, 1);
    bench_break();
    ck_assert(engine_reactor.publication_drop(bench.engine, bench.session, 0, GIVE_UP_DROPPED));
    ck_assert(!engine_reactor.publication_drop(bench.engine, bench.session, 7, GIVE_UP_DROPPED));
    ck_assert(!engine_reactor.publication_drop(bench.engine, NULL, 1, GIVE_UP_DROPPED));
    expect_given_up(0, GIVE_UP_DROPPED);
    bench_up(true);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 2);
}
END_TEST

START_TEST(what_is_dropped_while_it_is_in_flight_may_be_acknowledged_late) {
    up_with_quota(2);
    publish_shape(0, (struct shape){.qos = 2});
    publish_shape(1, (struct shape){.qos = 1});
    publish_shape(2, (struct shape){.qos = 1});
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 1);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 2);
    engine_reactor.publication_drop(bench.engine, bench.session, 0, GIVE_UP_EXPIRED);
    expect_given_up(0, GIVE_UP_EXPIRED);
    expect_nothing(); /* it uses up the server's receive maximum */
    acknowledge(0x50, 1);
    ck_assert_uint_eq(bench_expect(PACKET_PUBREL).packet_id, 1);
    acknowledge(0x70, 1);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 3);
}
END_TEST

static bool is_held_up(uint64_t token) {
    struct engine_publication_status status;
    ck_assert(engine_reactor.publication_status(bench.session, token, &status));
    return status.held_up;
}

START_TEST(a_connection_whose_quota_is_used_up_by_what_was_given_up_is_ended_by_us) {
    up_with_quota(2);
    for (uint64_t token = 0; token < 3; token++) {
        publish_shape(token, (struct shape){.qos = 1});
    }
    bench_expect(PACKET_PUBLISH);
    bench_expect(PACKET_PUBLISH);
    ck_assert(!is_held_up(1) && is_held_up(2));
    engine_reactor.publication_drop(bench.engine, bench.session, 0, GIVE_UP_EXPIRED);
    expect_nothing();
    ck_assert_int_eq(bench.closed, 0); /* the other may still be acknowledged */
    engine_reactor.publication_drop(bench.engine, bench.session, 1, GIVE_UP_EXPIRED);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "nothing_acknowledged");
    ck_assert_uint_eq(bench.suspects.count, 0);
    ck_assert(!is_held_up(2));
    bench_hang_up(false);
    bench_up(true);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 3);
    puback(3);
    expect_done(2);
}
END_TEST

START_TEST(what_waits_in_a_session_that_ends_so_is_told_as_not_sent) {
    bench.config.session_expiry_s = 0;
    bench.config.clean_start = true;
    up_with_quota(1);
    publish_shape(0, (struct shape){.qos = 1});
    publish_shape(1, (struct shape){.qos = 2});
    bench_expect(PACKET_PUBLISH);
    engine_reactor.publication_drop(bench.engine, bench.session, 0, GIVE_UP_EXPIRED);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "nothing_acknowledged");
    expect_given_up(0, GIVE_UP_EXPIRED);
    expect_given_up(1, GIVE_UP_NOT_SENT);
}
END_TEST

START_TEST(a_broker_that_never_acknowledges_what_was_owed_holds_up_nothing_for_ever) {
    bench_up(false);
    send_n(2, 1);
    bench_break();
    bench_up(true);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 1);
    expect_nothing();
    engine_reactor.publication_drop(bench.engine, bench.session, 0, GIVE_UP_EXPIRED);
    ck_assert_uint_eq(bench_expect(PACKET_PUBLISH).packet_id, 2);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("outbound");
    TCase *tcase = tcase_create("v5"), *v4 = tcase_create("v4");
    tcase_set_timeout(tcase, 120);
    tcase_set_timeout(v4, 120);
    tcase_add_checked_fixture(tcase, setup, bench_teardown);
    tcase_add_checked_fixture(v4, setup_v4, bench_teardown);
    tcase_add_test(tcase, what_is_owed_waits_for_the_subscriptions);
    tcase_add_test(tcase,
                   one_at_a_time_until_one_is_acknowledged_then_the_others_and_the_fresh_in_order);
    tcase_add_test(tcase, fresh_publications_of_a_connection_that_owes_nothing_do_not_wait);
    tcase_add_test(
        tcase,
        a_publication_that_ends_the_connection_twice_is_given_up_and_its_neighbours_arrive_once);
    tcase_add_test(
        v4,
        a_publication_that_ends_the_connection_twice_is_given_up_and_its_neighbours_arrive_once);
    tcase_add_test(tcase, twenty_of_a_hundred_cost_twenty_one_connections);
    tcase_add_test(tcase, a_loss_that_something_else_explains_is_laid_to_nobody);
    tcase_add_test(tcase, what_was_not_written_is_no_suspect_and_goes_out_in_a_new_session);
    tcase_add_test(tcase, what_was_ever_on_the_wire_is_not_sent_in_a_new_session);
    tcase_add_test(tcase, a_publication_that_is_half_read_is_a_suspect);
    tcase_add_test(tcase, the_identifier_of_qos_2_is_not_used_again_in_the_session);
    tcase_add_test(tcase, a_broker_that_closes_at_pubrel_keeps_nobody_offline);
    tcase_add_test(v4, a_broker_that_closes_at_pubrel_keeps_nobody_offline);
    tcase_add_test(tcase, puback_for_qos_2_is_the_end_of_it);
    tcase_add_test(v4, puback_for_qos_2_is_the_end_of_it);
    tcase_add_loop_test(v4, a_wrong_acknowledgement_ends_the_connection_twice_and_not_for_ever, 0,
                        sizeof unfitting / sizeof *unfitting);
    tcase_add_loop_test(tcase, a_reason_code_speaks_against_what_it_can_mean, 0,
                        sizeof told / sizeof *told);
    tcase_add_test(tcase, a_reason_code_while_a_subscription_is_under_way_may_mean_that);
    tcase_add_loop_test(tcase, qos_0_is_named_when_it_was_sent_shortly_before, 0, 2);
    tcase_add_loop_test(tcase, qos_0_is_no_suspect_where_the_connection_outlived_others_like_it, 0,
                        sizeof outlived / sizeof *outlived);
    tcase_add_test(tcase, qos_0_that_is_harmless_hides_none_that_is_not);
    tcase_add_test(tcase, a_reason_is_read_although_the_broker_takes_no_more);
    tcase_add_test(tcase, a_code_in_puback_that_only_disconnect_may_have_refuses_the_publication);
    tcase_add_test(tcase, a_connection_that_was_refused_speaks_against_no_publication);
    tcase_add_test(tcase, the_identifier_of_qos_2_that_is_no_longer_taken_is_not_used_again);
    tcase_add_test(tcase, a_code_that_puback_may_have_is_told_as_it_is);
    tcase_add_test(tcase, a_malformed_acknowledgement_keeps_nobody_offline);
    tcase_add_test(tcase, what_is_dropped_offline_is_not_sent_again);
    tcase_add_test(tcase, what_is_dropped_while_it_is_in_flight_may_be_acknowledged_late);
    tcase_add_test(tcase, a_connection_whose_quota_is_used_up_by_what_was_given_up_is_ended_by_us);
    tcase_add_test(tcase, what_waits_in_a_session_that_ends_so_is_told_as_not_sent);
    tcase_add_test(tcase, a_broker_that_never_acknowledges_what_was_owed_holds_up_nothing_for_ever);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, v4);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
