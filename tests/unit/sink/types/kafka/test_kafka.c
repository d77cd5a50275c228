/* Tests of the type kafka with a broker that fails, refuses and stalls as it is told. */
#include "sink/type_fixture.h"

#include <stdlib.h>
#include <unistd.h>
#include "c11_threads.h"
#include "mock_cluster.h"

#define TOPIC      "devices"
#define PARTITIONS 3
#define WRITES_MAX 50
#define SILENCE_MS 500  /* within this, a record that is doubled would be there */
#define STALLED_MS 2000 /* longer than a write */

extern const struct sink_type sink_type_kafka;

static struct mock_cluster mock;
static enum sink_outcome outcomes[TYPE_BATCH_MAX]; /* of the last write_until_settled */
static char reasons[TYPE_BATCH_MAX][SINK_REASON_LEN];

static void open_with(const char *name, const char *value) {
    type_open(&sink_type_kafka,
              type_complete(&sink_type_kafka, "{s:s, s:s, s:{s:s}}", "brokers", mock.brokers,
                            "topic", TOPIC, "options", name, value));
}

static void setup(void) {
    mock_start(&mock, TOPIC, PARTITIONS);
    open_with("message.max.bytes", "2000");
}

static void teardown(void) {
    type_close(&sink_type_kafka);
    mock_stop(&mock);
}

static struct message *message_of(const char *id, const char *payload) {
    struct message from = {.id = id,
                           .client_id = "device",
                           .topic = "a/b",
                           .payload = (const uint8_t *)payload,
                           .payload_len = strlen(payload),
                           .received_at_ms = 1700000000123,
                           .qos = 1};
    struct message *message = message_create(&from);
    ck_assert_ptr_nonnull(message);
    return message;
}

/* "0", "1" ... of clients "c0", "c1", "c2". */
static void make_numbered(struct message **out, int first, int count) {
    for (int i = 0; i < count; i++) {
        char id[16];
        char payload[16];
        snprintf(id, sizeof id, "c%d", (first + i) % 3);
        snprintf(payload, sizeof payload, "%d", first + i);
        out[i] = message_of(id, payload);
    }
}

static void destroy_all(struct message **messages, int count) {
    for (int i = 0; i < count; i++) {
        message_destroy(messages[i]);
    }
}

static enum err write_batch(struct message **messages, int count) {
    size_t written;
    return type_write(&sink_type_kafka, messages, (size_t)count, &written);
}

/* On a loaded machine, connecting may take longer than the first write. */
static enum err write_until_answered(struct message **messages, int count) {
    enum err err = ERR_TIMEOUT;
    for (int turn = 0; turn < WRITES_MAX && err == ERR_TIMEOUT; turn++) {
        err = write_batch(messages, count);
    }
    return err;
}

/* As sink.c does: what is settled leaves the batch, and the rest is written again. */
static void write_until_settled(struct message **messages, int count) {
    struct message *batch[TYPE_BATCH_MAX];
    int at[TYPE_BATCH_MAX];
    int left = count;
    for (int i = 0; i < count; i++) {
        batch[i] = messages[i];
        at[i] = i;
    }
    for (int turn = 0; turn < WRITES_MAX && left > 0; turn++) {
        int kept = 0;
        write_batch(batch, left);
        for (int i = 0; i < left; i++) {
            outcomes[at[i]] = type_outcomes[i];
            memcpy(reasons[at[i]], type_reasons[i], SINK_REASON_LEN);
            if (type_outcomes[i] == SINK_RETRY) {
                batch[kept] = batch[i];
                at[kept++] = at[i];
            }
        }
        left = kept;
    }
    ck_assert_msg(left == 0, "%d are left: %s", left, type_error);
}

static void check_outcomes(int begin, int end, enum sink_outcome outcome) {
    for (int i = begin; i < end; i++) {
        ck_assert_msg(outcomes[i] == outcome, "outcome %d of message %d", outcomes[i], i);
    }
}

/* The outcomes of the last single write. */
static void check_retry(int count) {
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(type_outcomes[i], SINK_RETRY);
    }
}

static void set_rtt(int ms) {
    ck_assert_int_eq(rd_kafka_mock_broker_set_rtt(mock.cluster, MOCK_BROKER, ms), 0);
}

static bool order_matters = true;

