/* Tests of the MQTT sink against a target that refuses, ends connections and stalls. */
#include "sink/type_fixture.h"

#include <stdlib.h>
#include "base/config/conf.h"
#include "base/system/clock.h"
#include "mqtt_target.h"
#include "sink/types/mqtt/mqtt_access.h"

extern const struct sink_type sink_type_mqtt;

#define MESSAGES_MAX 1000

static struct conf *conf;
static struct message *messages[MESSAGES_MAX];
static size_t count;
static char url[64];

static void setup(void) {
    char fault[CONF_FAULT_LEN];
    ck_assert_msg(conf_load(&conf, NULL, NULL, 0, fault) == ERR_OK, "%s", fault);
    type_environment.conf = conf;
    type_environment.sink = "bridge";
    type_environment.address_allowed = NULL;
    target_start();
    snprintf(url, sizeof url, "mqtt://127.0.0.1:%d", target.port);
    count = 0;
    type_state = NULL;
}

static void teardown(void) {
    if (type_state) {
        type_close(&sink_type_mqtt);
    }
    target_end();
    for (size_t i = 0; i < count; i++) {
        message_destroy(messages[i]);
    }
    conf_destroy(conf);
}

static void open_sink(int version, const char *topic) {
    type_open(&sink_type_mqtt,
              type_complete(&sink_type_mqtt, "{s:s, s:s, s:i, s:i}", "url", url, "topic", topic,
                            "protocol_version", version, "timeout_ms", 1000));
}

static struct message *add(const struct message *more, const char *payload) {
    struct message from = *more;
    from.id = from.client_id = "pump-1";
    from.topic = from.topic ? from.topic : "plant/tank";
    from.payload = (const uint8_t *)payload;
    from.payload_len = strlen(payload);
    from.received_us = from.received_us ? from.received_us : clock_us();
    from.qos = 1;
    return messages[count++] = message_create(&from);
}

static void add_text(const char *payload) {
    add(&(struct message){0}, payload);
}

static void add_numbers(size_t n) {
    char text[16];
    for (size_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%zu", count);
        add_text(text);
    }
}

static enum err write_all(void) {
    size_t written;
    return type_write(&sink_type_mqtt, messages, count, &written);
}

/* As sink.c: what is accepted or rejected leaves, the others are written again. Returns how many
 * were rejected; their number is bounded by that of the writes. */
static int write_until_done(int writes_max) {
    struct message *left[MESSAGES_MAX];
    size_t n = count, written;
    int rejected = 0;
    memcpy(left, messages, sizeof left);
    for (int i = 0; i < writes_max && n > 0; i++) {
        (void)type_write(&sink_type_mqtt, left, n, &written);
        size_t kept = 0;
        for (size_t j = 0; j < n; j++) {
            rejected += type_outcomes[j] == SINK_REJECTED;
            if (type_outcomes[j] == SINK_RETRY) {
                left[kept++] = left[j];
            }
        }
        n = kept;
    }
    ck_assert_msg(n == 0, "%zu left: %s", n, type_error);
    return rejected;
}

/* ---- sending ---- */

START_TEST(messages_arrive_in_order) {
    char text[16];
    open_sink(_i, "{topic}");
    add_numbers(MESSAGES_MAX);
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    ck_assert_int_eq(target.taken_count, MESSAGES_MAX);
    for (int i = 0; i < MESSAGES_MAX; i++) {
        snprintf(text, sizeof text, "%d", i);
        ck_assert_str_eq(target.taken[i], text);
    }
    ck_assert_int_eq(target.connections, 1);
}
END_TEST

START_TEST(the_receive_maximum_is_kept) {
    memcpy(target.connack, "\3\x21\0\7", 4);
    target.holds = true;
    open_sink(5, "{topic}");
    add_numbers(30);
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    ck_assert_int_eq(target.unanswered_max, 7);
}
END_TEST

START_TEST(without_a_receive_maximum_messages_in_flight_are_bounded) {
    target.holds = true;
    open_sink(5, "{topic}");
    add_numbers(600);
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    ck_assert_int_gt(target.unanswered_max, 100);
    ck_assert_int_le(target.unanswered_max, 256);
}
END_TEST

