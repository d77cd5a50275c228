/* Owns the frames of WebSocket connections (RFC 6455 section 5): binary data in and out, answers to
 * control frames. One thread per connection. The handshake is in websocket_handshake.c. */
#include "mqtt/reactor/stream/websocket.h"

#include <assert.h>
#include <endian.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/text.h"
#include "websocket_internal.h"

#define WEBSOCKET_FRAME_MAX   ((uint64_t)1 << 30) /* the largest MQTT packet has 256 MiB */
#define WEBSOCKET_HEADER_MAX  10                  /* of a server's frame, which has no mask */
#define WEBSOCKET_UNSENT_MAX  4096 /* a server that pings and does not read gets no more pongs */
#define WEBSOCKET_MASK_LEN    4
#define WEBSOCKET_MASKS_COUNT 64

#define WEBSOCKET_FIN      0x80
#define WEBSOCKET_RESERVED 0x70
#define WEBSOCKET_MASKED   0x80

enum websocket_opcode {
    WEBSOCKET_OPCODE_CONTINUATION = 0,
    WEBSOCKET_OPCODE_TEXT = 1,
    WEBSOCKET_OPCODE_BINARY = 2,
    WEBSOCKET_OPCODE_CLOSE = 8,
    WEBSOCKET_OPCODE_PING = 9,
    WEBSOCKET_OPCODE_PONG = 10,
};

enum websocket_close_status { /* RFC 6455 section 7.4.1 */
                              WEBSOCKET_STATUS_NORMAL = 1000,
                              WEBSOCKET_STATUS_PROTOCOL_ERROR = 1002,
                              WEBSOCKET_STATUS_UNSUPPORTED_DATA = 1003,
                              WEBSOCKET_STATUS_TOO_BIG = 1009,
};

static const struct websocket_close_meaning {
    unsigned status;
    const char *text;
} websocket_close_meanings[] = {
    {1000, "normal closure"},   {1001, "going away"},       {1002, "protocol error"},
    {1003, "unsupported data"}, {1007, "malformed data"},   {1008, "policy violation"},
    {1009, "message too big"},  {1011, "unexpected error"}, {1012, "service restart"},
    {1013, "try again later"},  {1014, "bad gateway"},
};

struct websocket *websocket_create(void) {
    return calloc(1, sizeof(struct websocket));
}

void websocket_destroy(struct websocket *websocket) {
    if (!websocket) {
        return;
    }
    websocket_handshake_destroy(websocket->handshake);
    free(websocket->ended_message);
    free(websocket);
}

/* ---- sent frames ---- */

/* Masks protect caches on the way from being fooled (RFC 6455 section 10.3). They must be
 * unpredictable, so the kernel provides them, many at a time. */
static void websocket_next_mask(uint8_t mask[WEBSOCKET_MASK_LEN]) {
    static _Thread_local uint8_t masks[WEBSOCKET_MASKS_COUNT][WEBSOCKET_MASK_LEN];
    static _Thread_local size_t left;
    if (left == 0) {
        /* Up to 256 bytes are complete once the kernel is seeded, and OpenSSL has ensured that. */
        ssize_t n = getrandom(masks, sizeof(masks), 0);
        if (n != (ssize_t)sizeof(masks) && RAND_bytes(masks[0], sizeof(masks)) != 1) {
            abort();
        }
        left = WEBSOCKET_MASKS_COUNT;
    }
    memcpy(mask, masks[--left], WEBSOCKET_MASK_LEN);
}

static void websocket_apply_mask(uint8_t *data, size_t len,
                                 const uint8_t mask[WEBSOCKET_MASK_LEN]) {
    uint64_t wide, word;
    memcpy(&wide, mask, WEBSOCKET_MASK_LEN);
    memcpy((uint8_t *)&wide + WEBSOCKET_MASK_LEN, mask, WEBSOCKET_MASK_LEN);
    size_t at = 0;
    for (; at + sizeof(word) <= len; at += sizeof(word)) {
        memcpy(&word, data + at, sizeof(word));
        word ^= wide;
        memcpy(data + at, &word, sizeof(word));
    }
    for (; at < len; at++) {
        data[at] ^= mask[at % WEBSOCKET_MASK_LEN];
    }
}

static size_t websocket_write_length(uint8_t *header, size_t len) {
    if (len < 126) {
        header[0] = (uint8_t)len;
        return 1;
    }
    if (len <= UINT16_MAX) {
        uint16_t wire = htobe16((uint16_t)len);
        header[0] = 126;
        memcpy(header + 1, &wire, sizeof(wire));
        return 1 + sizeof(wire);
    }
    uint64_t wire = htobe64(len);
    header[0] = 127;
    memcpy(header + 1, &wire, sizeof(wire));
    return 1 + sizeof(wire);
}

