/* Access to the contents of a reply. Pure; any thread. */
#include "net/redis/redis.h"

#include <errno.h>
#include <stdlib.h>
#include <hiredis/hiredis.h>

static const redisReply NIL = {.type = REDIS_REPLY_NIL};

static const redisReply *redis_reply_raw(const struct redis_reply *reply) {
    return (const redisReply *)reply;
}

enum redis_type redis_reply_type(const struct redis_reply *reply) {
    switch (redis_reply_raw(reply)->type) {
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
    const redisReply *own = redis_reply_raw(reply);
    bool text = own->type == REDIS_REPLY_STRING || own->type == REDIS_REPLY_STATUS ||
                own->type == REDIS_REPLY_ERROR;
    if (len) {
        *len = text ? own->len : 0;
    }
    return text ? own->str : NULL;
}

int64_t redis_reply_int(const struct redis_reply *reply) {
    const redisReply *own = redis_reply_raw(reply);
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
    return reply && redis_reply_raw(reply)->type == REDIS_REPLY_ARRAY
               ? redis_reply_raw(reply)->elements
               : 0;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index) {
    bool inside = index < redis_reply_count(reply);
    return (const struct redis_reply *)(inside ? redis_reply_raw(reply)->element[index] : &NIL);
}

void redis_reply_free(struct redis_reply *reply) {
    freeReplyObject(reply);
}
