/* Shared by the tests of mqtt/config/client_config. Documents are written with ' for ". */
#ifndef MQFLEET_TEST_CLIENT_CONFIG_FIXTURE_H
#define MQFLEET_TEST_CLIENT_CONFIG_FIXTURE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mqtt/config/client_config.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DOCUMENT_MAX 8192
#define BASE         "'id':'c','url':'mqtts://h'"
#define PEM_KEY      "-----BEGIN PRIVATE KEY-----\\nhunter2\\n-----END PRIVATE KEY-----"

static struct client_faults faults;

static inline void quote(char out[DOCUMENT_MAX], const char *text) {
    ck_assert_uint_lt(strlen(text), DOCUMENT_MAX);
    strcpy(out, text);
    for (char *c = out; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
}

static inline json_t *json_of(const char *text) {
    char quoted[DOCUMENT_MAX];
    json_error_t error;
    quote(quoted, text);
    json_t *document = json_loads(quoted, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    ck_assert_msg(document != NULL, "%s: %s", quoted, error.text);
    return document;
}

static inline enum err parse(const char *text, enum client_source source, const char *hint,
                             struct client_config **out) {
    json_t *document = json_of(text);
    enum err err = client_config_parse(document, source, hint, out, &faults);
    json_decref(document);
    return err;
}

static inline struct client_config *config_of(const char *text) {
    struct client_config *config;
    enum err err = parse(text, CLIENT_FROM_API, NULL, &config);
    ck_assert_msg(err == ERR_OK, "%s\n%s: %s", text, faults.items[0].pointer,
                  faults.items[0].detail);
    ck_assert_uint_eq(faults.count, 0);
    return config;
}

/* The pointers of all faults, separated by spaces. */
static inline const char *fault_pointers(void) {
    static char list[CLIENT_FAULTS_MAX * 260];
    list[0] = '\0';
    for (size_t i = 0; i < faults.count; i++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof(list) - at, "%s%s", i == 0 ? "" : " ", faults.items[i].pointer);
    }
    return list;
}

/* The id it is addressed by is "h". */
static inline enum err parse_text(const char *text, struct client_config **out) {
    char quoted[DOCUMENT_MAX];
    quote(quoted, text);
    return client_config_parse_text(quoted, strlen(quoted), "h", out, &faults);
}

static inline int run_suite(const char *name, const TTest *const *tests, size_t count) {
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 60);
    for (size_t i = 0; i < count; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
