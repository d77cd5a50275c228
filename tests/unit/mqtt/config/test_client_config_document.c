/* Tests of mqtt/config/client_config: what is stored, shown and kept. */
#include "mqtt/client_config_fixture.h"

START_TEST(canonical_text_is_equal_for_equal_documents) {
    json_t *a = json_of("{ 'b' : 1, 'a' : { 'y' : [1, 2], 'x' : '\\u00e4' } }");
    json_t *b = json_of("{'a':{'x':'\xC3\xA4','y':[1,2]},'b':1}");
    char *text_a = client_config_canonical(a);
    char *text_b = client_config_canonical(b);
    ck_assert_str_eq(text_a, text_b);
    ck_assert_str_eq(text_a, "{\"a\":{\"x\":\"\xC3\xA4\",\"y\":[1,2]},\"b\":1}");
    free(text_a);
    free(text_b);
    json_decref(a);
    json_decref(b);
}
END_TEST

static const char *const REDACTIONS[][2] = {
    {"{'password':'p','username':'u'}", "{'password':'***','username':'u'}"},
    {"{'password':7}", "{'password':'***'}"},
    {"{'password':null}", "{'password':null}"},
    {"{'password':{'x':'p'}}", "{'password':'***'}"},
    {"{'tls':{'key':'" PEM_KEY "','cert':'c','ca':'/ca'}}",
     "{'tls':{'key':'***','cert':'c','ca':'/ca'}}"},
    {"{'tls':{'key':'/etc/key.pem'}}", "{'tls':{'key':'/etc/key.pem'}}"},
    {"{'tls':{'key':'MIGHAgEAMBMGBy'}}", "{'tls':{'key':'***'}}"},
    {"{'tls':{'key':['" PEM_KEY "']}}", "{'tls':{'key':'***'}}"},
    {"{'tls':'" PEM_KEY "'}", "{'tls':'***'}"},
    {"{'tls':[{'key':'x'}]}", "{'tls':'***'}"},
    {"{'url':'mqtt://u:p@h/x'}", "{'url':'***@h/x'}"},
    {"{'url':'mqtt://u:p/q@h'}", "{'url':'***@h'}"},
    {"{'broker':'u:p@q@h'}", "{'broker':'***@h'}"},
    {"{'url':'ws://h/a@b'}", "{'url':'ws://h/a@b'}"},
    {"{'url':'mqtt://h:1'}", "{'url':'mqtt://h:1'}"},
    {"{'broker':{'p':'p'}}", "{'broker':'***'}"},
    {"{'will':{'topic':'a','payload':'x'},'labels':{'a':'b'}}",
     "{'will':{'topic':'a','payload':'x'},'labels':{'a':'b'}}"},
    {"{'subscriptions':['a',{'filter':'b'}],'user_properties':{'a':'b'}}",
     "{'subscriptions':['a',{'filter':'b'}],'user_properties':{'a':'b'}}"},
    {"{'retired_filters':['a'],'id':'c'}", "{'id':'c'}"},
    {"{'passwd':'p','id':'c'}", "{'passwd':'***','id':'c'}"},
    {"'p'", "'***'"},
};

START_TEST(redacted_copy_shows_no_secret_and_all_else) {
    for (size_t i = 0; i < COUNT(REDACTIONS); i++) {
        json_t *document = json_of(REDACTIONS[i][0]);
        json_t *before = json_deep_copy(document);
        json_t *expected = json_of(REDACTIONS[i][1]);
        json_t *shown = client_config_redacted(document);
        char *text = client_config_canonical(shown);
        ck_assert_msg(json_equal(shown, expected), "%s became %s", REDACTIONS[i][0], text);
        ck_assert(json_equal(document, before));
        free(text);
        json_decref(document);
        json_decref(before);
        json_decref(expected);
        json_decref(shown);
    }
}
END_TEST

