/* Owns the pool of connections and the loaded scripts: puts a call together, runs it, and turns the
 * first word of the answer into an error code. Any thread. Must not know what the scripts do. */
#include "store/store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/condition.h"
#include "base/log.h"
#include "internal.h"
#include "store/scripts.h"

#define COMPLAINT_MS 60000

static const char *const SCRIPT_NAMES[SCRIPT_COUNT] = {
#define SCRIPT_NAME(symbol, name, memory) [symbol] = (name),
    SCRIPT_TABLE(SCRIPT_NAME)
#undef SCRIPT_NAME
};

/* What comes before a script, for when Redis is out of memory. */
enum without_memory { READS, GOES_ON, REFUSED };

static const char *const FIRST_WRITES[] = {
    [READS] = "",
    /* A script that has written is not refused for lack of memory any more, from Redis 2.6 to 8 and
     * in Valkey ("flags=allow-oom" would be a syntax error before Redis 7). */
    [GOES_ON] = "redis.call('DEL', PREFIX .. 'mqtt_fleet:none')\n",
    /* At once, although something that it does first might free memory. */
    [REFUSED] = "redis.call('SET', PREFIX .. 'mqtt_fleet:none', '', 'XX')\n",
};

static const enum without_memory WITHOUT_MEMORY[SCRIPT_COUNT] = {
#define SCRIPT_MEMORY(symbol, name, memory) [symbol] = (memory),
    SCRIPT_TABLE(SCRIPT_MEMORY)
#undef SCRIPT_MEMORY
};

/* What a script's first word means. */
static const struct {
    const char *word;
    enum err err;
} WORDS[] = {
    {"OK", ERR_OK},
    {"FENCED", ERR_FENCED},
    {"REFUSED", ERR_REFUSED},
    {"STATE", ERR_WRONG_STATE},
    {"EXISTS", ERR_EXISTS},
    {"VERSION", ERR_VERSION},
    {"NOT_FOUND", ERR_NOT_FOUND},
    {"GONE", ERR_NOT_FOUND},
};

/* ---- scripts ------------------------------------------------------------------------------- */

static const char *source(const char *name) {
    const struct store_script_source *row = store_script_sources;
    while (row->name && strcmp(row->name, name) != 0) {
        row++;
    }
    assert(row->name); /* a row of SCRIPT_TABLE without its file */
    return row->text;
}

static enum err scripts_init(struct store_script *scripts) {
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        struct buffer text;
        buffer_init(&text);
        buffer_append_str(&text, source("common"));
        buffer_append_str(&text, FIRST_WRITES[WITHOUT_MEMORY[i]]);
        buffer_append_str(&text, source(SCRIPT_NAMES[i]));
        scripts[i].text = buffer_take(&text);
        if (!scripts[i].text) {
            return ERR_MEMORY;
        }
        redis_script_sha(scripts[i].text, scripts[i].sha);
    }
    return ERR_OK;
}

static char *joined(const char *prefix, const char *name) {
    char *key = NULL;
    return asprintf(&key, "%s%s", prefix, name) < 0 ? NULL : key;
}

char *store_wake_channel(const char *key_prefix) {
    return joined(key_prefix, "mqtt_fleet:wake");
}

/* ---- pool ---------------------------------------------------------------------------------- */

struct store *store_open(const char *url, const char *key_prefix, int64_t timeout_ms,
                         size_t connections) {
    assert(connections > 0 && timeout_ms > 0);
    struct store *store = calloc(1, sizeof *store);
    if (!store) {
        return NULL;
    }
    pthread_mutex_init(&store->mutex, NULL);
    condition_init(&store->freed);
    store->timeout_ms = timeout_ms;
    store->prefix = text_dup(key_prefix);
    store->key = joined(key_prefix, "mqtt_config:no");
    store->connections = connections;
    store->free = calloc(connections, sizeof(struct redis *));
    if (!store->prefix || !store->key || !store->free || scripts_init(store->scripts) != ERR_OK) {
        goto out;
    }
    while (store->free_count < connections) {
        struct redis *redis = redis_create(url, timeout_ms);
        if (!redis) {
            goto out;
        }
        store->free[store->free_count++] = redis;
    }
    return store;
out:
    store->connections = store->free_count;
    store_close(store);
    return NULL;
}

