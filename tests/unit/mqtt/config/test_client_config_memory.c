/* Tests of a configuration from text and back while memory runs out: this is never reported as a
 * fault of the document, and nothing leaks. */
#include "mqtt/config/client_config.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "mqtt/config/client_secrets.h"
#include "failing_malloc.h"

/* Something of every kind of field. */
static const char TEXT[] =
    "{\"id\": \"pump-1\", \"urls\": [\"wss://broker.example.org:8884/mqtt?token=1\","
    " \"mqtts://[::1]:8883\"], \"protocol_version\": 5, \"username\": \"u\","
    " \"password\": {\"file\": \"/run/secrets/pump\"}, \"clean_start\": false,"
    " \"subscriptions\": [\"a/#\", {\"filter\": \"$share/g/b\", \"qos\": 2}], \"sub_topic\": \"c\","
    " \"websocket\": {\"headers\": {\"X-Token\": \"t\"}, \"subprotocol\": \"mqtt\"},"
    " \"tls\": {\"ca\": \"/etc/ca.pem\", \"cert\": \"/etc/c.pem\", \"key\": \"/etc/k.pem\"},"
    " \"will\": {\"topic\": \"w\", \"payload\": \"gone\", \"user_properties\": {\"k\": \"v\"}},"
    " \"retired_filters\": [\"old/#\"]}";

static struct client_config *parsed(void) {
    struct client_config *config;
    struct client_faults faults;
    enum err err = client_config_parse_text(TEXT, strlen(TEXT), NULL, &config, &faults);
    ck_assert_msg(err == ERR_OK, "%s %s: %s", err_name(err), faults.items[0].pointer,
                  faults.items[0].detail);
    return config;
}

static void check_same(const struct client_config *config, const struct client_config *whole) {
    char *identity = client_config_identity(config), *expected = client_config_identity(whole);
    ck_assert_str_eq(identity, expected);
    ck_assert_str_eq(config->source, whole->source);
    ck_assert_str_eq(config->username, whole->username);
    ck_assert_str_eq(config->password_from, whole->password_from);
    ck_assert_str_eq(config->will->topic, whole->will->topic);
    ck_assert_uint_eq(config->url_count, whole->url_count);
    ck_assert_uint_eq(config->subscription_count, whole->subscription_count);
    ck_assert_uint_eq(config->retired_filter_count, whole->retired_filter_count);
    free(identity);
    free(expected);
}

START_TEST(case_F15_a_text_is_read_or_memory_ran_out) {
    bool ended = false;
    struct client_config *whole = parsed();
    stays = _i == 1;
    for (long n = 0; CAN_FAIL && !ended; n++) {
        struct client_config *config;
        struct client_faults faults;
        long before = live;
        failed = 0;
        left = n;
        enum err err = client_config_parse_text(TEXT, strlen(TEXT), NULL, &config, &faults);
        left = -1;
        ended = failed == 0;
        /* asprintf survives a failure. */
        ck_assert_msg(err == ERR_OK || (err == ERR_MEMORY && !ended), "%ld: %s %s: %s", n,
                      err_name(err), faults.count > 0 ? faults.items[0].pointer : "",
                      faults.count > 0 ? faults.items[0].detail : "");
        if (err == ERR_OK) {
            check_same(config, whole);
        }
        client_config_destroy(config);
        ck_assert_msg(live == before, "%ld: %ld blocks leak", n, live - before);
        ck_assert_int_lt(n, 10000);
    }
    client_config_destroy(whole);
}
END_TEST

START_TEST(case_F15_what_is_made_of_it_is_whole_or_not_made) {
    struct client_config *config = parsed();
    json_t *document = json_loads(TEXT, 0, NULL);
    json_object_set_new(document, "password",
                        json_string("itself")); /* a referenced secret is shown */
    char *identity = client_config_identity(config), *text = client_config_canonical(document);
    json_t *shown = client_config_redacted(document);
    bool ended = false;
    for (long n = 0; CAN_FAIL && !ended; n++) {
        failed = 0;
        left = n;
        char *identity_now = client_config_identity(config);
        char *text_now = client_config_canonical(document);
        json_t *shown_now = client_config_redacted(document);
        left = -1;
        ended = failed == 0;
        ck_assert(!identity_now || strcmp(identity_now, identity) == 0);
        ck_assert_msg(!text_now || strcmp(text_now, text) == 0, "%ld: %s", n, text_now);
        ck_assert(!shown_now || json_equal(shown_now, shown));
        ck_assert(!ended || (identity_now && text_now && shown_now));
        free(identity_now);
        free(text_now);
        json_decref(shown_now);
    }
    json_decref(shown);
    json_decref(document);
    free(identity);
    free(text);
    client_config_destroy(config);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("client_config_memory");
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, case_F15_a_text_is_read_or_memory_ran_out, 0, 2);
    tcase_add_test(cases, case_F15_what_is_made_of_it_is_whole_or_not_made);
    Suite *suite = suite_create("client_config_memory");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
