/* A Kafka cluster of one broker, by librdkafka, over TCP, and a consumer of it. Header-only. */
#ifndef MQFLEET_TEST_MOCK_CLUSTER_H
#define MQFLEET_TEST_MOCK_CLUSTER_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include "base/system/clock.h"

#define MOCK_WAIT_MS     20000
#define MOCK_BROKER      1
#define MOCK_PRODUCE     0 /* keys of the requests of Kafka's protocol */
#define MOCK_PRODUCER_ID 22

struct mock_cluster {
    rd_kafka_t *handle;
    rd_kafka_mock_cluster_t *cluster;
    const char *brokers;
};

static inline rd_kafka_t *mock_new(rd_kafka_type_t type, const char *brokers) {
    char fault[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (brokers) {
        rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
        rd_kafka_conf_set(conf, "group.id", "test", NULL, 0);
        rd_kafka_conf_set(conf, "check.crcs", "true", NULL, 0);
    }
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    rd_kafka_t *handle = rd_kafka_new(type, conf, fault, sizeof fault);
    ck_assert_msg(handle != NULL, "%s", fault);
    return handle;
}

static inline void mock_start(struct mock_cluster *mock, const char *topic, int partitions) {
    mock->handle = mock_new(RD_KAFKA_PRODUCER, NULL);
    mock->cluster = rd_kafka_mock_cluster_new(mock->handle, 1);
    ck_assert_ptr_nonnull(mock->cluster);
    mock->brokers = rd_kafka_mock_cluster_bootstraps(mock->cluster);
    rd_kafka_mock_topic_create(mock->cluster, topic, partitions, 1);
}

static inline void mock_stop(struct mock_cluster *mock) {
    rd_kafka_mock_cluster_destroy(mock->cluster);
    rd_kafka_destroy(mock->handle);
}

/* ---- a consumer ------------------------------------------------------------------------------ */

static inline rd_kafka_t *mock_consume(const struct mock_cluster *mock, const char *topic,
                                       int partitions) {
    rd_kafka_t *consumer = mock_new(RD_KAFKA_CONSUMER, mock->brokers);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    rd_kafka_poll_set_consumer(consumer);
    for (int i = 0; i < partitions; i++) {
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    }
    ck_assert_int_eq(rd_kafka_assign(consumer, list), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    return consumer;
}

/* The next record, to be destroyed; NULL: none for wait_ms. */
static inline rd_kafka_message_t *mock_next(rd_kafka_t *consumer, int64_t wait_ms) {
    int64_t until_ms = clock_ms() + wait_ms;
    do {
        rd_kafka_message_t *record = rd_kafka_consumer_poll(consumer, 50);
        if (record && record->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            return record;
        }
        if (record) {
            rd_kafka_message_destroy(record);
        }
    } while (clock_ms() < until_ms);
    return NULL;
}

static inline void mock_consume_end(rd_kafka_t *consumer) {
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
}

#endif
