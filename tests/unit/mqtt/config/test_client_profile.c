/* Tests of profiles: what is merged, refused and kept, and the table of those that are known. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "base/shared_text.h"
#include "mqtt/config/client_profiles.h"

static json_t *json(const char *text) {
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    ck_assert_msg(value != NULL, "%s", text);
    return value;
}

static void know(const char *name, int64_t version, const char *text) {
    ck_assert_int_eq(client_profiles_put(&(struct client_profile_row){name, text, version}, false),
                     ERR_OK);
}

static void forget(void) {
    client_profiles_clear();
}

/* ---- merging --------------------------------------------------------------------------------- */

static const struct {
    const char *fields, *own, *merged;
} merges[] = {
    {"{\"keepalive_s\":5}", "{\"id\":\"x\"}", "{\"keepalive_s\":5,\"id\":\"x\"}"},
    {"{\"keepalive_s\":5}", "{\"keepalive_s\":6}", "{\"keepalive_s\":6}"},
    {"{\"username\":\"u\"}", "{\"username\":null}", "{}"},
    {"{\"labels\":{\"a\":\"1\",\"b\":\"2\"}}", "{\"labels\":{\"b\":\"3\",\"a\":null}}",
     "{\"labels\":{\"b\":\"3\"}}"},
    {"{\"tls\":{\"ca\":\"/ca\",\"insecure\":true}}", "{\"tls\":{\"insecure\":false}}",
     "{\"tls\":{\"ca\":\"/ca\",\"insecure\":false}}"},
    {"{\"subscriptions\":[\"a\",\"b\"]}", "{\"subscriptions\":[\"c\"]}",
     "{\"subscriptions\":[\"c\"]}"},
    {"{\"subscriptions\":[\"a\"]}", "{\"sub_topic\":\"c\"}", "{\"sub_topic\":\"c\"}"},
    {"{\"broker\":\"h\",\"port\":1884}", "{\"url\":\"mqtt://x\"}", "{\"url\":\"mqtt://x\"}"},
    {"{\"urls\":[\"mqtt://x\"],\"urls_order\":\"random\"}", "{\"broker\":\"y\"}",
     "{\"broker\":\"y\"}"},
    {"{\"urls\":[\"mqtt://x\"]}", "{\"urls_order\":\"random\"}",
     "{\"urls\":[\"mqtt://x\"],\"urls_order\":\"random\"}"},
    {"{\"will\":{\"topic\":\"t\",\"payload_base64\":\"eA==\"}}", "{\"will\":{\"payload\":\"y\"}}",
     "{\"will\":{\"topic\":\"t\",\"payload\":\"y\"}}"},
    {"{\"password\":{\"file\":\"/a\"}}", "{\"password\":{\"env\":\"B\"}}",
     "{\"password\":{\"env\":\"B\"}}"},
    {"{\"websocket\":{\"headers\":{\"a\":\"1\",\"b\":\"2\"}}}",
     "{\"websocket\":{\"headers\":{\"b\":\"3\"}}}",
     "{\"websocket\":{\"headers\":{\"a\":\"1\",\"b\":\"3\"}}}"},
    {"{\"retired_filters\":[\"a\"]}", "{\"retired_filters\":[\"b\"]}",
     "{\"retired_filters\":[\"b\",\"a\"]}"},
};

START_TEST(own_fields_replace_those_of_the_profile) {
    json_t *fields = json(merges[_i].fields), *own = json(merges[_i].own);
    json_t *wanted = json(merges[_i].merged), *merged = client_profile_merge(fields, own);
    ck_assert_msg(json_equal(merged, wanted), "%s", json_dumps(merged, JSON_SORT_KEYS));
    json_t *again = json(merges[_i].fields);
    ck_assert_msg(json_equal(fields, again), "the profile itself is not changed");
    json_decref(fields);
    json_decref(own);
    json_decref(wanted);
    json_decref(merged);
    json_decref(again);
}
END_TEST

/* ---- configurations -------------------------------------------------------------------------- */

static enum err parse(const char *text, enum client_source source, struct client_config **out,
                      struct client_faults *faults) {
    json_t *document = json(text);
    enum err err = client_config_parse(document, source, NULL, out, faults);
    json_decref(document);
    return err;
}

