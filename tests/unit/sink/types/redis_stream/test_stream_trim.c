/* Tests of which entries of a stream are trimmed, what consumer groups lose, and when the sink
 * pauses. */
#include "sink/types/redis_stream/stream_trim.h"

#include <check.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "redis_fixture.h"
#include "sink/type_fixture.h"

extern const struct sink_type sink_type_redis_stream;

static struct redis *redis;
static json_t *settings;
static const char *stream_key;
static struct stream_trim trim;
static char error[STREAM_TRIM_ERROR_LEN];

/* Words of one command, separated by spaces. */
static struct redis_reply *ask(const char *format, ...) {
    char line[512];
    const char *argv[32];
    int argc = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    char *rest = NULL;
    for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        argv[argc++] = word;
    }
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_command(redis, argc, argv, NULL, &reply), ERR_OK);
    ck_assert_msg(redis_reply_type(reply) != REDIS_ERROR, "%s: %s", format,
                  redis_reply_str(reply, NULL));
    return reply;
}

static int64_t tell(const char *command) {
    struct redis_reply *reply = ask("%s", command);
    int64_t value = redis_reply_int(reply);
    redis_reply_free(reply);
    return value;
}

/* Entries with the ids from-1 to to-1. */
static void add(int from, int to) {
    for (int i = from; i <= to; i++) {
        redis_reply_free(ask("XADD s %d-1 field value", i));
    }
}

static void read_group(const char *group, int count) {
    redis_reply_free(ask("XREADGROUP GROUP %s consumer COUNT %d STREAMS s >", group, count));
}

static void acknowledge(const char *group, int from, int to) {
    for (int i = from; i <= to; i++) {
        redis_reply_free(ask("XACK s %s %d-1", group, i));
    }
}

/* The group has read and acknowledged everything up to id-1. */
static void group_at(const char *group, int id) {
    redis_reply_free(ask("XGROUP CREATE s %s %d-1 MKSTREAM", group, id));
}

static void setup(void) {
    settings =
        type_complete(&sink_type_redis_stream, "{s:s, s:i}", "key", "s", "batch_messages", 100);
    stream_key = "s";
    redis = redis_create(redis_fixture_start(), 5000);
}

static void teardown(void) {
    stream_trim_fini(&trim);
    json_decref(settings);
    redis_destroy(redis);
    redis_fixture_stop();
}

static void begin(const char *mode, int64_t entries_max) {
    char fault[256] = "";
    json_object_set_new(settings, "trim", json_string(mode));
    json_object_set_new(settings, "maxlen", json_integer(entries_max));
    ck_assert_int_eq(stream_trim_init(&trim, stream_key, settings, fault), ERR_OK);
}

/* Measures at once, whatever the time. */
static enum err check_now(void) {
    trim.last_measured_ms = trim.refused_ms = 0;
    *error = '\0';
    return stream_trim_check(&trim, redis, error);
}

static struct stream_status measured(void) {
    struct sink_status status = {0};
    stream_trim_status(&trim, &status);
    ck_assert(status.stream.measured);
    return status.stream;
}

static struct stream_group group(const char *name) {
    struct stream_status status = measured();
    for (size_t i = 0; i < status.group_count; i++) {
        if (strcmp(status.groups[i].name, name) == 0) {
            return status.groups[i];
        }
    }
    ck_abort_msg("no group %s", name);
}

static int64_t first(void) {
    struct redis_reply *reply = ask("XRANGE s - + COUNT 1");
    const char *id = redis_reply_str(redis_reply_at(redis_reply_at(reply, 0), 0), NULL);
    int64_t ms = id ? strtoll(id, NULL, 10) : -1;
    redis_reply_free(reply);
    return ms;
}

/* --- consumed --- */

START_TEST(without_a_group_nothing_is_trimmed_and_a_full_stream_pauses) {
    begin("consumed", 100);
    add(1, 99);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert(stream_trim_may_write(&trim));
    stream_trim_consume(&trim, 10);
    ck_assert(!stream_trim_may_write(&trim));
    add(100, 100);
    ck_assert_int_eq(check_now(), ERR_FULL);
    ck_assert_msg(strstr(error, "paused: ") && strstr(error, "100 of 100 entries") &&
                      strstr(error, "no consumer group"),
                  "%s", error);
    ck_assert_int_eq(tell("XLEN s"), 100);
}
END_TEST

