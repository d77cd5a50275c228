/* Owns the calls on one connection to Redis: commands, pipelines, scripts, WAIT. Runs on the thread
 * that uses the connection. Only the redis*.c files of this folder include hiredis;
 * redis_internal.h describes their roles. */
#include "net/redis/redis.h"

#include <assert.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/system/thread_watchdog.h"
#include "net/sha1.h"
#include "redis_internal.h"

#define SCRIPT_PARTS_EXTRA 3 /* EVALSHA sha numkeys */
#define MOVES_MAX          3 /* redirections that one call follows */

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
        redis->topology = redis_topology_acquire(url);
    }
    if (redis && !redis->topology) {
        redis_destroy(redis);
        return NULL;
    }
    return redis;
}

struct redis *redis_create_at(const char *url, const struct redis_address *address,
                              int64_t timeout_ms) {
    struct redis *redis = redis_create(url, timeout_ms);
    char *name = NULL; /* no other connection shares what is known about the location */
    if (redis && asprintf(&name, "%s %s:%d", url, address->host, address->port) < 0) {
        name = NULL;
    }
    struct redis_topology *topology = name ? redis_topology_acquire(name) : NULL;
    free(name);
    if (!topology || !redis->url.addresses) {
        redis_topology_release(topology);
        redis_destroy(redis);
        return NULL;
    }
    redis_topology_release(redis->topology);
    redis->topology = topology;
    redis->url.addresses[0] = *address;
    redis->url.address_count = 1;
    redis->routed = true;
    return redis;
}

void redis_restrict(struct redis *redis, const struct redis_access *access) {
    redis->access = *access;
}

void redis_destroy(struct redis *redis) {
    if (!redis) {
        return;
    }
    redis_disconnect(redis);
    buffer_fini(&redis->send);
    redis_topology_release(redis->topology);
    redis_url_fini(&redis->url);
    free(redis);
}

void redis_describe_error(const struct redis *redis, char *out, size_t size) {
    if (redis->url.path) {
        snprintf(out, size, "%s: %s", redis->url.path, redis->error);
    } else if (redis->peer.host[0] != '\0') {
        snprintf(out, size, "%s:%d: %s", redis->peer.host, redis->peer.port, redis->error);
    } else {
        snprintf(out, size, "%s", redis->error);
    }
}

const char *redis_error(const struct redis *redis) {
    return redis->error;
}

bool redis_is_moved(const struct redis *redis) {
    return redis->moved_to.host[0] != '\0';
}

uint64_t redis_connection_number(const struct redis *redis) {
    return redis->connection_number;
}

int redis_fd(const struct redis *redis) {
    return redis->context ? redis->context->fd : -1;
}

/* --- public: commands --- */

/* Nothing is expected, yet data is readable: the server has closed an idle connection. (Over TLS it
 * may be a message of the protocol itself.) */
static bool redis_is_closed(struct redis *redis) {
    char byte;
    const char *failure = NULL;
    struct pollfd polled = {.fd = redis->context->fd, .events = POLLIN};
    if (poll(&polled, 1, 0) == 0) {
        return false;
    }
    return !redis->tls || redis_tls_receive(redis->tls, &byte, 1, &failure) > 0 || failure;
}

/* Nothing was sent on the old connection, so no outcome is unknown after reconnecting. */
static void redis_drop_stale(struct redis *redis) {
    if (!redis->context || redis->replies_pending > 0) {
        return;
    }
    if (redis->url.master) {
        redis_sentinel_check(redis);
    }
    if (redis->context && (redis->generation != redis_topology_generation(redis->topology) ||
                           redis_is_closed(redis))) {
        redis_disconnect(redis);
    }
}

static enum err redis_read_until(struct redis *redis, int64_t deadline_ms, redisReply **out) {
    enum err err = redis_await_reply(redis, deadline_ms, out);
    if (err == ERR_OK) {
        redis->replies_pending--;
        redis->failures = 0;
    }
    return err;
}