START_TEST(a_configuration_has_the_fields_of_its_profile) {
    struct client_config *config;
    struct client_faults faults;
    know("site", 7,
         "{\"url\":\"mqtt://h\",\"will\":{\"payload\":\"x\"},\"subscriptions\":[\"a\"]}");
    const char *text = "{\"id\":\"c\",\"profile\":\"site\",\"will\":{\"topic\":\"t\"}}";
    ck_assert_int_eq(parse(text, CLIENT_FROM_API, &config, &faults), ERR_OK);
    ck_assert_str_eq(config->host, "h");
    ck_assert_str_eq(config->will->topic, "t");
    ck_assert_uint_eq(config->subscription_count, 1);
    ck_assert_int_eq(config->profile->version, 7);
    client_config_destroy(config);
    ck_assert_int_eq(client_config_parse_text(text, strlen(text), "c", &config, &faults), ERR_OK);
    ck_assert_str_eq(config->source, text);
    client_config_destroy(config);
}
END_TEST

static const struct {
    const char *text, *pointer;
} refused[] = {
    {"{\"id\":\"c\",\"profile\":\"none\",\"url\":\"mqtt://h\"}", "/profile"},
    {"{\"id\":\"c\",\"profile\":5,\"url\":\"mqtt://h\"}", "/profile"},
    {"{\"id\":\"c\",\"profile\":\"site\",\"keepalive\":5}", "/keepalive"},
    {"{\"id\":\"c\",\"profile\":\"site\",\"url\":null}", "/broker"},
    {"{\"id\":\"c\",\"profile\":\"site\",\"subscriptions\":[{\"qos\":1}]}",
     "/subscriptions/0/filter"},
    {"{\"id\":\"c\",\"profile\":\"site\",\"password\":\"***\"}", "/password"},
    /* its password would go to another broker */
    {"{\"id\":\"c\",\"profile\":\"site\",\"url\":\"mqtt://mine\"}", "/profile"},
    {"{\"id\":\"c\",\"profile\":\"site\",\"urls\":[\"mqtt://h\",\"mqtt://mine\"]}", "/profile"},
};

START_TEST(a_client_that_does_not_fit_its_profile_is_refused) {
    struct client_config *config;
    struct client_faults faults;
    know("site", 7, "{\"url\":\"mqtt://h\",\"username\":\"u\",\"password\":\"p\"}");
    ck_assert_int_eq(parse(refused[_i].text, CLIENT_FROM_API, &config, &faults), ERR_ARGUMENT);
    ck_assert_msg(strcmp(faults.items[0].pointer, refused[_i].pointer) == 0, "%s: %s",
                  faults.items[0].pointer, faults.items[0].detail);
}
END_TEST

START_TEST(an_own_password_may_go_to_an_own_broker) {
    struct client_config *config;
    struct client_faults faults;
    know("site", 7, "{\"url\":\"mqtt://h\",\"username\":\"u\",\"password\":\"p\"}");
    ck_assert_int_eq(parse("{\"id\":\"c\",\"profile\":\"site\",\"url\":\"mqtt://mine\","
                           "\"password\":\"own\"}",
                           CLIENT_FROM_API, &config, &faults),
                     ERR_OK);
    ck_assert_str_eq(config->password, "own");
    client_config_destroy(config);
}
END_TEST

START_TEST(a_profile_holds_nothing_of_a_single_client) {
    struct client_faults faults;
    json_t *fields =
        json("{\"id\":\"a\",\"client_id\":\"b\",\"desired\":\"paused\","
             "\"profile\":\"c\",\"will\":{\"payload\":\"x\"},\"tls\":{\"cert\":\"/c\"}}");
    client_profile_check(fields, &faults);
    ck_assert_uint_eq(faults.count, 4);
    json_decref(fields);
    fields = json("{\"password\":\"p\"}");
    client_profile_check(fields, &faults);
    ck_assert_uint_eq(faults.count, 1);
    ck_assert_str_eq(faults.items[0].pointer, "/url");
    json_decref(fields);
}
END_TEST

START_TEST(a_certificate_is_held_once) {
    struct client_config *configs[3];
    struct client_faults faults;
    know("site", 7, "{\"url\":\"mqtts://h\",\"tls\":{\"ca\":\"-----BEGIN CERTIFICATE-----\"}}");
    for (int i = 0; i < 3; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"id\":\"c%d\",\"profile\":\"site\"}", i);
        ck_assert_int_eq(parse(text, CLIENT_FROM_STORE, &configs[i], &faults), ERR_OK);
        ck_assert_ptr_eq(configs[i]->tls->ca, configs[0]->tls->ca);
    }
    ck_assert_uint_eq(shared_text_count(), 1);
    for (int i = 0; i < 3; i++) {
        client_config_destroy(configs[i]);
    }
    ck_assert_uint_eq(shared_text_count(), 0);
}
END_TEST

