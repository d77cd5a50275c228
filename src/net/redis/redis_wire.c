/* Owns sending and receiving, and the meaning of error replies for the connection. Runs on the
 * thread of the connection's owner. hiredis only parses. Sending and waiting use a
 * non-blocking socket, so that one deadline applies to a whole call and SIGPIPE cannot occur. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "redis_internal.h"

#define RECEIVE_BYTES   16384   /* a TLS record */
#define SEND_BYTES_KEPT 1048576 /* a larger send buffer is freed when it is empty */

/* Error replies that concern the server, not the data. For most of them the call can be retried
 * later on a new connection, which may lead to another server. */
static const struct redis_error_class {
    const char *word;
    const char *cause; /* for an operator */
    enum err kept_err; /* ERR_OK: the connection is closed */
} ERROR_CLASSES[] = {
    {"LOADING", "still loading its data", ERR_OK},
    {"READONLY", "a replica, accepts no writes", ERR_OK},
    {"MASTERDOWN", "a replica that has lost its master", ERR_OK},
    {"NOREPLICAS", "has too few replicas, accepts no writes", ERR_OK},
    {"MISCONF", "cannot save its data, accepts no writes", ERR_OK},
    {"OOM", "out of memory", ERR_FULL},
    {"BUSY", "busy with a script", ERR_OK},
    {"UNKILLABLE", "busy with a script", ERR_OK},
    {"NOAUTH", "a password is required", ERR_OK},
    {"WRONGPASS", "user or password rejected", ERR_OK},
    {"NOPERM", "not permitted to this user", ERR_UNAVAILABLE},
    {"DENIED", "in protected mode", ERR_OK},
    {"CLUSTERDOWN", "the cluster is down", ERR_OK},
    {"TRYAGAIN", "the keys are moving to another node", ERR_OK},
    {"MOVED", "the keys are at another node", ERR_OK},
    {"ASK", "the keys are moving to another node", ERR_OK},
    {"ERR max number of clients", "too many connections", ERR_OK},
};

/* The error of the call that failed in a script. Redis before version 7 appends it to an error of
 * the script; later versions answer with it alone. */
static const char *redis_wire_cause_of(const char *text) {
    const char *prefix = "ERR Error running script";
    const char *cause = strncmp(text, prefix, strlen(prefix)) == 0 ? strstr(text, ": -") : NULL;
    return cause ? cause + 3 : text;
}

/* NULL: it concerns the data. */
static const struct redis_error_class *redis_wire_error_class(const char *text) {
    const char *cause = redis_wire_cause_of(text);
    for (size_t i = 0; i < sizeof ERROR_CLASSES / sizeof ERROR_CLASSES[0]; i++) {
        size_t word_len = strlen(ERROR_CLASSES[i].word);
        if (strncmp(cause, ERROR_CLASSES[i].word, word_len) == 0 &&
            (cause[word_len] == '\0' || cause[word_len] == ' ')) {
            return &ERROR_CLASSES[i];
        }
    }
    return NULL;
}

/* Servers quote the arguments of unknown commands, which may be secret. */
void redis_set_error(struct redis *redis, const char *text) {
    const struct redis_error_class *error_class = redis_wire_error_class(text);
    snprintf(redis->error, sizeof redis->error, "%s%s%s", error_class ? error_class->cause : "",
             error_class ? ": " : "", error_class ? redis_wire_cause_of(text) : text);
    char *quoted = strstr(redis->error, ", with args beginning");
    if (quoted) {
        *quoted = '\0';
    }
}

/* Of a connection that does not follow redirections by itself. Its other keys are still there. */
static bool redis_wire_note_redirection(struct redis *redis, const char *text) {
    struct redis_address to;
    if (!redis->routed || !redis_topology_parse_moved(text, &redis->peer, &to)) {
        return false;
    }
    redis->moved_slot = (unsigned)strtoul(text + strlen("MOVED "), NULL, 10);
    redis->moved_to = to;
    return true;
}

enum err redis_classify_error(struct redis *redis, const char *text) {
    if (redis_wire_note_redirection(redis, text)) {
        redis_set_error(redis, text);
        return ERR_UNAVAILABLE;
    }
    const struct redis_error_class *error_class = redis_wire_error_class(text);
    redis_set_error(redis, text);
    return error_class ? error_class->kept_err : ERR_OK;
}

void redis_disconnect(struct redis *redis) {
    redis_tls_stop(redis->tls);
    redis->tls = NULL;
    if (redis->context) {
        redisFree(redis->context);
    }
    redis->context = NULL;
    buffer_clear(&redis->send);
    redis->sent = 0;
    redis->replies_pending = 0;
    redis->subscribed = false;
    redis->ping_sent_ms = 0;
    redis->moved_to = (struct redis_address){0};
}

/* Every failed call ends here. The connection is closed, because replies could no longer be matched
 * to calls. */
enum err redis_fail(struct redis *redis, enum err err, const char *text) {
    redis_set_error(redis, text);
    redis_disconnect(redis);
    metric_add(METRIC_REDIS_ERRORS, 1);
    redis->failures++;
    redis->retry_at_ms = clock_ms() + redis_retry_delay_ms(redis->failures);
    if (redis->topology) {
        redis_topology_report_failure(redis->topology, &redis->url, &redis->peer);
    }
    return err;
}

/* The server cannot serve this now. A redirection is not a failure: the call was not run, and its
 * new location is known. */
static enum err redis_wire_refused(struct redis *redis, const char *text) {
    struct redis_address to;
    if (!redis->topology || !redis_topology_parse_moved(text, &redis->peer, &to)) {
        return redis_fail(redis, ERR_UNAVAILABLE, text);
    }
    redis_set_error(redis, text);
    redis_disconnect(redis);
    redis_topology_update(redis->topology, &to);
    redis->moved = true;
    return ERR_UNAVAILABLE;
}