enum err redis_append(struct redis *redis, int argc, const char *const *argv, const size_t *lens) {
    assert(argc > 0 && !redis->subscribed);
    redis_drop_stale(redis);
    enum err err = redis->context ? ERR_OK : redis_connect(redis);
    thread_watchdog_kick();
    if (err == ERR_OK) {
        err = redis_queue_command(redis, argc, argv, lens);
    }
    if (err == ERR_OK) {
        redis->replies_pending++;
    }
    return err;
}

enum err redis_read(struct redis *redis, struct redis_reply **out) {
    redisReply *reply = NULL;
    if (redis->replies_pending ==
        0) { /* an earlier error closed the connection and lost the other replies */
        return ERR_UNAVAILABLE;
    }
    int64_t begun_us = clock_us();
    enum err err = redis_read_until(redis, begun_us / 1000 + redis->timeout_ms, &reply);
    histogram_add(HISTOGRAM_REDIS, clock_us() - begun_us, 1);
    thread_watchdog_kick(); /* progress, however it ended: the call is bounded */
    if (err == ERR_OK && reply->type == REDIS_REPLY_ERROR) {
        err = redis_classify_error(redis, reply->str);
    }
    if (err == ERR_OK) {
        *out = (struct redis_reply *)reply;
    } else {
        freeReplyObject(reply);
    }
    return err;
}

enum err redis_command(struct redis *redis, int argc, const char *const *argv, const size_t *lens,
                       struct redis_reply **out) {
    enum err err = ERR_UNAVAILABLE;
    assert(redis->replies_pending == 0); /* read the replies of a pipeline first */
    redis->moved = true;
    for (int i = 0; i <= MOVES_MAX && redis->moved; i++) {
        redis->moved = false;
        err = redis_append(redis, argc, argv, lens);
        err = err == ERR_OK ? redis_read(redis, out) : err;
    }
    return err;
}

enum err redis_wait_replicas(struct redis *redis, int64_t replicas, int64_t timeout_ms) {
    char texts[2][24];
    redisReply *reply = NULL;
    assert(redis->replies_pending == 0 && !redis->subscribed);
    if (!redis->context) { /* WAIT covers only the writes of the same connection */
        return ERR_UNAVAILABLE;
    }
    snprintf(texts[0], sizeof texts[0], "%" PRId64, replicas);
    snprintf(texts[1], sizeof texts[1], "%" PRId64, timeout_ms);
    enum err err =
        redis_queue_command(redis, 3, (const char *[]){"WAIT", texts[0], texts[1]}, NULL);
    if (err == ERR_OK) {
        redis->replies_pending++;
        err = redis_read_until(redis, clock_ms() + timeout_ms + redis->timeout_ms, &reply);
    }
    if (err == ERR_OK && reply->type == REDIS_REPLY_ERROR) {
        redis_set_error(redis, reply->str);
        err = ERR_PROTOCOL;
    } else if (err == ERR_OK && reply->integer < replicas) {
        snprintf(redis->error, sizeof redis->error, "%lld of %" PRId64 " replicas have it",
                 reply->integer, replicas);
        err = ERR_TIMEOUT;
    }
    freeReplyObject(reply);
    return err;
}

/* --- public: scripts --- */

/* EVALSHA or EVAL, then script (digest or text), number of keys, and the caller's parts. */
static enum err redis_evaluate(struct redis *redis, const char *verb, const char *script,
                               int key_count, int argc, const char *const *argv, const size_t *lens,
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
    enum err err = redis_evaluate(redis, "EVALSHA", sha, key_count, argc, argv, lens, &reply);
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR &&
        strncmp(redis_reply_str(reply, NULL), "NOSCRIPT", 8) == 0) {
        redis_reply_free(reply);
        err = redis_evaluate(redis, "EVAL", text, key_count, argc, argv, lens,
                             &reply); /* loads the script */
    }
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR) {
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