START_TEST(the_slowest_group_holds_what_it_was_not_delivered) {
    begin("consumed", 100);
    add(1, 100);
    group_at("fast", 90);
    group_at("slow", 30);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(first(), 31);
    add(101, 130);
    ck_assert_int_eq(check_now(), ERR_FULL);
    ck_assert_msg(strstr(error, "group slow"), "%s", error);
    ck_assert_int_eq(tell("XLEN s"), 100);
    ck_assert_int_eq(group("slow").trimmed_unread, 0);
}
END_TEST

START_TEST(what_is_delivered_and_not_acknowledged_is_held) {
    begin("consumed", 50);
    add(1, 100);
    group_at("g", 0);
    read_group("g", 80);
    acknowledge("g", 1, 20);
    acknowledge("g", 22, 80);
    ck_assert_int_eq(check_now(), ERR_FULL);
    ck_assert_int_eq(first(), 21);
    acknowledge("g", 21, 21);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(first(), 81);
    ck_assert_int_eq(group("g").pending, 0);
    ck_assert_int_eq(group("g").lag, 20);
}
END_TEST

/* An entry that was deleted while it was pending cannot be acknowledged by a consumer that claims
 * it. */
START_TEST(a_pending_id_without_an_entry_holds_nothing) {
    begin("consumed", 50);
    add(1, 100);
    group_at("g", 0);
    read_group("g", 80);
    acknowledge("g", 2, 60);
    redis_reply_free(ask("XDEL s 1-1 61-1"));
    ck_assert_msg(check_now() == ERR_OK, "%s", error);
    ck_assert_int_eq(first(), 62);
    ck_assert_int_eq(tell("XLEN s"), 39);
    redis_reply_free(ask("XAUTOCLAIM s g other 0 0"));
    acknowledge("g", 62, 80);
    add(101, 120);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(first(), 81);
}
END_TEST

START_TEST(ignored_and_deleted_groups_hold_nothing) {
    json_object_set_new(settings, "ignore_groups", json_pack("[s, s]", "debug", "other"));
    begin("consumed", 50);
    add(1, 100);
    group_at("g", 90);
    group_at("debug", 0);
    group_at("old", 10);
    ck_assert_int_eq(check_now(), ERR_FULL);
    ck_assert_int_eq(first(), 11);
    redis_reply_free(ask("XGROUP DESTROY s old"));
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(first(), 91);
    ck_assert_uint_eq(measured().group_count, 1);
    ck_assert_int_eq(measured().group_total, 2);
}
END_TEST

START_TEST(an_empty_stream_and_a_missing_one_are_written) {
    begin("consumed", 50);
    ck_assert_int_eq(check_now(), ERR_OK);
    group_at("g", 0);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(group("g").lag, 0);
    ck_assert_int_eq(group("g").oldest_unread_ms, -1);
    add(1, 60);
    read_group("g", 60);
    acknowledge("g", 1, 60);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(tell("XLEN s"), 0);
}
END_TEST

START_TEST(a_pause_ends_a_sixteenth_below_the_bound_and_a_batch_is_the_most_between_two_checks) {
    begin("consumed", 1600);
    ck_assert_int_eq(stream_trim_evaluate(&trim, 1600, -1, "g", error), ERR_FULL);
    ck_assert_int_eq(stream_trim_evaluate(&trim, 1501, -1, "g", error), ERR_FULL);
    ck_assert_int_eq(stream_trim_evaluate(&trim, 1500, -1, "g", error), ERR_OK);
    ck_assert_int_eq(trim.entries_left, 100);
    ck_assert_int_eq(stream_trim_evaluate(&trim, 0, -1, "g", error), ERR_OK);
    ck_assert_int_eq(trim.entries_left, 100);
}
END_TEST

/* A consumer may wait for messages that the sink holds back. */
START_TEST(a_paused_stream_is_trimmed_to_all_that_was_read) {
    begin("consumed", 50);
    add(1, 50);
    group_at("g", 0);
    read_group("g", 50);
    ck_assert_int_eq(check_now(), ERR_FULL);
    acknowledge("g", 1, 1);
    ck_assert_int_eq(check_now(), ERR_FULL);
    acknowledge("g", 2, 48);
    ck_assert_msg(check_now() == ERR_OK, "%s", error);
    ck_assert_int_eq(first(), 49);
}
END_TEST