START_TEST(a_larger_message_than_the_target_takes_is_rejected) {
    char large[300] = "";
    memset(large, 'a', sizeof large - 1);
    memcpy(target.connack, "\5\x27\0\0\0\xc8", 6);
    open_sink(5, "{topic}");
    add_text("1");
    add_text(large);
    add_text("2");
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    ck_assert_int_eq(type_outcomes[1], SINK_REJECTED);
    ck_assert_int_eq(target.taken_count, 2);
}
END_TEST

START_TEST(a_topic_that_cannot_be_published_is_rejected) {
    open_sink(5, "{json./t}");
    add_text("{\"t\": \"a/+\"}");
    add_text("{}");
    add_text("{\"t\": \"\"}");
    add_text("{\"t\": \"a/b\"}");
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(type_outcomes[i], SINK_REJECTED);
    }
    ck_assert_int_eq(type_outcomes[3], SINK_ACCEPTED);
    ck_assert_int_eq(memcmp(target.last, "\0\3a/b", 5), 0);
}
END_TEST

/* ---- refusals ---- */

static const struct {
    const char *payload;
    enum sink_outcome outcome;
} codes[] = {
    {"R\x10", SINK_ACCEPTED}, {"R\x99", SINK_REJECTED}, {"R\x95", SINK_REJECTED},
    {"R\x90", SINK_REJECTED}, {"R\x80", SINK_RETRY},    {"R\x83", SINK_RETRY},
    {"R\x87", SINK_RETRY},    {"R\x91", SINK_RETRY},    {"R\x97", SINK_RETRY},
};

START_TEST(each_reason_code_has_its_outcome) {
    open_sink(5, "{topic}");
    add_text(codes[_i].payload);
    add_numbers(3);
    enum err err = write_all();
    ck_assert_int_eq(type_outcomes[0], codes[_i].outcome);
    for (size_t i = 1; i < count; i++) {
        ck_assert_int_eq(type_outcomes[i], SINK_ACCEPTED);
    }
    ck_assert_int_eq(err == ERR_OK, codes[_i].outcome != SINK_RETRY);
    ck_assert_int_eq(target.connections, 1);
}
END_TEST

START_TEST(a_refused_message_is_sent_after_the_others) {
    size_t written;
    open_sink(5, "{topic}");
    add_text("R\x87");
    add_numbers(2);
    ck_assert_int_ne(type_write(&sink_type_mqtt, messages, 1, &written), ERR_OK);
    ck_assert_int_ne(write_all(), ERR_OK);
    ck_assert_int_eq(target.taken_count, 2);
    ck_assert_mem_eq(target.last + target.last_len - 2, "R\x87", 2);
    ck_assert_ptr_nonnull(strstr(type_error, "refuses topic plant/tank"));
}
END_TEST

/* ---- ends of connections ---- */

START_TEST(one_that_ends_connections_is_rejected_alone_and_the_order_stays) {
    open_sink(_i, "{topic}");
    add_numbers(100);
    add_text("X");
    add_numbers(100);
    ck_assert_int_eq(write_until_done(10), 1);
    ck_assert_int_le(target.connections, 6);
    int last = -1;
    for (int i = 0; i < target.taken_count; i++) {
        ck_assert_int_le(atoi(target.taken[i]), last < 0 ? 0 : 300);
        last = atoi(target.taken[i]) > last ? atoi(target.taken[i]) : last;
    }
    ck_assert_int_eq(last, 200);
}
END_TEST

START_TEST(several_that_end_connections_are_all_found) {
    open_sink(5, "{topic}");
    add_numbers(5);
    add_text("X1");
    add_text("X2");
    add_numbers(5);
    add_text("X3");
    add_numbers(5);
    ck_assert_int_eq(write_until_done(30), 3);
}
END_TEST

START_TEST(without_others_that_pass_nothing_is_rejected) {
    open_sink(5, "{topic}");
    add_text("X1");
    add_text("X2");
    for (int i = 0; i < 10; i++) {
        ck_assert_int_ne(write_all(), ERR_OK);
        ck_assert_int_eq(type_outcomes[0], SINK_RETRY);
        ck_assert_int_eq(type_outcomes[1], SINK_RETRY);
    }
}
END_TEST

