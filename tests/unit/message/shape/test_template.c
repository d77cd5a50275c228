/* Tests of templates: what each part yields, defaults, missing values, and wrong templates. */
#include "message/shape/template.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(literal) literal, sizeof literal - 1

static struct message *message;
static struct message_view view;
static struct message_origin *origin;

static struct message *message_with(const char *topic, const void *payload, size_t len) {
    static const struct message_property properties[] = {
        {"content_type", NULL, BYTES("text/plain")},
        {"user_property", "unit", BYTES("C")},
        {"user_property", "unit", BYTES("F")},
        {"user_property", "content_type", BYTES("not this one")},
    };
    struct message from = {.id = "pump-1",
                           .client_id = "mqtt-1",
                           .topic = topic,
                           .payload = payload,
                           .payload_len = len,
                           .properties = properties,
                           .property_count = 4,
                           .origin = origin,
                           .received_at_ms = 1700000000007,
                           .qos = 1};
    return message_create(&from);
}

static void use(const char *topic, const void *payload, size_t len) {
    message_view_fini(&view);
    message_destroy(message);
    message = message_with(topic, payload, len);
    message_view_init(&view, message, "node-1");
}

static void setup(void) {
    static const struct message_label items[] = {{"site", "Oslo"}, {"empty", ""}};
    origin = message_origin_create("broker.example:8883", items, 2);
    static const char json[] = "{\"a\":{\"b\":[1,2.5,true,null,\"x\\u0000y\",{\"c\":1}]},\"\":7,"
                               "\"m~n\":8,\"o/p\":9,\"01\":10}";
    message = NULL;
    view = (struct message_view){0};
    use("plant//tank/3", json, sizeof json - 1);
}

static void teardown(void) {
    message_view_fini(&view);
    message_destroy(message);
    ck_assert_uint_eq(origin->references, 1);
    message_origin_release(origin);
}

static enum err render(const char *text, struct buffer *out, char *missing) {
    struct template *template = NULL;
    char fault[MESSAGE_FAULT_LEN] = "";
    ck_assert_msg(template_compile(&template, text, fault) == ERR_OK, "%s: %s", text, fault);
    enum err err = template_render(template, &view, out, missing);
    template_destroy(template);
    return err;
}

static const struct {
    const char *text, *rendered;
    size_t len;
} good[] = {
    {"", BYTES("")},
    {"plain", BYTES("plain")},
    {"{{}}", BYTES("{}")},
    {"a{{{id}}}b", BYTES("a{pump-1}b")},
    {"{{id}}", BYTES("{id}")},
    {"{id}{client_id}", BYTES("pump-1mqtt-1")},
    {"{topic}", BYTES("plant//tank/3")},
    {"{topic.1}.{topic.3}.{topic.4}", BYTES("plant.tank.3")},
    {"<{topic.2}>", BYTES("<>")}, /* an empty level is there */
    {"{topic.5|none}", BYTES("none")},
    {"{topic.5|}", BYTES("")},
    {"{topic.5|a|b}", BYTES("a|b")},
    {"{label.site}", BYTES("Oslo")},
    {"{label.empty|unused}", BYTES("")},
    {"{label.room|unknown}", BYTES("unknown")},
    {"{json./a/b/0}", BYTES("1")},
    {"{json./a/b/1}", BYTES("2.5")},
    {"{json./a/b/2}", BYTES("true")},
    {"{json./a/b/3|null}", BYTES("null")},
    {"{json./a/b/4}", BYTES("x\0y")},
    {"{json./a/b/5}", BYTES("{\"c\":1}")},
    {"{json./a/b/6|-}", BYTES("-")},
    {"{json./a/b/00|-}", BYTES("-")},
    {"{json./a/b/-|-}", BYTES("-")},
    {"{json./a/b/0/x|-}", BYTES("-")},
    {"{json./a/b/5/c}", BYTES("1")},
    {"{json./}", BYTES("7")},
    {"{json./m~0n}{json./o~1p}{json./01}", BYTES("8910")},
    {"{qos} {retain}", BYTES("1 0")},
    {"{received_at} {received_at_ms}", BYTES("2023-11-14T22:13:20.007Z 1700000000007")},
    {"{node}", BYTES("node-1")},
    {"{broker}", BYTES("broker.example:8883")},
    {"{user.unit}", BYTES("C")},
    {"{user.Unit|-}", BYTES("-")},
    {"{property.content_type}", BYTES("text/plain")},
    {"{property.user_property|-}", BYTES("-")},
    {"{topic:json}", BYTES("\"plant//tank/3\"")},
    {"{topic.9:json|null}", BYTES("null")},
    {"{qos:json} {retain:base64}", BYTES("\"1\" MA==")},
    {"{json./a/b/0:json} {json./a/b/2:json}", BYTES("1 true")},
    {"{json./a/b/4:json}", BYTES("\"x\\u0000y\"")},
    {"{label.site:base64}", BYTES("T3Nsbw==")},
    {"{label.room:base64|none}", BYTES("none")},
    {"{label.a:b|-}", BYTES("-")}, /* another colon belongs to the name */
};