START_TEST(a_bound_in_bytes_pauses_too) {
    json_object_set_new(settings, "bytes_max", json_integer(65536));
    begin("consumed", 0);
    ck_assert_int_eq(stream_trim_evaluate(&trim, 10, 65536, "g", error), ERR_FULL);
    ck_assert_msg(strstr(error, "65536 of 65536 bytes"), "%s", error);
    ck_assert_int_eq(stream_trim_evaluate(&trim, 10, 30000, "g", error), ERR_OK);
    ck_assert_int_eq(trim.bytes_left, 35536);
}
END_TEST

/* --- maxlen and bytes --- */

START_TEST(what_each_group_loses_is_counted_exactly) {
    begin("maxlen", 300);
    add(1, 1000);
    group_at("dead", 0);
    group_at("slow", 250);
    group_at("good", 990);
    group_at("some", 0);
    read_group("some", 150);
    acknowledge("some", 1, 100);
    ck_assert_int_eq(check_now(), ERR_OK);
    int64_t gone = first() - 1;
    ck_assert_int_ge(gone, 600);
    ck_assert_int_le(gone, 700);
    ck_assert_int_eq(group("dead").trimmed_unread, gone);
    ck_assert_int_eq(group("slow").trimmed_unread, gone - 250);
    ck_assert_int_eq(group("good").trimmed_unread, 0);
    ck_assert_int_eq(group("some").trimmed_unread, gone - 100); /* 50 of them pending */
    ck_assert_int_eq(group("dead").lag, 1000 - gone);
    add(1001, 1500);
    redis_reply_free(ask("XGROUP SETID s good 1490-1"));
    ck_assert_int_eq(check_now(), ERR_OK);
    int64_t more = first() - 1;
    ck_assert_int_eq(group("slow").trimmed_unread, more - 250);
    ck_assert_int_eq(group("some").trimmed_unread, more - 100);
    ck_assert(group("slow").losing && !group("good").losing);
}
END_TEST

START_TEST(what_was_read_stays_up_to_the_length) {
    begin("maxlen", 300);
    add(1, 350);
    group_at("g", 340);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_ge(tell("XLEN s"), 300);
    add(351, 700);
    redis_reply_free(ask("XGROUP SETID s g 690-1"));
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_ge(tell("XLEN s"), 300);
    ck_assert_int_le(tell("XLEN s"), 400);
    ck_assert_int_eq(group("g").trimmed_unread, 0);
}
END_TEST

START_TEST(the_counter_of_a_deleted_group_is_forgotten) {
    begin("maxlen", 100);
    add(1, 500);
    group_at("g", 0);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_gt(group("g").trimmed_unread, 0);
    redis_reply_free(ask("XGROUP DESTROY s g"));
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(tell("EXISTS s:trimmed{s}"), 0);
}
END_TEST

START_TEST(a_size_in_bytes_is_kept) {
    json_object_set_new(settings, "bytes_max", json_integer(65536));
    begin("bytes", 0);
    add(1, 5000);
    group_at("g", 0);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_le(tell("MEMORY USAGE s"), 80000);
    ck_assert_int_ge(tell("MEMORY USAGE s"), 40000);
    ck_assert_int_eq(group("g").trimmed_unread, first() - 1);
}
END_TEST

/* Redis reports 1 kB for each pending id: this must neither trim nor pause. */
START_TEST(a_size_in_bytes_is_that_of_the_entries) {
    static const char *const modes[] = {"bytes", "consumed"};
    json_object_set_new(settings, "bytes_max", json_integer(1000000));
    add(1, 5000);
    group_at("dead", 0);
    read_group("dead", 5000);
    ck_assert_int_ge(tell("MEMORY USAGE s"), 2000000);
    for (size_t i = 0; i < 2; i++) {
        begin(modes[i], 0);
        ck_assert_msg(check_now() == ERR_OK, "%s", error);
        ck_assert_int_eq(tell("XLEN s"), 5000);
        stream_trim_fini(&trim);
    }
    begin("bytes", 0);
}
END_TEST

START_TEST(one_large_message_does_not_make_all_others_look_large) {
    json_object_set_new(settings, "bytes_max", json_integer(400000));
    begin("bytes", 0);
    redis_reply_free(ask("EVAL return(redis.call('XADD','s','1-1','f',string.rep('x',100000))) 0"));
    add(2, 3000);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(tell("XLEN s"), 3000);
    group_at("dead", 0);
    read_group("dead", 3000);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(tell("XLEN s"), 3000);
}
END_TEST

