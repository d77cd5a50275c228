/* Owns the last report of Redis about itself. Logs the server when it changes, and each warning
 * when it begins. Written by the agent thread, read by any thread. */
#include "redis_watch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/telemetry/log.h"

enum redis_facts_state {
    REDIS_FACTS_UNKNOWN, /* no answer yet */
    REDIS_FACTS_KNOWN,
    REDIS_FACTS_REFUSED /* by the last INFO */
};

struct redis_watch {
    bool warned[REDIS_WARNING_COUNT]; /* agent thread only; the warning still holds */

    pthread_mutex_t lock;         /* guards all below */
    enum redis_facts_state state; /* written by the agent thread only */
    struct redis_info facts;
};

static const char *const REDIS_WARNING_EVENTS[REDIS_WARNING_COUNT] = {
    [REDIS_WARNING_EVICTION] = "redis_evicts",
    [REDIS_WARNING_NEARLY_FULL] = "redis_nearly_full",
    [REDIS_WARNING_SAVE_FAILED] = "redis_save_failed",
};

struct redis_watch *redis_watch_create(void) {
    struct redis_watch *watch = calloc(1, sizeof *watch);
    if (watch) {
        pthread_mutex_init(&watch->lock, NULL);
    }
    return watch;
}

void redis_watch_destroy(struct redis_watch *watch) {
    if (watch) {
        pthread_mutex_destroy(&watch->lock);
        free(watch);
    }
}

static void redis_watch_log_server(const struct redis_info *info) {
    char memory[64];
    redis_info_format_memory(info->used_bytes, info->max_bytes, memory, sizeof memory);
    log_event(LOG_INFO, "redis_server", KS("server", info->server), KS("version", info->version),
              KS("role", info->role), KI("replicas", info->replicas), KS("memory", memory),
              KS("eviction", info->policy), KS("append_only", info->append_only ? "yes" : "no"));
}

static void redis_watch_log_warnings(struct redis_watch *watch, const struct redis_info *info) {
    for (enum redis_warning i = 0; i < REDIS_WARNING_COUNT; i++) {
        char text[REDIS_WARNING_LEN];
        bool holds = redis_info_warn(info, i, text);
        if (holds && !watch->warned[i]) {
            log_event(LOG_WARN, REDIS_WARNING_EVENTS[i], KS("detail", text));
        }
        watch->warned[i] = holds;
    }
}

static bool redis_watch_server_differs(const struct redis_info *a, const struct redis_info *b) {
    return strcmp(a->version, b->version) != 0 || strcmp(a->server, b->server) != 0 ||
           strcmp(a->policy, b->policy) != 0 || a->append_only != b->append_only;
}

static void redis_watch_update(struct redis_watch *watch, const struct redis_info *info) {
    pthread_mutex_lock(&watch->lock);
    bool other =
        watch->state != REDIS_FACTS_KNOWN || redis_watch_server_differs(info, &watch->facts);
    watch->facts = *info;
    watch->state = REDIS_FACTS_KNOWN;
    pthread_mutex_unlock(&watch->lock);
    if (other) {
        redis_watch_log_server(info);
    }
    redis_watch_log_warnings(watch, info);
}

static void redis_watch_mark_refused(struct redis_watch *watch, struct store *store) {
    if (watch->state != REDIS_FACTS_REFUSED) {
        char error[STORE_ERROR_LEN];
        store_last_error(store, error);
        log_event(LOG_INFO, "redis_server", KS("detail", error));
    }
    pthread_mutex_lock(&watch->lock);
    watch->state = REDIS_FACTS_REFUSED;
    pthread_mutex_unlock(&watch->lock);
}

void redis_watch_step(struct redis_watch *watch, struct store *store) {
    struct redis_info info;
    enum err err = store_redis_info(store, &info);
    if (err == ERR_OK) {
        redis_watch_update(watch, &info);
    } else if (err == ERR_REFUSED) {
        redis_watch_mark_refused(watch, store);
    } /* other errors: the heartbeat reports that Redis does not answer */
}

bool redis_watch_facts(struct redis_watch *watch, struct redis_info *out) {
    pthread_mutex_lock(&watch->lock);
    bool known = watch->state == REDIS_FACTS_KNOWN;
    *out = watch->facts;
    pthread_mutex_unlock(&watch->lock);
    return known;
}