START_TEST(a_target_that_stalls_is_given_up_in_time_and_asked_again) {
    open_sink(5, "{topic}");
    add_numbers(2);
    add_text("S");
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(write_all(), ERR_IO);
    ck_assert_int_lt(clock_ms() - begin_ms, 20000);
    ck_assert_str_eq(type_error, "the broker does not acknowledge messages");
    ck_assert_int_eq(type_outcomes[1], SINK_ACCEPTED);
    ck_assert_int_eq(type_outcomes[2], SINK_RETRY);
    ck_assert_int_ne(write_all(), ERR_OK);
    ck_assert_int_eq(target.connections, 2);
}
END_TEST

START_TEST(a_target_that_does_not_greet_is_given_up_in_time) {
    target.mute = true;
    open_sink(5, "{topic}");
    add_text("1");
    ck_assert_int_ne(write_all(), ERR_OK);
    ck_assert_int_eq(type_outcomes[0], SINK_RETRY);
}
END_TEST

static bool deny(const void *context, const char *host, const struct sockaddr *address,
                 const char **why) {
    (void)context;
    ck_assert_str_eq(host, "127.0.0.1");
    ck_assert_int_eq(address->sa_family, AF_INET);
    *why = "denied by a test";
    return false;
}

START_TEST(an_address_that_is_denied_is_not_connected_to) {
    type_environment.address_allowed = deny;
    open_sink(5, "{topic}");
    add_text("1");
    ck_assert_int_ne(write_all(), ERR_OK);
    ck_assert_str_eq(type_error, "denied by a test");
    ck_assert_int_eq(target.connections, 0);
}
END_TEST

/* ---- properties and loops ---- */

static const char *via(void) {
    static char text[64];
    snprintf(text, sizeof text, "/bridge@127.0.0.1:%d", target.port);
    return text;
}

static bool last_has(const char *text) {
    return memmem(target.last, target.last_len, text, strlen(text)) != NULL;
}

START_TEST(properties_go_along_and_a_mark_is_added) {
    const struct message_property properties[] = {
        {.name = "content_type", .value = "text/x", .value_len = 6},
        {.name = "subscription_identifier", .value = "7", .value_len = 1},
        {.name = "message_expiry_interval", .value = "100", .value_len = 3},
        {.name = "user_property", .key = "colour", .value = "red", .value_len = 3}};
    open_sink(5, "{topic}");
    add(&(struct message){.properties = properties,
                          .property_count = 4,
                          .retain = true,
                          .received_us = clock_us() - 40 * 1000000},
        "1");
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    ck_assert(last_has("text/x") && last_has("\0\6colour\0\3red") && last_has("mqfleet-via"));
    ck_assert(last_has(via()));
    ck_assert_ptr_nonnull(memmem(target.last, target.last_len, "\2\0\0\0\x3c", 5)); /* 60 s */
    ck_assert_int_eq(target.last_flags, 0x03); /* QoS 1, retain */
}
END_TEST

START_TEST(a_message_that_was_here_is_accepted_and_not_sent) {
    struct message_property property = {.name = "user_property", .key = "mqfleet-via"};
    char own[80], other[80];
    snprintf(own, sizeof own, "%s", via());
    snprintf(other, sizeof other, "other%s", via());
    open_sink(5, "{topic}");
    property.value = other;
    property.value_len = strlen(other);
    add(&(struct message){.properties = &property, .property_count = 1}, "1");
    property.value = own;
    property.value_len = strlen(own);
    add(&(struct message){.properties = &property, .property_count = 1}, "2");
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    ck_assert_int_eq(type_outcomes[1], SINK_ACCEPTED);
    ck_assert_int_eq(target.taken_count, 1);
    ck_assert_str_eq(target.taken[0], "1");
}
END_TEST

