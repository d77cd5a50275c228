/* Tests of the NATS sink against a real server with JetStream. Skipped without one. */
#include "sink/type_fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <nats/nats.h>
#include "base/system/clock.h"
#include "sink/types/nats/nats_subject.h"
#include "sink/types/nats/nats_url.h"

extern const struct sink_type sink_type_nats;

#define WAIT_MS 20000

static char folder[64], url[64];
static int port;
static pid_t server;
static natsConnection *connection;
static jsCtx *stream;

static int free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void start_server(void) {
    char number[16];
    snprintf(number, sizeof number, "%d", port);
    server = fork();
    if (server == 0) {
        execlp("nats-server", "nats-server", "-a", "127.0.0.1", "-p", number, "-js", "-sd", folder,
               "-l", "/dev/null", NULL);
        _exit(127);
    }
    int64_t end_ms = clock_ms() + WAIT_MS;
    while (natsConnection_ConnectTo(&connection, url) != NATS_OK && clock_ms() < end_ms) {
        clock_sleep_ms(20);
    }
    ck_assert_int_eq(natsConnection_JetStream(&stream, connection, NULL), NATS_OK);
}

static void end_server(int how) {
    jsCtx_Destroy(stream);
    natsConnection_Destroy(connection);
    stream = NULL;
    connection = NULL;
    kill(server, how);
    waitpid(server, NULL, 0);
}

static void add_stream(int max_bytes) {
    const char *subjects[] = {"mqtt.>"};
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = "messages";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.MaxMsgSize = max_bytes;
    ck_assert_int_eq(js_AddStream(NULL, stream, &config, NULL, NULL), NATS_OK);
}

