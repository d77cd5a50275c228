/* Owns one connection to Redis. Runs on whichever one thread its owner uses it. The only file that
 * includes hiredis, of which it takes connecting, formatting and parsing; sending and waiting are
 * done here, on a non-blocking socket, so that one deadline bounds a whole call and no SIGPIPE can
 * arise. Knows nothing of keys or scripts. */
#include "net/redis.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <hiredis/hiredis.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "net/redis_url.h"
#include "net/sha1.h"

#define ERROR_LEN          160
#define QUIET_MS           3000    /* a subscribed connection that is silent so long is pinged */
#define SEND_BYTES_KEPT    1048576 /* a larger send buffer is given back once it is empty */
#define SCRIPT_PARTS_EXTRA 3       /* EVALSHA sha numkeys */

struct redis {
    struct redis_url url;
    int64_t timeout_ms;
    redisContext *context; /* NULL: not connected */
    struct buffer send;    /* formatted commands; send.data + sent is not on the wire yet */
    size_t sent;
    size_t awaited;    /* replies still to be read */
    bool subscribed;   /* this connection has sent SUBSCRIBE */
    int64_t heard_ms;  /* subscribed: when anything last came */
    int64_t pinged_ms; /* subscribed: when the PING without an answer was sent, 0: none */
    char error[ERROR_LEN];
};

/* Error replies that say something about the server, not about the data: try again later, on a new
 * connection. */
/* clang-format off */
static const char *const UNAVAILABLE_WORDS[] = {
    "LOADING", "READONLY", "NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "MASTERDOWN", "CLUSTERDOWN",
    "TRYAGAIN", "MOVED", "ASK", "BUSY", "UNKILLABLE", "OOM", "MISCONF", "NOREPLICAS",
    "ERR max number of clients",
};
/* clang-format on */

static bool says_unavailable(const char *text) {
    for (size_t i = 0; i < sizeof UNAVAILABLE_WORDS / sizeof UNAVAILABLE_WORDS[0]; i++) {
        size_t word_len = strlen(UNAVAILABLE_WORDS[i]);
        if (strncmp(text, UNAVAILABLE_WORDS[i], word_len) == 0 &&
            (text[word_len] == '\0' || text[word_len] == ' ')) {
            return true;
        }
    }
    return false;
}

/* Servers quote the arguments of a command they do not know, and those may be secret. */
static void keep_error(struct redis *redis, const char *text) {
    snprintf(redis->error, sizeof redis->error, "%s", text);
    char *quoted = strstr(redis->error, ", with args beginning");
    if (quoted) {
        *quoted = '\0';
    }
}

static void disconnect(struct redis *redis) {
    if (redis->context) {
        redisFree(redis->context);
    }
    redis->context = NULL;
    buffer_clear(&redis->send);
    redis->sent = 0;
    redis->awaited = 0;
    redis->subscribed = false;
    redis->pinged_ms = 0;
}

/* Every failed call ends here: the connection is given up, since replies could no longer be told
 * apart. */
static enum err fail(struct redis *redis, enum err code, const char *text) {
    keep_error(redis, text);
    disconnect(redis);
    metric_add(METRIC_REDIS_ERRORS, 1);
    return code;
}

/* --- sending and waiting --- */

