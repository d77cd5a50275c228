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
#include "base/system/clock.h"
#include "message/message.h"
#include "base/telemetry/metrics.h"
#include "sink/sink.h"

#define WAIT_MS 20000 /* for anything that must happen */

static atomic_int accepted_count, canceled_count;

static inline void count_answer(void *context, enum err err) {
    atomic_int *own = context;
    atomic_fetch_add(err == ERR_OK ? &accepted_count : &canceled_count, 1);
    if (own) {
        atomic_fetch_add(own, 1);
    }
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
    enum err err = sink_submit(sink, message, count_answer, NULL);
    while (err == ERR_FULL && clock_ms() < deadline_ms) {
        sink_flush(sink);
        sink_wait_room(sink, 1000);
        err = sink_submit(sink, message, count_answer, NULL);
    }
    ck_assert_int_eq(err, ERR_OK);
    sink_flush(sink);
}

#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        int64_t await_until_ms = clock_ms() + WAIT_MS;                                             \
        while (!(condition) && clock_ms() < await_until_ms) {                                      \
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
    char fault[256] = "";
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
}

#endif
