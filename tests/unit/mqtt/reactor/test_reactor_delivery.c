/* The engine `reactor` between a correct broker and a slow sink, while the connection breaks
 * repeatedly: numbered messages in both directions, none of which may be lost, and none of QoS 2
 * duplicated. The sequence is random, with a seed. */
#include "mqtt/reactor_fixture.h"

#define NUMBERS      150 /* of each direction */
#define WINDOW       5   /* what the broker has in flight */
#define HELD_MAX     64
#define STEPS_MAX    100000
#define BUFFER_BYTES 1048576

struct sent { /* by the broker */
    int number;
    uint16_t packet_id; /* 0: free */
    bool released;
};

static struct {
    unsigned random;
    /* the broker */
    struct sent sent[WINDOW];
    int next_to_send, completed;
    bool used_ids[65536];     /* of QoS 2 from the client, until PUBREL */
    int arrived[NUMBERS + 1]; /* from the client */
    int last_first;           /* the last number that arrived for the first time */
    /* the worker */
    struct held {
        struct receipt *receipt;
        int number;
    } held[HELD_MAX];
    int held_count, next_to_publish;
    int accepted[NUMBERS + 1];
    bool is_with_sink[NUMBERS + 1];
} world;

static unsigned chance(unsigned n) {
    world.random = world.random * 1103515245u + 12345u;
    return (world.random >> 16) % n;
}

/* Odd numbers are QoS 1. */
static uint8_t qos_of(int number) {
    return number % 2 ? 1 : 2;
}

/* ---- the sink ---- */

static enum err on_message(struct message *message, struct receipt *receipt) {
    int number = message->payload[0] << 8 | message->payload[1];
    if (!bench.has_room || world.held_count == HELD_MAX || chance(10) == 0) {
        bench.has_room = false;
        return ERR_FULL;
    }
    ck_assert_int_eq(message->qos, qos_of(number));
    ck_assert_msg(!world.is_with_sink[number], "%d twice at once", number);
    ck_assert_msg(message->qos == 1 || world.accepted[number] == 0, "%d of QoS 2 again", number);
    world.is_with_sink[number] = true;
    world.held[world.held_count++] = (struct held){receipt, number};
    message_destroy(message);
    return ERR_OK;
}

static void sink_answers(bool may_fail) {
    if (world.held_count == 0) {
        return;
    }
    unsigned at = chance((unsigned)world.held_count);
    struct held held = world.held[at];
    world.held[at] = world.held[--world.held_count];
    world.is_with_sink[held.number] = false;
    bool fails = may_fail && chance(30) == 0;
    world.accepted[held.number] += !fails;
    bench_answer(held.receipt, fails ? ERR_UNAVAILABLE : ERR_OK);
}

/* ---- the broker ---- */

