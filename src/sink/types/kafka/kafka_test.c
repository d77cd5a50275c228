/* Owns the steps of a test: settings, connect, topic. Each test has a producer of its own. */
#include "kafka_test.h"

#include <stdio.h>
#include <string.h>
#include "kafka_producer.h"
#include "kafka_record.h"
#include "kafka_settings.h"

#define KAFKA_TEST_MS      5000
#define KAFKA_TEST_POLL_MS 200 /* for errors that librdkafka has to report */

struct kafka_test {
    const struct sink_test_report *report;
    struct kafka_producer *producer;
    const char *topic; /* NULL: it depends on the message */
};

static void kafka_test_step(struct kafka_test *test, const char *step, bool ok, const char *detail,
                            const char *advice) {
    test->report->step(test->report->context, step, ok, detail, advice);
}

static void kafka_test_ignore_report(void *context, const rd_kafka_message_t *report) {
    (void)context;
    (void)report;
}

/* A test creates no topic. NULL: out of memory. */
static json_t *kafka_test_settings(const json_t *settings) {
    json_t *copy = json_deep_copy(settings);
    json_t *options = json_object_get(copy, "options");
    if (json_object_set_new(options, "allow.auto.create.topics", json_string("false")) != 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

/* ---- brokers --------------------------------------------------------------------------------- */

static const char *kafka_test_connect_advice(const char *error) {
    bool sasl = strcasestr(error, "authentication") || strstr(error, "SASL ");
    return sasl                    ? "check sasl_mechanism, username and password"
           : strstr(error, "SSL ") ? "check tls, tls_ca, tls_cert and tls_key"
           : strstr(error, "No brokers configured")
               ? "brokers must be HOST:PORT, without a scheme, separated by commas"
               : "check that brokers names listeners of Kafka that this node reaches, and tls";
}

static void kafka_test_fail_connect(struct kafka_test *test, rd_kafka_resp_err_t error) {
    kafka_producer_wait(test->producer, 0); /* reports errors */
    rd_kafka_poll(kafka_producer_handle(test->producer), KAFKA_TEST_POLL_MS);
    const char *text = kafka_producer_error(test->producer);
    text = *text ? text : rd_kafka_err2str(error);
    kafka_test_step(test, "connect", false, text, kafka_test_connect_advice(text));
}

static void kafka_test_note_brokers(struct kafka_test *test,
                                    const struct rd_kafka_metadata *metadata) {
    char detail[SINK_FAULT_LEN];
    snprintf(detail, sizeof detail, "%d brokers, one is %.150s:%d", metadata->broker_cnt,
             metadata->broker_cnt > 0 ? metadata->brokers[0].host : "",
             metadata->broker_cnt > 0 ? metadata->brokers[0].port : 0);
    kafka_test_step(test, "connect", true, detail, NULL);
}

/* ---- the topic ------------------------------------------------------------------------------- */

static const char *kafka_test_topic_advice(rd_kafka_resp_err_t error) {
    return error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
               ? "grant the user Describe and Write on the topic"
               : "create the topic; brokers with auto.create.topics.enable do it with the first "
                 "message";
}

static void kafka_test_note_topic(struct kafka_test *test,
                                  const struct rd_kafka_metadata *metadata) {
    char detail[SINK_FAULT_LEN];
    if (!test->topic || metadata->topic_cnt == 0) {
        kafka_test_step(test, "topic", true, "depends on the message", NULL);
        return;
    }
    const struct rd_kafka_metadata_topic *topic = &metadata->topics[0];
    bool ok = topic->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (ok) {
        snprintf(detail, sizeof detail, "%.100s has %d partitions", topic->topic,
                 topic->partition_cnt);
    } else {
        snprintf(detail, sizeof detail, "%.100s: %.100s", topic->topic,
                 rd_kafka_err2str(topic->err));
    }
    kafka_test_step(test, "topic", ok, detail, kafka_test_topic_advice(topic->err));
}

static void kafka_test_ask(struct kafka_test *test) {
    rd_kafka_t *handle = kafka_producer_handle(test->producer);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *topic = test->topic ? rd_kafka_topic_new(handle, test->topic, NULL) : NULL;
    rd_kafka_resp_err_t error = rd_kafka_metadata(handle, 0, topic, &metadata, KAFKA_TEST_MS);
    if (topic) {
        rd_kafka_topic_destroy(topic);
    }
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        kafka_test_fail_connect(test, error);
        return;
    }
    kafka_test_note_brokers(test, metadata);
    kafka_test_note_topic(test, metadata);
    rd_kafka_metadata_destroy(metadata);
}

/* ---- all steps ------------------------------------------------------------------------------- */

static enum err kafka_test_open(struct kafka_test *test, const struct sink_environment *environment,
                                const json_t *settings, char *fault) {
    struct kafka_shape *shape = NULL;
    enum err err = kafka_shape_create(&shape, settings, environment->node, fault);
    kafka_shape_destroy(shape);
    if (err != ERR_OK) {
        return err;
    }
    const char *topic = sink_settings_text(settings, "topic");
    test->topic = strchr(topic, '{') ? NULL : topic;
    return kafka_producer_create(
        &test->producer,
        &(struct kafka_producer_config){
            .settings = settings, .environment = environment, .report = kafka_test_ignore_report},
        fault);
}

void kafka_test(const struct sink_environment *environment, const json_t *settings,
                const struct sink_test_report *report) {
    struct kafka_test test = {.report = report};
    char fault[SINK_FAULT_LEN] = "out of memory";
    json_t *own = kafka_test_settings(settings);
    if (!own || kafka_test_open(&test, environment, own, fault) != ERR_OK) {
        kafka_test_step(&test, "open", false, fault, "correct this field");
    } else {
        kafka_test_ask(&test);
    }
    kafka_producer_close(test.producer);
    json_decref(own);
}