/* The topic has each of the numbers once, and those of a client in order. */
static void check_numbered(int count) {
    bool *seen = calloc((size_t)count, sizeof *seen);
    int last[3] = {-1, -1, -1};
    rd_kafka_t *consumer = mock_consume(&mock, TOPIC, PARTITIONS);
    for (int i = 0; i < count; i++) {
        char text[16] = "";
        rd_kafka_message_t *record = mock_next(consumer, MOCK_WAIT_MS);
        ck_assert_msg(record != NULL, "%d of %d are missing", count - i, count);
        memcpy(text, record->payload, record->len < 15 ? record->len : 15);
        int number = atoi(text);
        ck_assert_msg(number < count && !seen[number], "%d is doubled", number);
        ck_assert_msg(!order_matters || number > last[number % 3], "%d after %d", number,
                      last[number % 3]);
        seen[number] = true;
        last[number % 3] = number;
        rd_kafka_message_destroy(record);
    }
    ck_assert_ptr_null(mock_next(consumer, SILENCE_MS));
    mock_consume_end(consumer);
    free(seen);
}

/* ---- records --------------------------------------------------------------------------------- */

static void check_header(const rd_kafka_message_t *record, const char *name, const char *expected) {
    rd_kafka_headers_t *headers = NULL;
    const void *value = "";
    size_t len = 0;
    ck_assert_int_eq(rd_kafka_message_headers(record, &headers), RD_KAFKA_RESP_ERR_NO_ERROR);
    ck_assert_msg(rd_kafka_header_get_last(headers, name, &value, &len) ==
                      RD_KAFKA_RESP_ERR_NO_ERROR,
                  "no header %s", name);
    ck_assert_msg(len == strlen(expected) && memcmp(value, expected, len) == 0, "%s is %.*s", name,
                  (int)len, (const char *)value);
}

static void check_text(const void *data, size_t len, const char *expected) {
    ck_assert_ptr_nonnull(data); /* NULL would be a tombstone */
    ck_assert_msg(len == strlen(expected) && memcmp(data, expected, len) == 0, "%.*s, not %s",
                  (int)len, (const char *)data, expected);
}

static rd_kafka_message_t *write_and_read(rd_kafka_t *consumer, const struct message *from) {
    struct message *message = message_create(from);
    write_until_settled(&message, 1);
    message_destroy(message);
    rd_kafka_message_t *record = mock_next(consumer, MOCK_WAIT_MS);
    ck_assert_ptr_nonnull(record);
    return record;
}

START_TEST(a_record_has_key_value_time_and_headers) {
    const struct message_property properties[] = {
        {"content_type", NULL, "text/plain", 10},
        {"user_property", "client_id", "forged", 6},
    };
    struct message from = {.id = "plant-7",
                           .client_id = "device",
                           .topic = "a/b",
                           .payload = (const uint8_t *)"21.5",
                           .payload_len = 4,
                           .properties = properties,
                           .property_count = 2,
                           .received_at_ms = 1700000000123,
                           .qos = 2};
    rd_kafka_timestamp_type_t type;
    rd_kafka_t *consumer = mock_consume(&mock, TOPIC, PARTITIONS);
    rd_kafka_message_t *record = write_and_read(consumer, &from);
    check_text(record->key, record->key_len, "plant-7");
    check_text(record->payload, record->len, "21.5");
    ck_assert_int_eq(rd_kafka_message_timestamp(record, &type), 1700000000123);
    check_header(record, "id", "plant-7");
    check_header(record, "client_id", "device");
    check_header(record, "topic", "a/b");
    check_header(record, "qos", "2");
    check_header(record, "retain", "0");
    check_header(record, "received_at_ms", "1700000000123");
    check_header(record, "node", "node-1");
    check_header(record, "content_type", "text/plain");
    check_header(record, "user.client_id", "forged");
    rd_kafka_message_destroy(record);
    mock_consume_end(consumer);
}
END_TEST

START_TEST(an_empty_payload_is_not_a_tombstone) {
    struct message from = {.id = "i", .client_id = "c", .topic = "t", .qos = 1};
    rd_kafka_t *consumer = mock_consume(&mock, TOPIC, PARTITIONS);
    rd_kafka_message_t *record = write_and_read(consumer, &from);
    check_text(record->payload, record->len, "");
    rd_kafka_message_destroy(record);
    mock_consume_end(consumer);
}
END_TEST

/* Opens again, with templates. */
static void open_templates(const char *topic) {
    type_close(&sink_type_kafka);
    type_open(&sink_type_kafka,
              type_complete(&sink_type_kafka, "{s:s, s:s, s:s, s:s, s:b, s:{s:s}}", "brokers",
                            mock.brokers, "topic", topic, "key", "{topic.1}-{id}", "value",
                            "<{payload}>", "standard_headers", 0, "headers", "t", "{json./t}"));
}

