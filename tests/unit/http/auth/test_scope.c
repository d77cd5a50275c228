/* The text of a scope, and which clients it has. */
#include "http/auth/scope.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct scope scope_of(const char *text) {
    struct scope scope;
    ck_assert_msg(scope_parse(text, &scope), "%s", text);
    return scope;
}

START_TEST(a_scope_is_a_label_with_a_value_that_is_percent_encoded) {
    char text[SCOPE_TEXT_LEN];
    struct scope scope = scope_of("label.tenant=acme%20%26%20S\xc3\xb6hne=1");
    ck_assert_str_eq(scope.label, "tenant");
    ck_assert_str_eq(scope.value, "acme & S\xc3\xb6hne=1");
    scope_format(&scope, text);
    struct scope again = scope_of(text);
    ck_assert_str_eq(again.value, scope.value);
    ck_assert_uint_eq(strcspn(text, " &\r\n"), strlen(text)); /* it goes into a header */
    scope_format(&(struct scope){.label = ""}, text);
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(the_longest_scope_fits_and_a_longer_one_is_refused) {
    char text[2048] = "label.x=", formatted[SCOPE_TEXT_LEN];
    for (size_t i = 0; i < CLIENT_LABEL_VALUE_MAX; i++) {
        strcat(text, "%2F");
    }
    struct scope scope = scope_of(text);
    scope_format(&scope, formatted);
    ck_assert_str_eq(formatted, text);
    strcat(text, "x");
    ck_assert(!scope_parse(text, &scope));
    ck_assert(!scope_is_set(&scope));
}
END_TEST

START_TEST(what_is_no_scope_is_refused) {
    static const char *const wrong[] = {
        "",
        "tenant=acme",
        "label.=acme",
        "label.tenant",
        "label.ten ant=x",
        "label.tenant=%",
        "label.t=%00",
        "label.tenant=",
    };
    struct scope scope;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_msg(!scope_parse(wrong[i], &scope), "%s", wrong[i]);
    }
}
END_TEST

static bool includes(const struct scope *scope, const char *text) {
    return scope_includes_text(scope, "a", text, strlen(text));
}

#define CLIENT(labels) "{\"id\":\"a\",\"broker\":\"b\",\"labels\":" labels "}"

START_TEST(it_has_the_clients_with_exactly_this_label) {
    struct scope scope = scope_of("label.tenant=acme"), all = {.label = ""};
    ck_assert(includes(&scope, CLIENT("{\"x\":\"y\",\"tenant\":\"acme\"}")));
    ck_assert(!includes(&scope, CLIENT("{\"tenant\":\"acme2\"}")));
    ck_assert(!includes(&scope, CLIENT("{\"Tenant\":\"acme\",\"x\":\"acme\"}")));
    ck_assert(!includes(&scope, CLIENT("{}")));
    ck_assert(!includes(&scope, "not a client"));
    ck_assert(!scope_includes(&scope, NULL));
    ck_assert(includes(&all, "not a client"));
}
END_TEST

START_TEST(the_label_is_added_to_a_document_and_never_changed) {
    struct scope scope = scope_of("label.tenant=acme");
    json_t *document = json_pack("{s:s}", "id", "a");
    ck_assert(scope_force_label(&scope, document));
    ck_assert(scope_force_label(&scope, document));
    json_t *labels = json_object_get(document, "labels");
    ck_assert_str_eq(json_string_value(json_object_get(labels, "tenant")), "acme");
    json_object_set_new(labels, "tenant", json_string("globex"));
    ck_assert(!scope_force_label(&scope, document));
    json_object_set_new(labels, "tenant", json_integer(1));
    ck_assert(!scope_force_label(&scope, document));
    json_object_set_new(document, "labels",
                        json_string("wrong")); /* the check of the fields refuses it */
    ck_assert(scope_force_label(&scope, document));
    json_decref(document);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scope");
    TCase *cases = tcase_create("all");
    tcase_add_test(cases, a_scope_is_a_label_with_a_value_that_is_percent_encoded);
    tcase_add_test(cases, the_longest_scope_fits_and_a_longer_one_is_refused);
    tcase_add_test(cases, what_is_no_scope_is_refused);
    tcase_add_test(cases, it_has_the_clients_with_exactly_this_label);
    tcase_add_test(cases, the_label_is_added_to_a_document_and_never_changed);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
