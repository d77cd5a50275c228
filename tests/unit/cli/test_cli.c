/* Tests of the command line tool without a node: command lines, streams, text of tables. */
#include "cli.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sse.h"
#include "table.h"

/* ---- command lines --------------------------------------------------------------------------- */

static bool parse(struct cli *cli, const char *line) {
    static char copy[256];
    static char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    *cli = (struct cli){0};
    return cli_parse(cli, argc, argv);
}

START_TEST(options_stand_anywhere) {
    struct cli cli;
    ck_assert(parse(&cli, "mqfleet -o json publish a --qos=1 t -mhello --property a=b -p c=d"));
    ck_assert_str_eq(cli.command->name, "publish");
    ck_assert_int_eq(cli.format, CLI_FORMAT_JSON);
    ck_assert_int_eq(cli.word_count, 2);
    ck_assert_str_eq(cli.words[0], "a");
    ck_assert_str_eq(cli.words[1], "t");
    ck_assert_str_eq(cli.values[OPT_QOS], "1");
    ck_assert_str_eq(cli.values[OPT_MESSAGE], "hello");
    ck_assert_str_eq(cli.properties[0], "a=b");
    ck_assert_str_eq(cli.properties[1], "c=d");
    ck_assert(parse(&cli, "mqfleet get -- --id"));
    ck_assert_str_eq(cli.words[0], "--id");
}
END_TEST

START_TEST(wrong_command_lines_are_refused) {
    static const char *const lines[] = {"mqfleet gett x",
                                        "mqfleet get",
                                        "mqfleet get a b",
                                        "mqfleet nodes --nope",
                                        "mqfleet nodes -Z",
                                        "mqfleet nodes --qos 1",
                                        "mqfleet nodes --watch=1",
                                        "mqfleet clients --label",
                                        "mqfleet clients --label =x",
                                        "mqfleet clients -n 0",
                                        "mqfleet clients -n 1x",
                                        "mqfleet nodes -o yaml",
                                        "mqfleet nodes --timeout nan"};
    struct cli cli;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        ck_assert_msg(!parse(&cli, lines[i]), "%s", lines[i]);
    }
}
END_TEST

START_TEST(near_names_are_found) {
    static const char *const names[] = {"status", "nodes", "clients"};
    ck_assert_str_eq(cli_nearest("sttus", names, 3), "status");
    ck_assert_ptr_null(cli_nearest("publish", names, 3));
}
END_TEST

/* ---- streams --------------------------------------------------------------------------------- */

struct heard {
    char text[1024];
    size_t enough;
    size_t count;
};

static bool record(void *context, const char *event, const char *data) {
    struct heard *heard = context;
    size_t len = strlen(heard->text);
    snprintf(heard->text + len, sizeof(heard->text) - len, "[%s|%s]", event, data);
    return ++heard->count != heard->enough;
}

START_TEST(events_come_whole_however_they_are_cut) {
    static const char stream[] = ": comment\n\nevent: client\ndata: {\"a\":1}\n\n"
                                 "id: 7\r\ndata:one\r\ndata: two\r\n\r\ndata: left open";
    for (size_t step = 1; step < sizeof(stream); step++) {
        struct heard heard = {.enough = 99};
        struct sse sse;
        sse_init(&sse);
        for (size_t at = 0; at < sizeof(stream) - 1; at += step) {
            size_t left = sizeof(stream) - 1 - at;
            ck_assert(sse_feed(&sse, stream + at, left < step ? left : step, record, &heard));
        }
        ck_assert_str_eq(heard.text, "[client|{\"a\":1}][message|one\ntwo]");
        ck_assert_str_eq(sse.id, "");
        sse_fini(&sse);
    }
}
END_TEST

START_TEST(a_stream_ends_when_told_or_beyond_measure) {
    struct heard heard = {.enough = 1};
    struct sse sse;
    sse_init(&sse);
    ck_assert(!sse_feed(&sse, "data: a\n\ndata: b\n\n", 18, record, &heard));
    ck_assert_uint_eq(heard.count, 1);
    sse_fini(&sse);
    sse_init(&sse);
    char block[65536];
    memset(block, 'x', sizeof(block));
    bool goes_on = true;
    for (int i = 0; i < 1000 && goes_on; i++) {
        goes_on = sse_feed(&sse, block, sizeof(block), record, &heard);
    }
    ck_assert(!goes_on);
    sse_fini(&sse);
}
END_TEST

/* ---- text ------------------------------------------------------------------------------------ */

START_TEST(what_a_terminal_acts_on_is_taken_away) {
    char out[16];
    ck_assert_str_eq(table_printable("a\x1b[31mb", out, sizeof(out)), "a?[31mb");
    ck_assert_str_eq(table_printable("\xff\xc2\x9b gr\xc3\xbc", out, sizeof(out)), "?? gr\xc3\xbc");
    ck_assert_str_eq(table_printable("0123456789abcde\xc3\xbc", out, sizeof(out)),
                     "0123456789abcde");
}
END_TEST

START_TEST(times_are_told_from_now) {
    char out[32];
    ck_assert_str_eq(table_ago(NULL, out, sizeof(out)), "-");
    ck_assert_str_eq(table_ago("yesterday", out, sizeof(out)), "-");
    table_ago("2001-01-01T00:00:00.000Z", out, sizeof(out));
    ck_assert_ptr_nonnull(strstr(out, "d ago"));
    table_ago("2999-01-01T00:00:00.000Z", out, sizeof(out));
    ck_assert_int_eq(strncmp(out, "in ", 3), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cli");
    TCase *all = tcase_create("all");
    tcase_add_test(all, options_stand_anywhere);
    tcase_add_test(all, wrong_command_lines_are_refused);
    tcase_add_test(all, near_names_are_found);
    tcase_add_test(all, events_come_whole_however_they_are_cut);
    tcase_add_test(all, a_stream_ends_when_told_or_beyond_measure);
    tcase_add_test(all, what_a_terminal_acts_on_is_taken_away);
    tcase_add_test(all, times_are_told_from_now);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
