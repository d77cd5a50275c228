/* Tests of the text of a history. */
#include "mqtt/client/client_history.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct client_history made(size_t changes) {
    struct client_history history = {.n = changes};
    for (size_t i = 0; i < HISTORY_COUNT; i++) {
        history.counts[i] = (int64_t)(i * 1000 + 1);
    }
    for (size_t i = 0; i < changes; i++) {
        history.changes[i] = (struct client_change){.at_ms = 1764507600000 + (int64_t)i,
                                                    .from = CLIENT_SUBSCRIBING,
                                                    .to = i % 2 ? CLIENT_ONLINE : CLIENT_BACKOFF,
                                                    .reason = "it said \"no\"\n\xC3\xA9"};
    }
    return history;
}

START_TEST(what_is_written_is_read) {
    struct client_history history = made((size_t)_i);
    if (_i > 1) {
        strcpy(history.changes[1].node, "m1");
    }
    char *text = client_history_format(&history, "here");
    ck_assert_ptr_nonnull(text);
    struct client_history *read = client_history_parse(text);
    ck_assert_ptr_nonnull(read);
    ck_assert_uint_eq(read->n, (size_t)_i);
    ck_assert_mem_eq(read->counts, history.counts, sizeof history.counts);
    for (size_t i = 0; i < read->n; i++) {
        ck_assert_int_eq(read->changes[i].at_ms, history.changes[i].at_ms);
        ck_assert_int_eq(read->changes[i].from, history.changes[i].from);
        ck_assert_int_eq(read->changes[i].to, history.changes[i].to);
        ck_assert_str_eq(read->changes[i].reason, history.changes[i].reason);
        ck_assert_str_eq(read->changes[i].node, i == 1 ? "m1" : "here");
    }
    ck_assert_uint_lt(strlen(text), 200 + 120 * CLIENT_CHANGES_MAX);
    free(read);
    free(text);
}
END_TEST

static const struct {
    const char *text;
    int64_t times_online; /* -1: refused */
    size_t n;
} texts[] = {
    {"", -1, 0},
    {"x", -1, 0},
    {"[]", -1, 0},
    {"{\"counts\":[1]}", -1, 0},
    {"{\"counts\":1,\"changes\":[]}", -1, 0},
    {"{\"counts\":[],\"changes\":[]}", 0, 0},
    {"{\"counts\":[7],\"changes\":[1,[],[0,\"queued\",\"online\",\"r\",\"n\"]]}", 7, 0},
    {"{\"counts\":[-7,\"x\"],\"changes\":[[1,\"queued\",\"odd\",\"r\",\"n\"]]}", 0, 0},
    {"{\"counts\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20],\"changes\":"
     "[[1,\"queued\",\"online\"],[2,\"online\",\"backoff\",3,4]],\"later\":{}}",
     1, 2},
};

START_TEST(other_texts_do_no_harm) {
    struct client_history *read = client_history_parse(texts[_i].text);
    ck_assert_int_eq(read != NULL, texts[_i].times_online >= 0);
    if (read) {
        ck_assert_int_eq(read->counts[HISTORY_TIMES_ONLINE], texts[_i].times_online);
        ck_assert_uint_eq(read->n, texts[_i].n);
    }
    free(read);
}
END_TEST

START_TEST(more_changes_than_a_client_keeps_are_left_out) {
    char text[8192] = "{\"counts\":[],\"changes\":[";
    for (int i = 0; i < CLIENT_CHANGES_MAX + 5; i++) {
        strcat(text, i > 0 ? ",[1,\"queued\",\"online\",\"r\",\"n\"]"
                           : "[1,\"queued\",\"online\",\"r\",\"n\"]");
    }
    struct client_history *read = client_history_parse(strcat(text, "]}"));
    ck_assert_ptr_nonnull(read);
    ck_assert_uint_eq(read->n, CLIENT_CHANGES_MAX);
    free(read);
}
END_TEST

START_TEST(names_of_nodes_are_numbers_of_a_byte) {
    char name[16];
    uint8_t first = client_history_node_number("m1");
    ck_assert_uint_eq(client_history_node_number(""), 0);
    ck_assert_str_eq(client_history_node_name(0), "");
    ck_assert_uint_eq(client_history_node_number("m1"), first);
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof name, "node-%d", i);
        const char *found = client_history_node_name(client_history_node_number(name));
        ck_assert(strcmp(found, name) == 0 || (i > 200 && strcmp(found, "other") == 0));
    }
    ck_assert_str_eq(client_history_node_name(client_history_node_number("m1")), "m1");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_history");
    TCase *tcase = tcase_create("client_history");
    tcase_add_loop_test(tcase, what_is_written_is_read, 0, CLIENT_CHANGES_MAX + 1);
    tcase_add_loop_test(tcase, other_texts_do_no_harm, 0, sizeof texts / sizeof texts[0]);
    tcase_add_test(tcase, more_changes_than_a_client_keeps_are_left_out);
    tcase_add_test(tcase, names_of_nodes_are_numbers_of_a_byte);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
