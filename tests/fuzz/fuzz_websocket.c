/* Fuzzes mqtt/reactor/websocket: the input is what a server sends, its answer to the handshake and
 * the frames behind it, or only frames. It is read three times: as a whole, byte by byte, and in
 * pieces that the input chooses; each piece lies in a block of its own size, so that a byte touched
 * beyond it is seen. However the bytes were cut, the result must be the same: judgement, message,
 * payload, and what is sent back, which must be what a client may send. */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "mqtt/reactor/stream/websocket.h"

#define MESSAGE_LEN            256
#define HEAD_LEN               3 /* of the input: how to read, the longest piece, a seed for lengths */
#define CONTROL_MAX            125 /* RFC 6455 section 5.5 */
#define WEBSOCKET_MASK_LEN     4
#define OUT_FRAME_MIN          (2 + WEBSOCKET_MASK_LEN)
#define WEBSOCKET_FIN          0x80
#define WEBSOCKET_MASKED       0x80
#define WEBSOCKET_OPCODE_CLOSE 8
#define WEBSOCKET_OPCODE_PONG  10

#define ONLY_FRAMES 1 /* how to read: no handshake came before */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct cut {
    size_t chunk_max; /* 0: none */
    uint32_t seed;
};

struct reading {
    struct websocket *websocket;
    bool in_frames;
    enum err answered, ended;
    size_t answer_len, frames_len; /* bytes of the input */
    struct buffer payload, out;
    char message[MESSAGE_LEN];
};

/* In place of the system's: the key of the handshake is known to the seeds. */
ssize_t getrandom(void *data, size_t len, unsigned flags) {
    (void)flags;
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)data)[i] = (uint8_t)i;
    }
    return (ssize_t)len;
}

/* ---- reading ---- */

static void open_reading(struct reading *reading, bool only_frames) {
    struct client_config config = {.scheme = SCHEME_WS, .host = "broker", .port = 80};
    struct buffer request;
    *reading = (struct reading){.in_frames = only_frames, .websocket = websocket_create()};
    assert(reading->websocket);
    buffer_init(&reading->payload);
    buffer_init(&reading->out);
    if (!only_frames) {
        buffer_init(&request);
        websocket_write_request(reading->websocket, &config, &request);
        assert(!request.failed);
        buffer_fini(&request);
    }
}

static void close_reading(struct reading *reading) {
    websocket_destroy(reading->websocket);
    buffer_fini(&reading->payload);
    buffer_fini(&reading->out);
}

/* How many bytes belong to the answer. */
static size_t read_answer(struct reading *reading, const uint8_t *data, size_t len) {
    size_t used = 0;
    struct websocket_fault fault = {0};
    reading->answered = websocket_read_answer(reading->websocket, data, len, &used, &fault);
    snprintf(reading->message, sizeof(reading->message), "%s", fault.message);
    assert(used <= len && (reading->answered != ERR_TIMEOUT || used == len));
    reading->answer_len += used;
    assert(reading->answer_len <= WEBSOCKET_ANSWER_MAX);
    reading->in_frames = reading->answered == ERR_OK;
    return used;
}

static void read_frames(struct reading *reading, uint8_t *data, size_t len) {
    size_t payload_len = len;
    enum err err = reading->ended;
    reading->ended =
        websocket_unwrap(reading->websocket, data, &payload_len, &reading->out, reading->message);
    assert(payload_len <= len);
    assert(err == ERR_OK || (reading->ended == err && payload_len == 0));
    reading->frames_len += len;
    buffer_append(&reading->payload, data, payload_len);
}

static void read_chunk(struct reading *reading, uint8_t *data, size_t len) {
    size_t at = reading->in_frames ? 0 : read_answer(reading, data, len);
    if (reading->in_frames) {
        read_frames(reading, data + at, len - at);
    }
}

