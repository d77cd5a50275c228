/* Owns the life of a connection that only subscribes. It sends no requests, so it must detect a
 * dead peer itself. Runs on the thread that uses the connection. */
#include "net/redis/redis.h"

#include <assert.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "redis_internal.h"

#define QUIET_MS 3000 /* a connection that is silent for so long is pinged */

static enum err redis_subscribe_connect(struct redis *redis, const char *channel) {
    enum err err = redis_connect(redis);
    if (err == ERR_OK) {
        err = redis_queue_command(redis, 2, (const char *[]){"SUBSCRIBE", channel}, NULL);
    }
    if (err == ERR_OK) {
        redis->subscribed = true;
        redis->received_ms = clock_ms();
        err = redis_flush(redis);
    }
    return err == ERR_TIMEOUT ? ERR_UNAVAILABLE : err;
}

/* Any node of a cluster forwards messages, so only a change of the master counts. */
static bool redis_subscribe_is_stale(const struct redis *redis) {
    return redis->context && redis->url.master &&
           redis->generation != redis_topology_generation(redis->topology);
}

/* A silent connection may be half open: sends a PING and closes the connection if there is no
 * answer. */
static enum err redis_subscribe_keep_alive(struct redis *redis, int64_t now_ms) {
    if (redis->ping_sent_ms > 0 && now_ms - redis->ping_sent_ms >= redis->timeout_ms) {
        return redis_fail(redis, ERR_UNAVAILABLE, "the subscribed connection is silent");
    }
    if (redis->ping_sent_ms == 0 && now_ms - redis->received_ms >= QUIET_MS) {
        redis->ping_sent_ms = now_ms;
        return redis_queue_command(redis, 1, (const char *[]){"PING"}, NULL);
    }
    return ERR_OK;
}

/* Handles one reply; *out: the payload if it was a message, else NULL. */
static enum err redis_subscribe_handle_push(struct redis *redis, redisReply *reply, char **out) {
    enum err err = ERR_OK;
    redis->received_ms = clock_ms();
    redis->ping_sent_ms = 0;
    redis->failures = reply->type == REDIS_REPLY_ERROR ? redis->failures : 0;
    if (reply->type == REDIS_REPLY_ERROR) {
        err = redis_fail(redis, ERR_UNAVAILABLE, reply->str);
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

/* Handles the replies that were read, up to the first message. */
static enum err redis_subscribe_handle_read(struct redis *redis, char **out) {
    bool more = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && more && !*out) { /* bounded by the bytes that were read */
        redisReply *reply = NULL;
        err = redis_parse_reply(redis, &reply);
        more = reply != NULL;
        if (more) {
            err = redis_subscribe_handle_push(redis, reply, out);
        }
    }
    return err;
}

/* Waits for data, until the deadline or until a PING is due. */
static enum err redis_subscribe_wait(struct redis *redis, int64_t deadline_ms) {
    enum err err = redis_subscribe_keep_alive(redis, clock_ms());
    if (err != ERR_OK) {
        return err;
    }
    int64_t due_ms = redis->ping_sent_ms > 0 ? redis->ping_sent_ms + redis->timeout_ms
                                             : redis->received_ms + QUIET_MS;
    err = redis_wait_io(redis, due_ms < deadline_ms ? due_ms : deadline_ms);
    return err == ERR_TIMEOUT ? ERR_OK : err;
}

enum err redis_next_message(struct redis *redis, const char *channel, int64_t timeout_ms,
                            char **out) {
    assert(redis->replies_pending == 0 && (redis->subscribed || !redis->context));
    int64_t deadline_ms = clock_ms() + timeout_ms;
    bool waited = false;
    *out = NULL;
    if (redis_subscribe_is_stale(redis)) {
        return redis_fail(redis, ERR_UNAVAILABLE, "the master has changed");
    }
    enum err err = redis->context ? ERR_OK : redis_subscribe_connect(redis, channel);
    if (err == ERR_OK) {
        err = redis_subscribe_handle_read(redis, out);
    }
    while (err == ERR_OK && !*out) { /* bounded by the deadline */
        if (waited && clock_ms() >= deadline_ms) {
            return ERR_TIMEOUT;
        }
        err = redis_subscribe_wait(redis, deadline_ms);
        waited = true;
        if (err == ERR_OK) {
            err = redis_subscribe_handle_read(redis, out);
        }
    }
    return err;
}