START_TEST(in_3_1_1_a_message_does_not_return_to_its_own_topic) {
    char broker[32];
    snprintf(broker, sizeof broker, "127.0.0.1:%d", target.port);
    struct message_origin *origin = message_origin_create(broker, NULL, 0);
    open_sink(4, "{json./t|plant/tank}");
    add(&(struct message){.origin = origin}, "1");
    add(&(struct message){.origin = origin}, "{\"t\": \"other\"}");
    message_origin_release(origin);
    ck_assert_msg(write_all() == ERR_OK, "%s", type_error);
    ck_assert_int_eq(type_outcomes[0], SINK_REJECTED);
    ck_assert_int_eq(strncmp(type_reasons[0], "loop", 4), 0);
    ck_assert_int_eq(type_outcomes[1], SINK_ACCEPTED);
    ck_assert_int_eq(target.taken_count, 1);
}
END_TEST

/* ---- settings ---- */

static const struct {
    const char *field, *value, *fault;
} faults[] = {
    {"url", "http://127.0.0.1", "url must"},
    {"url", "mqtt://user:word@127.0.0.1", "url must have no user information"},
    {"topic", "{nothing}", "topic "},
    {"client_id", "{host}", "client_id must"},
    {"client_id", "a{node", "client_id must"},
    {"client_id", "", "client_id must"},
    {"tls_ca", "relative.pem", "tls_ca must"},
    {"tls_ca", "/ca.pem", "tls must be omitted"},
};

START_TEST(settings_that_are_wrong_are_named) {
    json_t *settings = type_complete(&sink_type_mqtt, "{s:s, s:s}", "url", url, "username", "u");
    json_object_set_new(settings, faults[_i].field, json_string(faults[_i].value));
    void *state;
    ck_assert_int_eq(sink_type_mqtt.open(&state, &type_environment, settings, type_fault),
                     ERR_ARGUMENT);
    ck_assert_msg(strncmp(type_fault, faults[_i].fault, strlen(faults[_i].fault)) == 0, "%s",
                  type_fault);
    ck_assert_ptr_null(strstr(type_fault, "word@"));
    json_decref(settings);
}
END_TEST

START_TEST(each_instance_has_an_identifier_of_its_own) {
    char *one, *other;
    json_t *settings = type_complete(&sink_type_mqtt, "{s:s}", "url", url);
    ck_assert_int_eq(mqtt_access_client_id(&type_environment, settings, &one, type_fault), ERR_OK);
    ck_assert_int_eq(mqtt_access_client_id(&type_environment, settings, &other, type_fault),
                     ERR_OK);
    ck_assert_int_eq(strncmp(one, "mqfleet-node-1-bridge-", 22), 0);
    ck_assert_uint_eq(strlen(one), 30);
    ck_assert_str_ne(one, other);
    free(one);
    free(other);
    json_decref(settings);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mqtt");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, messages_arrive_in_order, 4, 6);
    tcase_add_test(tcase, the_receive_maximum_is_kept);
    tcase_add_test(tcase, without_a_receive_maximum_messages_in_flight_are_bounded);
    tcase_add_test(tcase, a_larger_message_than_the_target_takes_is_rejected);
    tcase_add_test(tcase, a_topic_that_cannot_be_published_is_rejected);
    tcase_add_loop_test(tcase, each_reason_code_has_its_outcome, 0,
                        (int)(sizeof codes / sizeof codes[0]));
    tcase_add_test(tcase, a_refused_message_is_sent_after_the_others);
    tcase_add_loop_test(tcase, one_that_ends_connections_is_rejected_alone_and_the_order_stays, 4,
                        6);
    tcase_add_test(tcase, several_that_end_connections_are_all_found);
    tcase_add_test(tcase, without_others_that_pass_nothing_is_rejected);
    tcase_add_test(tcase, a_target_that_stalls_is_given_up_in_time_and_asked_again);
    tcase_add_test(tcase, a_target_that_does_not_greet_is_given_up_in_time);
    tcase_add_test(tcase, an_address_that_is_denied_is_not_connected_to);
    tcase_add_test(tcase, properties_go_along_and_a_mark_is_added);
    tcase_add_test(tcase, a_message_that_was_here_is_accepted_and_not_sent);
    tcase_add_test(tcase, in_3_1_1_a_message_does_not_return_to_its_own_topic);
    tcase_add_loop_test(tcase, settings_that_are_wrong_are_named, 0,
                        (int)(sizeof faults / sizeof faults[0]));
    tcase_add_test(tcase, each_instance_has_an_identifier_of_its_own);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
