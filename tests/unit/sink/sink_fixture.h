/* A sink with its thread, messages for it, and a record of its answers. Header-only. */
#ifndef MQFLEET_TEST_SINK_FIXTURE_H
#define MQFLEET_TEST_SINK_FIXTURE_H

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "message/message.h"
#include "base/telemetry/metrics.h"
#include "sink/sink.h"

#define WAIT_MS 20000 /* for anything that must happen */

static atomic_int accepted_count, canceled_count;

static struct receipts answers = {.wake_fd = -1};

/* Counts what the sink has answered since the last call; how many. The test's thread. */
static inline int collect_answers(void) {
    int n = 0;
    struct receipt *receipt = receipts_take(&answers);
    while (receipt) {
        struct receipt *next = receipt->next;
        atomic_fetch_add(receipt->result == ERR_OK ? &accepted_count : &canceled_count, 1);
        free(receipt);
        receipt = next;
        n++;
    }
    return n;
}

/* As an engine does. */
static inline enum err submit(struct sink *sink, struct message *message) {
    struct receipt *receipt = calloc(1, sizeof *receipt);
    ck_assert_ptr_nonnull(receipt);
    receipt->owner = &answers;
    enum err err = message_queue_put(sink_queue(sink), NULL, message, receipt);
    if (err != ERR_OK) {
        free(receipt);
    }
    return err;
}

static inline void flush(struct sink *sink) {
    message_queue_flush(sink_queue(sink));
}

/* A message whose payload is its number. */
static inline struct message *numbered_message(int number, uint8_t qos) {
    char payload[16];
    int len = snprintf(payload, sizeof payload, "%d", number);
    struct message from = {.id = "id",
                           .client_id = "client",
                           .topic = "topic",
                           .payload = (const uint8_t *)payload,
                           .payload_len = (size_t)len,
                           .received_at_ms = 1234567890123,
                           .received_us = clock_us() - 5000,
                           .qos = qos};
    struct message *message = message_create(&from);
    ck_assert_ptr_nonnull(message);
    return message;
}

/* Submits like an engine: waits while there is no room. */
static inline void submit_waiting(struct sink *sink, int number, uint8_t qos) {
    struct message *message = numbered_message(number, qos);
    int64_t deadline_ms = clock_ms() + WAIT_MS;
    enum err err = submit(sink, message);
    while (err == ERR_FULL && clock_ms() < deadline_ms) {
        flush(sink);
        while (!message_queue_has_room(sink_queue(sink), NULL) && clock_ms() < deadline_ms) {
            usleep(20);
        }
        err = submit(sink, message);
    }
    ck_assert_int_eq(err, ERR_OK);
    flush(sink);
}

#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        int64_t await_until_ms = clock_ms() + WAIT_MS;                                             \
        while (collect_answers(), !(condition) && clock_ms() < await_until_ms) {                   \
            clock_sleep_ms(2);                                                                     \
        }                                                                                          \
        ck_assert_msg((condition), "never came: %s", #condition);                                  \
    } while (0)

struct sink_fixture {
    struct sink *sink;
    pthread_t thread;
};

static inline struct sink *create_sink(const struct sink_config *config) {
    struct sink *sink = NULL;
    char fault[SINK_FAULT_LEN] = "";
    ck_assert_msg(sink_create(&sink, config, fault) == ERR_OK, "%s", fault);
    return sink;
}

static inline void run_sink(struct sink_fixture *fixture, struct sink *sink) {
    fixture->sink = sink;
    ck_assert_int_eq(pthread_create(&fixture->thread, NULL, sink_run, sink), 0);
}

static inline void end_sink(struct sink_fixture *fixture, int64_t timeout_ms) {
    sink_stop(fixture->sink, timeout_ms);
    pthread_join(fixture->thread, NULL);
    sink_destroy(fixture->sink);
    collect_answers();
}

#endif
