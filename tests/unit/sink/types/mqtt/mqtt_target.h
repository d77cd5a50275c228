/* A target broker for tests: one thread, one connection at a time, MQTT 5 and 3.1.1. What it does
 * with a message follows from the first byte of the payload:
 *
 *   X       ends the connection       R + byte   PUBACK with that reason code
 *   S       does not answer           other      PUBACK
 *
 * Header-only. */
#ifndef MQFLEET_TEST_MQTT_TARGET_H
#define MQFLEET_TEST_MQTT_TARGET_H

#include <check.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TARGET_TAKEN_MAX  4000
#define TARGET_PACKET_MAX 70000

struct mqtt_target {
    int listener, port;
    pthread_t thread;
    atomic_bool stops;
    atomic_int connections;
    uint8_t connack[32]; /* properties of MQTT 5 with their length; zero: none */
    bool mute;           /* sends no CONNACK */
    bool holds;          /* no PUBACK until nothing more comes */

    pthread_mutex_t lock;             /* guards all below */
    char taken[TARGET_TAKEN_MAX][32]; /* payloads that were acknowledged as good */
    int taken_count;
    int unanswered_max;
    uint8_t last[TARGET_PACKET_MAX]; /* body of the last PUBLISH */
    size_t last_len;
    uint8_t last_flags;
};

static struct mqtt_target target;

/* False: closed, or the end. */
static inline bool target_read(int fd, uint8_t *data, size_t len) {
    while (len > 0 && !target.stops) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, 20) <= 0) {
            continue;
        }
        ssize_t n = read(fd, data, len);
        if (n <= 0) {
            return false;
        }
        data += n;
        len -= (size_t)n;
    }
    return len == 0;
}

static inline bool target_read_packet(int fd, uint8_t *first, uint8_t *body, size_t *len) {
    uint8_t digit = 0x80;
    *len = 0;
    if (!target_read(fd, first, 1)) {
        return false;
    }
    for (int shift = 0; digit & 0x80; shift += 7) {
        if (!target_read(fd, &digit, 1)) {
            return false;
        }
        *len |= (size_t)(digit & 0x7f) << shift;
    }
    ck_assert_uint_le(*len, TARGET_PACKET_MAX);
    return target_read(fd, body, *len);
}

static inline void target_send(int fd, const void *data, size_t len) {
    ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void target_greet(int fd, int version) {
    size_t properties = target.connack[0] + 1U;
    uint8_t packet[64] = {0x20, 2, 0, 0};
    if (version == 5) {
        packet[1] = (uint8_t)(2 + properties);
        memcpy(packet + 4, target.connack, properties);
    }
    target_send(fd, packet, packet[1] + 2U);
}

/* The payload of a PUBLISH of QoS 1 without large properties. */
static inline const uint8_t *target_payload(const uint8_t *body, int version, uint16_t *packet_id) {
    const uint8_t *at = body + 2 + (body[0] << 8 | body[1]);
    *packet_id = (uint16_t)(at[0] << 8 | at[1]);
    at += 2;
    if (version == 5) {
        size_t len = *at & 0x7f;
        if (*at++ & 0x80) {
            len |= (size_t)*at++ << 7;
        }
        at += len;
    }
    return at;
}

static inline void target_answer(int fd, uint16_t packet_id, uint8_t code) {
    uint8_t packet[] = {0x40, code ? 3 : 2, (uint8_t)(packet_id >> 8), (uint8_t)packet_id, code};
    target_send(fd, packet, packet[1] + 2U);
}

static inline void target_note(const uint8_t *payload, size_t len) {
    pthread_mutex_lock(&target.lock);
    ck_assert_int_lt(target.taken_count, TARGET_TAKEN_MAX);
    snprintf(target.taken[target.taken_count++], sizeof target.taken[0], "%.*s",
             (int)(len < 31 ? len : 31), (const char *)payload);
    pthread_mutex_unlock(&target.lock);
}

static inline void target_keep(uint8_t flags, const uint8_t *body, size_t len) {
    pthread_mutex_lock(&target.lock);
    memcpy(target.last, body, len);
    target.last_len = len;
    target.last_flags = flags;
    pthread_mutex_unlock(&target.lock);
}

/* False: to be closed. */
static inline bool target_take(int fd, int version, uint8_t first, const uint8_t *body,
                               size_t len) {
    uint16_t packet_id;
    const uint8_t *payload = target_payload(body, version, &packet_id);
    size_t payload_len = len - (size_t)(payload - body);
    target_keep(first & 15, body, len);
    if (payload_len > 0 && *payload == 'X') {
        return false;
    }
    if (payload_len > 0 && *payload == 'R') {
        target_answer(fd, packet_id, payload[1]);
    } else if (payload_len == 0 || *payload != 'S') {
        target_note(payload, payload_len);
        target_answer(fd, packet_id, 0);
    }
    return true;
}

/* Reads what comes within a while, and only then answers. */
static inline bool target_hold(int fd, int version, uint8_t first, uint8_t *body, size_t len) {
    static uint16_t ids[TARGET_TAKEN_MAX];
    int count = 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    do {
        if ((first >> 4) == 3) {
            const uint8_t *payload = target_payload(body, version, &ids[count++]);
            target_note(payload, len - (size_t)(payload - body));
        }
    } while (poll(&ready, 1, 100) > 0 && target_read_packet(fd, &first, body, &len));
    target.unanswered_max = count > target.unanswered_max ? count : target.unanswered_max;
    for (int i = 0; i < count; i++) {
        target_answer(fd, ids[i], 0);
    }
    return true;
}

static inline void target_serve(int fd) {
    static uint8_t body[TARGET_PACKET_MAX];
    uint8_t first;
    size_t len;
    if (!target_read_packet(fd, &first, body, &len)) {
        return;
    }
    int version = body[6];
    if (!target.mute) {
        target_greet(fd, version);
    }
    bool open = true;
    while (open && target_read_packet(fd, &first, body, &len)) {
        if ((first >> 4) == 12) {
            target_send(fd, "\xd0\0", 2);
        } else if ((first >> 4) == 3) {
            open = target.holds ? target_hold(fd, version, first, body, len)
                                : target_take(fd, version, first, body, len);
        } else {
            return;
        }
    }
}

static inline void *target_run(void *unused) {
    (void)unused;
    while (!target.stops) {
        struct pollfd ready = {.fd = target.listener, .events = POLLIN};
        if (poll(&ready, 1, 20) > 0) {
            int fd = accept(target.listener, NULL, NULL);
            target.connections++;
            target_serve(fd);
            close(fd);
        }
    }
    return NULL;
}

static inline void target_start(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    memset(&target, 0, sizeof target);
    pthread_mutex_init(&target.lock, NULL);
    target.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(target.listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(target.listener, 16), 0);
    ck_assert_int_eq(getsockname(target.listener, (struct sockaddr *)&address, &len), 0);
    target.port = ntohs(address.sin_port);
    ck_assert_int_eq(pthread_create(&target.thread, NULL, target_run, NULL), 0);
}

static inline void target_end(void) {
    target.stops = true;
    pthread_join(target.thread, NULL);
    close(target.listener);
}

#endif