START_TEST(templates_make_topic_key_value_and_headers) {
    struct message from = {.id = "i",
                           .client_id = "c",
                           .topic = "devices/x",
                           .payload = (const uint8_t *)"{\"t\":21.5}",
                           .payload_len = 10,
                           .qos = 1};
    rd_kafka_headers_t *headers;
    open_templates("{topic.1}");
    rd_kafka_t *consumer = mock_consume(&mock, TOPIC, PARTITIONS);
    rd_kafka_message_t *record = write_and_read(consumer, &from);
    check_text(record->key, record->key_len, "devices-i");
    check_text(record->payload, record->len, "<{\"t\":21.5}>");
    check_header(record, "t", "21.5");
    ck_assert_int_eq(rd_kafka_message_headers(record, &headers), RD_KAFKA_RESP_ERR_NO_ERROR);
    ck_assert_uint_eq(rd_kafka_header_cnt(headers), 1);
    rd_kafka_message_destroy(record);
    mock_consume_end(consumer);
}
END_TEST

static void check_rejected(struct message *bad, const char *reason) {
    struct message *batch[3] = {message_of("c", "{\"t\":0}"), bad, message_of("c", "{\"t\":1}")};
    write_until_settled(batch, 3);
    check_outcomes(0, 1, SINK_ACCEPTED);
    check_outcomes(1, 2, SINK_REJECTED);
    check_outcomes(2, 3, SINK_ACCEPTED);
    ck_assert_msg(strstr(reasons[1], reason) != NULL, "%s", reasons[1]);
    destroy_all(batch, 3);
}

START_TEST(a_message_without_what_a_template_needs_is_rejected_alone) {
    open_templates(TOPIC);
    check_rejected(message_of("c", "{}"), "json./t");
}
END_TEST

START_TEST(a_topic_that_kafka_cannot_have_is_rejected) {
    open_templates("{json./topic|devices}");
    check_rejected(message_of("c", "{\"t\":0,\"topic\":\"a/b\"}"), "may have letters");
}
END_TEST

START_TEST(a_message_above_the_limit_is_rejected_alone) {
    char payload[3000];
    memset(payload, 'x', sizeof payload);
    payload[sizeof payload - 1] = '\0';
    check_rejected(message_of("c", payload), "Message size too large");
}
END_TEST

/* ---- none missing, none doubled -------------------------------------------------------------- */

START_TEST(batches_are_stored_once_and_in_order) {
    for (int i = 0; i < 20; i++) {
        struct message *batch[500];
        make_numbered(batch, i * 500, 500);
        write_until_settled(batch, 500);
        check_outcomes(0, 500, SINK_ACCEPTED);
        destroy_all(batch, 500);
    }
    check_numbered(10000);
}
END_TEST

START_TEST(what_is_under_way_is_awaited_and_not_produced_again) {
    struct message *batch[30];
    make_numbered(batch, 0, 30);
    set_rtt(STALLED_MS);
    ck_assert_int_eq(write_batch(batch, 20), ERR_TIMEOUT);
    check_retry(20);
    set_rtt(1);
    write_until_settled(batch, 30);
    check_outcomes(0, 30, SINK_ACCEPTED);
    destroy_all(batch, 30);
    check_numbered(30);
}
END_TEST

/* Of the partitions, one has no leader. */
START_TEST(a_partition_that_is_slow_does_not_hold_the_others) {
    struct message *batch[30];
    int accepted = 0;
    make_numbered(batch, 0, 30);
    rd_kafka_mock_partition_set_leader(mock.cluster, TOPIC, 0, -1);
    ck_assert_int_eq(write_until_answered(batch, 30), ERR_OK);
    for (int i = 0; i < 30; i++) {
        accepted += type_outcomes[i] == SINK_ACCEPTED;
    }
    ck_assert_int_gt(accepted, 0);
    ck_assert_int_lt(accepted, 30);
    destroy_all(batch, 30);
}
END_TEST

/* The address of a message that was given up may be that of another one. */
START_TEST(a_message_that_the_sink_gives_up_while_it_is_under_way_is_not_mistaken) {
    struct message *batch[20];
    make_numbered(batch, 0, 10);
    set_rtt(STALLED_MS);
    ck_assert_int_eq(write_batch(batch, 10), ERR_TIMEOUT);
    destroy_all(batch, 10);
    make_numbered(batch, 10, 10);
    set_rtt(1);
    write_until_settled(batch, 10);
    destroy_all(batch, 10);
    check_numbered(20);
}
END_TEST

