/* Tests of base/text: UTF-8, base64, random numbers, wildcards. */
#include "base/text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A literal with its length, so that NUL may be inside. */
struct bytes {
    const char *data;
    size_t len;
};
#define BYTES(literal)                                                                             \
    { literal, sizeof(literal) - 1 }

static const struct bytes WELL_FORMED[] = {
    BYTES(""),
    BYTES("ascii only, more than eight bytes"),
    BYTES("a\0b"),
    BYTES("\xC2\x80"),
    BYTES("12345678\xC3\xA4"),
    BYTES("\xE0\xA0\x80"),
    BYTES("\xED\x9F\xBF"),
    BYTES("\xEE\x80\x80"),
    BYTES("\xEF\xBF\xBF"),
    BYTES("\xF0\x90\x80\x80"),
    BYTES("\xF4\x8F\xBF\xBF"),
};

static const struct bytes ILL_FORMED[] = {
    BYTES("\x80"),             /* a continuation alone */
    BYTES("\xC0\x80"),         /* overlong NUL */
    BYTES("\xC1\xBF"),         /* overlong */
    BYTES("\xC3"),             /* cut */
    BYTES("12345678\xC3"),     /* cut behind whole words */
    BYTES("\xE0\x9F\xBF"),     /* overlong */
    BYTES("\xED\xA0\x80"),     /* surrogate */
    BYTES("\xE2\x82"),         /* cut */
    BYTES("\xF0\x8F\xBF\xBF"), /* overlong */
    BYTES("\xF4\x90\x80\x80"), /* over U+10FFFF */
    BYTES("\xF5\x80\x80\x80"), /* no such lead */
    BYTES("\xFF"),
    BYTES("\xE2\x28\xA1"),
    BYTES("\xE2\x82\x28"),
};

START_TEST(utf8_is_accepted_exactly_when_well_formed) {
    for (size_t i = 0; i < COUNT(WELL_FORMED); i++) {
        ck_assert_msg(text_is_utf8(WELL_FORMED[i].data, WELL_FORMED[i].len), "well-formed %zu", i);
    }
    for (size_t i = 0; i < COUNT(ILL_FORMED); i++) {
        ck_assert_msg(!text_is_utf8(ILL_FORMED[i].data, ILL_FORMED[i].len), "ill-formed %zu", i);
    }
}
END_TEST

START_TEST(utf8_is_never_read_beyond_its_length) {
    /* The bytes after the end would complete the character. ASan detects a read beyond a heap
     * block. */
    ck_assert(!text_is_utf8("\xE2\x82\xAC", 2));
    for (size_t len = 1; len <= 4; len++) {
        char *cut = malloc(len);
        memset(cut, 'a', len);
        cut[len - 1] = (char)0xF0;
        ck_assert(!text_is_utf8(cut, len));
        free(cut);
    }
}
END_TEST