/* Bytes that the client does not read before the end are lost with its connection. */
static void broker_send(const void *bytes, size_t len) {
    ssize_t sent = send(bench.peer, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent;
}

static void send_ack(uint8_t first, uint16_t packet_id) {
    const uint8_t packet[] = {first, 2, (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
    broker_send(packet, sizeof(packet));
}

static void send_publish(const struct sent *sent, bool again) {
    bool v5 = bench.config.protocol_version == 5;
    uint8_t packet[] = {(uint8_t)(0x30 | (again ? 8 : 0) | qos_of(sent->number) << 1),
                        (uint8_t)(7 + v5),
                        0,
                        1,
                        't',
                        (uint8_t)(sent->packet_id >> 8),
                        (uint8_t)sent->packet_id,
                        0,
                        0,
                        0};
    packet[7 + v5] = (uint8_t)(sent->number >> 8);
    packet[8 + v5] = (uint8_t)sent->number;
    broker_send(packet, 9U + v5);
}

/* In the order of their numbers; identifiers are reused soon. */
static void broker_sends(void) {
    int free_at = -1;
    for (int i = 0; i < WINDOW; i++) {
        free_at = world.sent[i].packet_id == 0 ? i : free_at;
    }
    if (free_at < 0 || world.next_to_send > NUMBERS || bench.connected == 0) {
        return;
    }
    world.sent[free_at] =
        (struct sent){.number = world.next_to_send++, .packet_id = (uint16_t)(free_at + 1)};
    send_publish(&world.sent[free_at], false);
}

static void broker_resumes(void) {
    for (int number = 1; number < world.next_to_send; number++) {
        for (int i = 0; i < WINDOW; i++) {
            struct sent *sent = &world.sent[i];
            if (sent->packet_id == 0 || sent->number != number) {
                continue;
            }
            if (sent->released) {
                send_ack(0x62, sent->packet_id);
            } else {
                send_publish(sent, true);
            }
        }
    }
}

static void take_publish(const uint8_t *body, size_t len, uint8_t flags) {
    int qos = flags >> 1 & 3;
    uint16_t packet_id = (uint16_t)(body[5] << 8 | body[6]);
    int number = body[len - 2] << 8 | body[len - 1];
    ck_assert_int_eq(qos, qos_of(number));
    if (qos == 1 || !world.used_ids[packet_id]) {
        ck_assert_msg(qos == 1 || world.arrived[number] == 0, "%d of QoS 2 again", number);
        ck_assert(world.arrived[number] > 0 || number > world.last_first);
        world.last_first = world.arrived[number] == 0 ? number : world.last_first;
        world.arrived[number]++;
    }
    world.used_ids[packet_id] |= qos == 2;
    send_ack(qos == 1 ? 0x40 : 0x50, packet_id);
}

static void complete(uint16_t packet_id, bool released) {
    ck_assert(packet_id >= 1 && packet_id <= WINDOW);
    struct sent *sent = &world.sent[packet_id - 1];
    ck_assert(sent->packet_id == packet_id && sent->released == released);
    ck_assert_int_gt(world.accepted[sent->number], 0);
    world.completed++;
    *sent = (struct sent){0};
}

static void take_packet(const uint8_t *packet, size_t header_len, size_t len) {
    const uint8_t *body = packet + header_len;
    uint16_t packet_id = len > header_len + 1 ? (uint16_t)(body[0] << 8 | body[1]) : 0;
    switch (packet[0] >> 4) {
    case PACKET_PUBLISH:
        take_publish(body, len - header_len, packet[0] & 15);
        break;
    case PACKET_PUBACK:
        complete(packet_id, false);
        break;
    case PACKET_PUBREC:
        ck_assert_int_gt(world.accepted[world.sent[packet_id - 1].number], 0);
        world.sent[packet_id - 1].released = true;
        send_ack(0x62, packet_id);
        break;
    case PACKET_PUBREL:
        world.used_ids[packet_id] = false;
        send_ack(0x70, packet_id);
        break;
    case PACKET_PUBCOMP:
        if (world.sent[packet_id - 1].packet_id != 0) { /* else PUBREL was sent twice */
            complete(packet_id, true);
        }
        break;
    default:
        break;
    }
}

static void broker_takes(int most) {
    size_t header_len, len;
    bench_take_bytes();
    while (most-- > 0 && (len = bench_packet_len(&header_len)) > 0) {
        take_packet(bench.got, header_len, len);
        bench_forget(len);
    }
}

/* ---- the worker ---- */

static void host_publishes(void) {
    uint8_t payload[2] = {(uint8_t)(world.next_to_publish >> 8), (uint8_t)world.next_to_publish};
    struct engine_publication publication = {.topic = "out",
                                             .payload = payload,
                                             .payload_len = sizeof(payload),
                                             .qos = qos_of(world.next_to_publish)};
    if (world.next_to_publish <= NUMBERS && bench.connection && bench.connected == 1 &&
        engine_reactor.publish(bench.connection, &publication, (uint64_t)world.next_to_publish) ==
            ERR_OK) {
        world.next_to_publish++;
    }
}

/* With a receive maximum of 3, so that some wait. */
static void connect_again(bool session_present) {
    const uint8_t connack[] = {0x20, 6, session_present, 0, 3, 0x21, 0, 3};
    if (bench.peer >= 0) {
        bench_hang_up(true);
    }
    bench_open();
    if (bench.config.protocol_version == 5) {
        bench_send(connack, sizeof(connack));
        UNTIL(bench.connected == 1);
    } else {
        bench_accept_connection(session_present);
    }
    broker_resumes();
}

static bool all_is_done(void) {
    bool done = world.completed == NUMBERS && world.next_to_publish > NUMBERS;
    for (int i = 1; i < world.next_to_publish; i++) {
        done &= bench.answers[i] == 1;
    }
    return done;
}

static void step(bool calm) {
    switch (chance(12)) {
    case 0:
    case 1:
        broker_sends();
        break;
    case 2:
        host_publishes();
        break;
    case 3:
    case 4:
        sink_answers(!calm);
        break;
    case 5:
    case 6:
        broker_takes(1 + (int)chance(3));
        break;
    case 7:
        bench.has_room = true;
        break;
    case 8:
        if (!calm && chance(8) == 0 && bench.peer >= 0) {
            bench_hang_up(true);
        }
        break;
    case 9:
        if (!calm && chance(40) == 0 && bench.connection) {
            engine_reactor.close(bench.connection, chance(2));
        }
        break;
    default:
        engine_reactor.poll(bench.engine, bench.has_room ? 0 : 1);
    }
    if (bench.closed > 0) {
        connect_again(true);
    }
}

START_TEST(nothing_is_lost_nor_doubled_while_the_connection_breaks_again_and_again) {
    memset(&world, 0, sizeof(world));
    world.random = (unsigned)_i + 1;
    world.next_to_send = world.next_to_publish = 1;
    bench_setup(_i % 2 ? 4 : 5, BUFFER_BYTES);
    bench.on_message = on_message;
    connect_again(false);
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    for (int i = 0; !all_is_done() && (i < STEPS_MAX || fixture_now_ms() < until_ms); i++) {
        step(i > STEPS_MAX / 2);
    }
    ck_assert_int_eq(world.completed, NUMBERS);
    for (int i = 1; i <= NUMBERS; i++) {
        ck_assert_int_gt(world.accepted[i], 0);
        ck_assert(qos_of(i) == 1 || world.accepted[i] == 1);
        ck_assert_int_gt(world.arrived[i], 0);
        ck_assert(bench.answers[i] == 1 && bench.results[i].err == ERR_OK);
    }
    while (world.held_count > 0) {
        sink_answers(false);
    }
    bench_teardown();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reactor_delivery");
    TCase *tcase = tcase_create("reactor_delivery");
    tcase_set_timeout(tcase, 200);
    tcase_add_loop_test(
        tcase, nothing_is_lost_nor_doubled_while_the_connection_breaks_again_and_again, 0, 20);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
