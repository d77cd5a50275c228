/* Tests of what the http sink writes and reads, without a server. */
#include "sink/types/http/http_format.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "sink/types/http/http_clickhouse.h"
#include "sink/types/http/http_elasticsearch.h"
#include "sink/types/http/http_influx.h"
#include "sink/types/http/http_signature.h"

static struct buffer out;
static const struct http_document document = {
    .node = "node-1", .index = "logs", .line_start = "mqtt,site=a\\ b"};

static void setup(void) {
    buffer_init(&out);
}

static void teardown(void) {
    buffer_fini(&out);
}

static const struct message plain = {.id = "pump 1",
                                     .client_id = "c",
                                     .topic = "a/b",
                                     .payload = (const uint8_t *)"21.5",
                                     .payload_len = 4,
                                     .number = 7,
                                     .received_at_ms = 1700000000123};

/* ---- documents --------------------------------------------------------------------------------
 */

static void append(const char *format, const struct message *message) {
    buffer_clear(&out);
    http_format_find(format)->append(&out, message, &document);
    ck_assert(!out.failed);
}

static json_t *parsed(const char *text, size_t len) {
    json_t *json = json_loadb(text, len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(json != NULL, "not JSON: %s", text);
    return json;
}

START_TEST(a_document_has_the_identifier_of_the_message) {
    char expected[64];
    snprintf(expected, sizeof expected, "%s-7", message_process_id());
    append("json", &plain);
    json_t *json = parsed(out.data, out.len);
    ck_assert_str_eq(json_string_value(json_object_get(json, "message_id")), expected);
    ck_assert_str_eq(json_string_value(json_object_get(json, "payload")), "21.5");
    ck_assert_str_eq(json_string_value(json_object_get(json, "node")), "node-1");
    json_decref(json);
    append("ndjson", &plain);
    ck_assert_int_eq(out.data[out.len - 1], '\n');
    ck_assert_ptr_eq(memchr(out.data, '\n', out.len), out.data + out.len - 1);
}
END_TEST

START_TEST(a_bulk_document_is_created_under_its_identifier_with_a_timestamp) {
    append("elasticsearch", &plain);
    const char *line_end = memchr(out.data, '\n', out.len);
    json_t *action = parsed(out.data, (size_t)(line_end - out.data));
    json_t *json = parsed(line_end + 1, out.len - (size_t)(line_end - out.data) - 2);
    const json_t *create = json_object_get(action, "create");
    ck_assert_str_eq(json_string_value(json_object_get(create, "_index")), "logs");
    ck_assert_str_eq(json_string_value(json_object_get(create, "_id")),
                     json_string_value(json_object_get(json, "message_id")));
    ck_assert_str_eq(json_string_value(json_object_get(json, "@timestamp")),
                     "2023-11-14T22:13:20.123Z");
    json_decref(action);
    json_decref(json);
}
END_TEST

/* ---- documents by template --------------------------------------------------------------------
 */

static const char document_body[] =
    "{{\"p\":{payload:json},\n\"t\":{json./t:json|null},\"at\":\"{received_at}\"}}";

static const struct {
    const char *format, *body, *payload, *expected; /* NULL: rejected */
} bodies[] = {
    {"json", document_body, "{\"t\":1}",
     "{\"p\":\"{\\\"t\\\":1}\",\n\"t\":1,\"at\":\"2023-11-14T22:13:20.123Z\"}"},
    {"json_array", document_body, "\",\"x\":\"",
     "{\"p\":\"\\\",\\\"x\\\":\\\"\",\n\"t\":null,\"at\":\"2023-11-14T22:13:20.123Z\"}"},
    {"ndjson", document_body, "a\nb",
     "{\"p\":\"a\\nb\", \"t\":null,\"at\":\"2023-11-14T22:13:20.123Z\"}\n"},
    {"clickhouse", "{{\"v\":{json./v:json}}}", "{\"v\":[1,\"a\"]}", "{\"v\":[1,\"a\"]}\n"},
    {"clickhouse", "{{\"v\":{json./v:json}}}", "{\"w\":1}", NULL},
    {"json", "{payload:json}", "\xff", NULL},
    {"template", "{topic} is {payload}{{}}\n", "\xff", "a/b is \xff{}\n"},
    {"template", "{payload}", "", ""},
};

static enum err append_body(const char *format, const char *body, const struct message *message,
                            char *reason) {
    char fault[SINK_FAULT_LEN] = "";
    struct sink_template template = {.field = "body", .node = "node-1"};
    struct http_document with = document;
    with.body = &template;
    ck_assert_int_eq(sink_template_compile(&template.template, "body", body, fault), ERR_OK);
    ck_assert_msg(http_format_check_body(http_format_find(format), template.template, fault) ==
                      ERR_OK,
                  "%s", fault);
    enum err err = http_format_append(http_format_find(format), &out, message, &with, reason);
    sink_template_fini(&template);
    return err;
}

START_TEST(a_body_by_template_replaces_the_document) {
    char reason[SINK_REASON_LEN] = "";
    struct message message = plain;
    message.payload = (const uint8_t *)bodies[_i].payload;
    message.payload_len = strlen(bodies[_i].payload);
    buffer_append_str(&out, "before");
    enum err err = append_body(bodies[_i].format, bodies[_i].body, &message, reason);
    ck_assert_int_eq(err, bodies[_i].expected ? ERR_OK : ERR_NOT_FOUND);
    ck_assert_uint_eq(out.len, 6 + (bodies[_i].expected ? strlen(bodies[_i].expected) : 0));
    if (bodies[_i].expected) {
        ck_assert_str_eq(out.data + 6, bodies[_i].expected);
    } else {
        ck_assert_msg(strncmp(reason, "body: the message has no ", 25) == 0, "%s", reason);
    }
}
END_TEST

START_TEST(an_action_precedes_the_document_of_a_template) {
    char expected[128], reason[SINK_REASON_LEN] = "";
    ck_assert_int_eq(append_body("elasticsearch", "{{\"v\":{json:json}}}", &plain, reason), ERR_OK);
    snprintf(expected, sizeof expected,
             "{\"create\":{\"_index\":\"logs\",\"_id\":\"%s-7\"}}\n{\"v\":21.5}\n",
             message_process_id());
    ck_assert_str_eq(out.data, expected);
}
END_TEST

/* ---- InfluxDB ---------------------------------------------------------------------------------
 */

static const struct {
    const char *id, *topic, *payload;
    size_t len; /* 0: of the text */
    const char *expected;
} lines[] = {
    {"c", "t", "21.5", 0, ",id=c,topic=t value=21.5 "},
    {"c", "t", " -3 ", 0, ",id=c,topic=t value=-3 "},
    {"c", "t", "1e3", 0, ",id=c,topic=t value=1000 "},
    {"c", "t", "text", 0, ",id=c,topic=t payload=\"text\" "},
    {"c", "t", "true", 0, ",id=c,topic=t payload=\"true\" "},
    {"c", "t", "1,2", 0, ",id=c,topic=t payload=\"1,2\" "},
    {"c", "t", "[1]", 0, ",id=c,topic=t payload=\"[1]\" "},
    {"c", "t", "{}", 0, ",id=c,topic=t payload=\"{}\" "},
    {"c", "t", "", 0, ",id=c,topic=t payload=\"\" "},
    {"c", "t", "a\"b\\c\nd", 0, ",id=c,topic=t payload=\"a\\\"b\\\\c\nd\" "},
    {"c", "t", "\xff\x01", 0, ",id=c,topic=t payload_base64=\"/wE=\" "},
    {"c", "t", "a\0b", 3, ",id=c,topic=t payload_base64=\"YQBi\" "},
    {"a b,c=d", "x/\"y\"\nz", "1", 0, ",id=a\\ b\\,c\\=d,topic=x/\"y\"\\nz value=1 "},
    {"c\\", "\\", "1", 0, ",id=c value=1 "},
    {"a\\b", "a\\\\ b\\\nc", "1", 0, ",id=a\\b,topic=a\\ b\\nc value=1 "},
    {"\xff", "gr\xc3\xbc\xc3\x9f", "1", 0, ",id=?,topic=gr\xc3\xbc\xc3\x9f value=1 "},
    {"c", "t",
     "{\"a b\":1,\"on\":true,\"s\":\"x \\\"y\\\"\",\"deep\":{\"z\":1},\"l\":[1],\"n\":null}", 0,
     ",id=c,topic=t a\\ b=1,on=true,s=\"x \\\"y\\\"\" "},
    {"c", "t", "{\"time\":5,\"\":1,\"nul\":\"\\u0000\"}", 0, ",id=c,topic=t time_=5 "},
    {"c", "t", "{\"broken\":", 0, ",id=c,topic=t payload=\"{\\\"broken\\\":\" "},
    {"c", "t", "1e999", 0, ",id=c,topic=t payload=\"1e999\" "},
};

START_TEST(a_point_has_its_special_characters_escaped) {
    struct message message = plain;
    char expected[512];
    message.id = lines[_i].id;
    message.topic = lines[_i].topic;
    message.payload = (const uint8_t *)lines[_i].payload;
    message.payload_len = lines[_i].len ? lines[_i].len : strlen(lines[_i].payload);
    append("influx", &message);
    snprintf(expected, sizeof expected, "mqtt,site=a\\ b%s1700000000123000007\n",
             lines[_i].expected);
    ck_assert_str_eq(out.data, expected);
}
END_TEST

START_TEST(measurement_and_tags_are_escaped_and_a_tag_without_value_is_left_out) {
    http_influx_append_measurement(&out, "a b,c=d");
    http_influx_append_tag(&out, "k k", "v,v=");
    http_influx_append_tag(&out, "empty", "");
    ck_assert_str_eq(out.data, "a\\ b\\,c=d,k\\ k=v\\,v\\=");
}
END_TEST

START_TEST(points_of_one_millisecond_differ) {
    struct message second = plain;
    second.number++;
    append("influx", &plain);
    char *first = strdup(out.data);
    append("influx", &second);
    ck_assert_str_ne(out.data, first);
    free(first);
}
END_TEST

/* ---- ClickHouse -------------------------------------------------------------------------------
 */

static const struct {
    long status;
    const char *body;
    enum http_outcome outcome;
} clickhouse[] = {
    {400, "Code: 27. DB::Exception: Cannot parse input: expected '\"'", HTTP_REFUSED},
    {400, "Code: 117. DB::Exception: Unknown field", HTTP_REFUSED},
    {500, "Code: 469. DB::Exception: Constraint is violated", HTTP_REFUSED},
    {400, "Code: 62. DB::Exception: Syntax error", HTTP_FAILED},
    {404, "Code: 60. DB::Exception: Table does not exist", HTTP_FAILED},
    {500, "Code: 241. DB::Exception: Memory limit exceeded", HTTP_FAILED},
    {400, "a proxy says no", HTTP_REFUSED},
    {500, "", HTTP_DOUBTFUL},
};

START_TEST(clickhouse_is_judged_by_its_code) {
    struct http_response response = {clickhouse[_i].status, clickhouse[_i].body,
                                     strlen(clickhouse[_i].body)};
    ck_assert_int_eq(http_clickhouse_judge(&response), clickhouse[_i].outcome);
}
END_TEST

/* ---- Elasticsearch ----------------------------------------------------------------------------
 */

#define ITEMS_MAX 8

static enum sink_outcome outcomes[ITEMS_MAX];
static char reasons[ITEMS_MAX][SINK_REASON_LEN];
static size_t indices[ITEMS_MAX] = {7, 6, 5, 4, 3, 2, 1, 0};
static struct sink_batch batch = {.count = ITEMS_MAX, .outcomes = outcomes, .reasons = reasons};

static enum http_outcome settle(const char *body, size_t count) {
    struct http_range range = {&batch, indices, count};
    struct http_response response = {200, body, strlen(body)};
    memset(outcomes, 0, sizeof outcomes);
    *batch.error = '\0';
    return http_elasticsearch_settle(&response, &range);
}

START_TEST(each_item_of_a_bulk_response_is_the_outcome_of_its_message) {
    enum http_outcome outcome = settle(
        "{\"took\":1,\"errors\":true,\"items\":["
        "{\"create\":{\"_id\":\"1\",\"status\":201}},"
        "{\"create\":{\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\","
        "\"reason\":\"failed to parse\\nfield [x]\"}}},"
        "{\"create\":{\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\","
        "\"reason\":\"queue full\"}}},"
        "{\"create\":{\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\"}}},"
        "{\"create\":{\"status\":404,\"error\":{\"type\":\"index_not_found_exception\"}}},"
        "{\"create\":{\"status\":413,\"error\":\"too large\"}},"
        "{\"create\":{\"status\":503}},"
        "{\"create\":{\"status\":200}}]}",
        8);
    static const enum sink_outcome expected[ITEMS_MAX] = {
        SINK_ACCEPTED, SINK_RETRY, SINK_REJECTED, SINK_RETRY,
        SINK_ACCEPTED, SINK_RETRY, SINK_REJECTED, SINK_ACCEPTED};
    ck_assert_int_eq(outcome, HTTP_FAILED);
    ck_assert_mem_eq(outcomes, expected, sizeof expected);
    ck_assert_str_eq(reasons[6],
                     "item status 400: mapper_parsing_exception: failed to parse field [x]");
    ck_assert_str_eq(reasons[2], "item status 413: too large");
    ck_assert_str_eq(batch.error, "item status 429: es_rejected_execution_exception: queue full");
}
END_TEST

static const char *const strange[] = {
    "",
    "null",
    "[]",
    "{",
    "{\"items\":{}}",
    "{\"items\":[]}",
    "{\"items\":[1,2,3]}",
    "{\"items\":[{\"create\":{\"status\":201}}]}",
    "<html>",
    "{\"items\":[null,{}]}",
    "{\"items\":[{\"create\":7},{\"create\":{\"status\":\"201\"}}]}",
};

START_TEST(a_response_that_is_not_one_of_the_bulk_api_accepts_nothing) {
    ck_assert_int_eq(settle(strange[_i], 2), HTTP_FAILED);
    ck_assert_str_ne(batch.error, "");
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        ck_assert_int_eq(outcomes[i], SINK_RETRY);
    }
}
END_TEST

