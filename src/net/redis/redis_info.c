/* Owns the parsing of INFO and the warnings derived from it. Pure, except for the request, which
 * runs on the thread of the connection's owner. */
#include "net/redis/redis_info.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "redis_internal.h"

#define NEARLY_FULL_PERCENT 90
#define BYTES_PER_MB        1048576.0

/* --- request --- */

enum err redis_info_fetch(struct redis *redis, const char *section, struct redis_info *out) {
    const char *argv[] = {"INFO", section};
    struct redis_reply *reply = NULL;
    enum err err = redis_command(redis, section ? 2 : 1, argv, NULL, &reply);
    if (err == ERR_UNAVAILABLE && redis_fd(redis) >= 0) {
        return ERR_REFUSED; /* NOPERM: the connection stays open */
    }
    if (err != ERR_OK) {
        return err;
    }
    const char *info = redis_reply_str(reply, NULL);
    if (info && redis_reply_type(reply) == REDIS_STRING) {
        redis_info_parse(info, out);
    } else {
        redis_set_error(redis, info ? info : "no answer to INFO");
        err = ERR_REFUSED;
    }
    redis_reply_free(reply);
    return err;
}

/* --- parsing --- */

static void redis_info_copy_text(const char *value, size_t len, char *out, size_t size) {
    snprintf(out, size, "%.*s", (int)len, value);
}

static bool redis_info_equals(const char *value, size_t len, const char *text) {
    return len == strlen(text) && memcmp(value, text, len) == 0;
}

static void redis_info_set_field(const char *name, size_t name_len, const char *value, size_t len,
                                 struct redis_info *out) {
    const struct {
        const char *name;
        char *text;
        size_t size;
        int64_t *number;
    } fields[] = {
        {"redis_version", out->version, sizeof out->version, NULL},
        {"valkey_version", out->version, sizeof out->version, NULL}, /* follows the other field */
        {"server_name", out->server, sizeof out->server, NULL},
        {"role", out->role, sizeof out->role, NULL},
        {"maxmemory_policy", out->policy, sizeof out->policy, NULL},
        {"used_memory", NULL, 0, &out->used_bytes},
        {"maxmemory", NULL, 0, &out->max_bytes},
        {"connected_slaves", NULL, 0, &out->replicas},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (!redis_info_equals(name, name_len, fields[i].name)) {
            continue;
        }
        if (fields[i].text) {
            redis_info_copy_text(value, len, fields[i].text, fields[i].size);
        } else {
            *fields[i].number = strtoll(value, NULL, 10);
        }
    }
    if (redis_info_equals(name, name_len, "aof_enabled")) {
        out->append_only = redis_info_equals(value, len, "1");
    } else if (redis_info_equals(name, name_len, "rdb_last_bgsave_status") ||
               redis_info_equals(name, name_len, "aof_last_write_status")) {
        out->save_failed = out->save_failed || !redis_info_equals(value, len, "ok");
    }
}

void redis_info_parse(const char *info, struct redis_info *out) {
    *out = (struct redis_info){.server = "redis"};
    while (*info) { /* bounded by the text */
        size_t len = strcspn(info, "\r\n");
        const char *colon = memchr(info, ':', len);
        if (colon) {
            size_t name_len = (size_t)(colon - info);
            redis_info_set_field(info, name_len, colon + 1, len - name_len - 1, out);
        }
        info += len;
        info += strspn(info, "\r\n");
    }
}

/* --- warnings --- */

void redis_info_format_memory(int64_t used_bytes, int64_t max_bytes, char *out, size_t size) {
    if (max_bytes > 0) {
        snprintf(out, size, "%.1f of %.1f MB", (double)used_bytes / BYTES_PER_MB,
                 (double)max_bytes / BYTES_PER_MB);
    } else {
        snprintf(out, size, "%.1f MB, without a limit", (double)used_bytes / BYTES_PER_MB);
    }
}

static bool redis_info_warn_eviction(const struct redis_info *info, char *out) {
    bool clients = strncmp(info->policy, "allkeys-", strlen("allkeys-")) == 0;
    bool heartbeats = strncmp(info->policy, "volatile-", strlen("volatile-")) == 0;
    snprintf(out, REDIS_WARNING_LEN,
             "maxmemory-policy %s deletes %s when memory is full; set it to noeviction",
             info->policy, clients ? "clients" : "heartbeats");
    return clients || heartbeats;
}

static bool redis_info_warn_nearly_full(const struct redis_info *info, char *out) {
    char memory[64];
    bool full = info->max_bytes > 0 && info->used_bytes >= info->max_bytes;
    redis_info_format_memory(info->used_bytes, info->max_bytes, memory, sizeof memory);
    snprintf(out, REDIS_WARNING_LEN, "%s: %s used%s", full ? "out of memory" : "nearly full",
             memory, full ? "; nothing can be created or changed" : "");
    return info->max_bytes > 0 && info->used_bytes / NEARLY_FULL_PERCENT >= info->max_bytes / 100;
}

static bool redis_info_warn_save_failed(const struct redis_info *info, char *out) {
    snprintf(out, REDIS_WARNING_LEN,
             "the last write of the append-only file, or the last snapshot, failed");
    return info->save_failed;
}

bool redis_info_warn(const struct redis_info *info, enum redis_warning warning,
                     char out[REDIS_WARNING_LEN]) {
    static bool (*const WARNINGS[])(const struct redis_info *, char *) = {
        [REDIS_WARNING_EVICTION] = redis_info_warn_eviction,
        [REDIS_WARNING_NEARLY_FULL] = redis_info_warn_nearly_full,
        [REDIS_WARNING_SAVE_FAILED] = redis_info_warn_save_failed,
    };
    return WARNINGS[warning](info, out);
}