START_TEST(what_is_shown_of_a_text_ends_with_a_whole_character) {
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"; /* of 1 to 4 bytes */
    static const int shown[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (int max = 0; max < (int)(sizeof shown / sizeof *shown); max++) {
        ck_assert_int_eq(text_truncated_len(text, strlen(text), max), shown[max]);
    }
    ck_assert_int_eq(text_truncated_len("", 0, 5), 0);
}
END_TEST

START_TEST(an_mqtt_string_has_no_nul_and_at_most_65535_bytes) {
    char *long_text = malloc(65536);
    memset(long_text, 'x', 65536);
    ck_assert(text_is_mqtt_string(long_text, 65535));
    ck_assert(!text_is_mqtt_string(long_text, 65536));
    ck_assert(text_is_mqtt_string(NULL, 0));
    ck_assert(!text_is_mqtt_string("a\0b", 3));
    ck_assert(!text_is_mqtt_string("\xFF", 1));
    free(long_text);
}
END_TEST

START_TEST(base64_matches_the_vectors_of_rfc_4648) {
    static const char *const VECTORS[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < COUNT(VECTORS); i++) {
        char *encoded = text_base64_encode(VECTORS[i][0], strlen(VECTORS[i][0]));
        ck_assert_str_eq(encoded, VECTORS[i][1]);
        free(encoded);
        uint8_t *decoded = NULL;
        size_t len = 99;
        ck_assert_int_eq(text_base64_decode(VECTORS[i][1], strlen(VECTORS[i][1]), &decoded, &len),
                         ERR_OK);
        ck_assert_ptr_nonnull(decoded);
        ck_assert_uint_eq(len, strlen(VECTORS[i][0]));
        ck_assert_mem_eq(decoded, VECTORS[i][0], len);
        free(decoded);
    }
}
END_TEST

START_TEST(base64_gives_every_byte_back_at_every_length) {
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(255 - i % 256);
    }
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        char *encoded = text_base64_encode(bytes, len);
        uint8_t *decoded = NULL;
        size_t decoded_len = 0;
        ck_assert_int_eq(text_base64_decode(encoded, strlen(encoded), &decoded, &decoded_len),
                         ERR_OK);
        ck_assert_uint_eq(decoded_len, len);
        ck_assert_mem_eq(decoded, bytes, len);
        free(decoded);
        free(encoded);
    }
}
END_TEST

START_TEST(base64_refuses_anything_but_the_one_spelling) {
    static const struct bytes BAD[] = {
        BYTES("Z"),     BYTES("Zg"),         BYTES("Zg="),          BYTES("Zg== "),
        BYTES(" Zg=="), BYTES("Zg==\n"),     BYTES("Zm9v\n\n\n\n"), BYTES("Zm 9"),
        BYTES("Z==="),  BYTES("===="),       BYTES("Zg==Zg=="),     BYTES("Zm=v"),
        BYTES("Zm9-"),  BYTES("Zm9_"),       BYTES("Zh=="),         BYTES("Zm9="),
        BYTES("Zm\0v"), BYTES("Zm\xC3\xA4"), BYTES("Zm9v====")};
    for (size_t i = 0; i < COUNT(BAD); i++) {
        uint8_t *decoded = NULL;
        size_t len = 0;
        ck_assert_msg(text_base64_decode(BAD[i].data, BAD[i].len, &decoded, &len) == ERR_ARGUMENT,
                      "accepted: %s", BAD[i].data);
        ck_assert_ptr_null(decoded);
    }
}
END_TEST

START_TEST(random_ids_are_32_hexadecimal_digits_and_differ) {
    char first[TEXT_ID_LEN];
    char second[TEXT_ID_LEN];
    text_random_id(first);
    text_random_id(second);
    ck_assert_uint_eq(strlen(first), 32);
    ck_assert_uint_eq(strspn(first, "0123456789abcdef"), 32);
    ck_assert_str_ne(first, second);
}
END_TEST

START_TEST(random_numbers_fill_their_range_and_never_leave_it) {
    size_t seen[7] = {0};
    for (int i = 0; i < 70000; i++) {
        int64_t value = text_random_between(-3, 3);
        ck_assert_int_ge(value, -3);
        ck_assert_int_le(value, 3);
        seen[value + 3]++;
    }
    for (size_t i = 0; i < COUNT(seen); i++) { /* 10,000 expected; 500 is 5 sigma */
        ck_assert_uint_gt(seen[i], 9500);
        ck_assert_uint_lt(seen[i], 10500);
    }
    ck_assert_int_eq(text_random_between(5, 5), 5);
    ck_assert_int_ne(text_random_between(INT64_MIN, INT64_MAX),
                     text_random_between(INT64_MIN, INT64_MAX));
}
END_TEST

