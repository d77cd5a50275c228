/* Owns what the fleet's Redis last said of itself, and the log lines about it: one at the join and
 * when it is another server by now, one when a warning begins to hold. Written by the agent's
 * thread, read by any. */
#include "redis_watch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

struct redis_watch {
    bool refused;                     /* the agent only, as the next line */
    bool warned[REDIS_WARNING_COUNT]; /* and it still holds */

    pthread_mutex_t lock; /* guards all below */
    bool known;
    struct redis_facts facts;
};

static const char *const WARNING_EVENTS[REDIS_WARNING_COUNT] = {
    [REDIS_EVICTS] = "redis_evicts",
    [REDIS_NEARLY_FULL] = "redis_nearly_full",
    [REDIS_SAVE_FAILED] = "redis_save_failed",
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

static void log_server(const struct redis_facts *facts) {
    char memory[64];
    redis_facts_memory(facts->used_bytes, facts->max_bytes, memory, sizeof memory);
    log_event(LOG_INFO, "redis_server", KS("server", facts->server), KS("version", facts->version),
              KS("role", facts->role), KI("replicas", facts->replicas), KS("memory", memory),
              KS("eviction", facts->policy), KS("append_only", facts->append_only ? "yes" : "no"));
}

static void log_warnings(struct redis_watch *watch, const struct redis_facts *facts) {
    for (enum redis_warning i = 0; i < REDIS_WARNING_COUNT; i++) {
        char text[REDIS_WARNING_LEN];
        bool holds = redis_facts_warn(facts, i, text);
        if (holds && !watch->warned[i]) {
            log_event(LOG_WARN, WARNING_EVENTS[i], KS("detail", text));
        }
        watch->warned[i] = holds;
    }
}

static bool is_other_server(const struct redis_facts *a, const struct redis_facts *b) {
    return strcmp(a->version, b->version) != 0 || strcmp(a->server, b->server) != 0 ||
           strcmp(a->policy, b->policy) != 0 || a->append_only != b->append_only;
}

static void take(struct redis_watch *watch, const struct redis_facts *facts) {
    pthread_mutex_lock(&watch->lock);
    bool other = !watch->known || is_other_server(facts, &watch->facts);
    watch->facts = *facts;
    watch->known = true;
    pthread_mutex_unlock(&watch->lock);
    if (other) {
        log_server(facts);
    }
    log_warnings(watch, facts);
    watch->refused = false;
}

static void note_refused(struct redis_watch *watch, struct store *store) {
    if (!watch->refused) {
        char trouble[STORE_TROUBLE_LEN];
        store_trouble(store, trouble);
        log_event(LOG_INFO, "redis_server", KS("detail", trouble));
    }
    watch->refused = true;
    pthread_mutex_lock(&watch->lock);
    watch->known = false;
    pthread_mutex_unlock(&watch->lock);
}

void redis_watch_step(struct redis_watch *watch, struct store *store) {
    struct redis_facts facts;
    enum err err = store_redis_facts(store, &facts);
    if (err == ERR_OK) {
        take(watch, &facts);
    } else if (err == ERR_REFUSED) {
        note_refused(watch, store);
    } /* else Redis is away, which the heartbeat tells */
}

bool redis_watch_facts(struct redis_watch *watch, struct redis_facts *out) {
    pthread_mutex_lock(&watch->lock);
    bool known = watch->known;
    *out = watch->facts;
    pthread_mutex_unlock(&watch->lock);
    return known;
}