static void websocket_write_frame(enum websocket_opcode opcode, const uint8_t *data, size_t len,
                                  struct buffer *out) {
    uint8_t header[WEBSOCKET_HEADER_MAX + WEBSOCKET_MASK_LEN] = {WEBSOCKET_FIN | (uint8_t)opcode};
    size_t header_len = 1 + websocket_write_length(header + 1, len);
    header[1] |= WEBSOCKET_MASKED;
    uint8_t *mask = header + header_len;
    websocket_next_mask(mask);
    buffer_append(out, header, header_len + WEBSOCKET_MASK_LEN);
    buffer_append(out, data, len);
    if (!out->failed) {
        websocket_apply_mask((uint8_t *)out->data + out->len - len, len, mask);
    }
}

void websocket_wrap(struct websocket *websocket, const uint8_t *data, size_t len,
                    struct buffer *out) {
    (void)websocket;
    websocket_write_frame(WEBSOCKET_OPCODE_BINARY, data, len, out);
}

void websocket_write_close(struct websocket *websocket, uint16_t status, struct buffer *out) {
    if (websocket->close_sent) {
        return;
    }
    uint16_t wire = htobe16(status);
    websocket_write_frame(WEBSOCKET_OPCODE_CLOSE, (const uint8_t *)&wire, sizeof(wire), out);
    websocket->close_sent = true;
}

/* ---- received frames ---- */

struct websocket_input {
    const uint8_t *data;
    size_t len, at;
    uint8_t *payload; /* where unwrapped bytes go: never beyond `at` */
    size_t payload_len;
    struct buffer *out;
};

static void websocket_end(struct websocket *websocket, enum err err, const char *message) {
    websocket->ended = err;
    websocket->ended_message = text_dup(message);
}

static void websocket_refuse(struct websocket *websocket, struct websocket_input *input,
                             uint16_t status, const char *message) {
    websocket_end(websocket, ERR_PROTOCOL, message);
    websocket_write_close(websocket, status, input->out);
}

/* The fault of a header whose first two bytes are known; NULL: none. */
static const char *websocket_header_fault(const struct websocket *websocket, uint8_t first,
                                          uint8_t second) {
    uint8_t opcode = first & 0x0F;
    bool control = (opcode & 0x08) != 0;
    if (first & WEBSOCKET_RESERVED) {
        return "a WebSocket frame with reserved bits set, though no extension was agreed";
    }
    if (second & WEBSOCKET_MASKED) {
        return "a masked WebSocket frame, which only clients may send";
    }
    if (opcode > WEBSOCKET_OPCODE_PONG ||
        (opcode > WEBSOCKET_OPCODE_BINARY && opcode < WEBSOCKET_OPCODE_CLOSE)) {
        return "a WebSocket frame with an unknown opcode";
    }
    if (control && (!(first & WEBSOCKET_FIN) || (second & 0x7F) > WEBSOCKET_CONTROL_MAX)) {
        return "a WebSocket control frame that is fragmented or longer than 125 bytes";
    }
    if (opcode == WEBSOCKET_OPCODE_CONTINUATION && !websocket->in_message) {
        return "a WebSocket continuation frame without a preceding fragment";
    }
    if (opcode == WEBSOCKET_OPCODE_BINARY && websocket->in_message) {
        return "a new WebSocket message before the end of the previous one";
    }
    return NULL;
}

static size_t websocket_header_len_of(uint8_t second) {
    uint8_t len = second & 0x7F;
    return len == 127 ? 10 : len == 126 ? 4 : 2;
}

/* False: the length is not in the shortest form that section 5.2 requires. */
static bool websocket_read_length(const uint8_t *header, uint64_t *len) {
    uint16_t medium;
    uint64_t large;
    switch (websocket_header_len_of(header[1])) {
    case 2:
        *len = header[1] & 0x7F;
        return true;
    case 4:
        memcpy(&medium, header + 2, sizeof(medium));
        *len = be16toh(medium);
        return *len >= 126;
    default:
        memcpy(&large, header + 2, sizeof(large));
        *len = be64toh(large);
        return *len > UINT16_MAX;
    }
}

static void websocket_begin_frame(struct websocket *websocket, struct websocket_input *input) {
    uint64_t len = 0;
    uint8_t opcode = websocket->header[0] & 0x0F;
    bool shortest = websocket_read_length(websocket->header, &len);
    if (len > WEBSOCKET_FRAME_MAX) {
        websocket_refuse(websocket, input, WEBSOCKET_STATUS_TOO_BIG,
                         "a WebSocket frame longer than 1 GiB");
        return;
    }
    if (!shortest) {
        websocket_refuse(websocket, input, WEBSOCKET_STATUS_PROTOCOL_ERROR,
                         "a WebSocket frame whose length is not in its shortest form");
        return;
    }
    websocket->opcode = opcode;
    websocket->payload_left = (uint32_t)len;
    websocket->in_payload = true;
    websocket->header_len = 0;
    websocket->control_len = 0;
    if (opcode < WEBSOCKET_OPCODE_CLOSE) {
        websocket->in_message = !(websocket->header[0] & WEBSOCKET_FIN);
    }
}

