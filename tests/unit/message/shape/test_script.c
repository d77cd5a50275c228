/* Tests of scripts: what they see and return, what they may not do, and their limits. */
#include "message/shape/script.h"

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct message *message;
static struct message_origin *origin;
static struct message *out[SCRIPT_MESSAGES_MAX];
static size_t out_count;
static char fault[SCRIPT_FAULT_LEN];

static struct message *message_with(const void *payload, size_t len) {
    static const struct message_property properties[] = {
        {"content_type", NULL, "text/plain", 10},
        {"user_property", "unit", "C", 1},
        {"user_property", "unit", "F", 1},
    };
    struct message from = {.id = "pump-1",
                           .client_id = "mqtt-1",
                           .topic = "plant/tank/3",
                           .payload = payload,
                           .payload_len = len,
                           .properties = properties,
                           .property_count = 3,
                           .origin = origin,
                           .received_at_ms = 1700000000007,
                           .qos = 1};
    return message_create(&from);
}

static void setup(void) {
    static const struct message_label labels[] = {{"site", "oslo"}};
    static const char json[] = "{\"t\":21.5,\"n\":3,\"list\":[1,null,true],\"s\":\"\\u00e6\"}";
    origin = message_origin_create("broker:1883", labels, 1);
    message = message_with(json, sizeof json - 1);
}

static void forget(void) {
    for (size_t i = 0; i < out_count; i++) {
        message_destroy(out[i]);
    }
    out_count = 0;
}

static void teardown(void) {
    forget();
    message_destroy(message);
    message_origin_release(origin);
}

/* The body of a function of m. */
static enum err run(const char *body) {
    char text[4096];
    struct script *script = NULL;
    *fault = '\0';
    forget();
    snprintf(text, sizeof text, "return function(m) %s end", body);
    enum err err = script_create(&script, text, fault);
    if (err == ERR_OK) {
        err = script_run(script, message, out, &out_count, fault);
    }
    script_destroy(script);
    return err;
}

static const struct {
    const char *body, *payload;
} results[] = {
    {"return m", "{\"t\":21.5,\"n\":3,\"list\":[1,null,true],\"s\":\"\\u00e6\"}"},
    {"m.payload = m.id .. m.client_id .. m.topic return m", "pump-1mqtt-1plant/tank/3"},
    {"m.payload = m.broker .. m.labels.site .. m.qos .. tostring(m.retain) return m",
     "broker:1883oslo1false"},
    {"m.payload = tostring(m.received_at_ms) return m", "1700000000007"},
    {"local v = json.decode(m.payload) m.payload = json.encode({v.t, v.n + 1, v.s}) return m",
     "[21.5,4,\"\xc3\xa6\"]"},
    {"local v = json.decode(m.payload) m.payload = json.encode(v.list) return m", "[1,null,true]"},
    {"m.payload = json.encode({a = json.null}) return m", "{\"a\":null}"},
    {"m.payload = json.encode('x') return {m}", "\"x\""},
    {"m.payload = ('%s-%d'):format(m.topic:upper(), 7) return m", "PLANT/TANK/3-7"},
    {"m.payload = m.topic:match('^(%w+)/') .. m.topic:gsub('/', '.') return m",
     "plantplant.tank.3"},
    {"m.payload = '' for w in m.topic:gmatch('%w+') do m.payload = m.payload .. w end return m",
     "planttank3"},
    {"m.payload = tostring(m.topic:find('tank', 1, true)) return m", "7"},
    {"m.payload = string.pack('>I2', 258) return m", "\x01\x02"},
    {"m.payload = tostring(math.floor(2.7)) .. utf8.char(230) return m", "2\xc3\xa6"},
    {"m.payload = m.user_properties[2][1] .. m.user_properties[2][2] return m", "unitF"},
    {"m.payload = table.concat({select('#', 1, nil), select(2, 'a', 'b')}, ',') return m", "2,b"},
};

START_TEST(a_script_sees_the_message_and_changes_it) {
    ck_assert_msg(run(results[_i].body) == ERR_OK, "%s: %s", results[_i].body, fault);
    ck_assert_uint_eq(out_count, 1);
    ck_assert_msg(out[0]->payload_len == strlen(results[_i].payload) &&
                      memcmp(out[0]->payload, results[_i].payload, out[0]->payload_len) == 0,
                  "%s: %.*s", results[_i].body, (int)out[0]->payload_len,
                  (const char *)out[0]->payload);
    ck_assert_str_eq(out[0]->id, "pump-1");
    ck_assert_uint_eq(out[0]->property_count, 3);
    ck_assert_str_eq(out[0]->properties[0].name, "content_type");
    ck_assert_uint_ne(out[0]->number, message->number);
}
END_TEST