void store_close(struct store *store) {
    if (!store) {
        return;
    }
    assert(store->free_count == store->connections); /* no call is under way */
    for (size_t i = 0; i < store->free_count; i++) {
        redis_destroy(store->free[i]);
    }
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        free(store->scripts[i].text);
    }
    free(store->free);
    free(store->prefix);
    free(store->key);
    pthread_cond_destroy(&store->freed);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

void store_require_replicas(struct store *store, int64_t replicas_min, int64_t timeout_ms) {
    store->replicas_min = replicas_min;
    store->replicas_timeout_ms = timeout_ms;
}

/* NULL: none came free within the timeout. The one used last comes first, so that few are open. */
static struct redis *borrow(struct store *store) {
    struct timespec deadline = condition_deadline(store->timeout_ms);
    struct redis *redis = NULL;
    int waited = 0;
    pthread_mutex_lock(&store->mutex);
    while (store->free_count == 0 && waited == 0) {
        waited = pthread_cond_timedwait(&store->freed, &store->mutex, &deadline);
    }
    if (store->free_count > 0) {
        redis = store->free[--store->free_count];
    }
    pthread_mutex_unlock(&store->mutex);
    return redis;
}

/* Once a minute while it lasts. With the mutex. */
static void complain_of_memory(struct store *store) {
    int64_t now_ms = clock_ms();
    if (store->full_ms == 0 || now_ms - store->full_ms >= COMPLAINT_MS) {
        store->full_ms = now_ms;
        log_event(LOG_WARN, "redis_out_of_memory", KS("detail", store->trouble));
    }
}

static void give_back(struct store *store, struct redis *redis, enum err result) {
    pthread_mutex_lock(&store->mutex);
    if (result == ERR_UNAVAILABLE || result == ERR_TIMEOUT || result == ERR_PROTOCOL ||
        result == ERR_FULL) {
        redis_trouble(redis, store->trouble, sizeof(store->trouble));
    }
    if (result == ERR_FULL) {
        complain_of_memory(store);
    }
    store->free[store->free_count++] = redis;
    pthread_cond_signal(&store->freed);
    pthread_mutex_unlock(&store->mutex);
}

void store_trouble(struct store *store, char out[STORE_TROUBLE_LEN]) {
    pthread_mutex_lock(&store->mutex);
    memcpy(out, store->trouble, STORE_TROUBLE_LEN);
    pthread_mutex_unlock(&store->mutex);
}

/* ---- a call -------------------------------------------------------------------------------- */

void call_begin(struct call *call, const struct store *store, enum script script) {
    call->script = script;
    call->copies = COPIES_ANY;
    call->argc = 0;
    call->number_count = 0;
    call->repeated = false;
    call_str(call, store->key);
    call_str(call, store->prefix);
}

void call_str(struct call *call, const char *text) {
    assert(call->argc < CALL_ARGS_MAX && text);
    call->argv[call->argc++] = text;
}

void call_int(struct call *call, int64_t number) {
    assert(call->number_count < CALL_NUMBERS_MAX);
    char *text = call->numbers[call->number_count++];
    snprintf(text, sizeof call->numbers[0], "%" PRId64, number);
    call_str(call, text);
}

void call_cursor(struct call *call, uint64_t cursor) {
    assert(call->number_count < CALL_NUMBERS_MAX);
    char *text = call->numbers[call->number_count++];
    snprintf(text, sizeof call->numbers[0], "%" PRIu64, cursor);
    call_str(call, text);
}

void call_member(struct call *call, const struct store_member *member) {
    call_str(call, member->node);
    call_str(call, member->incarnation);
}

static enum err word_err(const char *script, const struct redis_reply *reply) {
    const char *word = redis_reply_str(redis_reply_at(reply, 0), NULL);
    for (size_t i = 0; word && i < sizeof WORDS / sizeof WORDS[0]; i++) {
        if (strcmp(word, WORDS[i].word) == 0) {
            return WORDS[i].err;
        }
    }
    log_event(LOG_ERROR, "store_answer_unknown", KS("script", script), KS("word", word));
    return ERR_PROTOCOL;
}