static enum err flush(struct redis *redis) {
    while (redis->sent < redis->send.len) { /* bounded: each turn sends something or returns */
        ssize_t n = send(redis->context->fd, redis->send.data + redis->sent,
                         redis->send.len - redis->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return ERR_OK;
        }
        if (n < 0) {
            return fail(redis, ERR_UNAVAILABLE, strerror(errno));
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

/* Sends what it can and waits until the deadline for something to read, which it reads. ERR_TIMEOUT
 * leaves the connection as it is. */
static enum err wait_io(struct redis *redis, int64_t deadline_ms) {
    enum err err = flush(redis);
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
        return fail(redis, ERR_UNAVAILABLE, strerror(errno));
    }
    if (ready <= 0) {
        return clock_ms() >= deadline_ms ? ERR_TIMEOUT : ERR_OK;
    }
    if ((polled.revents & ~POLLOUT) && redisBufferRead(redis->context) != REDIS_OK) {
        return fail(redis, ERR_UNAVAILABLE, redis->context->errstr);
    }
    return ERR_OK;
}

/* *out: NULL when no whole reply has been read yet. */
static enum err parsed_reply(struct redis *redis, redisReply **out) {
    void *reply = NULL;
    *out = NULL;
    if (redisGetReplyFromReader(redis->context, &reply) != REDIS_OK) {
        return fail(redis, ERR_UNAVAILABLE, redis->context->errstr);
    }
    *out = reply;
    return ERR_OK;
}

static enum err await_reply(struct redis *redis, int64_t deadline_ms, redisReply **out) {
    enum err err = parsed_reply(redis, out);
    while (err == ERR_OK && !*out) { /* bounded by the deadline */
        err = wait_io(redis, deadline_ms);
        if (err == ERR_TIMEOUT) {
            return fail(redis, ERR_TIMEOUT, "no answer in time");
        }
        if (err == ERR_OK) {
            err = parsed_reply(redis, out);
        }
    }
    if (err == ERR_OK && (*out)->type == REDIS_REPLY_ERROR && says_unavailable((*out)->str)) {
        err = fail(redis, ERR_UNAVAILABLE, (*out)->str);
        freeReplyObject(*out);
        *out = NULL;
    }
    return err;
}

static enum err append(struct redis *redis, int argc, const char *const *argv, const size_t *lens) {
    char *formatted = NULL;
    int len = redisFormatCommandArgv(&formatted, argc, (const char **)argv, lens);
    if (len < 0) {
        return fail(redis, ERR_MEMORY, "out of memory");
    }
    buffer_append(&redis->send, formatted, (size_t)len);
    redisFreeCommand(formatted);
    if (redis->send.failed) {
        buffer_fini(&redis->send);
        buffer_init(&redis->send);
        return fail(redis, ERR_MEMORY, "out of memory");
    }
    return ERR_OK;
}

/* --- connecting --- */

/* One command of the greeting. The answer to AUTH is not repeated, only its first word. */
static enum err greet(struct redis *redis, int64_t deadline_ms, int argc, const char *const *argv) {
    redisReply *reply = NULL;
    enum err err = append(redis, argc, argv, NULL);
    if (err == ERR_OK) {
        err = await_reply(redis, deadline_ms, &reply);
    }
    if (err == ERR_OK && reply->type == REDIS_REPLY_ERROR) {
        char text[ERROR_LEN];
        bool secret = strcmp(argv[0], "AUTH") == 0;
        int shown_len = secret ? (int)strcspn(reply->str, " ") : (int)strlen(reply->str);
        snprintf(text, sizeof text, "%s refused: %.*s", argv[0], shown_len, reply->str);
        err = fail(redis, ERR_UNAVAILABLE, text);
    }
    freeReplyObject(reply);
    return err;
}

static enum err greet_all(struct redis *redis, int64_t deadline_ms) {
    const struct redis_url *url = &redis->url;
    enum err err = ERR_OK;
    if (url->password) {
        const char *auth[] = {"AUTH", url->user ? url->user : url->password, url->password};
        err = greet(redis, deadline_ms, url->user ? 3 : 2, auth);
    }
    if (err == ERR_OK && url->db != 0) {
        char db[16];
        snprintf(db, sizeof db, "%d", url->db);
        err = greet(redis, deadline_ms, 2, (const char *[]){"SELECT", db});
    }
    return err;
}

/* Keeps the descriptor from children, and makes it non-blocking: see wait_io. */
static enum err prepare_socket(struct redis *redis) {
    int fd = redis->context->fd;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return fail(redis, ERR_UNAVAILABLE, strerror(errno));
    }
    if (redis->url.host && redisEnableKeepAlive(redis->context) != REDIS_OK) {
        return fail(redis, ERR_UNAVAILABLE, redis->context->errstr);
    }
    redis->context->flags &= ~REDIS_BLOCK;
    return ERR_OK;
}

static enum err connect_now(struct redis *redis) {
    const struct redis_url *url = &redis->url;
    int64_t deadline_ms = clock_ms() + redis->timeout_ms;
    struct timeval limit = {.tv_sec = redis->timeout_ms / 1000,
                            .tv_usec = redis->timeout_ms % 1000 * 1000};
    redis->context = url->path ? redisConnectUnixWithTimeout(url->path, limit)
                               : redisConnectWithTimeout(url->host, url->port, limit);
    if (!redis->context) {
        return fail(redis, ERR_MEMORY, "out of memory");
    }
    if (redis->context->err) {
        return fail(redis, ERR_UNAVAILABLE, redis->context->errstr);
    }
    enum err err = prepare_socket(redis);
    return err == ERR_OK ? greet_all(redis, deadline_ms) : err;
}

/* --- public: life --- */

enum err redis_url_check(const char *url, char *fault) {
    struct redis_url parsed;
    enum err err = redis_url_parse(url, &parsed, fault);
    redis_url_fini(&parsed);
    return err;
}

struct redis *redis_create(const char *url, int64_t timeout_ms) {
    assert(timeout_ms > 0);
    struct redis *redis = calloc(1, sizeof *redis);
    if (redis && redis_url_parse(url, &redis->url, NULL) != ERR_OK) {
        free(redis);
        return NULL;
    }
    if (redis) {
        redis->timeout_ms = timeout_ms;
        buffer_init(&redis->send);
    }
    return redis;
}

void redis_destroy(struct redis *redis) {
    if (!redis) {
        return;
    }
    disconnect(redis);
    buffer_fini(&redis->send);
    redis_url_fini(&redis->url);
    free(redis);
}

const char *redis_error(const struct redis *redis) {
    return redis->error;
}

int redis_fd(const struct redis *redis) {
    return redis->context ? redis->context->fd : -1;
}

/* --- public: commands --- */

/* Nothing is expected, yet there is something to read: the server has closed an idle connection.
 * Nothing was sent on it, so a new one can be had without a doubt about any outcome. */
static void drop_stale(struct redis *redis) {
    struct pollfd polled = {.fd = redis_fd(redis), .events = POLLIN};
    if (redis->context && redis->awaited == 0 && poll(&polled, 1, 0) != 0) {
        disconnect(redis);
    }
}

enum err redis_append(struct redis *redis, int argc, const char *const *argv, const size_t *lens) {
    assert(argc > 0 && !redis->subscribed);
    drop_stale(redis);
    enum err err = redis->context ? ERR_OK : connect_now(redis);
    if (err == ERR_OK) {
        err = append(redis, argc, argv, lens);
    }
    if (err == ERR_OK) {
        redis->awaited++;
    }
    return err;
}

enum err redis_read(struct redis *redis, struct redis_reply **out) {
    redisReply *reply = NULL;
    if (redis->awaited == 0) { /* an earlier error took the other replies with it */
        return ERR_UNAVAILABLE;
    }
    enum err err = await_reply(redis, clock_ms() + redis->timeout_ms, &reply);
    if (err == ERR_OK) {
        redis->awaited--;
        *out = (struct redis_reply *)reply;
    }
    return err;
}

enum err redis_command(struct redis *redis, int argc, const char *const *argv, const size_t *lens,
                       struct redis_reply **out) {
    assert(redis->awaited == 0); /* the replies of a pipeline are read first */
    enum err err = redis_append(redis, argc, argv, lens);
    return err == ERR_OK ? redis_read(redis, out) : err;
}

/* --- public: scripts --- */

/* EVALSHA or EVAL, then script (digest or text), number of keys, and the caller's parts. */
static enum err evaluate(struct redis *redis, const char *verb, const char *script, int key_count,
                         int argc, const char *const *argv, const size_t *lens,
                         struct redis_reply **out) {
    char keys[16];
    snprintf(keys, sizeof keys, "%d", key_count);
    size_t count = (size_t)argc + SCRIPT_PARTS_EXTRA;
    const char **parts = calloc(count, sizeof *parts);
    size_t *part_lens = calloc(count, sizeof *part_lens);
    enum err err = ERR_MEMORY;
    if (parts && part_lens) {
        const char *first[SCRIPT_PARTS_EXTRA] = {verb, script, keys};
        for (size_t i = 0; i < count; i++) {
            bool own = i < SCRIPT_PARTS_EXTRA;
            size_t at = own ? 0 : i - SCRIPT_PARTS_EXTRA;
            parts[i] = own ? first[i] : argv[at];
            part_lens[i] = own || !lens ? strlen(parts[i]) : lens[at];
        }
        err = redis_command(redis, (int)count, parts, part_lens, out);
    }
    free(parts);
    free(part_lens);
    return err;
}

enum err redis_script(struct redis *redis, const char *sha, const char *text, int key_count,
                      int argc, const char *const *argv, const size_t *lens,
                      struct redis_reply **out) {
    struct redis_reply *reply = NULL;
    enum err err = evaluate(redis, "EVALSHA", sha, key_count, argc, argv, lens, &reply);
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR &&
        strncmp(redis_reply_str(reply, NULL), "NOSCRIPT", 8) == 0) {
        redis_reply_free(reply);
        err = evaluate(redis, "EVAL", text, key_count, argc, argv, lens, &reply); /* loads it */
    }
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR) {
        keep_error(redis, redis_reply_str(reply, NULL));
        log_event(LOG_ERROR, "redis_script_failed", KS("sha", sha), KS("error", redis->error));
        redis_reply_free(reply);
        return ERR_PROTOCOL;
    }
    if (err == ERR_OK) {
        *out = reply;
    }
    return err;
}

