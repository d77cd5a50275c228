/* Tests of base/buffer: growth, termination, hand-over, running out of memory. */
#include "base/buffer.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

START_TEST(appended_pieces_stand_in_order_and_are_terminated) {
    struct buffer buffer;
    buffer_init(&buffer);
    ck_assert_ptr_null(buffer.data);
    buffer_append_str(&buffer, "ab");
    buffer_append(&buffer, "c\0d", 3);
    buffer_printf(&buffer, "-%d-%s", 42, "x");
    ck_assert_uint_eq(buffer.len, 10);
    ck_assert_mem_eq(buffer.data, "abc\0d-42-x", 11);
    ck_assert(!buffer.failed);
    buffer_fini(&buffer);
}
END_TEST

START_TEST(a_buffer_grows_byte_by_byte_to_any_length) {
    struct buffer buffer;
    buffer_init(&buffer);
    for (size_t i = 0; i < 100000; i++) {
        char letter = (char)('a' + i % 26);
        buffer_append(&buffer, &letter, 1);
        ck_assert(buffer.data[buffer.len] == '\0');
    }
    ck_assert_uint_eq(buffer.len, 100000);
    ck_assert(buffer.data[99999] == 'a' + 99999 % 26);
    buffer_fini(&buffer);
}
END_TEST

START_TEST(printf_longer_than_the_free_room_is_whole) {
    struct buffer buffer;
    buffer_init(&buffer);
    for (int width = 1; width < 300; width++) {
        buffer_clear(&buffer);
        buffer_printf(&buffer, "%0*d", width, 7);
        ck_assert_uint_eq(buffer.len, (size_t)width);
        ck_assert_uint_eq(strlen(buffer.data), (size_t)width);
    }
    buffer_fini(&buffer);
}
END_TEST

START_TEST(take_hands_over_and_leaves_an_empty_buffer) {
    struct buffer buffer;
    buffer_init(&buffer);
    buffer_append_str(&buffer, "mine");
    char *taken = buffer_take(&buffer);
    ck_assert_str_eq(taken, "mine");
    ck_assert_ptr_null(buffer.data);
    ck_assert_uint_eq(buffer.len, 0);
    free(taken);
    taken = buffer_take(&buffer);
    ck_assert_str_eq(taken, "");
    free(taken);
    buffer_fini(&buffer);
}
END_TEST

START_TEST(a_failed_buffer_stays_failed_until_taken) {
    struct buffer buffer;
    buffer_init(&buffer);
    buffer_append_str(&buffer, "kept");
    buffer_append(&buffer, "x", SIZE_MAX); /* length overflows: never read */
    ck_assert(buffer.failed);
    buffer_append_str(&buffer, "ignored");
    buffer_printf(&buffer, "%s", "ignored");
    ck_assert_uint_eq(buffer.len, 4);
    ck_assert_ptr_null(buffer_take(&buffer));
    ck_assert(!buffer.failed);
    buffer_fini(&buffer);
}
END_TEST

START_TEST(clear_keeps_the_memory) {
    struct buffer buffer;
    buffer_init(&buffer);
    buffer_append_str(&buffer, "something");
    char *data = buffer.data;
    buffer_clear(&buffer);
    ck_assert_uint_eq(buffer.len, 0);
    ck_assert_str_eq(buffer.data, "");
    buffer_append_str(&buffer, "new");
    ck_assert_ptr_eq(buffer.data, data);
    ck_assert_str_eq(buffer.data, "new");
    buffer_fini(&buffer);
    buffer_fini(NULL);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("buffer");
    tcase_add_test(cases, appended_pieces_stand_in_order_and_are_terminated);
    tcase_add_test(cases, a_buffer_grows_byte_by_byte_to_any_length);
    tcase_add_test(cases, printf_longer_than_the_free_room_is_whole);
    tcase_add_test(cases, take_hands_over_and_leaves_an_empty_buffer);
    tcase_add_test(cases, a_failed_buffer_stays_failed_until_taken);
    tcase_add_test(cases, clear_keeps_the_memory);
    Suite *suite = suite_create("buffer");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