START_TEST(one_message_becomes_none_or_several) {
    ck_assert_int_eq(run("return nil"), ERR_OK);
    ck_assert_uint_eq(out_count, 0);
    ck_assert_int_eq(run(""), ERR_OK);
    ck_assert_uint_eq(out_count, 0);
    ck_assert_int_eq(run("return {}"), ERR_OK);
    ck_assert_uint_eq(out_count, 0);
    ck_assert_int_eq(run("local r = {} for i = 1, 64 do r[i] = {topic = 't/' .. i, payload = '',"
                         " user_properties = {{'i', tostring(i)}}} end return r"),
                     ERR_OK);
    ck_assert_uint_eq(out_count, 64);
    ck_assert_str_eq(out[63]->topic, "t/64");
    ck_assert_uint_eq(out[63]->property_count, 2);
    ck_assert_str_eq(out[63]->properties[1].key, "i");
    ck_assert_str_eq(out[63]->properties[1].value, "64");
    ck_assert_int_eq(out[63]->qos, 1);
}
END_TEST

static const struct {
    const char *body, *fault;
} failures[] = {
    {"error('no such thing')", "lua:1: no such thing"},
    {"error({})", "error without a text"},
    {"error()", "error without a text"},
    {"return 7", "must return nil, a message or a list of messages, not a number"},
    {"return {m, 7}", "must return nil, a message or a list"},
    {"m.topic = nil return m", "topic must be a string, not a nil"},
    {"m.topic = 'a/#' return m", "topic must be a topic name"},
    {"m.topic = '' return m", "topic must have at least one character"},
    {"m.topic = 'a\\0b' return m", "topic must be well-formed UTF-8"},
    {"m.payload = 7 return m", "payload must be a string, not a number"},
    {"m.user_properties = 7 return m", "user_properties must be a list of pairs"},
    {"m.user_properties = {{'a'}} return m", "user_properties must be a list of pairs"},
    {"m.user_properties = {{'a\\0', 'b'}} return m", "must not contain"},
    {"for i = 1, 100 do m.user_properties[i] = {'a', 'b'} end return m", "at most 64 properties"},
    {"local r = {} for i = 1, 65 do r[i] = m end return r", "at most 64 messages from one"},
    {"return m.labels.site.x.y", "attempt to index a nil value"},
    {"json.decode('{')", "json.decode: "},
    {"json.decode(m.payload:sub(2))", "json.decode: "},
    {"json.decode((' '):rep(1048577))", "json.decode: more than 1048576 bytes"},
    {"json.encode(print)", "json.encode"}, /* print is nil, which is nothing */
    {"json.encode({m.topic:find})", "syntax"},
    {"json.encode('\\xff')", "json.encode: must be tables, texts in UTF-8"},
    {"json.encode(0/0)", "json.encode: must be"},
    {"local t = {} t[1] = t json.encode(t)", "json.encode: must be"},
    {"local t = {} for i = 1, 60 do t = {t, t} end json.encode(t)", "json.encode: must be"},
    {"local s = ('x'):rep(1000000) local t = {} for i = 1, 99 do t[i] = s end json.encode(t)",
     "json.encode: must be"},
    /* limits */
    {"while true do end", "lua:1: more than 1000000 instructions for one message"},
    {"local function f() return f() end f()", "more than 1000000 instructions"},
    {"local function f() return 1 + f() end f()", "more than 4194304 bytes"},
    {"local t = {} for i = 1, 1e9 do t[i] = i end", "more than"},
    {"local s = 'x' while true do s = s .. s end", "more than 4194304 bytes"},
    {"return ('x'):rep(1e9)", "more than 4194304 bytes"},
    {"return ('x'):rep(1 << 62)", "resulting string too large"},
    {"return (('a'):rep(5000)):find('a*a*a*a*b')", "too many repetitions"},
    {"return string.match(('a'):rep(5000), '.-.-.-b')", "too many repetitions"},
    {"return string.gsub(('a'):rep(5000), '.-.-.-b', '')", "too many repetitions"},
    {"for x in string.gmatch(('a'):rep(5000), '.-.-.-b') do end", "too many repetitions"},
    {"return (('a'):rep(1000000)):find(('a'):rep(500000) .. 'b', 1, true)", "too many repetitions"},
    {"for i = 1, 1e9 do local s = ('x'):rep(1000000) end", "for one message"},
    {"return (('('):rep(1000000)):find('%b()')", "too many repetitions"},
    {"return (('a'):rep(100000)):find('(a*)%1b')", "too many repetitions"},
    {"return (('b'):rep(1000000)):find('[' .. ('a'):rep(1000000) .. ']')", "too many repetitions"},
    {"for i = 1, 1e9 do local s = (('a'):rep(3000)):find('a*b') end", "for one message"},
    {"local t = {} for i = 1, 50000 do t[i] = i end local s = json.encode(t) "
     "while true do json.decode(s) end",
     "for one message"},
    {"m.payload = ('x'):rep(1000000) return {m, m, m, m, m}", "the messages have more than"},
    /* what is not there */
    {"io.write('x')", "attempt to index a nil value (global 'io')"},
    {"os.exit(1)", "global 'os'"},
    {"debug.sethook()", "global 'debug'"},
    {"package.loadlib('x')", "global 'package'"},
    {"load('x')", "global 'load'"},
    {"loadstring('x')", "global 'loadstring'"},
    {"dofile('x')", "global 'dofile'"},
    {"require('x')", "global 'require'"},
    {"pcall(error)", "global 'pcall'"},
    {"xpcall(error)", "global 'xpcall'"},
    {"coroutine.wrap(error)()", "global 'coroutine'"},
    {"setmetatable({}, {})", "global 'setmetatable'"},
    {"getmetatable('').__index.rep = nil", "global 'getmetatable'"},
    {"collectgarbage('stop')", "global 'collectgarbage'"},
    {"_G.x = 1", "global '_G'"},
    {"string.dump(error)", "field 'dump'"},
    {"('x'):dump()", "method 'dump'"},
    {"table.sort({})", "field 'sort'"},
    {"table.insert({}, 1, 1)", "field 'insert'"},
};