static void setup(void) {
    strcpy(folder, "/tmp/mqfleet-nats-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    port = free_port();
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", port);
    start_server();
}

static void teardown(void) {
    char command[96];
    type_close(&sink_type_nats);
    end_server(SIGKILL);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static void open_sink(const char *subject, const char *format) {
    type_open(&sink_type_nats,
              type_complete(&sink_type_nats, "{s:s, s:s, s:s, s:i}", "url", url, "subject", subject,
                            "format", format, "timeout_ms", 1000));
}

static struct message *message_with(const char *topic, const void *payload, size_t len) {
    struct message from = {.id = "pump-1",
                           .client_id = "c",
                           .topic = topic,
                           .payload = payload,
                           .payload_len = len,
                           .received_at_ms = 1700000000123,
                           .qos = 1};
    return message_create(&from);
}

static natsMsg *stored(uint64_t sequence) {
    natsMsg *msg = NULL;
    jsErrCode code;
    ck_assert_int_eq(js_GetMsg(&msg, stream, "messages", sequence, NULL, &code), NATS_OK);
    return msg;
}

static uint64_t stored_count(void) {
    jsStreamInfo *info = NULL;
    ck_assert_int_eq(js_GetStreamInfo(&info, stream, "messages", NULL, NULL), NATS_OK);
    uint64_t count = info->State.Msgs;
    jsStreamInfo_Destroy(info);
    return count;
}

static const struct {
    const char *text, *subject;
} subjects[] = {
    {"a/b/c", "a.b.c"}, {"a", "a"},     {"", "_"},         {"/", "_._"},
    {"/a", "_.a"},      {"a/", "a._"},  {"a//b", "a._.b"}, {"a b\tc", "a_b_c"},
    {"a/*/>", "a._._"}, {"a.b", "a.b"}, {"..", "_._._"},   {"\xc3\xa6", "\xc3\xa6"},
    {"a\r\nb", "a__b"},
};

START_TEST(any_topic_becomes_a_subject) {
    struct buffer text;
    buffer_init(&text);
    buffer_append_str(&text, subjects[_i].text);
    nats_subject_clean(&text);
    ck_assert_str_eq(text.data, subjects[_i].subject);
    buffer_fini(&text);
}
END_TEST

static const struct {
    const char *text, *host, *with; /* host NULL: it is no url */
} urls[] = {
    {"nats://a", "a", "nats://192.0.2.1"},
    {"nats://a.example:4222", "a.example", "nats://192.0.2.1:4222"},
    {"tls://a:1/", "a", "tls://192.0.2.1:1/"},
    {"nats://[2001:db8::1]:4222", "2001:db8::1", "nats://192.0.2.1:4222"},
    {"nats://u:p@a:1", "a", "nats://u:p@192.0.2.1:1"},
    {"nats://u:p@x/y@a:1", "a", "nats://u:p@x/y@192.0.2.1:1"},
    {"nats://", NULL, NULL},
    {"nats://:4222", NULL, NULL},
    {"nats://u@", NULL, NULL},
    {"nats://a:", NULL, NULL},
    {"nats://a:x", NULL, NULL},
    {"nats://a:123456", NULL, NULL},
    {"nats://a:1/path", NULL, NULL},
    {"nats://a:1,nats://b:1", NULL, NULL},
    {"nats://a,b:1", NULL, NULL},
    {"nats://[]:1", NULL, NULL},
    {"nats://[::1", NULL, NULL},
    {"nats://[::1]a:1", NULL, NULL},
    {"nats://a?b", NULL, NULL},
    {"nats://a b", NULL, NULL},
    {"http://a:1", NULL, NULL},
    {"a:1", NULL, NULL},
    {"", NULL, NULL},
};

START_TEST(the_host_of_a_url_is_replaced_by_its_address) {
    struct nats_url parsed;
    struct buffer text;
    enum err err = nats_url_parse(urls[_i].text, &parsed);
    ck_assert_int_eq(err, urls[_i].host ? ERR_OK : ERR_ARGUMENT);
    if (urls[_i].host) {
        ck_assert_str_eq(parsed.host, urls[_i].host);
        ck_assert_int_eq(parsed.tls, urls[_i].text[0] == 't');
        buffer_init(&text);
        nats_url_append_with(&parsed, "192.0.2.1", &text);
        ck_assert_str_eq(text.data, urls[_i].with);
        buffer_clear(&text);
        nats_url_append_with(&parsed, "2001:db8::2", &text);
        ck_assert_ptr_nonnull(strstr(text.data, "[2001:db8::2]"));
        buffer_fini(&text);
    }
}
END_TEST

START_TEST(a_message_has_its_payload_and_headers) {
    const char *value;
    size_t written;
    struct message *message = message_with("plant/tank 3", "\0\r\n\xff", 4);
    add_stream(-1);
    open_sink("mqtt.{id}.{topic}", "payload");
    ck_assert_msg(type_write(&sink_type_nats, &message, 1, &written) == ERR_OK, "%s", type_error);
    natsMsg *msg = stored(1);
    ck_assert_str_eq(natsMsg_GetSubject(msg), "mqtt.pump-1.plant.tank_3");
    ck_assert_int_eq(natsMsg_GetDataLength(msg), 4);
    ck_assert_int_eq(memcmp(natsMsg_GetData(msg), "\0\r\n\xff", 4), 0);
    ck_assert_int_eq(natsMsgHeader_Get(msg, "Mqtt-Topic", &value), NATS_OK);
    ck_assert_str_eq(value, "plant/tank 3");
    ck_assert_int_eq(natsMsgHeader_Get(msg, "Mqtt-Received-At-Ms", &value), NATS_OK);
    ck_assert_str_eq(value, "1700000000123");
    natsMsg_Destroy(msg);
    message_destroy(message);
}
END_TEST

static void make_batch(struct message **batch, int count) {
    for (int i = 0; i < count; i++) {
        char payload[16];
        int len = snprintf(payload, sizeof payload, "%d", i);
        batch[i] = message_with("t", payload, (size_t)len);
    }
}

static void free_batch(struct message **batch, int count) {
    for (int i = 0; i < count; i++) {
        message_destroy(batch[i]);
    }
}

static void check_numbers(int count) {
    ck_assert_uint_eq(stored_count(), (uint64_t)count);
    for (int i = 0; i < count; i++) {
        natsMsg *msg = stored((uint64_t)i + 1);
        ck_assert_int_eq(atoi(natsMsg_GetData(msg)), i);
        natsMsg_Destroy(msg);
    }
}

/* What was sent twice is there once: by the identifier of the message. */
START_TEST(a_batch_comes_in_order_and_again_without_doubles) {
    enum { COUNT = 500 };
    struct message *batch[COUNT];
    size_t written;
    add_stream(-1);
    open_sink("mqtt.{topic}", "payload");
    make_batch(batch, COUNT);
    for (int round = 0; round < 2; round++) {
        ck_assert_msg(type_write(&sink_type_nats, batch, COUNT, &written) == ERR_OK, "%s",
                      type_error);
        ck_assert_uint_eq(written, COUNT);
    }
    check_numbers(COUNT);
    free_batch(batch, COUNT);
}
END_TEST

START_TEST(one_message_that_is_too_large_is_rejected_and_the_others_are_stored) {
    static char large[3000000];
    struct message *batch[3];
    size_t written;
    add_stream(1000);
    open_sink("mqtt.{topic}", "payload");
    batch[0] = message_with("t", "a", 1);
    batch[1] = message_with("t", large, _i ? sizeof large : 2000); /* for the server; the stream */
    batch[2] = message_with("t", "b", 1);
    ck_assert_msg(type_write(&sink_type_nats, batch, 3, &written) == ERR_OK, "%s", type_error);
    ck_assert_int_eq(type_outcomes[0], SINK_ACCEPTED);
    ck_assert_int_eq(type_outcomes[1], SINK_REJECTED);
    ck_assert_int_eq(type_outcomes[2], SINK_ACCEPTED);
    ck_assert_msg(strstr(type_reasons[1], _i ? "max_payload" : "message size exceeds") != NULL,
                  "%s", type_reasons[1]);
    ck_assert_uint_eq(stored_count(), 2);
    free_batch(batch, 3);
}
END_TEST

START_TEST(without_a_stream_messages_are_tried_again) {
    struct message *message = message_with("t", "a", 1);
    size_t written;
    open_sink("mqtt.{topic}", "json");
    ck_assert_int_ne(type_write(&sink_type_nats, &message, 1, &written), ERR_OK);
    ck_assert_int_eq(type_outcomes[0], SINK_RETRY);
    ck_assert_msg(strstr(type_error, "no stream takes this subject") != NULL, "%s", type_error);
    add_stream(-1);
    ck_assert_msg(type_write(&sink_type_nats, &message, 1, &written) == ERR_OK, "%s", type_error);
    natsMsg *msg = stored(1);
    ck_assert_ptr_nonnull(strstr(natsMsg_GetData(msg), "\"topic\":\"t\""));
    natsMsg_Destroy(msg);
    message_destroy(message);
}
END_TEST

START_TEST(a_server_that_stalls_or_dies_holds_the_batch_until_it_is_back) {
    enum { COUNT = 200 };
    struct message *batch[COUNT];
    size_t written;
    add_stream(-1);
    open_sink("mqtt.{topic}", "payload");
    make_batch(batch, COUNT);
    ck_assert_int_eq(type_write(&sink_type_nats, batch, 50, &written), ERR_OK);
    kill(server, SIGSTOP);
    int64_t begin_ms = clock_ms();
    ck_assert_int_ne(type_write(&sink_type_nats, batch, COUNT, &written), ERR_OK);
    ck_assert_int_lt(clock_ms() - begin_ms, 15000);
    ck_assert_uint_lt(written, COUNT); /* the signal may take effect a little later */
    kill(server, SIGCONT);
    end_server(SIGKILL);
    ck_assert_int_eq(type_write(&sink_type_nats, batch, COUNT, &written), ERR_UNAVAILABLE);
    start_server();
    int64_t end_ms = clock_ms() + WAIT_MS;
    while (type_write(&sink_type_nats, batch, COUNT, &written) != ERR_OK && clock_ms() < end_ms) {
        clock_sleep_ms(50);
    }
    ck_assert_uint_eq(written, COUNT);
    check_numbers(COUNT);
    free_batch(batch, COUNT);
}
END_TEST

START_TEST(a_message_without_what_the_subject_needs_is_rejected) {
    struct message *message = message_with("t", "a", 1);
    size_t written;
    add_stream(-1);
    open_sink("mqtt.{label.site}", "payload");
    ck_assert_int_eq(type_write(&sink_type_nats, &message, 1, &written), ERR_OK);
    ck_assert_int_eq(type_outcomes[0], SINK_REJECTED);
    ck_assert_str_eq(type_reasons[0], "subject: the message has no label.site");
    message_destroy(message);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nats");
    TCase *pure = tcase_create("pure");
    tcase_add_loop_test(pure, any_topic_becomes_a_subject, 0, sizeof subjects / sizeof subjects[0]);
    tcase_add_loop_test(pure, the_host_of_a_url_is_replaced_by_its_address, 0,
                        sizeof urls / sizeof urls[0]);
    suite_add_tcase(suite, pure);
    TCase *tcase = tcase_create("nats");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_message_has_its_payload_and_headers);
    tcase_add_test(tcase, a_batch_comes_in_order_and_again_without_doubles);
    tcase_add_loop_test(tcase, one_message_that_is_too_large_is_rejected_and_the_others_are_stored,
                        0, 2);
    tcase_add_test(tcase, without_a_stream_messages_are_tried_again);
    tcase_add_test(tcase, a_server_that_stalls_or_dies_holds_the_batch_until_it_is_back);
    tcase_add_test(tcase, a_message_without_what_the_subject_needs_is_rejected);
    bool there = system("command -v nats-server >/dev/null") == 0;
    suite_add_tcase(there ? suite : suite_create("skipped"), tcase);
    puts(there ? "" : "nats: skipped, there is no nats-server");
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