START_TEST(what_was_read_can_be_written_back) {
    static const char *const rows[][3] = {
        /* document, stored, document after */
        {"{'password':'***'}", "{'password':'p'}", "{'password':'p'}"},
        {"{'password':'new'}", "{'password':'p'}", "{'password':'new'}"},
        {"{}", "{'password':'p'}", "{}"},
        {"{'password':'***'}", "{}", "{'password':'***'}"},
        {"{'username':'***'}", "{'username':'u'}", "{'username':'***'}"},
        {"{'tls':{'key':'***'}}", "{'tls':{'key':'k'}}", "{'tls':{'key':'k'}}"},
        {"{'tls':{'key':'***'}}", "{'tls':null}", "{'tls':{'key':'***'}}"},
        {"{'tls':7}", "{'tls':{'key':'k'}}", "{'tls':7}"},
        /* not to another broker */
        {"{'url':'mqtts://h:9','password':'***'}", "{'broker':'h','password':'p'}",
         "{'url':'mqtts://h:9','password':'p'}"},
        {"{'broker':'i','password':'***'}", "{'broker':'h','password':'p'}",
         "{'broker':'i','password':'***'}"},
        {"{'url':'mqtt://h','password':'***'}", "{'url':'mqtts://h','password':'p'}",
         "{'url':'mqtt://h','password':'***'}"},
        {"{'urls':['ws://b','ws://a'],'websocket':{'headers':{'x':'***'}}}",
         "{'urls':['ws://a','ws://b','ws://c'],'websocket':{'headers':{'x':'p'}}}",
         "{'urls':['ws://b','ws://a'],'websocket':{'headers':{'x':'p'}}}"},
        {"{'urls':['ws://a','ws://d'],'websocket':{'headers':{'x':'***'}}}",
         "{'urls':['ws://a','ws://b'],'websocket':{'headers':{'x':'p'}}}",
         "{'urls':['ws://a','ws://d'],'websocket':{'headers':{'x':'***'}}}"},
        {"{'broker':'i','tls':{'key':'***'}}", "{'broker':'h','tls':{'key':'k'}}",
         "{'broker':'i','tls':{'key':'k'}}"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        json_t *document = json_of(rows[i][0]);
        json_t *stored = json_of(rows[i][1]);
        json_t *expected = json_of(rows[i][2]);
        client_config_keep_secrets(document, stored);
        ck_assert_msg(json_equal(document, expected), "%s", rows[i][0]);
        json_decref(document);
        json_decref(stored);
        json_decref(expected);
    }
}
END_TEST

/* The retired_filters of an update, as JSON; "" for none. */
static void expect_retired(const char *document_text, const char *stored_text,
                           const char *expected) {
    struct client_config *config;
    struct client_config *stored;
    json_t *document = json_of(document_text);
    ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_STORE, "h", &config, &faults),
                     ERR_OK);
    ck_assert_int_eq(parse_text(stored_text, &stored), ERR_OK);
    ck_assert_int_eq(client_config_retire(document, config, stored), ERR_OK);
    json_t *retired = json_object_get(document, "retired_filters");
    json_t *wanted = expected[0] == '\0' ? NULL : json_of(expected);
    ck_assert_msg(!wanted ? !retired : json_equal(retired, wanted), "%s to %s", stored_text,
                  document_text);
    json_decref(wanted);
    json_decref(document);
    client_config_destroy(config);
    client_config_destroy(stored);
}

START_TEST(update_retires_the_filters_it_no_longer_has) {
    expect_retired("{'broker':'h','sub_topic':'b'}", "{'broker':'h','subscriptions':['a','b']}",
                   "['a']");
    expect_retired("{'broker':'h','sub_topic':'b'}",
                   "{'broker':'h','sub_topic':'a','retired_filters':['x','b','a','y']}",
                   "['x','a','y']");
    expect_retired("{'broker':'h','sub_topic':'a','retired_filters':['z']}",
                   "{'broker':'h','sub_topic':'a'}", "");
}
END_TEST

START_TEST(only_the_newest_hundred_filters_stay_retired) {
    struct client_config *config;
    struct client_config *stored;
    json_t *document = json_of("{'broker':'h'}");
    json_t *old = json_of("{'broker':'h','retired_filters':['r'],'subscriptions':[]}");
    for (int i = 0; i < 100; i++) {
        json_array_append_new(json_object_get(old, "subscriptions"), json_sprintf("t%d", i));
    }
    ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, "h", &config, &faults), ERR_OK);
    ck_assert_int_eq(client_config_parse(old, CLIENT_FROM_STORE, "h", &stored, &faults), ERR_OK);
    ck_assert_int_eq(client_config_retire(document, config, stored), ERR_OK);
    json_t *retired = json_object_get(document, "retired_filters");
    ck_assert_uint_eq(json_array_size(retired), 100);
    ck_assert_str_eq(json_string_value(json_array_get(retired, 0)), "t0");
    json_decref(document);
    json_decref(old);
    client_config_destroy(config);
    client_config_destroy(stored);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {
        canonical_text_is_equal_for_equal_documents,
        redacted_copy_shows_no_secret_and_all_else,
        what_was_read_can_be_written_back,
        update_retires_the_filters_it_no_longer_has,
        only_the_newest_hundred_filters_stay_retired,
    };
    return run_suite("client_config_document", tests, COUNT(tests));
}