void redis_script_sha(const char *text, char out[41]) {
    sha1_hex(text, strlen(text), out);
}

/* --- public: subscribing --- */

static enum err subscribe(struct redis *redis, const char *channel) {
    enum err err = connect_now(redis);
    if (err == ERR_OK) {
        err = append(redis, 2, (const char *[]){"SUBSCRIBE", channel}, NULL);
    }
    if (err == ERR_OK) {
        redis->subscribed = true;
        redis->heard_ms = clock_ms();
        err = flush(redis);
    }
    return err == ERR_TIMEOUT ? ERR_UNAVAILABLE : err;
}

/* A silent connection may be half open: asks for a sign of life, and gives up without one. */
static enum err keep_alive(struct redis *redis, int64_t now_ms) {
    if (redis->pinged_ms > 0 && now_ms - redis->pinged_ms >= redis->timeout_ms) {
        return fail(redis, ERR_UNAVAILABLE, "the subscribed connection is silent");
    }
    if (redis->pinged_ms == 0 && now_ms - redis->heard_ms >= QUIET_MS) {
        redis->pinged_ms = now_ms;
        return append(redis, 1, (const char *[]){"PING"}, NULL);
    }
    return ERR_OK;
}

/* Takes what has come; *out: the payload if it was a message, else NULL. */
static enum err take_push(struct redis *redis, redisReply *reply, char **out) {
    enum err err = ERR_OK;
    redis->heard_ms = clock_ms();
    redis->pinged_ms = 0;
    if (reply->type == REDIS_REPLY_ERROR) {
        err = fail(redis, ERR_UNAVAILABLE, reply->str);
    } else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
               reply->element[0]->type == REDIS_REPLY_STRING &&
               strcmp(reply->element[0]->str, "message") == 0 &&
               reply->element[2]->type == REDIS_REPLY_STRING) {
        *out = text_copy(reply->element[2]->str, reply->element[2]->len);
        err = *out ? ERR_OK : ERR_MEMORY;
    }
    freeReplyObject(reply);
    return err;
}

