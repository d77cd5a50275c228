/* Tests of the YAML of documents: what is read, and that what is written is read back. */
#include "manifest_yaml.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static bool take(void *context, json_t *document, size_t line) {
    json_t *row = json_pack("{s:I, s:o}", "line", (json_int_t)line, "document", document);
    return json_array_append_new(context, row) == 0;
}

/* Of a text with one document; NULL: a fault. */
static json_t *read_one(const char *text) {
    json_t *list = json_array();
    bool good = manifest_yaml_read("text", text, strlen(text), take, list);
    json_t *document = json_incref(json_object_get(json_array_get(list, 0), "document"));
    ck_assert_msg(!good || json_array_size(list) == 1, "%s", text);
    json_decref(list);
    if (!good) {
        json_decref(document);
    }
    return good ? document : NULL;
}

static void expect(const char *text, const char *json) {
    json_t *document = read_one(text), *expected = json_loads(json, JSON_DECODE_ANY, NULL);
    char *shown = json_dumps(document, JSON_ENCODE_ANY);
    ck_assert_msg(json_equal(document, expected), "%s: %s", text, shown);
    free(shown);
    json_decref(document);
    json_decref(expected);
}

START_TEST(scalars_follow_the_core_schema) {
    expect("a", "\"a\"");
    expect("~", "null");
    expect("[null, true, False, yes, on]", "[null, true, false, \"yes\", \"on\"]");
    expect("[1, -2, +3, 007]", "[1, -2, 3, 7]");
    expect("[1.5, 1e3, -.5, 0x10, 1_000]", "[1.5, 1000.0, -0.5, \"0x10\", \"1_000\"]");
    expect("['1', \"true\", 'null', .inf, .nan]",
           "[\"1\", \"true\", \"null\", \".inf\", \".nan\"]");
    expect("a:\n", "{\"a\": null}");
    expect("a: |\n  one\n  two\n", "{\"a\": \"one\\ntwo\\n\"}");
}
END_TEST

START_TEST(what_has_no_json_is_refused) {
    static const char *const texts[] = {
        "a: &x 1\nb: *x\n", "!!str a",     "a: 1\na: 2\n",    "[1, 2", "? [a]\n: b\n", "\xff",
        "a: \"\\ud83d",     "- 1\nb: 2\n", "%YAML 9\n---\na",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_t *document = read_one(texts[i]);
        ck_assert_msg(!document, "%s", texts[i]);
    }
}
END_TEST

START_TEST(depth_is_limited) {
    char text[600] = "";
    for (int i = 0; i < 200; i++) {
        strcat(text, "[");
    }
    ck_assert_ptr_null(read_one(text));
}
END_TEST

START_TEST(documents_have_their_lines) {
    const char *text = "# comment\n---\na: 1\n---\n---\nb: 2\n";
    json_t *list = json_array();
    ck_assert(manifest_yaml_read("text", text, strlen(text), take, list));
    ck_assert_uint_eq(json_array_size(list), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(list, 0), "line")), 3);
    ck_assert(json_is_null(json_object_get(json_array_get(list, 1), "document")));
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(list, 2), "line")), 6);
    json_decref(list);
}
END_TEST

START_TEST(what_is_written_is_read_back) {
    json_t *texts = json_loads(
        "[\"\", \" \", \"a\", \"1\", \"-\", \"- a\", \"#\", \"a # b\", \"+/x\", \"a: b\", \"yes\", \"null\","
        " \"~\", \"true\", \"1e3\", \".5\", \"'\", \"\\\"\", \"a\\nb\", \"a\\nb\\n\", \" a\\n b\", \"\\t\","
        " \"*x\", \"&x\", \"!x\", \"%x\", \"@x\", \"`x\", \"{a}\", \"[a\", \"a,b\", \"\\u0001\", \"\\u007f\","
        " \"\\u00fc\", \"\\ud83d\\ude00\", \"\\u2028\", \"\\ufeffa\", \"---\", \"...\", \"a \", \"\\r\\n\","
        " \"a\\n\\n\", \"\\n\", 1, -5, 1.5, 1e300, true, false, null, [], {}, [[1], []],"
        " {\"1\": {\"a\": [{}]}, \"\": 1, \"a b\": 2, \"x\\ny\": 3}]",
        0, NULL);
    char *data = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&data, &len);
    ck_assert_ptr_nonnull(texts);
    ck_assert(manifest_yaml_write(file, texts));
    fclose(file);
    json_t *again = read_one(data);
    for (size_t i = 0; i < json_array_size(texts); i++) {
        char *shown = json_dumps(json_array_get(texts, i), JSON_ENCODE_ANY);
        ck_assert_msg(json_equal(json_array_get(texts, i), json_array_get(again, i)), "%s in\n%s",
                      shown, data);
        free(shown);
    }
    free(data);
    json_decref(texts);
    json_decref(again);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("manifest_yaml");
    TCase *all = tcase_create("all");
    tcase_add_test(all, scalars_follow_the_core_schema);
    tcase_add_test(all, what_has_no_json_is_refused);
    tcase_add_test(all, depth_is_limited);
    tcase_add_test(all, documents_have_their_lines);
    tcase_add_test(all, what_is_written_is_read_back);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
