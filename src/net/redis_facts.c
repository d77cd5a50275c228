/* Owns the reading of INFO and what of it is worth a warning. Pure, but for the asking, which runs
 * on the thread of the connection's owner. */
#include "net/redis_facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "redis_internal.h"

#define NEARLY_FULL_PERCENT 90
#define BYTES_PER_MB        1048576.0

/* --- asking --- */

enum err redis_facts_ask(struct redis *redis, const char *section, struct redis_facts *out) {
    const char *argv[] = {"INFO", section};
    struct redis_reply *reply = NULL;
    enum err err = redis_command(redis, section ? 2 : 1, argv, NULL, &reply);
    if (err == ERR_UNAVAILABLE && redis_fd(redis) >= 0) {
        return ERR_REFUSED; /* NOPERM: the connection goes on */
    }
    if (err != ERR_OK) {
        return err;
    }
    const char *info = redis_reply_str(reply, NULL);
    if (info && redis_reply_type(reply) == REDIS_STRING) {
        redis_facts_parse(info, out);
    } else {
        redis_keep_error(redis, info ? info : "INFO has no answer");
        err = ERR_REFUSED;
    }
    redis_reply_free(reply);
    return err;
}

/* --- reading --- */

static void take_text(const char *value, size_t len, char *out, size_t size) {
    snprintf(out, size, "%.*s", (int)len, value);
}

static bool says(const char *value, size_t len, const char *text) {
    return len == strlen(text) && memcmp(value, text, len) == 0;
}

static void take_field(const char *name, size_t name_len, const char *value, size_t len,
                       struct redis_facts *out) {
    const struct {
        const char *name;
        char *text;
        size_t size;
        int64_t *number;
    } fields[] = {
        {"redis_version", out->version, sizeof out->version, NULL},
        {"valkey_version", out->version, sizeof out->version, NULL}, /* comes after the other */
        {"server_name", out->server, sizeof out->server, NULL},
        {"role", out->role, sizeof out->role, NULL},
        {"maxmemory_policy", out->policy, sizeof out->policy, NULL},
        {"used_memory", NULL, 0, &out->used_bytes},
        {"maxmemory", NULL, 0, &out->max_bytes},
        {"connected_slaves", NULL, 0, &out->replicas},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (!says(name, name_len, fields[i].name)) {
            continue;
        }
        if (fields[i].text) {
            take_text(value, len, fields[i].text, fields[i].size);
        } else {
            *fields[i].number = strtoll(value, NULL, 10);
        }
    }
    if (says(name, name_len, "aof_enabled")) {
        out->append_only = says(value, len, "1");
    } else if (says(name, name_len, "rdb_last_bgsave_status") ||
               says(name, name_len, "aof_last_write_status")) {
        out->save_failed = out->save_failed || !says(value, len, "ok");
    }
}

void redis_facts_parse(const char *info, struct redis_facts *out) {
    *out = (struct redis_facts){.server = "redis"};
    while (*info) { /* bounded by the text */
        size_t len = strcspn(info, "\r\n");
        const char *colon = memchr(info, ':', len);
        if (colon) {
            size_t name_len = (size_t)(colon - info);
            take_field(info, name_len, colon + 1, len - name_len - 1, out);
        }
        info += len;
        info += strspn(info, "\r\n");
    }
}

/* --- judging --- */

void redis_facts_memory(int64_t used_bytes, int64_t max_bytes, char *out, size_t size) {
    if (max_bytes > 0) {
        snprintf(out, size, "%.1f of %.1f MB", (double)used_bytes / BYTES_PER_MB,
                 (double)max_bytes / BYTES_PER_MB);
    } else {
        snprintf(out, size, "%.1f MB, without a limit", (double)used_bytes / BYTES_PER_MB);
    }
}

static bool warn_evicts(const struct redis_facts *facts, char *out) {
    bool clients = strncmp(facts->policy, "allkeys-", strlen("allkeys-")) == 0;
    bool beats = strncmp(facts->policy, "volatile-", strlen("volatile-")) == 0;
    snprintf(out, REDIS_WARNING_LEN,
             "maxmemory-policy %s deletes %s when memory is full; set it to noeviction",
             facts->policy, clients ? "clients" : "heartbeats");
    return clients || beats;
}

static bool warn_nearly_full(const struct redis_facts *facts, char *out) {
    char memory[64];
    bool full = facts->max_bytes > 0 && facts->used_bytes >= facts->max_bytes;
    redis_facts_memory(facts->used_bytes, facts->max_bytes, memory, sizeof memory);
    snprintf(out, REDIS_WARNING_LEN, "%s: %s used%s", full ? "out of memory" : "nearly full",
             memory, full ? "; nothing can be created or changed" : "");
    return facts->max_bytes > 0 &&
           facts->used_bytes / NEARLY_FULL_PERCENT >= facts->max_bytes / 100;
}

static bool warn_save_failed(const struct redis_facts *facts, char *out) {
    snprintf(out, REDIS_WARNING_LEN,
             "the last write of the append-only file, or the last snapshot, failed");
    return facts->save_failed;
}

bool redis_facts_warn(const struct redis_facts *facts, enum redis_warning warning,
                      char out[REDIS_WARNING_LEN]) {
    static bool (*const WARNINGS[])(const struct redis_facts *, char *) = {
        [REDIS_EVICTS] = warn_evicts,
        [REDIS_NEARLY_FULL] = warn_nearly_full,
        [REDIS_SAVE_FAILED] = warn_save_failed,
    };
    return WARNINGS[warning](facts, out);
}
