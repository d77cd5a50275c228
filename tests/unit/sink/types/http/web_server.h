/* A small HTTP server for tests, one thread per connection. A test decides about each request. What
 * it accepted is kept. Header-only. */
#ifndef MQFLEET_TEST_WEB_SERVER_H
#define MQFLEET_TEST_WEB_SERVER_H

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WEB_REQUESTS_MAX 4096

struct web_request {
    char *head; /* with the empty line, NUL-terminated */
    char *body; /* NUL-terminated */
    size_t body_len;
};

/* Answers one request. False: the connection is closed. */
typedef bool web_answer(int fd, const struct web_request *request);

static _Atomic(web_answer *) web_answers;
static int web_listen_fd, web_port;
static pthread_t web_acceptor;
static pthread_mutex_t web_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static struct web_request web_requests[WEB_REQUESTS_MAX];    /* all, in the order received */
static int web_count;
static atomic_int web_connections;

static inline bool web_send(int fd, const void *data, size_t len) {
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

/* status: "200 OK\r\nRetry-After: 7". */
static inline bool web_reply(int fd, const char *status, const char *body) {
    char head[512];
    int len = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n", status,
                       strlen(body));
    return web_send(fd, head, (size_t)len) && web_send(fd, body, strlen(body));
}

/* The value of a header, in a static buffer of the thread; "" if there is none. */
static inline const char *web_header(const struct web_request *request, const char *name) {
    static _Thread_local char value[512];
    char line[128];
    snprintf(line, sizeof line, "\r\n%s: ", name);
    const char *at = strcasestr(request->head, line);
    *value = '\0';
    if (at) {
        at += strlen(line);
        snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
    }
    return value;
}

/* False: the connection has ended. */
static inline bool web_read(int fd, struct web_request *out) {
    char *data = malloc(65536 + 1);
    size_t len = 0;
    char *end = NULL;
    ssize_t n = 1;
    while (!end && n > 0 && len < 65536) {
        n = recv(fd, data + len, 65536 - len, 0);
        len += n > 0 ? (size_t)n : 0;
        data[len] = '\0';
        end = strstr(data, "\r\n\r\n");
    }
    if (!end) {
        free(data);
        return false;
    }
    size_t head_len = (size_t)(end - data) + 4;
    *out = (struct web_request){.head = strndup(data, head_len)};
    out->body_len = (size_t)atol(web_header(out, "Content-Length"));
    out->body = calloc(1, out->body_len + 1);
    memcpy(out->body, data + head_len, len - head_len);
    size_t got = len - head_len;
    free(data);
    while (got < out->body_len && (n = recv(fd, out->body + got, out->body_len - got, 0)) > 0) {
        got += (size_t)n;
    }
    return got == out->body_len;
}

static inline void *web_serve(void *argument) {
    int fd = (int)(intptr_t)argument;
    struct web_request request = {0};
    bool going = true;
    while (going && web_read(fd, &request)) {
        pthread_mutex_lock(&web_lock);
        ck_assert_int_lt(web_count, WEB_REQUESTS_MAX);
        web_requests[web_count++] = request;
        pthread_mutex_unlock(&web_lock);
        web_answer *answer = web_answers;
        going = answer(fd, &request);
    }
    close(fd);
    return NULL;
}

static inline void *web_accept(void *argument) {
    (void)argument;
    for (;;) {
        int fd = accept(web_listen_fd, NULL, NULL);
        pthread_t thread;
        if (fd < 0) {
            return NULL;
        }
        atomic_fetch_add(&web_connections, 1);
        ck_assert_int_eq(pthread_create(&thread, NULL, web_serve, (void *)(intptr_t)fd), 0);
        pthread_detach(thread);
    }
}

static inline void web_start(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    signal(SIGPIPE, SIG_IGN);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    web_listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(web_listen_fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(web_listen_fd, 128), 0);
    ck_assert_int_eq(getsockname(web_listen_fd, (struct sockaddr *)&address, &len), 0);
    web_port = ntohs(address.sin_port);
    ck_assert_int_eq(pthread_create(&web_acceptor, NULL, web_accept, NULL), 0);
}

/* Nobody listens from now on. */
static inline void web_stop(void) {
    shutdown(web_listen_fd, SHUT_RDWR);
    pthread_join(web_acceptor, NULL);
    close(web_listen_fd);
}

#endif
