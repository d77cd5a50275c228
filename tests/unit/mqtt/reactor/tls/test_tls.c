/* TLS: shared and renewed contexts, unusable material, untrusted certificates, resumed sessions;
 * with mosquitto and openssl s_server. */
#include <check.h>
#include <malloc.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include "mqtt/stream_fixture.h"

static struct fixture_broker broker;
static int tls_port, mutual_port;
static struct identity authority, server, client_identity, other_authority, stranger;
static struct identity expired, future, misnamed, by_stranger;
static struct tls_contexts *contexts;
static struct client client;

/* ---- fixture ---- */

static void environment_setup(void) {
    char extra[2048];
    signal(SIGPIPE, SIG_IGN);
    broker_prepare(&broker);
    tls_port = fixture_free_port();
    mutual_port = fixture_free_port();
    authority = identity_make(broker.folder, "ca", NULL, NULL, -DAY_S, 90 * DAY_S);
    other_authority = identity_make(broker.folder, "other-ca", NULL, NULL, -DAY_S, 90 * DAY_S);
    server = identity_make(broker.folder, "server", &authority, "DNS:localhost,IP:127.0.0.1",
                           -DAY_S, 30 * DAY_S);
    client_identity = identity_make(broker.folder, "client", &authority, NULL, -DAY_S, DAY_S);
    stranger = identity_make(broker.folder, "stranger", &other_authority, NULL, -DAY_S, DAY_S);
    expired = identity_make(broker.folder, "expired", &authority, "DNS:localhost", -9 * DAY_S,
                            -2 * DAY_S);
    future = identity_make(broker.folder, "future", &authority, "DNS:localhost", DAY_S, 9 * DAY_S);
    misnamed = identity_make(broker.folder, "misnamed", &authority, "DNS:elsewhere.example", -DAY_S,
                             DAY_S);
    by_stranger = identity_make(broker.folder, "by-stranger", &other_authority, "DNS:localhost",
                                -DAY_S, DAY_S);
    snprintf(extra, sizeof(extra),
             "allow_anonymous true\n"
             "listener %d 127.0.0.1\ncertfile %s\nkeyfile %s\n"
             "listener %d 127.0.0.1\ncertfile %s\nkeyfile %s\ncafile %s\n"
             "require_certificate true\n",
             tls_port, server.cert, server.key, mutual_port, server.cert, server.key,
             authority.cert);
    broker_configure(&broker, extra);
    broker_run(&broker);
}

static void environment_teardown(void) {
    struct identity *all[] = {&authority, &server, &client_identity, &other_authority, &stranger,
                              &expired,   &future, &misnamed,        &by_stranger};
    for (size_t i = 0; i < COUNT(all); i++) {
        identity_free(all[i]);
    }
    broker_end(&broker);
}

static void setup(void) {
    static struct conf conf;
    conf.secrets_files_allow = broker.folder;
    contexts = tls_contexts_create(&conf);
    ck_assert_ptr_nonnull(contexts);
    client_init(&client, SCHEME_MQTTS, tls_port);
    client.config.tls->ca = authority.cert;
}

static void teardown(void) {
    client_close(&client);
    tls_contexts_destroy(contexts);
}

static char *read_text(const char *path) {
    static char text[4][8192];
    static int turn;
    char *into = text[turn++ % 4];
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    into[fread(into, 1, sizeof(text[0]) - 1, file)] = '\0';
    fclose(file);
    return into;
}

