/* A server with its worker threads on a free port, over a real Redis, and a small HTTP client.
 * There is no node behind it: only routes that need neither workers nor agent may be called. */
#ifndef MQFLEET_TEST_HTTP_FIXTURE_H
#define MQFLEET_TEST_HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <check.h>
#include <jansson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/config/conf.h"
#include "base/telemetry/time_series.h"
#include "http/server/server.h"
#include "net/http_client.h"
#include "net/redis/redis.h"
#include "redis_fixture.h"
#include "store/store.h"

#define FIXTURE_THREADS 3 /* workers */

static const char *fixture_url;
static struct http_server *server;
static struct store *store;
static struct node *node;
static struct workers *hosts;
static struct peers *peers;
static struct peer_calls *calls;
static struct workers_owner no_owner;
static struct conf *conf;
static struct event_bus *news;
static struct message_taps *taps;
static struct time_series *samples;
static struct wait_reasons *wait_reasons;
static pthread_t fixture_threads[FIXTURE_THREADS + 3];
static int fixture_port;

/* ---- the server ------------------------------------------------------------------------------ */

static inline int free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* more: further settings, "key=value", NULL: none. */
static inline void server_begin(const char *redis_url, const char *more) {
    char fault[CONF_FAULT_LEN] = "";
    char port[64];
    fixture_port = free_port();
    snprintf(port, sizeof(port), "node_info.port=%d", fixture_port);
    const char *sets[] = {port, "http.workers=3", more};
    ck_assert_msg(conf_load(&conf, NULL, sets, more ? 3 : 2, fault) == ERR_OK, "%s", fault);
    store = store_open(redis_url, "", 2000, 4);
    ck_assert_ptr_nonnull(store);
    ck_assert_int_eq(http_client_global_init(), ERR_OK);
    node = node_create(conf, store);
    hosts = workers_create(conf, &no_owner);
    peers = peers_create(conf, NULL);
    calls = peer_calls_create(conf, peers);
    news = event_bus_create(conf, store, redis_url, NULL);
    taps = message_taps_create();
    samples = time_series_create();
    wait_reasons = wait_reasons_create(store, NULL, conf->heartbeat_ttl_ms);
    ck_assert(news && taps && samples && node && hosts && peers && calls && wait_reasons);
    struct http_context context = {.conf = conf,
                                   .store = store,
                                   .node = node,
                                   .workers = hosts,
                                   .peers = peers,
                                   .peer_calls = calls,
                                   .event_bus = news,
                                   .message_taps = taps,
                                   .time_series = samples,
                                   .wait_reasons = wait_reasons};
    ck_assert_msg(http_server_start(&server, &context, fault) == ERR_OK, "%s", fault);
    for (int i = 0; i < FIXTURE_THREADS; i++) {
        pthread_create(&fixture_threads[i], NULL, http_handlers_run, http_server_handlers(server));
    }
    pthread_create(&fixture_threads[FIXTURE_THREADS], NULL, http_streams_run,
                   http_server_streams(server));
    pthread_create(&fixture_threads[FIXTURE_THREADS + 1], NULL, event_bus_run, news);
    pthread_create(&fixture_threads[FIXTURE_THREADS + 2], NULL, peer_calls_run, calls);
}

/* The server stays, without a thread. */
static inline void server_threads_end(void) {
    event_bus_stop(news);
    http_server_stop(server);
    peer_calls_stop(calls);
    for (int i = 0; i < FIXTURE_THREADS + 3; i++) {
        pthread_join(fixture_threads[i], NULL);
    }
}

static inline void server_end(void) {
    server_threads_end();
    http_server_destroy(server);
    event_bus_destroy(news);
    message_taps_destroy(taps);
    time_series_destroy(samples);
    wait_reasons_destroy(wait_reasons);
    workers_destroy(hosts);
    peer_calls_destroy(calls);
    peers_destroy(peers);
    node_destroy(node);
    store_close(store);
    conf_destroy(conf);
}

static inline void fixture_redis_start(void) {
    fixture_url = redis_fixture_start();
}

/* One Redis command; ends with NULL. redis_reply_free. */
static inline struct redis_reply *redis_do(const char *first, ...) {
    const char *argv[16] = {first};
    int argc = 1;
    va_list list;
    va_start(list, first);
    for (const char *part; (part = va_arg(list, const char *));) {
        argv[argc++] = part;
    }
    va_end(list);
    struct redis *redis = redis_create(fixture_url, 2000);
    struct redis_reply *reply = NULL;
    ck_assert_int_eq(redis_command(redis, argc, argv, NULL, &reply), ERR_OK);
    redis_destroy(redis);
    return reply;
}