/* Takes what has been read, up to the first message. */
static enum err take_read(struct redis *redis, char **out) {
    bool more = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && more && !*out) { /* bounded by the bytes read */
        redisReply *reply = NULL;
        err = parsed_reply(redis, &reply);
        more = reply != NULL;
        if (more) {
            err = take_push(redis, reply, out);
        }
    }
    return err;
}

/* Waits until something was read, the deadline, or until a sign of life is due. */
static enum err wait_push(struct redis *redis, int64_t deadline_ms) {
    enum err err = keep_alive(redis, clock_ms());
    if (err != ERR_OK) {
        return err;
    }
    int64_t due_ms =
        redis->pinged_ms > 0 ? redis->pinged_ms + redis->timeout_ms : redis->heard_ms + QUIET_MS;
    err = wait_io(redis, due_ms < deadline_ms ? due_ms : deadline_ms);
    return err == ERR_TIMEOUT ? ERR_OK : err;
}

enum err redis_subscribed_message(struct redis *redis, const char *channel, int64_t timeout_ms,
                                  char **out) {
    assert(redis->awaited == 0 && (redis->subscribed || !redis->context));
    int64_t deadline_ms = clock_ms() + timeout_ms;
    enum err err = redis->context ? ERR_OK : subscribe(redis, channel);
    bool waited = false;
    *out = NULL;
    if (err == ERR_OK) {
        err = take_read(redis, out);
    }
    while (err == ERR_OK && !*out) { /* bounded by the deadline */
        if (waited && clock_ms() >= deadline_ms) {
            return ERR_TIMEOUT;
        }
        err = wait_push(redis, deadline_ms);
        waited = true;
        if (err == ERR_OK) {
            err = take_read(redis, out);
        }
    }
    return err;
}