/* Reads the available bytes of a header. */
static void websocket_read_header(struct websocket *websocket, struct websocket_input *input) {
    size_t need = websocket->header_len < 2 ? 2 : websocket_header_len_of(websocket->header[1]);
    while (websocket->header_len < need && input->at < input->len) {
        websocket->header[websocket->header_len++] = input->data[input->at++];
    }
    if (websocket->header_len < need) {
        return;
    }
    if (need == 2) {
        const char *fault =
            websocket_header_fault(websocket, websocket->header[0], websocket->header[1]);
        bool text = !fault && (websocket->header[0] & 0x0F) == WEBSOCKET_OPCODE_TEXT;
        if (fault || text) {
            websocket_refuse(
                websocket, input,
                text ? WEBSOCKET_STATUS_UNSUPPORTED_DATA : WEBSOCKET_STATUS_PROTOCOL_ERROR,
                text ? "a WebSocket text frame: MQTT is sent in binary frames" : fault);
            return;
        }
        if (websocket_header_len_of(websocket->header[1]) > 2) {
            return; /* the next iteration reads the rest */
        }
    }
    websocket_begin_frame(websocket, input);
}

static const char *websocket_close_text(unsigned status) {
    for (size_t i = 0; i < sizeof(websocket_close_meanings) / sizeof(websocket_close_meanings[0]);
         i++) {
        if (websocket_close_meanings[i].status == status) {
            return websocket_close_meanings[i].text;
        }
    }
    return "unknown reason";
}

static void websocket_take_close(struct websocket *websocket, struct websocket_input *input) {
    char message[WEBSOCKET_MESSAGE_LEN];
    const uint8_t *payload = websocket->control;
    size_t len = websocket->control_len;
    if (len == 1) {
        websocket_refuse(websocket, input, WEBSOCKET_STATUS_PROTOCOL_ERROR,
                         "a WebSocket close frame with an incomplete status");
        return;
    }
    unsigned status = len == 0 ? WEBSOCKET_STATUS_NORMAL : (unsigned)payload[0] << 8 | payload[1];
    const char *reason = len > 2 ? (const char *)payload + 2 : "";
    size_t reason_len = len > 2 ? len - 2 : 0;
    if (!text_is_mqtt_string(reason, reason_len) || text_has_control(reason, reason_len)) {
        reason_len = 0;
    }
    snprintf(message, sizeof(message), "the broker closed the WebSocket: %s (%u)%s%.*s",
             websocket_close_text(status), status, reason_len > 0 ? ": " : "", (int)reason_len,
             reason);
    websocket_end(websocket, ERR_CANCELED, message);
    websocket_write_close(websocket, (uint16_t)status, input->out);
}

static void websocket_end_frame(struct websocket *websocket, struct websocket_input *input) {
    websocket->in_payload = false;
    if (websocket->opcode == WEBSOCKET_OPCODE_CLOSE) {
        websocket_take_close(websocket, input);
    } else if (websocket->opcode == WEBSOCKET_OPCODE_PING &&
               input->out->len <= WEBSOCKET_UNSENT_MAX) {
        websocket_write_frame(WEBSOCKET_OPCODE_PONG, websocket->control, websocket->control_len,
                              input->out);
    }
}

static void websocket_read_payload(struct websocket *websocket, struct websocket_input *input) {
    size_t n = input->len - input->at;
    if (n > websocket->payload_left) {
        n = websocket->payload_left;
    }
    if (websocket->opcode >= WEBSOCKET_OPCODE_CLOSE) {
        memcpy(websocket->control + websocket->control_len, input->data + input->at, n);
        websocket->control_len = (uint8_t)(websocket->control_len + n);
    } else {
        memmove(input->payload + input->payload_len, input->data + input->at, n);
        input->payload_len += n;
    }
    input->at += n;
    websocket->payload_left -= (uint32_t)n;
    if (websocket->payload_left == 0) {
        websocket_end_frame(websocket, input);
    }
}

enum err websocket_unwrap(struct websocket *websocket, uint8_t *data, size_t *len,
                          struct buffer *out, char *message) {
    struct websocket_input input = {.data = data, .len = *len, .payload = data, .out = out};
    while (websocket->ended == ERR_OK && input.at < input.len) {
        if (!websocket->in_payload) {
            websocket_read_header(websocket, &input);
        }
        if (websocket->in_payload && websocket->ended == ERR_OK) {
            websocket_read_payload(websocket, &input);
        }
    }
    *len = input.payload_len;
    if (websocket->ended != ERR_OK) {
        snprintf(message, WEBSOCKET_MESSAGE_LEN, "%s",
                 websocket->ended_message ? websocket->ended_message : "the WebSocket has ended");
    }
    return websocket->ended;
}