static inline void fixture_begin(void) {
    redis_reply_free(redis_do("FLUSHALL", NULL));
    server_begin(fixture_url, NULL);
}

/* ---- the client ------------------------------------------------------------------------------ */

struct probe_answer {
    int status;
    char *headers; /* with the status line */
    char *body;
    json_t *json; /* NULL: the body is none */
};

static inline int dial(void) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)fixture_port)};
    struct timeval limit = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static inline void send_bytes(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        data += n;
        len -= (size_t)n;
    }
}

static inline void send_text(int fd, const char *text) {
    send_bytes(fd, text, strlen(text));
}

/* The value of a header of the answer; valid until the next call; NULL: there is none. */
static inline const char *header_of(const struct probe_answer *answer, const char *name) {
    static _Thread_local char value[256];
    char line[64];
    snprintf(line, sizeof(line), "\r\n%s: ", name);
    const char *found = strcasestr(answer->headers, line);
    if (!found) {
        return NULL;
    }
    found += strlen(line);
    snprintf(value, sizeof(value), "%.*s", (int)strcspn(found, "\r"), found);
    return value;
}

/* Reads one answer; bodiless: that of a HEAD. status 0: the connection ended first. */
static inline struct probe_answer receive(int fd, int bodiless) {
    struct probe_answer answer = {0};
    struct buffer head;
    buffer_init(&head);
    while (head.len < 4 || memcmp(head.data + head.len - 4, "\r\n\r\n", 4) != 0) {
        char byte;
        if (recv(fd, &byte, 1, 0) != 1) {
            buffer_fini(&head);
            answer.headers = strdup("");
            answer.body = strdup("");
            return answer;
        }
        buffer_append(&head, &byte, 1);
    }
    answer.headers = buffer_take(&head);
    answer.status = atoi(answer.headers + strlen("HTTP/1.1 "));
    const char *length = header_of(&answer, "Content-Length");
    size_t body_len = length && !bodiless ? (size_t)atol(length) : 0;
    answer.body = calloc(1, body_len + 1);
    for (size_t got = 0; got < body_len;) {
        ssize_t n = recv(fd, answer.body + got, body_len - got, 0);
        ck_assert_int_gt(n, 0);
        got += (size_t)n;
    }
    answer.json = json_loads(answer.body, 0, NULL);
    return answer;
}

static inline void answer_free(struct probe_answer *answer) {
    free(answer->headers);
    free(answer->body);
    json_decref(answer->json);
}

/* headers: "Name: value\r\n" each, "" for none; body NULL: none. */
static inline struct probe_answer ask(const char *method, const char *path, const char *headers,
                                      const char *body) {
    struct buffer request;
    int fd = dial();
    buffer_init(&request);
    buffer_printf(&request, "%s %s HTTP/1.1\r\nHost: x\r\n%s", method, path, headers);
    if (body) {
        buffer_printf(&request, "Content-Length: %zu\r\n", strlen(body));
    }
    buffer_append_str(&request, "\r\n");
    buffer_append_str(&request, body ? body : "");
    send_bytes(fd, request.data, request.len);
    buffer_fini(&request);
    struct probe_answer answer = receive(fd, strcmp(method, "HEAD") == 0);
    close(fd);
    return answer;
}

/* Sends a request, checks the status, and returns the JSON of the answer, which the caller decrefs.
 */
static inline json_t *ask_json(const char *method, const char *path, const char *body, int status) {
    struct probe_answer answer = ask(method, path, "", body);
    ck_assert_msg(answer.status == status, "%s %s: %d, not %d: %s", method, path, answer.status,
                  status, answer.body);
    json_t *json = json_incref(answer.json);
    answer_free(&answer);
    return json;
}

/* "a.b.0" of a document; NULL: not there. */
static inline json_t *at(json_t *json, const char *path) {
    char part[64];
    while (json && *path != '\0') {
        size_t len = strcspn(path, ".");
        snprintf(part, sizeof(part), "%.*s", (int)len, path);
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(part))
                                   : json_object_get(json, part);
        path += len + (path[len] == '.');
    }
    return json;
}

static inline const char *text_at(json_t *json, const char *path) {
    const char *text = json_string_value(at(json, path));
    return text ? text : "(none)";
}

static inline long long int_at(json_t *json, const char *path) {
    return json_is_integer(at(json, path)) ? json_integer_value(at(json, path)) : -1;
}

#endif
