/* The INFO of a Redis server: product, version, memory, role and persistence. */
#ifndef MQFLEET_REDIS_REDIS_INFO_H
#define MQFLEET_REDIS_REDIS_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "net/redis/redis.h"

struct redis_info {
    char server[16];    /* "redis", "valkey" */
    char version[24];   /* "": unknown */
    char role[16];      /* "master", "slave" */
    char policy[32];    /* maxmemory-policy; "": unknown */
    int64_t used_bytes; /* of memory */
    int64_t max_bytes;  /* maxmemory; 0: no limit */
    int64_t replicas;   /* connected replicas */
    bool append_only;
    bool save_failed; /* the last write of the append-only file, or the last snapshot */
};

/* section: of INFO; NULL: all. ERR_REFUSED: the server does not permit INFO. Other errors as
 * redis_command. *out is set only on ERR_OK. */
enum err redis_info_fetch(struct redis *redis, const char *section,
                          struct redis_info *out) MUST_CHECK;
/* Pure. */
void redis_info_parse(const char *info, struct redis_info *out);

/* Warnings for an operator, the most important first. */
enum redis_warning {
    REDIS_WARNING_EVICTION,
    REDIS_WARNING_NEARLY_FULL,
    REDIS_WARNING_SAVE_FAILED,
    REDIS_WARNING_COUNT
};
#define REDIS_WARNING_LEN 200
/* Returns whether the warning applies; `out` is its text. Pure. */
bool redis_info_warn(const struct redis_info *info, enum redis_warning warning,
                     char out[REDIS_WARNING_LEN]);
/* "49.2 of 64.0 MB", "49.2 MB, without a limit". */
void redis_info_format_memory(int64_t used_bytes, int64_t max_bytes, char *out, size_t size);

#endif
