/* Packets as hexadecimal text, in heap blocks of exactly their size, so that AddressSanitizer
 * detects every read beyond them. */
#ifndef MQFLEET_TEST_PACKET_FIXTURE_H
#define MQFLEET_TEST_PACKET_FIXTURE_H

#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mqtt/reactor/packet/packet.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct block {
    uint8_t *data;
    size_t len;
};

static inline struct block block_copy(const void *data, size_t len) {
    struct block block = {malloc(len), len};
    ck_assert(block.data || len == 0);
    if (len > 0) {
        memcpy(block.data, data, len);
    }
    return block;
}

/* "40 02 0001 'a/b'": digits in pairs, blanks anywhere, text between apostrophes. */
static inline struct block block_parse(const char *text) {
    uint8_t bytes[1024];
    size_t len = 0;
    while (*text != '\0') {
        ck_assert_uint_lt(len, sizeof(bytes));
        if (*text == '\'') {
            for (text++; *text != '\''; text++) {
                ck_assert_int_ne(*text, '\0');
                bytes[len++] = (uint8_t)*text;
            }
            text++;
        } else if (isspace((unsigned char)*text)) {
            text++;
        } else {
            char digits[3] = {text[0], text[1], '\0'};
            char *end;
            bytes[len++] = (uint8_t)strtoul(digits, &end, 16);
            ck_assert_msg(*end == '\0' && end == digits + 2, "no digits at \"%s\"", text);
            text += 2;
        }
    }
    return block_copy(bytes, len);
}

static inline void block_free(struct block *block) {
    free(block->data);
    *block = (struct block){0};
}

/* False: refused, by framing or decoding. The packet's slices point into the block. */
static inline bool block_decode(const struct block *block, int version, struct packet *out,
                                struct packet_fault *fault) {
    struct packet_frame frame;
    *fault = (struct packet_fault){0};
    enum packet_framing framing = packet_frame(block->data, block->len, &frame, fault);
    if (framing == PACKET_MALFORMED) {
        return false;
    }
    ck_assert_int_eq(framing, PACKET_FRAMED);
    ck_assert_uint_eq(frame.total_len, block->len);
    return packet_decode(block->data, &frame, version, out, fault);
}

/* Decodes a valid packet. */
static inline struct packet block_decode_right(const struct block *block, int version) {
    struct packet packet;
    struct packet_fault fault;
    bool right = block_decode(block, version, &packet, &fault);
    ck_assert_msg(right, "0x%02X %s", fault.reason_code, fault.message);
    return packet;
}

static inline void slices_are_equal(struct packet_slice slice, const void *data, size_t len) {
    ck_assert_uint_eq(slice.len, len);
    ck_assert(len == 0 || memcmp(slice.data, data, len) == 0);
}

static inline void slice_is(struct packet_slice slice, const char *text) {
    slices_are_equal(slice, text, strlen(text));
}

/* Asserts that the buffer has these bytes; clears it. */
static inline void buffer_is(struct buffer *buffer, const char *expected) {
    struct block block = block_parse(expected);
    char text[2048] = "";
    ck_assert(!buffer->failed);
    for (size_t i = 0; i < buffer->len && i < 512; i++) {
        snprintf(text + 3 * i, sizeof(text) - 3 * i, "%02X ", (uint8_t)buffer->data[i]);
    }
    ck_assert_msg(buffer->len == block.len && memcmp(buffer->data, block.data, block.len) == 0,
                  "written: %s\nexpected: %s", text, expected);
    block_free(&block);
    buffer_clear(buffer);
}

static inline int run_tests(const char *name, void (*add)(TCase *)) {
    Suite *suite = suite_create(name);
    TCase *cases = tcase_create(name);
    add(cases);
    tcase_set_timeout(cases, 120);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
