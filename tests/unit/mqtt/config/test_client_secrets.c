/* Tests of mqtt/config/client_secrets: which fields are encrypted, and how. */
#include "mqtt/config/client_secrets.h"

#include <unistd.h>
#include "mqtt/client_config_fixture.h"

#define FULL                                                                                       \
    "{" BASE ",'username':'u','password':'hunter2','tls':{'cert':'/c','key':'" PEM_KEY "'}}"

static struct secret_box *box_of(const char *keys) {
    char path[] = "/tmp/mqfleet-keys-XXXXXX", fault[SECRET_BOX_FAULT_LEN] = "";
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, keys, strlen(keys)), (ssize_t)strlen(keys));
    close(fd);
    struct secret_box *box = secret_box_create();
    ck_assert_msg(secret_box_load(box, path, fault) == ERR_OK, "%s", fault);
    unlink(path);
    return box;
}

#define K1 "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
#define K2 "k2:8PHy8/T19vf4+fr7/P3+//Dx8vP09fb3+Pn6+/z9/v8=\n"

static json_t *sealed_of(const char *text, struct secret_box *box) {
    json_t *document = json_of(text);
    faults.count = 0;
    ck_assert_int_eq(client_secrets_seal(document, "c", box, NULL, &faults), ERR_OK);
    return document;
}

static struct client_config *config_from(json_t *document) {
    struct client_config *config = NULL;
    char *text = client_config_canonical(document);
    ck_assert_msg(client_config_parse_text(text, strlen(text), "c", &config, &faults) == ERR_OK,
                  "%s: %s", text, faults.items[0].detail);
    free(text);
    return config;
}

START_TEST(secrets_are_encrypted_in_the_document_and_whole_in_the_opened_configuration) {
    struct secret_box *box = box_of(K1);
    json_t *document = sealed_of(FULL, box);
    char *text = client_config_canonical(document);
    char fault[CLIENT_SECRETS_FAULT_LEN];
    ck_assert_ptr_null(strstr(text, "hunter2"));
    struct client_config *config = config_from(document);
    ck_assert_int_eq(client_secrets_open(config, box, fault), ERR_OK);
    ck_assert_str_eq(config->password, "hunter2");
    ck_assert_ptr_nonnull(strstr(config->tls->key, "BEGIN PRIVATE KEY"));
    ck_assert_ptr_null(strstr(config->source, "hunter2")); /* may be written to Redis */
    client_config_destroy(config);
    json_t *shown = client_config_redacted(document);
    ck_assert_str_eq(json_string_value(json_object_get(shown, "password")), "***");
    json_decref(shown);
    free(text);
    json_decref(document);
    secret_box_destroy(box);
}
END_TEST

#define URL(query) "{'url':'wss://h:1/mqtt" query "'}"

/* Brokers accept tokens there, and signed URLs consist of them. */
START_TEST(the_query_of_a_url_is_a_secret) {
    struct secret_box *box = box_of(K1);
    char fault[CLIENT_SECRETS_FAULT_LEN];
    static const char *const spellings[] = {URL("?token=hunter2"),
                                            "{'broker':'ws://h/mqtt?token=hunter2'}"};
    for (size_t i = 0; i < COUNT(spellings); i++) {
        const char *name = i == 0 ? "url" : "broker";
        json_t *plain = json_of(spellings[i]), *document = sealed_of(spellings[i], box);
        const char *stored = json_string_value(json_object_get(document, name));
        ck_assert_msg(strstr(stored, "/mqtt?enc:v1:") != NULL, "%s", stored);
        struct client_config *config = config_from(document);
        ck_assert_int_eq(client_secrets_open(config, box, fault), ERR_OK);
        ck_assert_str_eq(config->path, "/mqtt?token=hunter2");
        ck_assert_ptr_null(strstr(config->source, "hunter2"));
        struct client_config *read = NULL;
        ck_assert_int_eq(client_secrets_read(config, &(struct conf){0}, &read, fault), ERR_OK);
        ck_assert_str_eq(read->path, "/mqtt?token=hunter2");
        client_config_destroy(read);
        client_config_destroy(config);

        json_t *shown = client_config_redacted(document);
        ck_assert_str_eq(json_string_value(json_object_get(shown, name)),
                         i == 0 ? "wss://h:1/mqtt?***" : "ws://h/mqtt?***");
        json_t *shown_plain = client_config_redacted(plain);
        ck_assert(json_equal(shown, shown_plain));
        client_config_keep_secrets(shown, document); /* read, and written back */
        ck_assert(json_equal(shown, document));
        client_secrets_open_document(document, "c", box);
        ck_assert(json_equal(document, plain));
        json_decref(shown_plain);
        json_decref(shown);
        json_decref(document);
        json_decref(plain);
    }
    secret_box_destroy(box);
}
END_TEST

START_TEST(a_masked_query_of_another_url_is_a_fault) {
    struct client_config *config = NULL;
    json_t *stored = json_of(URL("?token=hunter2")), *given = json_of("{'url':'wss://x/mqtt?***'}");
    client_config_keep_secrets(given, stored);
    faults.count = 0;
    ck_assert_int_eq(client_config_parse(given, CLIENT_FROM_API, "c", &config, &faults),
                     ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(faults.items[0].detail, "must have its query"));
    json_decref(given);
    json_decref(stored);
}
END_TEST