START_TEST(nothing_left_is_waited_for_by_the_maintenance) {
    struct message *batch[10];
    make_numbered(batch, 0, 10);
    set_rtt(STALLED_MS);
    ck_assert_int_eq(write_batch(batch, 10), ERR_TIMEOUT);
    destroy_all(batch, 10);
    set_rtt(1);
    for (int i = 0; i < 40; i++) {
        sink_type_kafka.maintain(type_state);
        usleep(50000);
    }
    make_numbered(batch, 10, 10);
    write_until_settled(batch, 10);
    destroy_all(batch, 10);
    check_numbered(20);
}
END_TEST

START_TEST(a_broker_that_is_down_is_an_error_until_it_is_back) {
    struct message *batch[10];
    make_numbered(batch, 0, 10);
    rd_kafka_mock_broker_set_down(mock.cluster, MOCK_BROKER);
    ck_assert_int_eq(write_batch(batch, 10), ERR_TIMEOUT);
    ck_assert_msg(strstr(type_error, "127.0.0.1") != NULL, "%s", type_error);
    rd_kafka_mock_broker_set_up(mock.cluster, MOCK_BROKER);
    write_until_settled(batch, 10);
    destroy_all(batch, 10);
    check_numbered(10);
}
END_TEST

static bool denies_all(const void *context, const char *host, const struct sockaddr *address,
                       const char **why) {
    (void)context;
    (void)address;
    ck_assert_str_eq(host, "127.0.0.1");
    *why = "the address is denied";
    return false;
}

START_TEST(an_address_that_the_operator_denies_is_not_connected_to) {
    struct message *message = message_of("c", "1");
    type_close(&sink_type_kafka);
    type_environment.address_allowed = denies_all;
    open_with("message.max.bytes", "2000");
    ck_assert_int_eq(write_batch(&message, 1), ERR_TIMEOUT);
    ck_assert_msg(strstr(type_error, "the address is denied") != NULL, "%s", type_error);
    message_destroy(message);
}
END_TEST

/* ---- errors ---------------------------------------------------------------------------------- */

static void push_errors(int16_t request, rd_kafka_resp_err_t error, size_t count) {
    rd_kafka_resp_err_t errors[16];
    ck_assert_uint_le(count, 16);
    for (size_t i = 0; i < count; i++) {
        errors[i] = error;
    }
    rd_kafka_mock_push_request_errors_array(mock.cluster, request, count, errors);
}

/* All of one client, so that they are one batch of records. */
static void make_of_one_client(struct message **out, int count) {
    for (int i = 0; i < count; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i * 3);
        out[i] = message_of("c", payload);
    }
}

START_TEST(good_messages_of_a_batch_that_is_too_large_are_not_rejected) {
    struct message *batch[8];
    make_of_one_client(batch, 8);
    push_errors(MOCK_PRODUCE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 3);
    write_until_settled(batch, 8);
    check_outcomes(0, 8, SINK_ACCEPTED);
    destroy_all(batch, 8);
}
END_TEST

/* The errors are of 8, 4, 2 and 1 messages. On a loaded machine, a batch may become two requests,
 * which use up the errors sooner. */
START_TEST(a_message_that_is_refused_alone_is_rejected) {
    struct message *batch[8];
    make_of_one_client(batch, 8);
    outcomes[0] = SINK_ACCEPTED;
    for (int turn = 0; turn < WRITES_MAX && outcomes[0] == SINK_ACCEPTED; turn++) {
        push_errors(MOCK_PRODUCE, RD_KAFKA_RESP_ERR_INVALID_RECORD, 4);
        write_until_settled(batch, 8);
        check_outcomes(1, 8, SINK_ACCEPTED);
    }
    check_outcomes(0, 1, SINK_REJECTED);
    ck_assert_msg(*reasons[0] != '\0', "no reason");
    destroy_all(batch, 8);
}
END_TEST

static const rd_kafka_resp_err_t temporary[] = {
    RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,     RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
    RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, RD_KAFKA_RESP_ERR_UNKNOWN,
    RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
};