START_TEST(each_part_yields_its_value) {
    char missing[MESSAGE_FAULT_LEN] = "";
    struct buffer out;
    buffer_init(&out);
    ck_assert_msg(render(good[_i].text, &out, missing) == ERR_OK, "%s: %s", good[_i].text, missing);
    ck_assert_msg(out.len == good[_i].len &&
                      (out.len == 0 || memcmp(out.data, good[_i].rendered, out.len) == 0),
                  "%s: %.*s", good[_i].text, (int)out.len, out.len ? out.data : "");
    buffer_fini(&out);
}
END_TEST

static const char *const missing_parts[] = {"topic.5",      "label.room",  "json./a/x",
                                            "json./a/b/3",  "user.nobody", "property.x",
                                            "json./a/b/0/0"};

START_TEST(a_missing_value_is_named) {
    char text[64], missing[MESSAGE_FAULT_LEN] = "";
    struct buffer out;
    buffer_init(&out);
    snprintf(text, sizeof text, "a{%s}", missing_parts[_i]);
    ck_assert_int_eq(render(text, &out, missing), ERR_NOT_FOUND);
    snprintf(text, sizeof text, "the message has no %s", missing_parts[_i]);
    ck_assert_str_eq(missing, text);
    buffer_fini(&out);
}
END_TEST

START_TEST(a_payload_that_is_not_json_has_no_json_values) {
    static const struct {
        const char *payload;
        size_t len;
    } payloads[] = {{BYTES("")}, {BYTES("21.5 C")}, {BYTES("{\"a\":1} x")}, {BYTES("\xff\x00")}};
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        char missing[MESSAGE_FAULT_LEN];
        struct buffer out;
        buffer_init(&out);
        use("t", payloads[i].payload, payloads[i].len);
        ck_assert_int_eq(render("{json./a}", &out, missing), ERR_NOT_FOUND);
        buffer_clear(&out);
        ck_assert_int_eq(render("{payload}", &out, missing), ERR_OK);
        ck_assert_uint_eq(out.len, payloads[i].len);
        buffer_fini(&out);
    }
    use("t", "21.5", 4); /* a number alone is JSON */
    struct buffer out;
    char missing[MESSAGE_FAULT_LEN];
    buffer_init(&out);
    ck_assert_int_eq(render("{json}", &out, missing), ERR_OK);
    ck_assert_str_eq(out.data, "21.5");
    buffer_fini(&out);
}
END_TEST