static int64_t cpu_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

START_TEST(a_failure_is_explained_and_the_next_message_is_not_affected) {
    int64_t begin_ms = cpu_ms();
    enum err err = run(failures[_i].body);
    if (strcmp(failures[_i].fault, "json.encode") == 0) {
        ck_assert_int_eq(err, ERR_ARGUMENT);
    } else if (strcmp(failures[_i].fault, "syntax") == 0) {
        ck_assert_int_eq(err, ERR_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(fault, "lua:1: "));
    } else {
        ck_assert_msg(err == ERR_ARGUMENT, "%s", failures[_i].body);
        /* On a slow machine or with a sanitizer, the time may be over first. */
        bool late = strstr(fault, "ms for one message") != NULL;
        ck_assert_msg(late || strstr(fault, failures[_i].fault) != NULL, "%s: %s",
                      failures[_i].body, fault);
    }
    ck_assert_uint_eq(out_count, 0);
    ck_assert_int_lt(cpu_ms() - begin_ms, 3000); /* bounded, whatever the sanitizer */
    ck_assert_int_eq(run("return m"), ERR_OK);
    ck_assert_uint_eq(out_count, 1);
}
END_TEST

static const struct {
    const char *text, *fault;
} texts[] = {
    {"", "must return a function"},
    {"return 1", "must return a function"},
    {"return function(m) end end", "lua:1: "},
    {"return function(m", "lua:1: "},
    {"while true do end", "instructions"},
    {"\x1bLua", "attempt to load a binary chunk"},
    {"error('at once')", "at once"},
};

START_TEST(a_wrong_text_is_refused_when_it_is_set) {
    struct script *script = NULL;
    *fault = '\0';
    ck_assert_int_eq(script_create(&script, texts[_i].text, fault), ERR_ARGUMENT);
    ck_assert_msg(strstr(fault, texts[_i].fault) != NULL, "%s: %s", texts[_i].text, fault);
}
END_TEST

START_TEST(scripts_do_not_see_each_other) {
    struct script *writer, *reader;
    ck_assert_int_eq(script_create(&writer,
                                   "x = 7 string.upper = nil json.null = nil "
                                   "return function(m) y = 8 math = nil return m end",
                                   fault),
                     ERR_OK);
    ck_assert_int_eq(script_create(&reader,
                                   "return function(m) m.payload = tostring(x) .. tostring(y) .. "
                                   "('a'):upper() .. string.upper('b') .. type(json.null) .. "
                                   "type(math) return m end",
                                   fault),
                     ERR_OK);
    ck_assert_int_eq(script_run(writer, message, out, &out_count, fault), ERR_OK);
    forget();
    ck_assert_msg(script_run(reader, message, out, &out_count, fault) == ERR_OK, "%s", fault);
    ck_assert_str_eq((const char *)out[0]->payload, "nilnilABuserdatatable");
    script_destroy(writer);
    forget();
    ck_assert_int_eq(script_run(reader, message, out, &out_count, fault), ERR_OK);
    script_destroy(reader);
}
END_TEST