START_TEST(removed_filters_are_remembered) {
    json_t *before = json("{\"subscriptions\":[\"a\",{\"filter\":\"b\"}],\"sub_topic\":\"c\","
                          "\"retired_filters\":[\"z\",\"n\"]}");
    json_t *fields = json("{\"subscriptions\":[\"b\",\"n\"]}");
    ck_assert_int_eq(client_profile_retire(fields, before), ERR_OK);
    json_t *retired = json_object_get(fields, "retired_filters"),
           *wanted = json("[\"z\",\"c\",\"a\"]");
    ck_assert_msg(json_equal(retired, wanted), "%s", json_dumps(retired, 0));
    json_decref(wanted);
    json_decref(before);
    json_decref(fields);
}
END_TEST

/* ---- the table ------------------------------------------------------------------------------- */

static int64_t known(const char *name) {
    struct client_profile *profile = client_profiles_find(name);
    int64_t version = profile ? profile->version : 0;
    client_profile_release(profile);
    return version;
}

START_TEST(an_older_version_does_not_replace_a_newer_one) {
    know("b", 5, "{}");
    struct client_profile *held = client_profiles_find("b");
    know("b", 4, "{}");
    ck_assert(known("b") == 5 && !atomic_load(&held->outdated));
    uint64_t generation = client_profiles_generation();
    know("b", 5, "{}");
    ck_assert_uint_eq(client_profiles_generation(), generation);
    know("b", 6, "{}");
    ck_assert(known("b") == 6 && atomic_load(&held->outdated) && held->version == 5);
    ck_assert_uint_gt(client_profiles_generation(), generation);
    ck_assert_int_eq(client_profiles_put(&(struct client_profile_row){"b", "[]", 7}, false),
                     ERR_ARGUMENT);
    ck_assert_int_eq(known("b"), 6);
    client_profile_release(held);
}
END_TEST

START_TEST(a_list_removes_what_is_gone_and_keeps_what_is_newer) {
    for (int i = 0; i < 200; i++) {
        char name[8];
        snprintf(name, sizeof name, "p%d", i);
        know(name, 10 + i, "{}");
    }
    const struct client_profile_row rows[] = {{"p7", "{}", 300}, {"a", "{}", 301}};
    ck_assert_int_eq(client_profiles_apply(rows, 2, 150, false), ERR_OK);
    ck_assert(known("p7") == 300 && known("a") == 301 && known("p0") == 0 && known("p140") == 0);
    ck_assert_int_eq(known("p141"), 151); /* created after the list was read */
    ck_assert_int_eq(
        client_profiles_apply(&(struct client_profile_row){"p7", "{}", 9}, 1, 20, true), ERR_OK);
    ck_assert(known("p7") == 9 && known("p141") == 0); /* Redis went back */
    client_profiles_remove("p7", 8);
    ck_assert_int_eq(known("p7"), 9);
    client_profiles_remove("p7", 9);
    ck_assert_int_eq(known("p7"), 0);
}
END_TEST

START_TEST(clients_of_a_lost_profile_wait_for_the_next_one) {
    know("b", 5, "{}");
    struct client_profile *held = client_profiles_find("b");
    ck_assert_int_eq(client_profiles_apply(NULL, 0, 3, true), ERR_OK); /* Redis went back */
    ck_assert(known("b") == 0 && !client_profiles_is_outdated(held));
    know("b", 7, "{}");
    ck_assert(client_profiles_is_outdated(held));
    client_profile_release(held);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_profile");
    TCase *usual = tcase_create("usual");
    tcase_add_checked_fixture(usual, NULL, forget);
    tcase_add_loop_test(usual, own_fields_replace_those_of_the_profile, 0,
                        sizeof merges / sizeof merges[0]);
    tcase_add_test(usual, a_configuration_has_the_fields_of_its_profile);
    tcase_add_loop_test(usual, a_client_that_does_not_fit_its_profile_is_refused, 0,
                        sizeof refused / sizeof refused[0]);
    tcase_add_test(usual, an_own_password_may_go_to_an_own_broker);
    tcase_add_test(usual, a_profile_holds_nothing_of_a_single_client);
    tcase_add_test(usual, a_certificate_is_held_once);
    tcase_add_test(usual, removed_filters_are_remembered);
    tcase_add_test(usual, an_older_version_does_not_replace_a_newer_one);
    tcase_add_test(usual, a_list_removes_what_is_gone_and_keeps_what_is_newer);
    tcase_add_test(usual, clients_of_a_lost_profile_wait_for_the_next_one);
    suite_add_tcase(suite, usual);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