static const struct {
    const char *text, *fault;
} wrong[] = {
    {"a{id", "has a { without a } ({{ is a brace), at character 2"},
    {"{", "has a { without a }"},
    {"{id{id}}", "has a { without a }"},
    {"a}b", "has a } without a { (}} is a brace), at character 2"},
    {"{id}}", "has a } without a {"},
    {"{}", "{} is unknown; there are id, client_id"},
    {"{Id}", "{Id} is unknown"},
    {"{id }", "{id } is unknown"},
    {"{id.x}", "{id.x} is unknown"},
    {"{topic.}", "{topic.} is unknown"},
    {"{topic.0}", "topic. is followed by a level from 1, the first, to 128"},
    {"{topic.-1}", "topic. is followed by a level"},
    {"{topic. 1}", "topic. is followed by a level"},
    {"{topic.129}", "topic. is followed by a level"},
    {"{topic.99999999999999999999}", "topic. is followed by a level"},
    {"{topic.1x}", "topic. is followed by a level"},
    {"{label.}", "{label.} is unknown"},
    {"{json.a}", "json. is followed by a JSON pointer, as in json./a/b"},
    {"{json./a~2}", "json. is followed by a JSON pointer"},
    {"{json./a~}", "json. is followed by a JSON pointer"},
    {"{|x}", " is unknown"},
    {"{:json}", " is unknown"},
    {"{payload:JSON}", "{payload:JSON} is unknown"},
    {"{payload:json:json}", "{payload:json} is unknown"},
};

START_TEST(a_wrong_template_is_explained) {
    struct template *template = NULL;
    char fault[MESSAGE_FAULT_LEN] = "";
    ck_assert_int_eq(template_compile(&template, wrong[_i].text, fault), ERR_ARGUMENT);
    ck_assert_msg(strstr(fault, wrong[_i].fault) != NULL, "%s: %s", wrong[_i].text, fault);
}
END_TEST

/* ---- JSON ------------------------------------------------------------------------------------ */