START_TEST(an_error_that_is_not_of_the_message_is_tried_again) {
    struct message *message = message_of("c", "1");
    push_errors(MOCK_PRODUCE, temporary[_i], 1);
    ck_assert_int_eq(write_until_answered(&message, 1), ERR_IO);
    check_retry(1);
    ck_assert_msg(strstr(type_error, "topic " TOPIC ": ") != NULL, "%s", type_error);
    type_close(&sink_type_kafka); /* librdkafka remembers a topic without permission for a while */
    open_with("message.max.bytes", "2000");
    write_until_settled(&message, 1);
    check_outcomes(0, 1, SINK_ACCEPTED);
    message_destroy(message);
}
END_TEST

static const rd_kafka_resp_err_t transient[] = {
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, /* older versions of librdkafka report it: */
    RD_KAFKA_RESP_ERR_INVALID_MSG};

START_TEST(a_transient_error_doubles_nothing) {
    struct message *batch[30];
    make_numbered(batch, 0, 30);
    push_errors(MOCK_PRODUCE, transient[_i], 2);
    /* Without librdkafka's own retry, a batch that was sent in parts loses its order. */
    order_matters = transient[_i] != RD_KAFKA_RESP_ERR_INVALID_MSG;
    write_until_settled(batch, 30);
    destroy_all(batch, 30);
    check_numbered(30);
}
END_TEST

START_TEST(a_fatal_error_makes_a_new_producer) {
    struct message *batch[10];
    make_numbered(batch, 0, 10);
    push_errors(MOCK_PRODUCER_ID, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, 1);
    /* librdkafka may report the messages before the error that ends the producer. */
    enum err err = write_until_answered(batch, 10);
    check_retry(10);
    err = err == ERR_IO ? write_until_answered(batch, 10) : err;
    ck_assert_msg(err == ERR_UNAVAILABLE || err == ERR_OK, "%s", type_error);
    if (err == ERR_UNAVAILABLE) {
        ck_assert_msg(strstr(type_error, "authorization") != NULL, "%s", type_error);
        write_until_settled(batch, 10);
    }
    destroy_all(batch, 10);
    check_numbered(10);
}
END_TEST

/* ---- settings -------------------------------------------------------------------------------- */

/* The fault of a field with this value. */
static const char *fault_of(const char *field, json_t *value) {
    json_t *settings = type_complete(
        &sink_type_kafka, "{s:s, s:s, s:b, s:s, s:s, s:s, s:o}", "brokers", mock.brokers, "topic",
        TOPIC, "tls", 1, "sasl_mechanism", "PLAIN", "username", "u", "password", "p", field, value);
    void *state = NULL;
    if (settings) {
        *type_fault = '\0';
        enum err err = sink_type_kafka.open(&state, &type_environment, settings, type_fault);
        ck_assert_int_eq(err == ERR_OK, *type_fault == '\0');
        if (state) {
            sink_type_kafka.close(state);
        }
        json_decref(settings);
    }
    return type_fault;
}

static void check_fault(const char *field, json_t *value, const char *expected) {
    const char *fault = fault_of(field, value);
    ck_assert_msg(strncmp(fault, field, strlen(field)) == 0, "%s: %s", field, fault);
    ck_assert_msg(strstr(fault, expected) != NULL, "%s: %s", field, fault);
}

static const char *const refused[] = {"acks",
                                      "request.required.acks",
                                      "enable.idempotence",
                                      "message.timeout.ms",
                                      "delivery.timeout.ms",
                                      "retries",
                                      "max.in.flight",
                                      "queuing.strategy",
                                      "delivery.report.only.error",
                                      "plugin.library.paths",
                                      "ssl.engine.location",
                                      "ssl.key.location",
                                      "ssl.providers",
                                      "sasl.kerberos.kinit.cmd",
                                      "sasl.oauthbearer.token.endpoint.url",
                                      "security.protocol",
                                      "bootstrap.servers",
                                      "test.mock.num.brokers",
                                      "partitioner",
                                      "transactional.id",
                                      "enable.gapless.guarantee"};

START_TEST(an_option_that_breaks_a_guarantee_or_loads_a_library_is_refused) {
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        check_fault("options", json_pack("{s:s}", refused[i], "1"), "may not be set");
    }
}
END_TEST