/* What scripts keep is bounded too: the state is made anew, at no cost for a message. */
START_TEST(a_script_that_hoards_harms_no_message) {
    struct script *hoarder, *other;
    ck_assert_int_eq(script_create(&hoarder,
                                   "local kept = {} return function(m) "
                                   "kept[#kept + 1] = ('x'):rep(100000) .. #kept "
                                   "m.payload = tostring(#kept) return m end",
                                   fault),
                     ERR_OK);
    ck_assert_int_eq(script_create(&other,
                                   "return function(m) local s = ('y'):rep(1000000) return m end",
                                   fault),
                     ERR_OK);
    long kept_max = 0;
    for (int i = 0; i < 200; i++) {
        forget();
        ck_assert_int_eq(script_run(hoarder, message, out, &out_count, fault), ERR_OK);
        long kept = strtol((const char *)out[0]->payload, NULL, 10);
        kept_max = kept > kept_max ? kept : kept_max;
        forget();
        ck_assert_int_eq(script_run(other, message, out, &out_count, fault), ERR_OK);
    }
    ck_assert_int_gt(kept_max, 3);
    ck_assert_int_lt(kept_max, 45);
    script_destroy(hoarder);
    script_destroy(other);
}
END_TEST

START_TEST(thousands_of_scripts_are_set_and_run) {
    static struct script *many[2000];
    for (size_t i = 0; i < 2000; i++) {
        ck_assert_msg(script_create(&many[i], "return function(m) return m end", fault) == ERR_OK,
                      "%zu: %s", i, fault);
    }
    for (size_t i = 0; i < 2000; i++) {
        forget();
        ck_assert_msg(script_run(many[i], message, out, &out_count, fault) == ERR_OK, "%s", fault);
    }
    for (size_t i = 0; i < 2000; i++) {
        script_destroy(many[i]);
    }
}
END_TEST

/* The first ran for ever; the others must not seem expensive. */
START_TEST(texts_and_patterns_of_daily_use_work) {
    ck_assert_msg(run("m.payload = (''):rep(1 << 62) .. ('ab'):rep(2, '-') return m") == ERR_OK,
                  "%s", fault);
    ck_assert_str_eq((const char *)out[0]->payload, "ab-ab");
    ck_assert_msg(run("local s = ('temp_1-x '):rep(100) local n = 0 "
                      "for w in s:gmatch('[%w_-]+') do n = n + 1 end "
                      "local a, b = s:match('^(%a+)_(%d)') m.payload = n .. a .. b return m") ==
                      ERR_OK,
                  "%s", fault);
    ck_assert_str_eq((const char *)out[0]->payload, "100temp1");
    ck_assert_msg(run("local s = ('x'):rep(200000) m.payload = tostring(s:find('\"alarm\":', 1, "
                      "true)) return m") == ERR_OK,
                  "%s", fault);
}
END_TEST

START_TEST(a_large_payload_has_memory_of_its_own) {
    size_t len = 10 * SCRIPT_MEMORY_MAX;
    char *payload = calloc(1, len);
    message_destroy(message);
    message = message_with(payload, len);
    free(payload);
    ck_assert_msg(run("m.payload = m.payload .. 'x' return m") == ERR_OK, "%s", fault);
    ck_assert_uint_eq(out[0]->payload_len, len + 1);
}
END_TEST

static void *run_many(void *argument) {
    const struct script *script = argument;
    for (int i = 0; i < 300; i++) {
        struct message *results_of_thread[SCRIPT_MESSAGES_MAX];
        size_t count;
        char fault_of_thread[SCRIPT_FAULT_LEN];
        enum err err = script_run(script, message, results_of_thread, &count, fault_of_thread);
        ck_assert_int_eq(err, ERR_OK);
        message_destroy(results_of_thread[0]);
    }
    return NULL;
}

START_TEST(threads_run_one_script_while_others_come_and_go) {
    struct script *script, *other;
    pthread_t threads[4];
    ck_assert_int_eq(script_create(&script, "return function(m) return m end", fault), ERR_OK);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_many, script), 0);
    }
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(script_create(&other, "return function(m) end", fault), ERR_OK);
        script_destroy(other);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    script_destroy(script);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("script");
    TCase *tcase = tcase_create("script");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, a_script_sees_the_message_and_changes_it, 0,
                        sizeof results / sizeof results[0]);
    tcase_add_test(tcase, one_message_becomes_none_or_several);
    tcase_add_loop_test(tcase, a_failure_is_explained_and_the_next_message_is_not_affected, 0,
                        sizeof failures / sizeof failures[0]);
    tcase_add_loop_test(tcase, a_wrong_text_is_refused_when_it_is_set, 0,
                        sizeof texts / sizeof texts[0]);
    tcase_add_test(tcase, scripts_do_not_see_each_other);
    tcase_add_test(tcase, a_script_that_hoards_harms_no_message);
    tcase_add_test(tcase, thousands_of_scripts_are_set_and_run);
    tcase_add_test(tcase, texts_and_patterns_of_daily_use_work);
    tcase_add_test(tcase, a_large_payload_has_memory_of_its_own);
    tcase_add_test(tcase, threads_run_one_script_while_others_come_and_go);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