/* --- public: replies --- */

static const redisReply NIL = {.type = REDIS_REPLY_NIL};

static const redisReply *raw(const struct redis_reply *reply) {
    return (const redisReply *)reply;
}

enum redis_type redis_reply_type(const struct redis_reply *reply) {
    switch (raw(reply)->type) {
    case REDIS_REPLY_STRING:
        return REDIS_STRING;
    case REDIS_REPLY_INTEGER:
        return REDIS_INTEGER;
    case REDIS_REPLY_ARRAY:
        return REDIS_ARRAY;
    case REDIS_REPLY_STATUS:
        return REDIS_STATUS;
    case REDIS_REPLY_ERROR:
        return REDIS_ERROR;
    default:
        return REDIS_NIL;
    }
}

const char *redis_reply_str(const struct redis_reply *reply, size_t *len) {
    const redisReply *own = raw(reply);
    bool text = own->type == REDIS_REPLY_STRING || own->type == REDIS_REPLY_STATUS ||
                own->type == REDIS_REPLY_ERROR;
    if (len) {
        *len = text ? own->len : 0;
    }
    return text ? own->str : NULL;
}

int64_t redis_reply_int(const struct redis_reply *reply) {
    const redisReply *own = raw(reply);
    if (own->type == REDIS_REPLY_INTEGER) {
        return own->integer;
    }
    if (own->type != REDIS_REPLY_STRING || own->len == 0) {
        return 0;
    }
    char *end = NULL;
    errno = 0;
    long long value = strtoll(own->str, &end, 10);
    return errno == 0 && end == own->str + own->len ? value : 0;
}

size_t redis_reply_count(const struct redis_reply *reply) {
    return raw(reply)->type == REDIS_REPLY_ARRAY ? raw(reply)->elements : 0;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index) {
    bool inside = index < redis_reply_count(reply);
    return (const struct redis_reply *)(inside ? raw(reply)->element[index] : &NIL);
}

void redis_reply_free(struct redis_reply *reply) {
    freeReplyObject(reply);
}