START_TEST(wildcards_match_any_run_of_characters) {
    static const struct {
        const char *pattern;
        const char *name;
        bool matches;
    } CASES[] = {
        {"", "", true},           {"*", "", true},
        {"*", "anything", true},  {"", "a", false},
        {"abc", "abc", true},     {"abc", "ABC", true},
        {"abc", "abcd", false},   {"abcd", "abc", false},
        {"*.lan", "a.lan", true}, {"*.lan", "a.b.LAN", true},
        {"*.lan", ".lan", true},  {"*.lan", "lan", false},
        {"a*b*c", "abbc", true},  {"a*b*c", "acb", false},
        {"*a*", "bab", true},     {"*ab", "aab", true},
        {"**", "x", true},        {"10.*", "10.0.0.1", true},
        {"a?c", "abc", false},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        ck_assert_msg(text_wildcard_match(CASES[i].pattern, CASES[i].name) == CASES[i].matches,
                      "%s against %s", CASES[i].pattern, CASES[i].name);
    }
}
END_TEST

START_TEST(wildcards_with_many_stars_end_soon) {
    char pattern[201];
    char name[2001];
    for (size_t i = 0; i < 200; i += 2) {
        memcpy(pattern + i, "*a", 2);
    }
    pattern[199] = 'b';
    pattern[200] = '\0';
    memset(name, 'a', 2000);
    name[2000] = '\0';
    ck_assert(!text_wildcard_match(pattern, name)); /* exponential matching would not finish */
}
END_TEST

START_TEST(distances_are_those_of_single_changes) {
    char long_text[2 * TEXT_DISTANCE_LEN];
    memset(long_text, 'x', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';
    ck_assert_uint_eq(text_distance("", ""), 0);
    ck_assert_uint_eq(text_distance("status", "status"), 0);
    ck_assert_uint_eq(text_distance("sttus", "status"), 1);
    ck_assert_uint_eq(text_distance("Status", "sTATUS"), 0);
    ck_assert_uint_eq(text_distance("kitten", "sitting"), 3);
    ck_assert_uint_eq(text_distance("prot", "port"), 1);
    ck_assert_uint_eq(text_distance("ab", "ba"), 1);
    ck_assert_uint_eq(text_distance("abcd", "badc"), 2);
    ck_assert_uint_eq(text_distance("ca", "abc"), 3); /* no change between what was swapped */
    ck_assert_uint_eq(text_distance(long_text, ""), TEXT_DISTANCE_LEN);
}
END_TEST

START_TEST(copies_are_terminated_and_null_stays_null) {
    char *copy = text_copy("abcdef", 3);
    ck_assert_str_eq(copy, "abc");
    free(copy);
    copy = text_copy(NULL, 0);
    ck_assert_str_eq(copy, "");
    free(copy);
    copy = text_dup("x");
    ck_assert_str_eq(copy, "x");
    free(copy);
    ck_assert_ptr_null(text_dup(NULL));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("text");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, utf8_is_accepted_exactly_when_well_formed);
    tcase_add_test(cases, utf8_is_never_read_beyond_its_length);
    tcase_add_test(cases, what_is_shown_of_a_text_ends_with_a_whole_character);
    tcase_add_test(cases, an_mqtt_string_has_no_nul_and_at_most_65535_bytes);
    tcase_add_test(cases, base64_matches_the_vectors_of_rfc_4648);
    tcase_add_test(cases, base64_gives_every_byte_back_at_every_length);
    tcase_add_test(cases, base64_refuses_anything_but_the_one_spelling);
    tcase_add_test(cases, random_ids_are_32_hexadecimal_digits_and_differ);
    tcase_add_test(cases, random_numbers_fill_their_range_and_never_leave_it);
    tcase_add_test(cases, wildcards_match_any_run_of_characters);
    tcase_add_test(cases, wildcards_with_many_stars_end_soon);
    tcase_add_test(cases, copies_are_terminated_and_null_stays_null);
    tcase_add_test(cases, distances_are_those_of_single_changes);
    Suite *suite = suite_create("text");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