static const struct {
    const char *payload;
    size_t len;
    const char *json; /* of {payload:json} */
} hostile[] = {
    {BYTES(""), "\"\""},
    {BYTES("\",\"admin\":true,\"x\":\""), "\"\\\",\\\"admin\\\":true,\\\"x\\\":\\\"\""},
    {BYTES("\\"), "\"\\\\\""},
    {BYTES("a\r\nb\tc"), "\"a\\r\\nb\\tc\""},
    {BYTES("\x00\x1f"), "\"\\u0000\\u001f\""},
    {BYTES("}}{{id}"), "\"}}{{id}\""},
    {BYTES("gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\""},
};

START_TEST(a_payload_as_json_cannot_end_its_string) {
    char missing[MESSAGE_FAULT_LEN] = "";
    struct buffer out;
    buffer_init(&out);
    use("t", hostile[_i].payload, hostile[_i].len);
    ck_assert_int_eq(render("{payload:json}", &out, missing), ERR_OK);
    ck_assert_str_eq(out.data, hostile[_i].json);
    buffer_fini(&out);
}
END_TEST

START_TEST(a_payload_that_is_not_utf8_is_missing_as_json) {
    char missing[MESSAGE_FAULT_LEN] = "";
    struct buffer out;
    buffer_init(&out);
    use("t", "a\xff", 2);
    ck_assert_int_eq(render("{payload:json}", &out, missing), ERR_NOT_FOUND);
    ck_assert_str_eq(missing, "the message has no payload that can be JSON");
    ck_assert_int_eq(render("{payload:json|null}{payload:base64}", &out, missing), ERR_OK);
    ck_assert_str_eq(out.data, "nullYf8=");
    buffer_fini(&out);
}
END_TEST

static const struct {
    const char *text;
    bool object;
    const char *fault; /* NULL: it makes JSON */
} documents[] = {
    {"{{\"p\":{payload:json},\"t\":\"{received_at}\",\"q\":{qos}}}", true, NULL},
    {"{{\"{message_id}\":{json:json|null},\"b\":\"{payload:base64}\"}}", true, NULL},
    {"{{{topic:json}:[{json./a:json},{received_at_ms},{retain}]}}", true, NULL},
    {"{payload:json}", false, NULL},
    {"{payload:json}", true, "does not make a JSON object"},
    {"", false, "does not make JSON"},
    {"{{\"p\":\"{payload}\"}}", true, "has {payload}, whose value may break the JSON; use "},
    {"{{\"p\":\"{topic.2}\"}}", true, "use {topic.2:json}"},
    {"{{\"p\":{json./a}}}", true, "use {json./a:json}"},
    {"{{\"p\":{label.site|1}}}", true, "use {label.site:json}"},
    {"{{\"p\":\"{payload:json}\"}}", true, "does not make JSON"}, /* quotes twice */
    {"{{\"p\":\"a{payload:json}b\"}}", true, "does not make JSON"},
    {"{{{json./a:json}:1}}", true, "does not make JSON"}, /* a number is no name */
    {"{{\"p\":{received_at}}}", true, "does not make JSON"},
    {"{{\"p\":{message_id}}}", true, "does not make JSON"},
    {"{{\"p\":{payload:base64}}}", true, "does not make JSON"},
    {"{{\"p\":1{json./a:json}}}", true, "does not make JSON"},
    {"{{\"p\":{json./a:json|none}}}", true, "does not make JSON"},
    {"{{\"p\":{json./a:json|}}}", true, "does not make JSON"},
    {"{{\"p\":1", true, "does not make JSON"},
};

START_TEST(a_document_that_a_message_could_break_is_refused) {
    struct template *template = NULL;
    char fault[MESSAGE_FAULT_LEN] = "";
    const char *expected = documents[_i].fault;
    ck_assert_int_eq(template_compile(&template, documents[_i].text, fault), ERR_OK);
    enum err err = template_check_json(template, documents[_i].object, fault);
    ck_assert_msg(err == (expected ? ERR_ARGUMENT : ERR_OK), "%s: %s", documents[_i].text, fault);
    ck_assert_msg(!expected || strstr(fault, expected), "%s: %s", documents[_i].text, fault);
    template_destroy(template);
}
END_TEST

START_TEST(a_template_has_at_most_so_many_parts) {
    struct template *template = NULL;
    char text[4 * TEMPLATE_PIECES_MAX + 8] = "", fault[MESSAGE_FAULT_LEN];
    for (int i = 0; i < TEMPLATE_PIECES_MAX; i++) {
        strcat(text, "{id}");
    }
    ck_assert_int_eq(template_compile(&template, text, fault), ERR_OK);
    template_destroy(template);
    strcat(text, "x");
    ck_assert_int_eq(template_compile(&template, text, fault), ERR_ARGUMENT);
    ck_assert_str_eq(fault, "has more than 64 parts");
}
END_TEST

START_TEST(a_template_without_parts_is_a_constant) {
    static const struct {
        const char *text, *constant;
    } texts[] = {
        {"", ""}, {"mqtt_msg", "mqtt_msg"}, {"a{{b", "a{b"}, {"{id}", NULL}, {"a{id}", NULL}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct template *template = NULL;
        char fault[MESSAGE_FAULT_LEN];
        ck_assert_int_eq(template_compile(&template, texts[i].text, fault), ERR_OK);
        ck_assert_pstr_eq(template_constant(template), texts[i].constant);
        template_destroy(template);
    }
}
END_TEST

START_TEST(each_message_has_an_id_of_its_own_and_keeps_it_when_it_is_copied) {
    struct message *other = message_with("t", "", 0);
    struct message *copy = message_create(other);
    ck_assert_uint_ne(message->number, 0);
    ck_assert_uint_ne(other->number, message->number);
    ck_assert_uint_eq(copy->number, other->number);
    ck_assert_uint_eq(strlen(message_process_id()), 16);
    message_destroy(other);
    message_destroy(copy);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("template");
    TCase *tcase = tcase_create("template");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, each_part_yields_its_value, 0, sizeof good / sizeof good[0]);
    tcase_add_loop_test(tcase, a_missing_value_is_named, 0,
                        sizeof missing_parts / sizeof missing_parts[0]);
    tcase_add_test(tcase, a_payload_that_is_not_json_has_no_json_values);
    tcase_add_loop_test(tcase, a_wrong_template_is_explained, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_loop_test(tcase, a_payload_as_json_cannot_end_its_string, 0,
                        sizeof hostile / sizeof hostile[0]);
    tcase_add_test(tcase, a_payload_that_is_not_utf8_is_missing_as_json);
    tcase_add_loop_test(tcase, a_document_that_a_message_could_break_is_refused, 0,
                        sizeof documents / sizeof documents[0]);
    tcase_add_test(tcase, a_template_has_at_most_so_many_parts);
    tcase_add_test(tcase, a_template_without_parts_is_a_constant);
    tcase_add_test(tcase, each_message_has_an_id_of_its_own_and_keeps_it_when_it_is_copied);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
