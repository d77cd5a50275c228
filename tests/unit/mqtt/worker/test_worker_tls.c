/* A worker with encrypted connections to a real mosquitto. */
#include "worker_trouble_fixture.h"

static void make_certificates(void) {
    const char *d = broker.folder;
    fixture_run("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt "
                "-subj /CN=test-ca -days 2 2>/dev/null",
                d);
    fixture_run("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout bad.key -out bad.crt "
                "-subj /CN=other-ca -days 2 2>/dev/null",
                d);
    fixture_run("cd %s && openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr "
                "-subj /CN=localhost 2>/dev/null && printf 'subjectAltName=DNS:localhost,"
                "DNS:broker.test' > ext && openssl x509 -req -in server.csr -CA ca.crt -CAkey "
                "ca.key -CAcreateserial -out server.crt -days 2 -extfile ext 2>/dev/null",
                d);
    fixture_run("cd %s && openssl req -newkey rsa:2048 -nodes -keyout client.key -out client.csr "
                "-subj /CN=client 2>/dev/null && openssl x509 -req -in client.csr -CA ca.crt "
                "-CAkey ca.key -CAcreateserial -out client.crt -days 2 2>/dev/null",
                d);
}

static void run_tls_broker(bool want_client_certificate) {
    char extra[512];
    const char *d = broker.folder;
    snprintf(extra, sizeof(extra),
             "allow_anonymous true\ncafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile "
             "%s/server.key\nrequire_certificate %s\n",
             d, d, d, want_client_certificate ? "true" : "false");
    make_certificates();
    run_broker_with(extra);
}

/* The PEM text as a JSON string. */
static char *pem(const char *name) {
    char path[128];
    char *text = calloc(1, 16384), *at = text;
    snprintf(path, sizeof(path), "%s/%s", broker.folder, name);
    FILE *file = fopen(path, "r");
    for (int c; (c = fgetc(file)) != EOF;) {
        if (c == '\n') {
            *at++ = '\\';
            c = 'n';
        }
        *at++ = (char)c;
    }
    fclose(file);
    return text;
}

static void start_tls(const char *id, const char *host, const char *tls_fields, int64_t version) {
    char *text = malloc(65536);
    snprintf(text, 65536, "{\"id\":\"%s\",\"url\":\"mqtts://%s:%d\",%s,\"tls\":{%s}}", id, host,
             broker.port, SUB_ALL, tls_fields);
    fixture_start(f, fixture_config(text), version);
    free(text);
}

START_TEST(tls_verifies_the_broker) {
    char fields[20000];
    run_tls_broker(false);
    free(f->conf->secrets_files_allow);
    f->conf->secrets_files_allow = strdup(broker.folder);
    char *ca = pem("ca.crt"), *bad = pem("bad.crt");
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\"", ca);
    start_tls("inline", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "inline") == CLIENT_ONLINE);
    snprintf(fields, sizeof(fields), "\"ca\":\"%s/ca.crt\"", broker.folder);
    start_tls("path", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "path") == CLIENT_ONLINE);
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\"", bad);
    start_tls("wrong-ca", "localhost", fields, 1);
    EVENTUALLY(fixture_error_is(f, "wrong-ca", "tls_failed"));
    struct client_status status;
    ck_assert_int_eq(workers_status(f->workers, "wrong-ca", &status), ERR_OK);
    ck_assert_msg(strstr(status.error_message, "certificate") != NULL, "%s", status.error_message);
    client_status_fini(&status);
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\"", ca);
    start_tls("wrong-name", "127.0.0.1", fields, 1);
    EVENTUALLY(fixture_error_is(f, "wrong-name", "tls_failed"));
    snprintf(fields, sizeof(fields), "\"ca\":\"%s\",\"server_name\":\"broker.test\"", ca);
    start_tls("server-name", "127.0.0.1", fields, 1);
    EVENTUALLY(fixture_state(f, "server-name") == CLIENT_ONLINE);
    start_tls("insecure", "127.0.0.1", "\"insecure\":true", 1);
    EVENTUALLY(fixture_state(f, "insecure") == CLIENT_ONLINE);
    fixture_run("mosquitto_pub --cafile %s/ca.crt -h localhost -p %d -t t/x -q 1 -m tls",
                broker.folder, broker.port);
    EVENTUALLY(fixture_kept_count(f) == 4);
    free(ca);
    free(bad);
}
END_TEST

/* With an RSA key exchange OpenSSL would take it at the security level that Paho sets. */
START_TEST(tls_older_than_1_2_is_refused) {
    static const char *const protocols[] = {"-tls1_1", "-tls1_2"};
    char port[16], text[256];
    run_tls_broker(false); /* for its certificate */
    broker_stop(&broker);
    snprintf(port, sizeof(port), "%d", broker.port);
    snprintf(text, sizeof(text), "%s/server.crt", broker.folder);
    char key[256];
    snprintf(key, sizeof(key), "%s/server.key", broker.folder);
    char *const argv[] = {"openssl",
                          "s_server",
                          "-accept",
                          port,
                          "-cert",
                          text,
                          "-key",
                          key,
                          (char *)(uintptr_t)protocols[_i],
                          "-cipher",
                          "AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0",
                          "-www",
                          NULL};
    broker.pid = fixture_spawn(broker.folder, argv);
    start_tls("a", "localhost", "\"insecure\":true", 1);
    EVENTUALLY(fixture_error_is(f, "a", _i == 0 ? "tls_failed" : "connect_timeout"));
}
END_TEST

START_TEST(tls_shows_its_own_certificate_when_asked) {
    char *fields = malloc(65536);
    run_tls_broker(true);
    char *ca = pem("ca.crt"), *cert = pem("client.crt"), *key = pem("client.key");
    snprintf(fields, 65536, "\"ca\":\"%s\"", ca);
    start_tls("none", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "none") == CLIENT_BACKOFF);
    snprintf(fields, 65536, "\"ca\":\"%s\",\"cert\":\"%s\",\"key\":\"%s\"", ca, cert, key);
    start_tls("with", "localhost", fields, 1);
    EVENTUALLY(fixture_state(f, "with") == CLIENT_ONLINE);
    free(ca);
    free(cert);
    free(key);
    free(fields);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("worker_tls");
    const struct trouble_test tls[] = {
        {tls_verifies_the_broker, 1},
        {tls_older_than_1_2_is_refused, 2},
        {tls_shows_its_own_certificate_when_asked, 1},
    };
    add_tests(suite, "tls", setup, tls, sizeof tls / sizeof *tls);
    return run_suite(suite);
}
