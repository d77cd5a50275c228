/* Owns the search for the master with the sentinels. It asks one after the other and accepts only a
 * server that confirms to be the master. Runs on the thread of the connection's owner.
 *
 *   for each sentinel, the one that answered last first:
 *       sentinel --SENTINEL get-master-addr-by-name--> address --ROLE--> "master"? --> done
 */
#include <string.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "redis_internal.h"

#define CHECK_PERIOD_MS  500
#define CHECK_TIMEOUT_MS 100 /* a call waits meanwhile */

static bool redis_sentinel_is_address(const redisReply *reply) {
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
           reply->element[0]->type == REDIS_REPLY_STRING &&
           reply->element[1]->type == REDIS_REPLY_STRING && reply->element[0]->len < REDIS_HOST_LEN;
}

static enum err redis_sentinel_read_address(struct redis *connection, const redisReply *reply,
                                            struct redis_address *out) {
    if (!redis_sentinel_is_address(reply)) {
        return redis_fail(connection, ERR_UNAVAILABLE,
                          "the sentinel does not know this master's name");
    }
    strcpy(out->host, reply->element[0]->str);
    out->port = atoi(reply->element[1]->str);
    return ERR_OK;
}

/* Most sentinels need no password; one that does gets that of the url. */
static enum err redis_sentinel_ask_connected(struct redis *connection, int64_t deadline_ms,
                                             struct redis_address *out) {
    const char *question[] = {"SENTINEL", "get-master-addr-by-name", connection->url.master};
    struct redis_address sentinel = connection->peer;
    redisReply *reply = NULL;
    enum err err = redis_handshake_command(connection, deadline_ms, 3, question, &reply);
    if (err == ERR_UNAVAILABLE && strstr(connection->error, "NOAUTH")) {
        err = redis_open(connection, &sentinel, deadline_ms);
        if (err == ERR_OK) {
            err = redis_authenticate(connection, deadline_ms);
        }
        if (err == ERR_OK) {
            err = redis_handshake_command(connection, deadline_ms, 3, question, &reply);
        }
    }
    if (err == ERR_OK) {
        err = redis_sentinel_read_address(connection, reply, out);
        freeReplyObject(reply);
    }
    return err;
}

/* On a separate connection, which is closed after the answer. */
static enum err redis_sentinel_ask(struct redis *redis, const struct redis_address *sentinel,
                                   int64_t deadline_ms, struct redis_address *out) {
    struct redis connection = {
        .url = redis->url, .timeout_ms = redis->timeout_ms, .access = redis->access};
    buffer_init(&connection.send);
    enum err err = redis_open(&connection, sentinel, deadline_ms);
    if (err == ERR_OK) {
        err = redis_sentinel_ask_connected(&connection, deadline_ms, out);
    }
    if (err != ERR_OK) {
        redis_set_error(redis, connection.error);
    }
    redis_disconnect(&connection);
    buffer_fini(&connection.send);
    return err;
}

/* ERR_UNAVAILABLE: a replica, or a master that knows that it was demoted. */
static enum err redis_sentinel_check_role(struct redis *redis, int64_t deadline_ms) {
    redisReply *reply = NULL;
    enum err err = redis_handshake_command(redis, deadline_ms, 1, (const char *[]){"ROLE"}, &reply);
    if (err != ERR_OK) {
        return err;
    }
    bool master = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
                  reply->element[0]->type == REDIS_REPLY_STRING &&
                  strcmp(reply->element[0]->str, "master") == 0;
    freeReplyObject(reply);
    return master ? ERR_OK
                  : redis_fail(redis, ERR_UNAVAILABLE,
                               "the server that the sentinel named is not a master yet");
}

static enum err redis_sentinel_connect_master(struct redis *redis,
                                              const struct redis_address *master,
                                              int64_t deadline_ms) {
    enum err err = redis_open(redis, master, deadline_ms);
    if (err == ERR_OK) {
        err = redis_handshake(redis, deadline_ms);
    }
    if (err == ERR_OK) {
        err = redis_sentinel_check_role(redis, deadline_ms);
    }
    if (err == ERR_OK) {
        redis->generation = redis_topology_update(redis->topology, master);
    }
    return err;
}

enum err redis_sentinel_connect(struct redis *redis, int64_t deadline_ms) {
    size_t count = redis->url.address_count;
    size_t first = redis_topology_first_address(redis->topology);
    unsigned failures = redis->failures;
    char fault[REDIS_ERROR_LEN] = ""; /* prefers the error of a master to that of a sentinel */
    for (size_t i = 0; i < count; i++) {
        size_t index = (first + i) % count;
        struct redis_address master = {0};
        /* A silent sentinel must leave time to ask the others. */
        int64_t now_ms = clock_ms();
        int64_t until_ms = now_ms + (deadline_ms - now_ms) / (int64_t)(count - i);
        enum err err = redis_sentinel_ask(redis, &redis->url.addresses[index], until_ms, &master);
        if (err == ERR_OK && redis_sentinel_connect_master(redis, &master, until_ms) == ERR_OK) {
            redis_topology_set_first_address(redis->topology, index);
            return ERR_OK;
        }
        if (err == ERR_OK || !fault[0]) {
            memcpy(fault, redis->error, sizeof fault);
        }
    }
    redis->failures = failures; /* this was one of several sentinels */
    return redis_fail(redis, ERR_UNAVAILABLE, fault);
}

void redis_sentinel_check(struct redis *redis) {
    struct redis_address master;
    if (!redis_topology_check_due(redis->topology, CHECK_PERIOD_MS)) {
        return;
    }
    size_t index = redis_topology_first_address(redis->topology);
    if (redis_sentinel_ask(redis, &redis->url.addresses[index], clock_ms() + CHECK_TIMEOUT_MS,
                           &master) != ERR_OK) {
        redis_topology_set_first_address(redis->topology, (index + 1) % redis->url.address_count);
    } else if (!redis_address_equal(&master, &redis->peer)) {
        redis_disconnect(redis);
    }
}
