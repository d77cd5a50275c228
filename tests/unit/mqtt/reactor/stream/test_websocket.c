/* WebSocket handshake and frames: bytes in, bytes out, complete and one at a time. */
#include <check.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mqtt/reactor/stream/websocket.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MESSAGE_LEN  256

static struct websocket *websocket;
static struct buffer out;
static char message[MESSAGE_LEN];
static struct websocket_fault fault;
static struct client_config config;

static void setup(void) {
    websocket = websocket_create();
    ck_assert_ptr_nonnull(websocket);
    buffer_init(&out);
    message[0] = '\0';
    fault = (struct websocket_fault){.error = CLIENT_ERROR_NONE};
    config = (struct client_config){
        .scheme = SCHEME_WS, .host = "broker.example", .port = 8080, .path = "/mqtt"};
}

static void teardown(void) {
    websocket_destroy(websocket);
    buffer_fini(&out);
}

/* ---- the handshake ---- */

static void accept_of(const char *request, char accept[29]) {
    char text[64];
    uint8_t digest[20];
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    ck_assert_ptr_nonnull(key);
    snprintf(text, sizeof(text), "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    ck_assert_int_eq(EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL), 1);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest));
}

/* In a template, ACCEPT stands for the right value. */
static char *answer_from(const char *template) {
    char accept[29];
    websocket_write_request(websocket, &config, &out);
    ck_assert(!out.failed);
    accept_of(out.data, accept);
    struct buffer answer;
    buffer_init(&answer);
    const char *at = strstr(template, "ACCEPT");
    buffer_append(&answer, template, at ? (size_t)(at - template) : strlen(template));
    if (at) {
        buffer_append_str(&answer, accept);
        buffer_append_str(&answer, at + 6);
    }
    return buffer_take(&answer);
}

/* In pieces of `step` bytes. *used: of all. */
static enum err read_answer(const char *answer, size_t len, size_t step, size_t *used) {
    enum err err = ERR_TIMEOUT;
    *used = 0;
    for (size_t at = 0; at < len && err == ERR_TIMEOUT; at += step) {
        size_t n = len - at < step ? len - at : step, taken;
        err = websocket_read_answer(websocket, (const uint8_t *)answer + at, n, &taken, &fault);
        snprintf(message, sizeof(message), "%s", fault.message);
        ck_assert(err != ERR_TIMEOUT || taken == n);
        *used += taken;
    }
    return err;
}

#define GOOD                                                                                       \
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n"                                   \
    "CONNECTION: keep-alive, Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n"
#define START "HTTP/1.1 101 \r\n"

static const struct answer_case {
    const char *answer;
    enum err result;
    const char *says;
} answer_cases[] = {
    {GOOD "Sec-WebSocket-Protocol:mqtt \r\n\r\n", ERR_OK, ""},
    {GOOD "\r\n", ERR_OK, ""},
    {"HTTP/1.1 101\r\nUpgrade:websocket\r\nConnection:upgrade\r\n"
     "Sec-WebSocket-Accept:ACCEPT\r\n\r\n",
     ERR_OK, ""},
    {GOOD "Sec-WebSocket-Protocol: chat\r\n\r\n", ERR_REFUSED, "sub-protocol"},
    {GOOD "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", ERR_REFUSED, "extension"},
    {START "Upgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
     ERR_REFUSED, "Sec-WebSocket-Accept"},
    {START "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", ERR_REFUSED,
     "Sec-WebSocket-Accept"},
    {START "Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n",
     ERR_REFUSED, "not an upgrade"},
    {START "Upgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n", ERR_REFUSED,
     "not an upgrade"},
    {"HTTP/1.1 200 OK\r\n\r\n<html>", ERR_REFUSED, "200"},
    {"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\n\r\n", ERR_REFUSED,
     "redirects to another URL"},
    {"HTTP/1.1 400 Bad Request\r\n\r\n", ERR_REFUSED, "400"},
    {"HTTP/1.1 401 Unauthorized\r\n\r\n", ERR_REFUSED, "credentials"},
    {"HTTP/1.1 403 Forbidden\r\n\r\n", ERR_REFUSED, "forbidden"},
    {"HTTP/1.1 404 Not Found\r\n\r\n", ERR_REFUSED, "path"},
    {"HTTP/1.1 503 Service Unavailable\r\n\r\n", ERR_REFUSED, "503"},
    {"HTTP/1.1 999 Odd\r\n\r\n", ERR_REFUSED, "999"},
    {"HTTP/1.0 200 OK\r\n\r\n<html>", ERR_REFUSED, "HTTP status 200"},
    {"HTTP/1.0 302 Found\r\nLocation: /login\r\n\r\n", ERR_REFUSED, "redirects to another URL"},
    {"HTTP/1.0 401 Unauthorized\r\n\r\n", ERR_REFUSED, "credentials"},
    {"HTTP/1.0 403 Forbidden\r\n\r\n", ERR_REFUSED, "HTTP status 403"},
    {"HTTP/1.2 403 Forbidden\r\n\r\n", ERR_REFUSED, "not HTTP/1.1"},
    {"HTTP/1.0 101 Old\r\n\r\n", ERR_REFUSED, "not HTTP/1.1"},
    {"HTTP/1.1 abc\r\n\r\n", ERR_REFUSED, "not HTTP/1.1"},
    {"HTTP/1.1 1010 x\r\n\r\n", ERR_REFUSED, "not HTTP/1.1"},
    {"HTTP/1.1\r\n\r\n", ERR_REFUSED, "not HTTP/1.1"},
    {"SSH-2.0-OpenSSH\r\n", ERR_REFUSED, "not HTTP:"},
    {"\x15\x03\x01\x02\x02P", ERR_REFUSED, "wss"},
    {"H\x01", ERR_REFUSED, "not HTTP:"},
    {"HTTP/1.1 101 Switching", ERR_TIMEOUT, ""},
};

START_TEST(the_answer_to_the_handshake_is_judged_however_it_arrives) {
    const struct answer_case *test = &answer_cases[_i];
    size_t steps[] = {1000, 1, 7};
    for (size_t i = 0; i < COUNT(steps); i++) {
        size_t used;
        message[0] = '\0';
        fault = (struct websocket_fault){.error = CLIENT_ERROR_NONE};
        buffer_clear(&out);
        char *answer = answer_from(test->answer);
        ck_assert_int_eq(read_answer(answer, strlen(answer), steps[i], &used), test->result);
        ck_assert_msg(strstr(message, test->says) != NULL, "%s", message);
        free(answer);
    }
}
END_TEST

START_TEST(frames_right_behind_the_answer_are_not_taken) {
    size_t used;
    char *answer = answer_from(GOOD "\r\n\x82\x01x");
    ck_assert_int_eq(read_answer(answer, strlen(answer), 1000, &used), ERR_OK);
    ck_assert_uint_eq(used, strlen(answer) - 3);
    free(answer);
}
END_TEST

START_TEST(an_answer_without_end_is_refused_at_the_bound) {
    size_t used, len = WEBSOCKET_ANSWER_MAX * 2;
    char *endless = malloc(len);
    memset(endless, 'x', len);
    for (size_t step = 1; step < len; step = step * 50 + 13) {
        buffer_clear(&out);
        char *start = answer_from("HTTP/1.1 101 x\r\n");
        memcpy(endless, start, strlen(start));
        free(start);
        ck_assert_int_eq(read_answer(endless, len, step, &used), ERR_REFUSED);
        ck_assert_uint_le(used, WEBSOCKET_ANSWER_MAX);
        ck_assert_ptr_nonnull(strstr(message, "too long"));
    }
    free(endless);
}
END_TEST

START_TEST(an_answer_is_refused_where_nothing_was_asked) {
    size_t used;
    ck_assert_int_eq(websocket_read_answer(websocket, (const uint8_t *)"HTTP", 4, &used, &fault),
                     ERR_REFUSED);
}
END_TEST

static const struct request_case {
    enum client_scheme scheme;
    const char *host;
    uint16_t port;
    const char *path;
    const char *has[2];
} request_cases[] = {
    {SCHEME_WS, "a.example", 80, "/mqtt", {"GET /mqtt HTTP/1.1\r\n", "\r\nHost: a.example\r\n"}},
    {SCHEME_WS, "a.example", 443, "/", {"GET / HTTP/1.1\r\n", "\r\nHost: a.example:443\r\n"}},
    {SCHEME_WSS, "::1", 443, "/x?y=1", {"GET /x?y=1 HTTP/1.1\r\n", "\r\nHost: [::1]\r\n"}},
    {SCHEME_WSS, "::1", 8443, NULL, {"GET /mqtt HTTP/1.1\r\n", "\r\nHost: [::1]:8443\r\n"}},
    {SCHEME_WS,
     "a",
     80,
     "/a b\r\nX: y\x7F\xC3\xA4",
     {"GET /a%20b%0D%0AX:%20y%7F%C3%A4 HTTP/1.1\r\n", "Sec-WebSocket-Protocol: mqtt\r\n"}},
};

START_TEST(the_request_names_host_port_and_path) {
    const struct request_case *test = &request_cases[_i];
    config = (struct client_config){.scheme = test->scheme,
                                    .host = (char *)test->host,
                                    .port = test->port,
                                    .path = (char *)test->path};
    websocket_write_request(websocket, &config, &out);
    for (size_t i = 0; i < COUNT(test->has); i++) {
        ck_assert_msg(strstr(out.data, test->has[i]) != NULL, "%s", out.data);
    }
    ck_assert_str_eq(out.data + out.len - 4, "\r\n\r\n");
}
END_TEST

START_TEST(every_request_has_a_key_of_its_own) {
    struct buffer other;
    buffer_init(&other);
    websocket_write_request(websocket, &config, &out);
    websocket_write_request(websocket, &config, &other);
    ck_assert_str_ne(out.data, other.data);
    buffer_fini(&other);
}
END_TEST

/* ---- frames from the server ---- */

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

/* Unwraps in pieces of `step` bytes and collects the payloads in `payload`. */
static enum err unwrap(const uint8_t *data, size_t len, size_t step, struct buffer *payload) {
    enum err err = ERR_OK;
    for (size_t at = 0; at < len && err == ERR_OK; at += step) {
        size_t n = len - at < step ? len - at : step;
        uint8_t *piece = malloc(n); /* exactly its size: a sanitizer detects reads beyond it */
        memcpy(piece, data + at, n);
        err = websocket_unwrap(websocket, piece, &n, &out, message);
        buffer_append(payload, piece, n);
        free(piece);
    }
    return err;
}

static const struct frame_case {
    const uint8_t *frames;
    size_t len;
    enum err result;
    const char *payload;
    const char *says;
} frame_cases[] = {
    {BYTES("\x82\x03"
           "abc"
           "\x82\x00"
           "\x82\x01"
           "d"),
     ERR_OK, "abcd", ""},
    {BYTES("\x02\x01"
           "a"
           "\x00\x01"
           "b"
           "\x00\x00"
           "\x80\x01"
           "c"),
     ERR_OK, "abc", ""},
    {BYTES("\x02\x01"
           "a"
           "\x89\x02"
           "hi"
           "\x8A\x00"
           "\x80\x01"
           "b"),
     ERR_OK, "ab", ""},
    {BYTES("\x81\x01"
           "a"),
     ERR_PROTOCOL, "", "text frame"},
    {BYTES("\x01\x01"
           "a"),
     ERR_PROTOCOL, "", "text frame"},
    {BYTES("\x82\x01"
           "a"
           "\x82\x81"
           "mask"
           "b"),
     ERR_PROTOCOL, "a", "masked"},
    {BYTES("\xC2\x01"
           "a"),
     ERR_PROTOCOL, "", "reserved bits"},
    {BYTES("\xA2\x01"
           "a"),
     ERR_PROTOCOL, "", "reserved bits"},
    {BYTES("\x92\x01"
           "a"),
     ERR_PROTOCOL, "", "reserved bits"},
    {BYTES("\x83\x01"
           "a"),
     ERR_PROTOCOL, "", "unknown opcode"},
    {BYTES("\x87\x01"
           "a"),
     ERR_PROTOCOL, "", "unknown opcode"},
    {BYTES("\x8B\x00"), ERR_PROTOCOL, "", "unknown opcode"},
    {BYTES("\x8F\x00"), ERR_PROTOCOL, "", "unknown opcode"},
    {BYTES("\x80\x01"
           "a"),
     ERR_PROTOCOL, "", "without a preceding fragment"},
    {BYTES("\x82\x00\x80\x00"), ERR_PROTOCOL, "", "without a preceding fragment"},
    {BYTES("\x02\x01"
           "a"
           "\x82\x01"
           "b"),
     ERR_PROTOCOL, "a", "before the end of the previous"},
    {BYTES("\x09\x00"), ERR_PROTOCOL, "", "control frame"},
    {BYTES("\x89\x7E\x00\x7E"), ERR_PROTOCOL, "", "control frame"},
    {BYTES("\x88\x7F"), ERR_PROTOCOL, "", "control frame"},
    {BYTES("\x82\x7E\x00\x01"
           "a"),
     ERR_PROTOCOL, "", "shortest"},
    {BYTES("\x82\x7F\x00\x00\x00\x00\x00\x00\xFF\xFF"), ERR_PROTOCOL, "", "shortest"},
    {BYTES("\x82\x7F\x00\x00\x00\x00\x40\x00\x00\x01"), ERR_PROTOCOL, "", "1 GiB"},
    {BYTES("\x82\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), ERR_PROTOCOL, "", "1 GiB"},
    {BYTES("\x82\x01"
           "a"
           "\x88\x00"
           "\x82\x01"
           "b"),
     ERR_CANCELED, "a", "normal closure (1000)"},
    {BYTES("\x88\x02\x03\xE9"), ERR_CANCELED, "", "going away (1001)"},
    {BYTES("\x88\x06\x03\xF0"
           "full"),
     ERR_CANCELED, "", "policy violation (1008): full"},
    {BYTES("\x88\x04\x0F\xA0\xFF\xFE"), ERR_CANCELED, "", "unknown reason (4000)"},
    {BYTES("\x88\x04\x0F\xA0\x01\n"), ERR_CANCELED, "", "unknown reason (4000)"},
    {BYTES("\x88\x01\x03"), ERR_PROTOCOL, "", "incomplete status"},
    {BYTES("\x82\x05"
           "ab"),
     ERR_OK, "ab", ""},
    {BYTES("\x82\x7E\x01"), ERR_OK, "", ""},
};

START_TEST(frames_are_unwrapped_or_refused_however_they_arrive) {
    const struct frame_case *test = &frame_cases[_i];
    for (size_t step = 1; step <= test->len; step++) {
        struct buffer payload;
        teardown();
        setup();
        buffer_init(&payload);
        buffer_append_str(&payload, "");
        ck_assert_int_eq(unwrap(test->frames, test->len, step, &payload), test->result);
        ck_assert_str_eq(payload.data, test->payload);
        ck_assert_msg(strstr(message, test->says) != NULL, "%s", message);
        buffer_fini(&payload);
    }
}
END_TEST

START_TEST(what_has_ended_takes_nothing_and_says_why_again) {
    struct buffer payload;
    uint8_t more[] = "\x82\x01x";
    size_t len = 3;
    buffer_init(&payload);
    ck_assert_int_eq(unwrap(BYTES("\x88\x02\x03\xE9"), 100, &payload), ERR_CANCELED);
    size_t answered = out.len;
    message[0] = '\0';
    fault = (struct websocket_fault){.error = CLIENT_ERROR_NONE};
    ck_assert_int_eq(websocket_unwrap(websocket, more, &len, &out, message), ERR_CANCELED);
    ck_assert_uint_eq(len, 0);
    ck_assert_ptr_nonnull(strstr(message, "1001"));
    websocket_write_close(websocket, 1000, &out);
    ck_assert_uint_eq(out.len, answered); /* one close only */
    buffer_fini(&payload);
}
END_TEST

/* ---- frames to the server ---- */

/* Decodes one frame of a client; the payload is unmasked in place. */
static uint8_t *open_frame(struct buffer *frames, size_t *at, uint8_t *first, size_t *len) {
    uint8_t *frame = (uint8_t *)frames->data + *at;
    size_t head = 2;
    *first = frame[0];
    ck_assert(frame[1] & 0x80);
    *len = frame[1] & 0x7F;
    if (*len >= 126) {
        size_t wide = *len == 126 ? 2 : 8;
        *len = 0;
        for (size_t i = 0; i < wide; i++) {
            *len = *len << 8 | frame[head++];
        }
    }
    uint8_t *payload = frame + head + 4;
    for (size_t i = 0; i < *len; i++) {
        payload[i] ^= frame[head + i % 4];
    }
    *at += head + 4 + *len;
    ck_assert_uint_le(*at, frames->len);
    return payload;
}

START_TEST(wrapped_bytes_come_out_at_the_server) {
    static const size_t lens[] = {0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 200001};
    for (size_t i = 0; i < COUNT(lens); i++) {
        uint8_t *data = malloc(lens[i] + 1), first;
        size_t at = 0, len;
        for (size_t j = 0; j < lens[i]; j++) {
            data[j] = (uint8_t)(j * 31 + i);
        }
        buffer_clear(&out);
        websocket_wrap(websocket, data, lens[i], &out);
        uint8_t *payload = open_frame(&out, &at, &first, &len);
        ck_assert_uint_eq(first, 0x82);
        ck_assert_uint_eq(len, lens[i]);
        ck_assert_uint_eq(at, out.len);
        ck_assert_int_eq(memcmp(payload, data, len), 0);
        free(data);
    }
}
END_TEST

START_TEST(no_mask_is_used_twice_in_a_row) {
    static const uint8_t nothing[8];
    uint8_t last[4] = {0};
    for (int i = 0; i < 1000; i++) {
        buffer_clear(&out);
        websocket_wrap(websocket, nothing, sizeof(nothing), &out);
        ck_assert_int_ne(memcmp(out.data + 2, last, 4), 0);
        memcpy(last, out.data + 2, 4);
    }
}
END_TEST

START_TEST(a_ping_is_answered_with_its_bytes) {
    struct buffer payload;
    uint8_t first, frame[127] = {0x89, 125};
    size_t at = 0, len;
    buffer_init(&payload);
    memset(frame + 2, 'p', 125);
    ck_assert_int_eq(unwrap(frame, sizeof(frame), 10, &payload), ERR_OK);
    uint8_t *pong = open_frame(&out, &at, &first, &len);
    ck_assert_uint_eq(first, 0x8A);
    ck_assert_uint_eq(len, 125);
    ck_assert_int_eq(memcmp(pong, frame + 2, 125), 0);
    buffer_fini(&payload);
}
END_TEST

START_TEST(a_server_that_pings_and_never_reads_fills_no_memory) {
    for (int i = 0; i < 100000; i++) {
        uint8_t ping[] = "\x89\x04ping";
        size_t len = sizeof(ping) - 1;
        ck_assert_int_eq(websocket_unwrap(websocket, ping, &len, &out, message), ERR_OK);
    }
    ck_assert_uint_lt(out.len, 8192);
}
END_TEST

START_TEST(a_close_is_answered_with_its_status_and_a_breach_with_1002_or_1003) {
    static const struct {
        const char *frame;
        size_t len;
        unsigned status;
    } cases[] = {{"\x88\x02\x03\xE9", 4, 1001},
                 {"\x88\x00", 2, 1000},
                 {"\x83\x00", 2, 1002},
                 {"\x81\x00", 2, 1003},
                 {"\x82\x7F\xFF\0\0\0\0\0\0\0", 10, 1009}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer payload;
        uint8_t first;
        size_t at = 0, len;
        teardown();
        setup();
        buffer_init(&payload);
        ck_assert_int_ne(unwrap((const uint8_t *)cases[i].frame, cases[i].len, 100, &payload),
                         ERR_OK);
        uint8_t *status = open_frame(&out, &at, &first, &len);
        ck_assert_uint_eq(first, 0x88);
        ck_assert_uint_eq(len, 2);
        ck_assert_uint_eq((unsigned)status[0] << 8 | status[1], cases[i].status);
        buffer_fini(&payload);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("websocket");
    TCase *tcase = tcase_create("websocket");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, the_answer_to_the_handshake_is_judged_however_it_arrives, 0,
                        (int)COUNT(answer_cases));
    tcase_add_test(tcase, frames_right_behind_the_answer_are_not_taken);
    tcase_add_test(tcase, an_answer_without_end_is_refused_at_the_bound);
    tcase_add_test(tcase, an_answer_is_refused_where_nothing_was_asked);
    tcase_add_loop_test(tcase, the_request_names_host_port_and_path, 0, (int)COUNT(request_cases));
    tcase_add_test(tcase, every_request_has_a_key_of_its_own);
    tcase_add_loop_test(tcase, frames_are_unwrapped_or_refused_however_they_arrive, 0,
                        (int)COUNT(frame_cases));
    tcase_add_test(tcase, what_has_ended_takes_nothing_and_says_why_again);
    tcase_add_test(tcase, wrapped_bytes_come_out_at_the_server);
    tcase_add_test(tcase, no_mask_is_used_twice_in_a_row);
    tcase_add_test(tcase, a_ping_is_answered_with_its_bytes);
    tcase_add_test(tcase, a_server_that_pings_and_never_reads_fills_no_memory);
    tcase_add_test(tcase, a_close_is_answered_with_its_status_and_a_breach_with_1002_or_1003);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