/* ---- status codes, signature ------------------------------------------------------------------
 */

START_TEST(only_400_413_and_422_are_the_fault_of_a_message) {
    for (long status = 100; status < 600; status++) {
        bool refused = status == 400 || status == 413 || status == 422;
        bool accepted = status >= 200 && status < 300;
        enum http_outcome expected = accepted        ? HTTP_ACCEPTED
                                     : refused       ? HTTP_REFUSED
                                     : status == 500 ? HTTP_DOUBTFUL
                                                     : HTTP_FAILED;
        ck_assert_int_eq(http_outcome_of_status(status), expected);
    }
    ck_assert_str_ne(http_outcome_advice(301), "");
}
END_TEST

START_TEST(a_quotation_is_short_and_printable) {
    char text[HTTP_TEXT_LEN], long_text[300];
    http_outcome_quote(" a\r\n\tb\xffz\0c ", 11, text);
    ck_assert_str_eq(text, "a b z c ");
    memset(long_text, 'x', sizeof long_text);
    http_outcome_quote(long_text, sizeof long_text, text);
    ck_assert_uint_eq(strlen(text), 100);
}
END_TEST

/* printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret */
START_TEST(the_signature_is_that_of_other_programs) {
    char signature[HTTP_SIGNATURE_LEN];
    ck_assert(http_signature_make("secret", 1700000000, "{\"a\":1}", 7, signature));
    ck_assert_str_eq(signature, "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686");
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void) {
    Suite *suite = suite_create("http_formats");
    TCase *tcase = tcase_create("http_formats");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_document_has_the_identifier_of_the_message);
    tcase_add_test(tcase, a_bulk_document_is_created_under_its_identifier_with_a_timestamp);
    tcase_add_loop_test(tcase, a_body_by_template_replaces_the_document, 0, COUNT(bodies));
    tcase_add_test(tcase, an_action_precedes_the_document_of_a_template);
    tcase_add_loop_test(tcase, a_point_has_its_special_characters_escaped, 0, COUNT(lines));
    tcase_add_test(tcase, measurement_and_tags_are_escaped_and_a_tag_without_value_is_left_out);
    tcase_add_test(tcase, points_of_one_millisecond_differ);
    tcase_add_loop_test(tcase, clickhouse_is_judged_by_its_code, 0, COUNT(clickhouse));
    tcase_add_test(tcase, each_item_of_a_bulk_response_is_the_outcome_of_its_message);
    tcase_add_loop_test(tcase, a_response_that_is_not_one_of_the_bulk_api_accepts_nothing, 0,
                        COUNT(strange));
    tcase_add_test(tcase, only_400_413_and_422_are_the_fault_of_a_message);
    tcase_add_test(tcase, a_quotation_is_short_and_printable);
    tcase_add_test(tcase, the_signature_is_that_of_other_programs);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