static const char *write_text(const char *name, const char *text) {
    static char path[4][128];
    static int turn;
    char *into = path[turn++ % 4];
    snprintf(into, sizeof(path[0]), "%s/%s", broker.folder, name);
    FILE *file = fopen(into, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    return into;
}

static void assert_fault(const char *code, const char *says) {
    ck_assert_str_eq(client_error_code(client.fault.error), code);
    ck_assert_msg(strstr(client.fault.message, says) != NULL, "%s", client.fault.message);
}

/* ---- successful connections ---- */

START_TEST(a_broker_with_the_right_certificate_is_talked_to) {
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert(client_greets(&client));
    int64_t expires_at_s = stream_certificate_expires_at_s(&client.stream);
    int64_t expected_s = (int64_t)time(NULL) + 30 * DAY_S;
    ck_assert_int_le(expires_at_s, expected_s);
    ck_assert_int_gt(expires_at_s, expected_s - 600);
}
END_TEST

static const struct name_case {
    const char *host, *server_name;
    enum err result;
    const char *sni; /* NULL: none */
} name_cases[] = {
    {"localhost", NULL, ERR_OK, "localhost"},
    {"localhost.", NULL, ERR_OK, "localhost"},
    {"127.0.0.1", NULL, ERR_OK, NULL},
    {"10.0.0.1", "localhost", ERR_OK, "localhost"},
    {"anything", "127.0.0.1", ERR_OK, NULL},
    {"127.0.0.2", NULL, ERR_IO, NULL},
    {"::1", NULL, ERR_IO, NULL},
    {"elsewhere.example", NULL, ERR_IO, "elsewhere.example"},
    {"localhost", "elsewhere.example", ERR_IO, "elsewhere.example"},
};

START_TEST(the_certificate_must_be_for_the_name_or_address) {
    const struct name_case *test = &name_cases[_i];
    client.config.host = (char *)test->host;
    client.config.tls->server_name = (char *)test->server_name;
    ck_assert_int_eq(client_connect(&client, contexts), test->result);
    const char *sni = SSL_get_servername(client.stream.tls, TLSEXT_NAMETYPE_host_name);
    ck_assert_int_eq(!sni, !test->sni);
    if (sni) {
        ck_assert_str_eq(sni, test->sni);
    }
    if (test->result != ERR_OK) {
        assert_fault("tls_failed", "not for the name");
        assert_fault("tls_failed", test->server_name ? test->server_name : test->host);
    }
}
END_TEST

START_TEST(a_client_certificate_is_shown_as_text_or_file) {
    client_init(&client, SCHEME_MQTTS, mutual_port);
    client.config.tls->ca = authority.cert;
    client.config.tls->cert = _i == 0 ? client_identity.cert : read_text(client_identity.cert);
    client.config.tls->key = _i == 0 ? client_identity.key : read_text(client_identity.key);
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert(client_greets(&client));
}
END_TEST

START_TEST(case_E1_the_leaf_itself_may_be_what_is_trusted) {
    client.config.tls->ca = _i == 0 ? server.cert : read_text(server.cert);
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert(client_greets(&client));
    client_close(&client);
    client.config.tls->server_name = "elsewhere.example";
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
    ck_assert_int_eq(client.fault.error, CLIENT_ERROR_TLS_NAME_MISMATCH);
}
END_TEST

START_TEST(insecure_takes_any_certificate_and_needs_no_authority) {
    client.config.tls->ca = _i == 0 ? NULL : "/nowhere";
    client.config.tls->insecure = true;
    client.config.host = "elsewhere.example";
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert(client_greets(&client));
}
END_TEST

START_TEST(without_an_authority_those_of_the_system_count) {
    client.config.tls->ca = NULL;
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
    assert_fault("tls_failed", "unknown CA");
    client_close(&client);
    setenv("SSL_CERT_FILE", authority.cert, 1); /* of this process, which the test has alone */
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert_uint_eq(tls_contexts_count(contexts), 2);
}
END_TEST

/* ---- failures ---- */

START_TEST(an_unknown_authority_is_named_as_the_reason) {
    client.config.tls->ca = other_authority.cert;
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
    assert_fault("tls_failed", "unknown CA");
}
END_TEST

START_TEST(a_broker_that_wants_a_client_certificate_is_understood) {
    client_init(&client, SCHEME_MQTTS, mutual_port);
    client.config.tls->ca = authority.cert;
    if (client_connect(&client, contexts) ==
        ERR_OK) { /* with TLS 1.3 the refusal arrives afterwards */
        ssize_t n = stream_write(&client.stream, (const uint8_t *)CONNECT_PACKET,
                                 sizeof(CONNECT_PACKET) - 1, &client.fault);
        ck_assert(n < 0 || client_fails(&client));
    }
    assert_fault("tls_failed", "requires a client certificate");
}
END_TEST

START_TEST(a_write_that_fails_tells_what_the_broker_said) {
    client_init(&client, SCHEME_MQTTS, mutual_port);
    client.config.tls->ca = authority.cert;
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ssize_t n = 0;
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    while (n >= 0 && fixture_now_ms() < until_ms) { /* never reads */
        n = stream_write(&client.stream, (const uint8_t *)CONNECT_PACKET,
                         sizeof(CONNECT_PACKET) - 1, &client.fault);
        usleep(1000);
    }
    assert_fault("tls_failed", "requires a client certificate");
}
END_TEST

/* A refusal of the certificate is an ordinary loss once the broker has accepted the client. */
START_TEST(an_alert_to_a_client_that_was_let_in_is_a_loss) {
    client_init(&client, SCHEME_MQTTS, mutual_port);
    client.config.tls->ca = authority.cert;
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    client.stream.established = true;
    ck_assert(client_fails(&client));
    assert_fault("connection_lost", "alert");
}
END_TEST

START_TEST(a_client_certificate_by_a_stranger_is_refused) {
    client_init(&client, SCHEME_MQTTS, mutual_port);
    *client.config.tls =
        (struct client_tls){.ca = authority.cert, .cert = stranger.cert, .key = stranger.key};
    if (client_connect(&client, contexts) == ERR_OK) {
        ck_assert(client_fails(&client));
    }
    assert_fault("tls_failed", "tls.cert");
}
END_TEST

START_TEST(a_port_for_plain_mqtt_is_told_from_one_for_tls) {
    client_init(&client, SCHEME_MQTTS, broker.port);
    client.config.tls->ca = authority.cert;
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
    assert_fault("connection_refused", "is the port for");
}
END_TEST

/* s_server with a certificate, on a port of its own. */
static pid_t start_server(const struct identity *identity, int port, const char *option) {
    char accept[32];
    snprintf(accept, sizeof(accept), "127.0.0.1:%d", port);
    char *const argv[] = {"openssl",
                          "s_server",
                          "-rev",
                          "-accept",
                          accept,
                          "-cert",
                          (char *)identity->cert,
                          "-key",
                          (char *)identity->key,
                          (char *)option,
                          NULL};
    pid_t pid = fixture_spawn(broker.folder, argv);
    EVENTUALLY(fixture_answers(port));
    return pid;
}

static const struct server_case {
    const struct identity *identity;
    const char *option;
    enum err result;
    const char *says;
} server_cases[] = {
    {&server, "-tls1_3", ERR_OK, ""},
    {&server, "-tls1_2", ERR_OK, ""},
    {&server, "-no_ticket", ERR_OK, ""},
    {&expired, NULL, ERR_IO, "has expired"},
    {&future, NULL, ERR_IO, "not valid yet"},
    {&misnamed, NULL, ERR_IO, "not for the name \"localhost\": it is for elsewhere.example"},
    {&client_identity, NULL, ERR_IO, "no subject alternative name, only the common name \""},
    {&by_stranger, NULL, ERR_IO, "unknown CA"},
    {&other_authority, NULL, ERR_IO, "self-signed"},
    {&server, "-tls1_1", ERR_IO, "1.2"},
};

START_TEST(certificates_and_versions_of_servers_are_judged) {
    const struct server_case *test = &server_cases[_i];
    client_init(&client, SCHEME_MQTTS, fixture_free_port());
    client.config.tls->ca = authority.cert;
    pid_t pid = start_server(test->identity, client.config.port, test->option);
    ck_assert_int_eq(client_connect(&client, contexts), test->result);
    if (test->result == ERR_OK) {
        uint8_t line[6];
        client_write_all(&client, "hello\n", 6);
        ck_assert_int_eq(client_read_all(&client, line, 6), 6);
        ck_assert_int_eq(memcmp(line, "olleh\n", 6), 0);
    } else {
        assert_fault("tls_failed", test->says);
    }
    client_close(&client);
    fixture_kill(&pid, SIGKILL);
}
END_TEST

START_TEST(an_alpn_name_that_the_broker_does_not_know_is_refused) {
    char *names[] = {"mqtt"};
    client_init(&client, SCHEME_MQTTS, fixture_free_port());
    *client.config.tls = (struct client_tls){.ca = authority.cert, .alpn = names, .alpn_count = 1};
    char accept[32];
    snprintf(accept, sizeof(accept), "127.0.0.1:%u", client.config.port);
    char *const argv[] = {"openssl",   "s_server", "-rev",     "-accept", accept,    "-cert",
                          server.cert, "-key",     server.key, "-alpn",   "x-other", NULL};
    pid_t pid = fixture_spawn(broker.folder, argv);
    EVENTUALLY(fixture_answers(client.config.port));
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
    assert_fault("tls_failed", "tls.alpn");
    fixture_kill(&pid, SIGKILL);
}
END_TEST

/* ---- material ---- */

enum which { CA, CERT, KEY };

static const struct material_case {
    enum which which;
    const char *text; /* a path below the folder if it begins with ./ */
    enum err result;
    const char *code, *says;
} material_cases[] = {
    {CA, "./missing", ERR_IO, "tls_file_unreadable",
     "tls.ca cannot be read: it does not exist, is outside"},
    {CA, "./pipe", ERR_IO, "tls_file_unreadable", "not a regular file"},
    {CA, "./folder", ERR_IO, "tls_file_unreadable", "not a regular file"},
    {CA, "./zero", ERR_IO, "tls_file_unreadable", "it does not exist, is outside"},
    {CA, "/dev/zero", ERR_IO, "tls_file_unreadable", "not below a folder of this node's secrets."},
    {CA, "/etc/shadow", ERR_IO, "tls_file_unreadable", "not below a folder of this node's secrets"},
    {CA, "/nowhere", ERR_IO, "tls_file_unreadable", "not below a folder of this node's secrets"},
    {CERT, "./zero", ERR_IO, "tls_file_unreadable", "it does not exist, is outside"},
    {KEY, "/proc/self/environ", ERR_IO, "tls_file_unreadable", "not below a folder of this node"},
    {CA, "./large", ERR_IO, "tls_file_unreadable", "4 MiB"},
    {CERT, "./missing", ERR_IO, "tls_file_unreadable", "tls.cert"},
    {KEY, "./pipe", ERR_IO, "tls_file_unreadable", "tls.key"},
    {CA, "./empty", ERR_ARGUMENT, "tls_failed", "contains no readable PEM certificates (/tmp/"},
    {CA, "./client.key", ERR_ARGUMENT, "tls_failed",
     "contains no readable PEM certificates (/tmp/"},
    {CA, "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", ERR_ARGUMENT,
     "tls_failed", "tls.ca"},
    {CA, "-----BEGIN CERTIFICATE-----\nQU", ERR_ARGUMENT, "tls_failed", "tls.ca"},
    {CERT, "./client.key", ERR_ARGUMENT, "tls_failed", "contains no usable PEM certificate (/tmp/"},
    {KEY, "./client.pem", ERR_ARGUMENT, "tls_failed",
     "contains no readable PEM private key (/tmp/"},
    {KEY, "./server.key", ERR_ARGUMENT, "tls_failed", "does not match tls.cert"},
    {KEY, "./rsa.key", ERR_ARGUMENT, "tls_failed", "does not match tls.cert"},
    {KEY, "./locked.key", ERR_ARGUMENT, "tls_failed", "passphrase"},
    {KEY, "./locked-old.key", ERR_ARGUMENT, "tls_failed", "passphrase"},
};

static void make_odd_files(void) {
    char path[128];
    write_text("empty", "");
    fixture_run("cd %s && rm -f pipe && mkfifo pipe && truncate -s 5M large && "
                "mkdir -p folder && ln -sf /dev/zero zero && "
                "openssl pkey -in client.key -aes256 -passout pass:secret -out locked.key && "
                "openssl ec -in client.key -aes256 -passout pass:secret -out locked-old.key "
                "2>/dev/null && openssl genrsa -out rsa.key 2048 2>/dev/null",
                broker.folder);
    snprintf(path, sizeof(path), "%s/locked-old.key", broker.folder);
    ck_assert_ptr_nonnull(strstr(read_text(path), "ENCRYPTED"));
}

START_TEST(material_that_cannot_be_used_is_named_and_nothing_is_kept) {
    const struct material_case *test = &material_cases[_i];
    char path[128];
    snprintf(path, sizeof(path), "%s%s", test->text[0] == '.' ? broker.folder : "",
             test->text[0] == '.' ? test->text + 1 : test->text);
    client.config.tls->cert = test->which != CA ? client_identity.cert : NULL;
    client.config.tls->key = test->which != CA ? client_identity.key : NULL;
    *(test->which == CA     ? &client.config.tls->ca
      : test->which == CERT ? &client.config.tls->cert
                            : &client.config.tls->key) = path;
    ck_assert_int_eq(client_open(&client, contexts), test->result);
    assert_fault(test->code, test->says);
    ck_assert_int_eq(client.stream.step, STREAM_CLOSED);
    ck_assert_uint_eq(tls_contexts_count(contexts), 0);
}
END_TEST

START_TEST(a_message_never_holds_the_text_of_a_key) {
    char *key = read_text(client_identity.key);
    char body[16];
    snprintf(body, sizeof(body), "%.12s", strchr(key, '\n') + 1);
    key[strlen(key) / 2] = '!';
    client.config.tls->cert = client_identity.cert;
    client.config.tls->key = key;
    ck_assert_int_eq(client_open(&client, contexts), ERR_ARGUMENT);
    assert_fault("tls_failed", "tls.key");
    ck_assert_ptr_null(strstr(client.fault.message, body));
}
END_TEST

/* ---- sharing ---- */

START_TEST(equal_settings_share_a_context_and_others_do_not) {
    static struct client clients[100];
    for (size_t i = 0; i < COUNT(clients); i++) {
        client_init(&clients[i], SCHEME_MQTTS, tls_port);
        clients[i].config.tls->ca = i % 2 ? authority.cert : read_text(authority.cert);
        clients[i].config.tls->insecure = i % 4 == 3;
        ck_assert_int_eq(client_open(&clients[i], contexts), ERR_OK);
    }
    ck_assert_uint_eq(tls_contexts_count(contexts), 3);
    for (size_t i = 0; i < COUNT(clients); i++) {
        stream_close(&clients[i].stream, i % 2 == 0);
    }
    ck_assert_uint_eq(tls_contexts_count(contexts), 3); /* kept for a reconnect */
}
END_TEST

START_TEST(a_certificate_that_was_rotated_is_read_anew) {
    char path[128];
    snprintf(path, sizeof(path), "%s/rotating.pem", broker.folder);
    write_text("rotating.pem", read_text(other_authority.cert));
    client.config.tls->ca = path;
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
    client_close(&client);
    write_text("rotating.new", read_text(authority.cert));
    fixture_run("mv %s/rotating.new %s", broker.folder, path);
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert_uint_eq(tls_contexts_count(contexts), 2);
}
END_TEST

START_TEST(contexts_that_nobody_uses_are_bounded) {
    static char names[200][16];
    for (size_t i = 0; i < COUNT(names); i++) {
        char *name = names[i];
        snprintf(name, sizeof(names[0]), "name-%zu", i);
        client.config.tls->alpn = &name;
        client.config.tls->alpn_count = 1;
        ck_assert_int_eq(client_open(&client, contexts), ERR_OK);
        client_close(&client);
    }
    ck_assert_uint_eq(tls_contexts_count(contexts), 64);
}
END_TEST

START_TEST(brokers_whose_sessions_are_kept_are_bounded) {
    static char hosts[600][16];
    for (size_t i = 0; i < COUNT(hosts); i++) {
        snprintf(hosts[i], sizeof(hosts[0]), "host-%zu", i);
        client.config.host = hosts[i];
        client.config.tls->server_name = "localhost";
        ck_assert_int_eq(client_open(&client, contexts), ERR_OK);
        client_close(&client);
    }
    ck_assert_uint_eq(tls_contexts_count(contexts), 1);
}
END_TEST

/* ---- resumption ---- */

static bool connect_and_see_resumption(void) {
    ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
    ck_assert(client_greets(&client)); /* tickets of TLS 1.3 arrive with the first read */
    bool resumed = SSL_session_reused(client.stream.tls);
    ck_assert_int_gt(stream_certificate_expires_at_s(&client.stream), 0);
    return resumed;
}

START_TEST(the_next_connection_to_a_broker_resumes_the_session) {
    ck_assert(!connect_and_see_resumption());
    for (int i = 0; i < 5; i++) {
        stream_close(&client.stream, i % 2 == 0); /* also if the previous connection broke */
        ck_assert(connect_and_see_resumption());
    }
}
END_TEST

/* None of them has the ticket that the next one would use. */
START_TEST(connections_at_the_same_time_resume_the_same_session) {
    static struct client others[5];
    ck_assert(!connect_and_see_resumption());
    for (size_t i = 0; i < COUNT(others); i++) {
        client_init(&others[i], SCHEME_MQTTS, tls_port);
        others[i].config.tls->ca = authority.cert;
        ck_assert_int_eq(client_connect(&others[i], contexts), ERR_OK);
        ck_assert(SSL_session_reused(others[i].stream.tls));
    }
    for (size_t i = 0; i < COUNT(others); i++) {
        client_close(&others[i]);
    }
}
END_TEST

START_TEST(a_session_is_not_resumed_with_another_name_or_by_another_identity) {
    ck_assert(!connect_and_see_resumption());
    client_close(&client);
    client.config.host = "127.0.0.1";
    ck_assert(!connect_and_see_resumption());
    client_close(&client);
    client.config.host = "localhost";
    client.config.tls->cert = client_identity.cert;
    client.config.tls->key = client_identity.key;
    ck_assert(!connect_and_see_resumption());
    client_close(&client);
    client.config.host = "elsewhere.example";
    ck_assert_int_eq(client_connect(&client, contexts), ERR_IO);
}
END_TEST

START_TEST(sessions_of_tls_1_2_are_resumed_too) {
    bool resumed[2];
    client_init(&client, SCHEME_MQTTS, fixture_free_port());
    client.config.tls->ca = authority.cert;
    pid_t pid = start_server(&server, client.config.port, "-tls1_2");
    for (int i = 0; i < 2; i++) {
        uint8_t line[2];
        ck_assert_int_eq(client_connect(&client, contexts), ERR_OK);
        client_write_all(&client, "x\n", 2);
        ck_assert_int_eq(client_read_all(&client, line, 2), 2);
        resumed[i] = SSL_session_reused(client.stream.tls);
        client_close(&client);
    }
    ck_assert(!resumed[0] && resumed[1]);
    fixture_kill(&pid, SIGKILL);
}
END_TEST

/* ---- memory ---- */

/* A read or write buffer has 16 KB. What else a connection keeps depends on the OpenSSL release:
 * for example, keys of a post-quantum exchange take 12 KB in smaller blocks. */
#define BUFFER_BYTES 16384
static size_t buffers; /* blocks of that size that OpenSSL holds, in this process */

static bool is_buffer(void *block) {
    return block && malloc_usable_size(block) >= BUFFER_BYTES;
}

static void count_free(void *block, const char *file, int line) {
    (void)file, (void)line;
    buffers -= is_buffer(block);
    free(block);
}

static void *count_realloc(void *block, size_t size, const char *file, int line) {
    if (size == 0) {
        count_free(block, file, line);
        return NULL;
    }
    buffers -= is_buffer(block);
    block = realloc(block, size);
    buffers += is_buffer(block);
    return block;
}

static void *count_malloc(size_t size, const char *file, int line) {
    return size == 0 ? NULL : count_realloc(NULL, size, file, line);
}

START_TEST(an_idle_connection_holds_no_buffer) {
    static struct client clients[20];
    ck_assert(!connect_and_see_resumption());
    size_t before = buffers;
    for (size_t i = 0; i < COUNT(clients); i++) {
        client_init(&clients[i], SCHEME_MQTTS, tls_port);
        clients[i].config.tls->ca = authority.cert;
        ck_assert_int_eq(client_connect(&clients[i], contexts), ERR_OK);
        ck_assert(client_greets(&clients[i]));
    }
    ck_assert_uint_eq(buffers, before);
    for (size_t i = 0; i < COUNT(clients); i++) {
        client_close(&clients[i]);
    }
}
END_TEST

int main(void) {
    int counted = CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free);
    assert(counted == 1); /* otherwise OpenSSL has allocated memory already */
    (void)counted;
    Suite *suite = suite_create("tls");
    TCase *tcase = tcase_create("tls");
    tcase_add_unchecked_fixture(tcase, environment_setup, environment_teardown);
    tcase_add_unchecked_fixture(tcase, make_odd_files, NULL);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_broker_with_the_right_certificate_is_talked_to);
    tcase_add_loop_test(tcase, the_certificate_must_be_for_the_name_or_address, 0,
                        (int)COUNT(name_cases));
    tcase_add_loop_test(tcase, a_client_certificate_is_shown_as_text_or_file, 0, 2);
    tcase_add_loop_test(tcase, case_E1_the_leaf_itself_may_be_what_is_trusted, 0, 2);
    tcase_add_loop_test(tcase, insecure_takes_any_certificate_and_needs_no_authority, 0, 2);
    tcase_add_test(tcase, without_an_authority_those_of_the_system_count);
    tcase_add_test(tcase, an_unknown_authority_is_named_as_the_reason);
    tcase_add_test(tcase, a_broker_that_wants_a_client_certificate_is_understood);
    tcase_add_test(tcase, a_write_that_fails_tells_what_the_broker_said);
    tcase_add_test(tcase, an_alert_to_a_client_that_was_let_in_is_a_loss);
    tcase_add_test(tcase, a_client_certificate_by_a_stranger_is_refused);
    tcase_add_test(tcase, a_port_for_plain_mqtt_is_told_from_one_for_tls);
    tcase_add_loop_test(tcase, certificates_and_versions_of_servers_are_judged, 0,
                        (int)COUNT(server_cases));
    tcase_add_test(tcase, an_alpn_name_that_the_broker_does_not_know_is_refused);
    tcase_add_loop_test(tcase, material_that_cannot_be_used_is_named_and_nothing_is_kept, 0,
                        (int)COUNT(material_cases));
    tcase_add_test(tcase, a_message_never_holds_the_text_of_a_key);
    tcase_add_test(tcase, equal_settings_share_a_context_and_others_do_not);
    tcase_add_test(tcase, a_certificate_that_was_rotated_is_read_anew);
    tcase_add_test(tcase, contexts_that_nobody_uses_are_bounded);
    tcase_add_test(tcase, brokers_whose_sessions_are_kept_are_bounded);
    tcase_add_test(tcase, the_next_connection_to_a_broker_resumes_the_session);
    tcase_add_test(tcase, connections_at_the_same_time_resume_the_same_session);
    tcase_add_test(tcase, a_session_is_not_resumed_with_another_name_or_by_another_identity);
    tcase_add_test(tcase, sessions_of_tls_1_2_are_resumed_too);
    tcase_add_test(tcase, an_idle_connection_holds_no_buffer);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
