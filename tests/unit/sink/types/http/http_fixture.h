/* The http sink with a server, and messages for it. Header-only. */
#ifndef MQFLEET_TEST_HTTP_FIXTURE_H
#define MQFLEET_TEST_HTTP_FIXTURE_H

#include "sink/type_fixture.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "net/http_client.h"
#include "web_server.h"

#define MESSAGES_MAX 1000

extern const struct sink_type sink_type_http;

static char url[64];
static struct message *messages[MESSAGES_MAX];

static inline void setup(void) {
    web_start();
    snprintf(url, sizeof url, "http://127.0.0.1:%d/in?x=1", web_port);
    ck_assert_int_eq(http_client_global_init(), ERR_OK);
}

static inline void teardown(void) {
    type_close(&sink_type_http);
    for (size_t i = 0; i < MESSAGES_MAX; i++) {
        message_destroy(messages[i]);
    }
}

/* given: takes ownership; url is added. */
static inline void open_with(json_t *given) {
    json_object_set_new(given, "url", json_string(url));
    type_open(&sink_type_http, type_complete(&sink_type_http, "o", given));
}

static inline struct message *message_of(const char *id, const void *payload, size_t len) {
    struct message from = {.id = id,
                           .client_id = "c",
                           .topic = "a/b",
                           .payload = payload,
                           .payload_len = len,
                           .received_at_ms = 1700000000123,
                           .qos = 1};
    return message_create(&from);
}

/* Payloads 0, 1, 2 ... of `clients` clients in turn; `poison` is the payload of message `at`. */
static inline void make_messages(size_t count, size_t clients, size_t at, const char *poison) {
    for (size_t i = 0; i < count; i++) {
        char id[16], payload[16];
        snprintf(id, sizeof id, "client-%zu", i % clients);
        snprintf(payload, sizeof payload, "%zu", i);
        const char *text = i == at ? poison : payload;
        messages[i] = message_of(id, text, strlen(text));
    }
}

static inline enum err write_messages(size_t count) {
    size_t accepted;
    return type_write(&sink_type_http, messages, count, &accepted);
}

static inline size_t count_outcomes(size_t count, enum sink_outcome outcome) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        found += type_outcomes[i] == outcome;
    }
    return found;
}

static inline bool accept_all(int fd, const struct web_request *request) {
    (void)request;
    return web_reply(fd, "200 OK", "thank you");
}

static _Atomic(const char *) poison_status;

static inline bool refuse_poison(int fd, const struct web_request *request) {
    bool poisoned = strstr(request->body, "poison");
    return web_reply(fd, poisoned ? poison_status : "200 OK", poisoned ? "row 3\nis bad" : "");
}

#endif
