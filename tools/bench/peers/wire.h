/* The few MQTT 3.1.1 packets that the floor and the load write. Header only. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static inline uint8_t *wire_u16(uint8_t *at, size_t value) {
    *at++ = (uint8_t)(value >> 8);
    *at++ = (uint8_t)value;
    return at;
}

static inline uint8_t *wire_text(uint8_t *at, const char *text) {
    size_t len = strlen(text);
    at = wire_u16(at, len);
    memcpy(at, text, len);
    return at + len;
}

static inline uint8_t *wire_length(uint8_t *at, size_t len) {
    do {
        *at++ = (uint8_t)((len & 127) | (len > 127 ? 128 : 0));
        len >>= 7;
    } while (len > 0);
    return at;
}

static inline size_t wire_connect(uint8_t *packet, const char *client_id, int keepalive_s) {
    uint8_t *at = packet;
    *at++ = 0x10;
    at = wire_length(at, 12 + strlen(client_id));
    at = wire_text(at, "MQTT");
    *at++ = 4; /* 3.1.1 */
    *at++ = 2; /* clean session */
    at = wire_u16(at, (size_t)keepalive_s);
    return (size_t)(wire_text(at, client_id) - packet);
}

static inline size_t wire_subscribe(uint8_t *packet, const char *topic, int qos) {
    uint8_t *at = packet;
    *at++ = 0x82;
    at = wire_length(at, 5 + strlen(topic));
    at = wire_u16(at, 1);
    at = wire_text(at, topic);
    *at++ = (uint8_t)qos;
    return (size_t)(at - packet);
}

/* Up to the payload. */
static inline size_t wire_publish_head(uint8_t *packet, const char *topic, int qos,
                                       uint16_t packet_id, size_t payload_len) {
    uint8_t *at = packet;
    *at++ = (uint8_t)(0x30 | qos << 1);
    at = wire_length(at, 2 + strlen(topic) + (qos ? 2 : 0) + payload_len);
    at = wire_text(at, topic);
    at = qos ? wire_u16(at, packet_id) : at;
    return (size_t)(at - packet);
}

/* A connection that is being opened to 127.0.0.1; -1: errno says why. flags: of socket(2). */
static inline int wire_open(int port, int flags) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        return -1;
    }
    return fd;
}

#endif
