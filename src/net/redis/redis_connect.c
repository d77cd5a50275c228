/* Owns the creation of a connection: its time, its address and its greeting. Runs on the thread of
 * the connection's owner. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "redis_internal.h"

/* Short, because a late heartbeat makes a node suspect. */
#define RETRY_MS_MIN 10
#define RETRY_MS_MAX 200

/* --- when --- */

/* The first failure may concern only the connection, so the next attempt follows at once. Later
 * delays grow exponentially, with jitter so that the nodes of a fleet do not reconnect at the same
 * time. */
int64_t redis_retry_delay_ms(unsigned failures) {
    if (failures < 2) {
        return 0;
    }
    unsigned doublings = failures - 2 < 8 ? failures - 2 : 8;
    int64_t delay_ms = (int64_t)RETRY_MS_MIN << doublings;
    delay_ms = delay_ms < RETRY_MS_MAX ? delay_ms : RETRY_MS_MAX;
    return text_random_between(delay_ms / 2, delay_ms);
}

/* --- the connection --- */

static struct timeval redis_connect_time_left(int64_t deadline_ms) {
    int64_t left_ms = deadline_ms - clock_ms();
    left_ms = left_ms > 1 ? left_ms : 1;
    return (struct timeval){.tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000};
}

static enum err redis_connect_start_tls(struct redis *redis, int64_t deadline_ms) {
    char fault[REDIS_ERROR_LEN];
    redis->tls =
        redis_tls_start(redis->context->fd, redis->peer.host, deadline_ms, fault, sizeof fault);
    return redis->tls ? ERR_OK : redis_fail(redis, ERR_UNAVAILABLE, fault);
}

/* Closes the descriptor on exec, and makes it non-blocking: see redis_wait_io. */
static enum err redis_connect_prepare_socket(struct redis *redis) {
    int fd = redis->context->fd;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return redis_fail(redis, ERR_UNAVAILABLE, strerror(errno));
    }
    if (!redis->url.path && redisEnableKeepAlive(redis->context) != REDIS_OK) {
        return redis_fail(redis, ERR_UNAVAILABLE, redis->context->errstr);
    }
    redis->context->flags &= ~REDIS_BLOCK;
    return ERR_OK;
}

static enum err redis_connect_check_peer(struct redis *redis) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    const char *why = "its address is not known";
    if (!redis->access.allowed) {
        return ERR_OK;
    }
    if (redis->url.path) {
        return redis_fail(redis, ERR_UNAVAILABLE, "a Unix socket is not allowed here");
    }
    bool allowed = getpeername(redis->context->fd, (struct sockaddr *)&address, &len) == 0 &&
                   redis->access.allowed(redis->access.context, redis->peer.host,
                                         (struct sockaddr *)&address, &why);
    return allowed ? ERR_OK : redis_fail(redis, ERR_UNAVAILABLE, why);
}

enum err redis_open(struct redis *redis, const struct redis_address *to, int64_t deadline_ms) {
    struct timeval limit = redis_connect_time_left(deadline_ms);
    redis->peer = *to;
    redis->connection_number++;
    redis->context = redis->url.path ? redisConnectUnixWithTimeout(redis->url.path, limit)
                                     : redisConnectWithTimeout(to->host, to->port, limit);
    if (!redis->context) {
        return redis_fail(redis, ERR_MEMORY, "out of memory");
    }
    if (redis->context->err) {
        return redis_fail(redis, ERR_UNAVAILABLE, redis->context->errstr);
    }
    enum err err = redis_connect_check_peer(redis);
    if (err == ERR_OK) {
        err = redis_connect_prepare_socket(redis);
    }
    return err == ERR_OK && redis->url.tls ? redis_connect_start_tls(redis, deadline_ms) : err;
}

/* --- the greeting --- */

/* Returns only the first word of the answer to AUTH. */
enum err redis_handshake_command(struct redis *redis, int64_t deadline_ms, int argc,
                                 const char *const *argv, redisReply **out) {
    redisReply *reply = NULL;
    enum err err = redis_queue_command(redis, argc, argv, NULL);
    if (err == ERR_OK) {
        err = redis_await_reply(redis, deadline_ms, &reply);
    }
    if (err == ERR_OK && reply->type == REDIS_REPLY_ERROR) {
        char text[REDIS_ERROR_LEN];
        bool secret = strcmp(argv[0], "AUTH") == 0;
        int shown_len = secret ? (int)strcspn(reply->str, " ") : (int)strlen(reply->str);
        bool unwanted = secret && strncmp(reply->str, "ERR", 3) == 0;
        snprintf(text, sizeof text, "%s refused: %.*s%s", argv[0], shown_len, reply->str,
                 unwanted ? "; Redis has no password: remove it here, or set it there" : "");
        err = redis_fail(redis, ERR_UNAVAILABLE, text);
    }
    if (err == ERR_OK && out) {
        *out = reply;
        return ERR_OK;
    }
    freeReplyObject(reply);
    return err;
}

enum err redis_authenticate(struct redis *redis, int64_t deadline_ms) {
    const struct redis_url *url = &redis->url;
    if (!url->password) {
        /* Asked now, because a server that requires a password refuses a large call with a protocol
         * error that names no cause. */
        return redis_handshake_command(redis, deadline_ms, 1, (const char *[]){"PING"}, NULL);
    }
    const char *auth[] = {"AUTH", url->user ? url->user : url->password, url->password};
    return redis_handshake_command(redis, deadline_ms, url->user ? 3 : 2, auth, NULL);
}

enum err redis_handshake(struct redis *redis, int64_t deadline_ms) {
    enum err err = redis_authenticate(redis, deadline_ms);
    if (err == ERR_OK && redis->url.db != 0) {
        char db[16];
        snprintf(db, sizeof db, "%d", redis->url.db);
        err = redis_handshake_command(redis, deadline_ms, 2, (const char *[]){"SELECT", db}, NULL);
    }
    return err;
}

/* Several addresses are one store only if they are nodes of one cluster. Independent servers would
 * each hold a part of the data. */
static enum err redis_connect_check_cluster(struct redis *redis, int64_t deadline_ms) {
    return redis->url.address_count > 1
               ? redis_handshake_command(redis, deadline_ms, 2, (const char *[]){"CLUSTER", "INFO"},
                                         NULL)
               : ERR_OK;
}

enum err redis_connect(struct redis *redis) {
    int64_t deadline_ms = clock_ms() + redis->timeout_ms;
    struct redis_address to;
    if (clock_ms() < redis->retry_at_ms) {
        return ERR_UNAVAILABLE; /* the reason is still in redis->error */
    }
    if (redis->url.master) {
        return redis_sentinel_connect(redis, deadline_ms);
    }
    redis->generation = redis_topology_locate(redis->topology, &redis->url, &to);
    enum err err = redis_open(redis, &to, deadline_ms);
    if (err == ERR_OK) {
        err = redis_handshake(redis, deadline_ms);
    }
    if (err == ERR_OK) {
        err = redis_connect_check_cluster(redis, deadline_ms);
    }
    return err == ERR_TIMEOUT ? ERR_UNAVAILABLE : err; /* no call has been sent yet */
}