/* Of the ids of one millisecond it says only half as much. */
START_TEST(a_group_that_acknowledges_nothing_does_not_keep_the_stream_from_being_trimmed) {
    json_object_set_new(settings, "bytes_max", json_integer(65536));
    begin("bytes", 0);
    for (int i = 1; i <= 6000; i++) {
        redis_reply_free(ask("XADD s 1-%d field value", i));
    }
    group_at("dead", 0);
    read_group("dead", 6000);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(check_now(), ERR_OK);
    }
    ck_assert_int_ge(tell("XLEN s"), 2000);
    ck_assert_int_le(tell("XLEN s"), 4000);
    ck_assert_int_eq(group("dead").trimmed_unread, 6000 - tell("XLEN s"));
}
END_TEST

START_TEST(more_groups_than_are_measured_are_named_as_a_number) {
    begin("maxlen", 0);
    add(1, 100);
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "group-%d", i);
        group_at(name, 100 - i);
    }
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_uint_eq(measured().group_count, STREAM_GROUPS_MAX);
    ck_assert_int_eq(measured().group_total, 40);
    ck_assert_int_eq(group("group-39").lag, -1); /* Redis does not know where an id is */
}
END_TEST

START_TEST(a_name_of_a_group_cannot_break_a_label) {
    begin("maxlen", 0);
    group_at("a\"\\b\n\xff", 0);
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_str_eq(measured().groups[0].name, "a??b??");
}
END_TEST

/* --- a Redis that refuses the script --- */

static void forbid(const char *command) {
    redis_reply_free(ask("ACL SETUSER default -%s", command));
}

START_TEST(without_the_rights_maxlen_trims_with_xadd_and_consumed_fails) {
    begin("maxlen", 300);
    add(1, 10);
    forbid("xinfo");
    forbid("xtrim");
    forbid("memory");
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(stream_trim_xadd_maxlen(&trim), 300);
    redis_reply_free(ask("ACL SETUSER default +@all"));
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(stream_trim_xadd_maxlen(&trim), 0);
    stream_trim_fini(&trim);
    begin("consumed", 300);
    forbid("xinfo");
    ck_assert_int_eq(check_now(), ERR_PROTOCOL);
    ck_assert_msg(strstr(error, "cannot trim the stream: "), "%s", error);
}
END_TEST

START_TEST(however_many_pending_entries_are_lost_they_are_counted_once) {
    begin("maxlen", 1000);
    add(1, 8000);
    group_at("g", 0);
    read_group("g", 6000);
    group_at("back", 0);
    read_group("back", 3000);
    redis_reply_free(ask("XGROUP SETID s back 2000-1"));
    ck_assert_int_eq(check_now(), ERR_OK);
    int64_t gone = first() - 1;
    ck_assert_int_ge(gone, 6900);
    ck_assert_int_eq(group("g").trimmed_unread, gone);
    ck_assert_int_eq(group("back").trimmed_unread, gone);
}
END_TEST

START_TEST(of_many_groups_the_one_that_holds_the_stream_is_measured) {
    begin("consumed", 1000);
    add(1, 100);
    group_at("holds", 0);
    read_group("holds", 100);
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "group-%d", i);
        group_at(name, 50);
    }
    ck_assert_int_eq(check_now(), ERR_OK);
    ck_assert_int_eq(group("holds").pending, 100);
}
END_TEST

START_TEST(a_foreign_key_in_place_of_the_counters_does_not_stop_maxlen) {
    begin("maxlen", 300);
    add(1, 10);
    redis_reply_free(ask("SET s:trimmed{s} foreign"));
    ck_assert_msg(check_now() == ERR_OK, "%s", error);
    ck_assert_int_eq(stream_trim_xadd_maxlen(&trim), 300);
}
END_TEST

START_TEST(a_master_that_became_a_replica_is_left) {
    begin("consumed", 50);
    add(1, 60);
    group_at("g", 60);
    ck_assert_int_eq(check_now(), ERR_OK);
    add(61, 70);
    redis_reply_free(ask("REPLICAOF 127.0.0.1 1"));
    ck_assert_int_eq(check_now(), ERR_UNAVAILABLE);
    ck_assert_msg(strstr(error, "READONLY"), "%s", error);
    ck_assert_int_lt(redis_fd(redis), 0); /* the URL may lead to another server by now */
}
END_TEST