/* On a cluster, keys that hash to other slots than the first are out of a script's reach. */
static bool is_out_of_slot(const char *error) {
    return strstr(error, "non local key") || strstr(error, "hash to the same slot");
}

static void log_failure(const struct store *store, enum script script, const char *error) {
    if (is_out_of_slot(error)) {
        log_event(LOG_ERROR, "key_prefix_unfit", KS("key_prefix", store->prefix),
                  KS("detail", "this Redis is a cluster: key_prefix must hold a hash tag, "
                               "such as {fleet}:"));
    } else {
        log_event(LOG_ERROR, "store_script_failed", KS("script", SCRIPT_NAMES[script]));
    }
}

static enum err run_script(struct store *store, struct redis *redis, struct call *call,
                           struct redis_reply **reply) {
    const struct store_script *script = &store->scripts[call->script];
    bool was_open = redis_fd(redis) >= 0;
    enum err err =
        redis_script(redis, script->sha, script->text, 1, call->argc, call->argv, NULL, reply);
    if (err == ERR_UNAVAILABLE && was_open) {
        call->repeated = true;
        err =
            redis_script(redis, script->sha, script->text, 1, call->argc, call->argv, NULL, reply);
    }
    if (err == ERR_PROTOCOL) {
        log_failure(store, call->script, redis_error(redis));
    }
    return err == ERR_OK ? word_err(SCRIPT_NAMES[call->script], *reply) : err;
}

/* Also when this call wrote nothing, because an earlier one had: that may not be copied yet. */
static enum err await_copies(struct store *store, struct redis *redis, const struct call *call) {
    if (call->copies == COPIES_ANY || store->replicas_min == 0) {
        return ERR_OK;
    }
    enum err err = redis_wait_replicas(redis, store->replicas_min, store->replicas_timeout_ms);
    if (err == ERR_OK) {
        return ERR_OK;
    }
    log_event(LOG_WARN, "store_not_replicated", KS("script", SCRIPT_NAMES[call->script]),
              KI("min_replicas", store->replicas_min), KS("error", err_name(err)),
              KS("detail", redis_error(redis)));
    return call->copies == COPIES_REQUIRED ? ERR_TIMEOUT : ERR_OK;
}

enum err call_run(struct store *store, struct call *call, struct redis_reply **reply) {
    *reply = NULL;
    struct redis *redis = borrow(store);
    if (!redis) {
        return ERR_UNAVAILABLE;
    }
    enum err err = run_script(store, redis, call, reply);
    if (err == ERR_OK || (err == ERR_NOT_FOUND && call->script == SCRIPT_DELETE)) {
        enum err copied = await_copies(store, redis, call);
        err = copied == ERR_OK ? err : copied;
    }
    give_back(store, redis, err);
    return err;
}

enum err call_run_plain(struct store *store, struct call *call) {
    struct redis_reply *reply;
    enum err err = call_run(store, call, &reply);
    redis_reply_free(reply);
    return err;
}

enum err store_ping(struct store *store) {
    struct redis_reply *reply = NULL;
    struct redis *redis = borrow(store);
    if (!redis) {
        return ERR_UNAVAILABLE;
    }
    enum err err = redis_command(redis, 1, (const char *const[]){"PING"}, NULL, &reply);
    give_back(store, redis, err);
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR) {
        err = ERR_UNAVAILABLE;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_redis_facts(struct store *store, struct redis_facts *out) {
    struct redis *redis = borrow(store);
    if (!redis) {
        return ERR_UNAVAILABLE;
    }
    enum err err = redis_facts_ask(redis, NULL, out);
    give_back(store, redis, err == ERR_REFUSED ? ERR_UNAVAILABLE : err); /* its cause is kept */
    return err;
}

size_t batch_len(size_t at, size_t n) {
    return n - at < STORE_BATCH_MAX ? n - at : STORE_BATCH_MAX;
}