/* --- sending and waiting --- */

enum err redis_flush(struct redis *redis) {
    while (redis->sent < redis->send.len) { /* bounded: each turn sends something or returns */
        const char *data = redis->send.data + redis->sent;
        size_t len = redis->send.len - redis->sent;
        const char *failure = NULL;
        ssize_t n = redis->tls ? redis_tls_send(redis->tls, data, len, &failure)
                               : send(redis->context->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return ERR_OK;
        }
        if (n < 0 && redis->replies_pending > 0 && (errno == EPIPE || errno == ECONNRESET)) {
            break; /* the server may have said why: its answers are read first */
        }
        if (n < 0) {
            return redis_fail(redis, ERR_UNAVAILABLE, failure ? failure : strerror(errno));
        }
        redis->sent += (size_t)n;
    }
    redis->sent = 0;
    if (redis->send.capacity > SEND_BYTES_KEPT) {
        buffer_fini(&redis->send);
        buffer_init(&redis->send);
    }
    buffer_clear(&redis->send);
    return ERR_OK;
}

enum err redis_receive(struct redis *redis) {
    char bytes[RECEIVE_BYTES];
    const char *failure = NULL;
    ssize_t n = redis->tls ? redis_tls_receive(redis->tls, bytes, sizeof bytes, &failure)
                           : recv(redis->context->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return ERR_OK;
    }
    if (n <= 0) {
        failure = n == 0 ? "Server closed the connection" : failure ? failure : strerror(errno);
        return redis_fail(redis, ERR_UNAVAILABLE, failure);
    }
    if (redisReaderFeed(redis->context->reader, bytes, (size_t)n) != REDIS_OK) {
        return redis_fail(redis, ERR_MEMORY, "out of memory");
    }
    return ERR_OK;
}

/* Sends as much as possible, waits for data until the deadline, and reads it. ERR_TIMEOUT does not
 * change the connection. */
enum err redis_wait_io(struct redis *redis, int64_t deadline_ms) {
    enum err err = redis_flush(redis);
    if (err != ERR_OK) {
        return err;
    }
    int64_t left_ms = deadline_ms - clock_ms();
    left_ms = left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : left_ms;
    struct pollfd polled = {.fd = redis->context->fd, .events = POLLIN};
    if (redis->send.len > 0) {
        polled.events |= POLLOUT;
    }
    int ready = poll(&polled, 1, (int)left_ms);
    if (ready < 0 && errno != EINTR) {
        return redis_fail(redis, ERR_UNAVAILABLE, strerror(errno));
    }
    if (ready <= 0) {
        return clock_ms() >= deadline_ms ? ERR_TIMEOUT : ERR_OK;
    }
    return polled.revents & ~POLLOUT ? redis_receive(redis) : ERR_OK;
}

/* *out: NULL when no whole reply has been read yet. */
enum err redis_parse_reply(struct redis *redis, redisReply **out) {
    void *reply = NULL;
    *out = NULL;
    if (redisGetReplyFromReader(redis->context, &reply) != REDIS_OK) {
        return redis_fail(redis, ERR_UNAVAILABLE, redis->context->errstr);
    }
    *out = reply;
    return ERR_OK;
}

enum err redis_await_reply(struct redis *redis, int64_t deadline_ms, redisReply **out) {
    enum err err = redis_parse_reply(redis, out);
    while (err == ERR_OK && !*out) { /* bounded by the deadline */
        err = redis_wait_io(redis, deadline_ms);
        if (err == ERR_TIMEOUT) {
            return redis_fail(redis, ERR_TIMEOUT, "no answer in time");
        }
        if (err == ERR_OK) {
            err = redis_parse_reply(redis, out);
        }
    }
    const struct redis_error_class *error_class = err == ERR_OK && (*out)->type == REDIS_REPLY_ERROR
                                                      ? redis_wire_error_class((*out)->str)
                                                      : NULL;
    if (error_class && error_class->kept_err == ERR_OK &&
        !redis_wire_note_redirection(redis, (*out)->str)) {
        err = redis_wire_refused(redis, (*out)->str);
        freeReplyObject(*out);
        *out = NULL;
    }
    return err;
}

/* "\r\n$17\r\n": the line end of the part before, and the length of the next one. */
static void redis_wire_put_count(struct buffer *send, const char *before, char kind, size_t count) {
    char text[32];
    size_t at = sizeof text;
    text[--at] = '\n';
    text[--at] = '\r';
    do { /* bounded by the digits */
        text[--at] = (char)('0' + count % 10);
        count /= 10;
    } while (count > 0);
    text[--at] = kind;
    for (size_t i = strlen(before); i > 0; i--) {
        text[--at] = before[i - 1];
    }
    buffer_append(send, text + at, sizeof text - at);
}

/* The protocol RESP; by hand, because the printf of hiredis is a quarter of the cost of a sink. */
enum err redis_queue_command(struct redis *redis, int argc, const char *const *argv,
                             const size_t *lens) {
    struct buffer *send = &redis->send;
    redis_wire_put_count(send, "", '*', (size_t)argc);
    for (int i = 0; i < argc; i++) {
        size_t len = lens ? lens[i] : strlen(argv[i]);
        redis_wire_put_count(send, i > 0 ? "\r\n" : "", '$', len);
        buffer_append(send, argv[i], len);
    }
    buffer_append(send, "\r\n", 2);
    if (send->failed) {
        buffer_fini(send);
        buffer_init(send);
        return redis_fail(redis, ERR_MEMORY, "out of memory");
    }
    return ERR_OK;
}