START_TEST(the_script_is_loaded_again) {
    begin("consumed", 50);
    add(1, 60);
    group_at("g", 60);
    ck_assert_int_eq(check_now(), ERR_OK);
    redis_reply_free(ask("SCRIPT FLUSH"));
    add(61, 100);
    ck_assert_int_eq(check_now(), ERR_OK);
}
END_TEST

START_TEST(the_counters_are_in_the_slot_of_the_stream) {
    begin("maxlen", 0);
    ck_assert_str_eq(trim.counters_key, "s:trimmed{s}");
    stream_trim_fini(&trim);
    stream_key = "{fleet}:mqtt_msg";
    begin("maxlen", 0);
    ck_assert_str_eq(trim.counters_key, "{fleet}:mqtt_msg:trimmed");
}
END_TEST

START_TEST(warnings_tell_of_losses_and_of_a_stream_that_will_pause) {
    char text[200];
    struct stream_status status = {.measured = true,
                                   .entries = 2899,
                                   .entries_most = 899,
                                   .entries_max = 1000,
                                   .group_count = 1,
                                   .groups = {{.name = "g", .trimmed_unread = 7}}};
    ck_assert(!stream_status_warn(&status, text, sizeof text));
    status.entries_most = 900;
    ck_assert(stream_status_warn(&status, text, sizeof text));
    ck_assert_msg(strstr(text, "nearly full"), "%s", text);
    status.trims_unread = true; /* is always full */
    ck_assert(!stream_status_warn(&status, text, sizeof text));
    status.groups[0].losing = true;
    ck_assert(stream_status_warn(&status, text, sizeof text));
    ck_assert_msg(strstr(text, "7 entries") && strstr(text, "group g"), "%s", text);
    status.measured = false;
    ck_assert(!stream_status_warn(&status, text, sizeof text));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("stream_trim");
    TCase *tcase = tcase_create("stream_trim");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, without_a_group_nothing_is_trimmed_and_a_full_stream_pauses);
    tcase_add_test(tcase, the_slowest_group_holds_what_it_was_not_delivered);
    tcase_add_test(tcase, what_is_delivered_and_not_acknowledged_is_held);
    tcase_add_test(tcase, a_pending_id_without_an_entry_holds_nothing);
    tcase_add_test(tcase, ignored_and_deleted_groups_hold_nothing);
    tcase_add_test(tcase, an_empty_stream_and_a_missing_one_are_written);
    tcase_add_test(
        tcase, a_pause_ends_a_sixteenth_below_the_bound_and_a_batch_is_the_most_between_two_checks);
    tcase_add_test(tcase, a_paused_stream_is_trimmed_to_all_that_was_read);
    tcase_add_test(tcase, a_bound_in_bytes_pauses_too);
    tcase_add_test(tcase, what_each_group_loses_is_counted_exactly);
    tcase_add_test(tcase, what_was_read_stays_up_to_the_length);
    tcase_add_test(tcase, the_counter_of_a_deleted_group_is_forgotten);
    tcase_add_test(tcase, a_size_in_bytes_is_kept);
    tcase_add_test(tcase, a_size_in_bytes_is_that_of_the_entries);
    tcase_add_test(tcase, one_large_message_does_not_make_all_others_look_large);
    tcase_add_test(tcase,
                   a_group_that_acknowledges_nothing_does_not_keep_the_stream_from_being_trimmed);
    tcase_add_test(tcase, more_groups_than_are_measured_are_named_as_a_number);
    tcase_add_test(tcase, a_name_of_a_group_cannot_break_a_label);
    tcase_add_test(tcase, without_the_rights_maxlen_trims_with_xadd_and_consumed_fails);
    tcase_add_test(tcase, however_many_pending_entries_are_lost_they_are_counted_once);
    tcase_add_test(tcase, of_many_groups_the_one_that_holds_the_stream_is_measured);
    tcase_add_test(tcase, a_foreign_key_in_place_of_the_counters_does_not_stop_maxlen);
    tcase_add_test(tcase, a_master_that_became_a_replica_is_left);
    tcase_add_test(tcase, the_script_is_loaded_again);
    tcase_add_test(tcase, the_counters_are_in_the_slot_of_the_stream);
    tcase_add_test(tcase, warnings_tell_of_losses_and_of_a_stream_that_will_pause);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