START_TEST(a_wrong_setting_is_refused_with_the_name_of_its_field) {
    check_fault("options", json_pack("{s:s}", "message.max.bites", "1"), "No such");
    check_fault("options", json_pack("{s:s}", "message.max.bytes", "many"), "message.max.bytes");
    check_fault("topic", json_string("a/b"), "may have letters");
    check_fault("topic", json_string("a/{id}"), "may have letters");
    check_fault("topic", json_string("{{{id}"), "may have letters");
    ck_assert_str_eq(fault_of("topic", json_string("{topic}.{label.site|a/b}")), "");
    check_fault("topic", json_string("{nothing}"), "{nothing} is unknown");
    check_fault("headers", json_pack("{s:s}", "h", "{"), "");
    check_fault("tls_ca", json_string("here"), "PEM");
    check_fault("tls_key", json_string("key"), "PEM");
    check_fault("compression", json_string("rar"), "none|gzip");
    check_fault("brokers", json_string(""), "missing");
    ck_assert_str_ne(fault_of("tls_cert", json_string("-----BEGIN CERTIFICATE-----\n")), "");
    ck_assert_str_eq(fault_of("options", json_pack("{s:s}", "message.max.bytes", "2000")), "");
}
END_TEST

/* ---- the test of settings -------------------------------------------------------------------- */

static char steps[1024]; /* "connect ok; topic failed: DETAIL: ADVICE; " */

static void note_step(void *context, const char *step, bool ok, const char *detail,
                      const char *advice) {
    size_t len = strlen(steps);
    (void)context;
    snprintf(steps + len, sizeof steps - len, "%s %s: %s: %s; ", step, ok ? "ok" : "failed", detail,
             ok ? "" : advice);
}

static const char *test_settings(const char *brokers, const char *topic) {
    json_t *settings =
        type_complete(&sink_type_kafka, "{s:s, s:s}", "brokers", brokers, "topic", topic);
    *steps = '\0';
    sink_type_kafka.test(&type_environment, settings,
                         &(struct sink_test_report){.step = note_step});
    json_decref(settings);
    return steps;
}

static void check_steps(const char *brokers, const char *topic, const char *expected) {
    const char *found = test_settings(brokers, topic);
    ck_assert_msg(strstr(found, expected) != NULL, "%s", found);
}

START_TEST(a_test_says_which_step_fails_and_what_to_change) {
    check_steps(mock.brokers, TOPIC, "connect ok: 1 brokers");
    check_steps(mock.brokers, TOPIC, "topic ok: devices has 3 partitions");
    check_steps(mock.brokers, "{topic.1}", "topic ok: depends on the message");
    check_steps(mock.brokers, "a/b", "open failed: topic may have letters");
    check_steps("127.0.0.1:1", TOPIC, "connect failed: ");
    ck_assert_ptr_nonnull(strstr(steps, "check that brokers"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kafka");
    TCase *tcase = tcase_create("kafka");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_record_has_key_value_time_and_headers);
    tcase_add_test(tcase, an_empty_payload_is_not_a_tombstone);
    tcase_add_test(tcase, templates_make_topic_key_value_and_headers);
    tcase_add_test(tcase, a_message_without_what_a_template_needs_is_rejected_alone);
    tcase_add_test(tcase, a_topic_that_kafka_cannot_have_is_rejected);
    tcase_add_test(tcase, a_message_above_the_limit_is_rejected_alone);
    tcase_add_test(tcase, batches_are_stored_once_and_in_order);
    tcase_add_test(tcase, what_is_under_way_is_awaited_and_not_produced_again);
    tcase_add_test(tcase, a_message_that_the_sink_gives_up_while_it_is_under_way_is_not_mistaken);
    tcase_add_test(tcase, a_partition_that_is_slow_does_not_hold_the_others);
    tcase_add_test(tcase, nothing_left_is_waited_for_by_the_maintenance);
    tcase_add_test(tcase, a_broker_that_is_down_is_an_error_until_it_is_back);
    tcase_add_test(tcase, an_address_that_the_operator_denies_is_not_connected_to);
    tcase_add_test(tcase, good_messages_of_a_batch_that_is_too_large_are_not_rejected);
    tcase_add_test(tcase, a_message_that_is_refused_alone_is_rejected);
    tcase_add_loop_test(tcase, an_error_that_is_not_of_the_message_is_tried_again, 0,
                        sizeof temporary / sizeof temporary[0]);
    tcase_add_loop_test(tcase, a_transient_error_doubles_nothing, 0,
                        sizeof transient / sizeof transient[0]);
    tcase_add_test(tcase, a_fatal_error_makes_a_new_producer);
    tcase_add_test(tcase, an_option_that_breaks_a_guarantee_or_loads_a_library_is_refused);
    tcase_add_test(tcase, a_wrong_setting_is_refused_with_the_name_of_its_field);
    tcase_add_test(tcase, a_test_says_which_step_fails_and_what_to_change);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