START_TEST(a_url_too_long_to_be_encrypted_is_a_fault) {
    struct secret_box *box = box_of(K1);
    char query[4000];
    memset(query, 'x', sizeof(query) - 1);
    query[sizeof(query) - 1] = '\0';
    json_t *document = json_pack("{s:o}", "url", json_sprintf("ws://h/?%s", query));
    faults.count = 0;
    ck_assert_int_eq(client_secrets_seal(document, "c", box, NULL, &faults), ERR_ARGUMENT);
    ck_assert_int_eq(faults.count, 1);
    ck_assert_str_eq(faults.items[0].pointer, "/url");
    json_decref(document);
    secret_box_destroy(box);
}
END_TEST

START_TEST(paths_empty_words_and_references_stay_as_they_are) {
    struct secret_box *box = box_of(K1);
    static const char *const same[] = {
        "{" BASE ",'username':'u','password':''}",
        "{" BASE ",'username':'u','password':{'file':'/run/word'}}",
        "{" BASE ",'username':'u','password':{'env':'WORD'},'tls':{'cert':'/c','key':'/k'}}"};
    for (size_t i = 0; i < COUNT(same); i++) {
        json_t *given = json_of(same[i]);
        json_t *document = sealed_of(same[i], box);
        ck_assert(json_equal(given, document));
        client_config_destroy(config_from(document));
        json_t *shown = client_config_redacted(document);
        ck_assert_int_eq(json_is_object(json_object_get(shown, "password")), i > 0);
        json_decref(shown);
        json_decref(document);
        json_decref(given);
    }
    secret_box_destroy(box);
}
END_TEST

START_TEST(another_key_encrypts_anew_and_documents_compare_equal) {
    struct secret_box *old = box_of(K1), *both = box_of(K2 K1), *other = box_of(K2);
    json_t *document = sealed_of(FULL, old);
    json_t *before = json_deep_copy(document);
    char fault[CLIENT_SECRETS_FAULT_LEN];
    bool changed = false;
    ck_assert_int_eq(client_secrets_seal(document, "c", both, &changed, &faults), ERR_OK);
    ck_assert(changed && !json_equal(before, document));
    ck_assert_int_eq(client_secrets_seal(document, "c", both, &changed, &faults), ERR_OK);
    ck_assert(!changed);
    struct client_config *config = config_from(before);
    ck_assert_int_eq(client_secrets_open(config, other, fault), ERR_ARGUMENT);
    ck_assert_msg(strstr(fault, "/password") && strstr(fault, "k1"), "%s", fault);
    client_config_destroy(config);
    ck_assert_int_eq(client_secrets_seal(before, "c", other, &changed, &faults), ERR_ARGUMENT);
    ck_assert_str_eq(fault_pointers(), "/password /tls/key");
    client_secrets_open_document(document, "c", both);
    client_secrets_open_document(before, "c", both);
    ck_assert(json_equal(before, document));
    json_decref(before);
    json_decref(document);
    secret_box_destroy(old);
    secret_box_destroy(both);
    secret_box_destroy(other);
}
END_TEST

START_TEST(references_of_another_form_are_faults) {
    static const char *const bad[] = {
        "{'file':'relative'}", "{'file':'/a/../b'}",         "{'file':7}",    "{'env':'A B'}",
        "{'env':''}",          "{'file':'/a','env':'WORD'}", "{'vault':'x'}", "{}"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        char text[512];
        struct client_config *config;
        snprintf(text, sizeof(text), "{" BASE ",'username':'u','password':%s}", bad[i]);
        ck_assert_int_eq(parse(text, CLIENT_FROM_API, NULL, &config), ERR_ARGUMENT);
        ck_assert_str_eq(fault_pointers(), "/password");
    }
}
END_TEST

START_TEST(a_secret_is_read_when_asked_for) {
    struct conf conf = {.secrets_files_allow = (char *)"",
                        .secrets_env_prefix = (char *)"WORD_",
                        .secrets_key_file = (char *)""};
    json_t *document = json_of("{" BASE ",'username':'u','password':{'env':'WORD_A'}}");
    struct client_config *config = config_from(document), *read;
    char fault[CLIENT_SECRETS_FAULT_LEN];
    ck_assert(client_secrets_on_other_node(config));
    unsetenv("WORD_A");
    ck_assert_int_ne(client_secrets_read(config, &conf, &read, fault), ERR_OK);
    ck_assert_msg(strstr(fault, "/password") && strstr(fault, "WORD_A"), "%s", fault);
    setenv("WORD_A", "one", 1);
    ck_assert_int_eq(client_secrets_read(config, &conf, &read, fault), ERR_OK);
    ck_assert_str_eq(read->password, "one");
    ck_assert_ptr_null(config->password);
    client_config_destroy(read);
    faults.count = 0;
    conf.secrets_env_prefix = (char *)"";
    client_secrets_check(config, &conf, &faults);
    ck_assert_str_eq(fault_pointers(), "/password");
    client_config_destroy(config);
    json_decref(document);
}
END_TEST

int main(void) {
    static const TTest *const *tests;
    const TTest *const all[] = {
        secrets_are_encrypted_in_the_document_and_whole_in_the_opened_configuration,
        the_query_of_a_url_is_a_secret,
        a_masked_query_of_another_url_is_a_fault,
        a_url_too_long_to_be_encrypted_is_a_fault,
        paths_empty_words_and_references_stay_as_they_are,
        another_key_encrypts_anew_and_documents_compare_equal,
        references_of_another_form_are_faults,
        a_secret_is_read_when_asked_for,
    };
    tests = all;
    return run_suite("client_secrets", tests, COUNT(all));
}