static size_t next_len(struct cut *cut, size_t left) {
    if (cut->chunk_max == 0) {
        return left;
    }
    cut->seed = cut->seed * 1664525u + 1013904223u;
    size_t len = 1 + (cut->seed >> 16) % cut->chunk_max;
    return len < left ? len : left;
}

static void read_all(struct reading *reading, struct cut cut, const uint8_t *data, size_t size) {
    size_t at = 0;
    while (at < size && (reading->in_frames || reading->answered != ERR_REFUSED)) {
        size_t len = next_len(&cut, size - at);
        uint8_t *chunk = malloc(len);
        assert(chunk);
        memcpy(chunk, data + at, len);
        read_chunk(reading, chunk, len);
        free(chunk);
        at += len;
    }
    assert(!reading->payload.failed && !reading->out.failed);
}

/* ---- judging ---- */

/* One frame at the front: a pong, or a close, after which nothing comes. Takes its mask off, which
 * is another one in each reading. Returns its length. */
static size_t check_frame(uint8_t *frame, size_t len, bool ended) {
    assert(len >= OUT_FRAME_MIN && (frame[1] & WEBSOCKET_MASKED));
    uint8_t *mask = frame + 2, *payload = mask + WEBSOCKET_MASK_LEN;
    size_t payload_len = frame[1] & 0x7F;
    size_t frame_len = OUT_FRAME_MIN + payload_len;
    assert(payload_len <= CONTROL_MAX && frame_len <= len);
    if (frame[0] == (WEBSOCKET_FIN | WEBSOCKET_OPCODE_CLOSE)) {
        assert(ended && frame_len == len);
    } else {
        assert(frame[0] == (WEBSOCKET_FIN | WEBSOCKET_OPCODE_PONG));
    }
    for (size_t i = 0; i < payload_len; i++) {
        payload[i] ^= mask[i % WEBSOCKET_MASK_LEN];
    }
    memset(mask, 0, WEBSOCKET_MASK_LEN);
    return frame_len;
}

static void check_out(struct reading *reading) {
    uint8_t *data = (uint8_t *)reading->out.data;
    for (size_t at = 0; at < reading->out.len;) {
        at += check_frame(data + at, reading->out.len - at, reading->ended != ERR_OK);
    }
}

static void check(struct reading *reading) {
    assert(reading->answered == ERR_OK || reading->answered == ERR_TIMEOUT ||
           reading->answered == ERR_REFUSED);
    assert(reading->ended == ERR_OK || reading->ended == ERR_CANCELED ||
           reading->ended == ERR_PROTOCOL);
    bool is_said = reading->answered == ERR_REFUSED || reading->ended != ERR_OK;
    assert(is_said == (reading->message[0] != '\0'));
    assert(reading->payload.len <= reading->frames_len);
    check_out(reading);
}

static bool same_bytes(const struct buffer *one, const struct buffer *other) {
    return one->len == other->len &&
           (one->len == 0 || memcmp(one->data, other->data, one->len) == 0);
}

/* A refused answer is left where it was refused: earlier, when it came in small pieces. */
static void compare(const struct reading *one, const struct reading *other) {
    assert(one->answered == other->answered && one->ended == other->ended);
    assert(one->answered == ERR_REFUSED || one->answer_len == other->answer_len);
    assert(strcmp(one->message, other->message) == 0);
    assert(same_bytes(&one->payload, &other->payload));
    assert(same_bytes(&one->out, &other->out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEAD_LEN) {
        return 0;
    }
    const struct cut cuts[] = {{0, 0}, {1, 0}, {2 + (size_t)data[1], data[2]}};
    struct reading readings[3];
    for (size_t i = 0; i < 3; i++) {
        open_reading(&readings[i], data[0] & ONLY_FRAMES);
        read_all(&readings[i], cuts[i], data + HEAD_LEN, size - HEAD_LEN);
        check(&readings[i]);
        compare(&readings[0], &readings[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        close_reading(&readings[i]);
    }
    return 0;
}
