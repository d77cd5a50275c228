/* Owns the pool of connections and the loaded scripts. Builds a call, runs it, and converts the
 * status word of the answer into an error code. Any thread. */
#include "store/store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/buffer.h"
#include "base/system/clock.h"
#include "base/system/condition.h"
#include "base/telemetry/log.h"
#include "internal.h"
#include "store/scripts.h"

#define WARNING_PERIOD_MS 60000
#define RESTORING_MS      3000

const char *const store_common_sources[] = {
    "keys",      "records", "revisions", "events",         "incidents",  "transitions", "ownership",
    "resources", "audit",   "quotas",    "configurations", "operations", NULL};

/* Inserted between these and a script. A script that writes first presents the number of an
 * answered call (history.lua). Before that, it is decided whether the script runs when Redis is out
 * of memory. */
static const char *const PREAMBLES[] = {
    [SCRIPT_READ_ONLY] = NULL,
    /* Runs: after its first write a script is no longer rejected for lack of memory, in Redis 2.6
     * to 8 and in Valkey ("flags=allow-oom" is a syntax error before Redis 7). */
    [SCRIPT_WRITES_WHEN_FULL] = "redis.call('DEL', PREFIX .. 'mqtt_fleet:none')\n",
    /* Rejected at once, although a later step might free memory. */
    [SCRIPT_REFUSED_WHEN_FULL] = "redis.call('SET', PREFIX .. 'mqtt_fleet:none', '', 'XX')\n",
};

static const struct {
    const char *name;
    enum store_script_kind kind;
} SCRIPTS[SCRIPT_COUNT] = {
#define SCRIPT_ROW(symbol, name, kind) [symbol] = {(name), (kind)},
    SCRIPT_TABLE(SCRIPT_ROW)
#undef SCRIPT_ROW
};

/* Status words of the scripts. */
static const struct {
    const char *word;
    enum err err;
} STATUS_WORDS[] = {
    {"OK", ERR_OK},
    {"FENCED", ERR_FENCED},
    {"REFUSED", ERR_REFUSED},
    {"STATE", ERR_WRONG_STATE},
    {"BACK", ERR_CANCELED}, /* only for store_call_run */
    {"EXISTS", ERR_EXISTS},
    {"VERSION", ERR_VERSION},
    {"NOT_FOUND", ERR_NOT_FOUND},
    {"GONE", ERR_NOT_FOUND},
};

/* ---- scripts ------------------------------------------------------------------------------- */

static const char *store_find_script_source(const char *name) {
    const struct store_script_source *row = store_script_sources;
    while (row->name && strcmp(row->name, name) != 0) {
        row++;
    }
    assert(row->name); /* a row of SCRIPT_TABLE without its file */
    return row->text;
}

static enum err store_scripts_init(struct store_script *scripts) {
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        struct buffer text;
        buffer_init(&text);
        for (const char *const *common = store_common_sources; *common; common++) {
            buffer_append_str(&text, store_find_script_source(*common));
        }
        const char *preamble = PREAMBLES[SCRIPTS[i].kind];
        if (preamble) {
            buffer_append_str(&text, preamble);
            buffer_append_str(&text, store_find_script_source("history"));
        }
        buffer_append_str(&text, store_find_script_source(SCRIPTS[i].name));
        scripts[i].text = buffer_take(&text);
        if (!scripts[i].text) {
            return ERR_MEMORY;
        }
        redis_script_sha(scripts[i].text, scripts[i].sha);
    }
    return ERR_OK;
}

static char *store_make_key(const char *prefix, const char *name) {
    char *key = NULL;
    return asprintf(&key, "%s%s", prefix, name) < 0 ? NULL : key;
}

char *store_wake_channel(const char *key_prefix, const char *node) {
    char *name = NULL;
    int len =
        asprintf(&name, "%smqtt_fleet:wake%s%s", key_prefix, node ? ":" : "", node ? node : "");
    return len < 0 ? NULL : name;
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
    condition_init(&store->returned);
    store->timeout_ms = timeout_ms;
    store->history = &store->own_history;
    store->own_history.restoring_ms = RESTORING_MS;
    text_random_id(store->own_history.caller);
    store->prefix = text_dup(key_prefix);
    store->key = store_make_key(key_prefix, "mqtt_config:no");
    store->connections = connections;
    store->idle = calloc(connections, sizeof(struct redis *));
    if (!store->prefix || !store->key || !store->idle ||
        store_scripts_init(store->scripts) != ERR_OK) {
        goto out;
    }
    while (store->idle_count < connections) {
        struct redis *redis = redis_create(url, timeout_ms);
        if (!redis) {
            goto out;
        }
        store->idle[store->idle_count++] = redis;
    }
    return store;
out:
    store->connections = store->idle_count;
    store_close(store);
    return NULL;
}

void store_close(struct store *store) {
    if (!store) {
        return;
    }
    assert(store->idle_count == store->connections); /* no call is under way */
    for (size_t i = 0; i < store->idle_count; i++) {
        redis_destroy(store->idle[i]);
    }
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        free(store->scripts[i].text);
    }
    free(store->idle);
    free(store->prefix);
    free(store->key);
    pthread_cond_destroy(&store->returned);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

void store_require_replicas(struct store *store, int64_t replicas_min, int64_t timeout_ms) {
    store->replicas_min = replicas_min;
    store->replicas_timeout_ms = timeout_ms;
}

void store_set_audit_keep_ms(struct store *store, int64_t keep_ms) {
    store->audit_keep_ms = keep_ms;
}

void store_share_history(struct store *store, struct store *with) {
    store->history = with->history;
}

void store_set_restoring_ms(struct store *store, int64_t restoring_ms) {
    store->history->restoring_ms = restoring_ms;
}

bool store_noticed_rollback(struct store *store) {
    return atomic_exchange(&store->history->rolled_back, false);
}

/* NULL: no connection became free within the timeout. Prefers the one used last, so that few are
 * open. */
static struct redis *store_pool_borrow(struct store *store) {
    struct timespec deadline = condition_deadline(store->timeout_ms);
    struct redis *redis = NULL;
    int waited = 0;
    pthread_mutex_lock(&store->mutex);
    while (store->idle_count == 0 && waited == 0) {
        waited = pthread_cond_timedwait(&store->returned, &store->mutex, &deadline);
    }
    if (store->idle_count > 0) {
        redis = store->idle[--store->idle_count];
    }
    pthread_mutex_unlock(&store->mutex);
    return redis;
}

/* Once a minute while it lasts. Called with the mutex. */
static void store_warn_out_of_memory(struct store *store) {
    int64_t now_ms = clock_ms();
    if (store->full_logged_ms == 0 || now_ms - store->full_logged_ms >= WARNING_PERIOD_MS) {
        store->full_logged_ms = now_ms;
        log_event(LOG_WARN, "redis_out_of_memory", KS("detail", store->last_error));
    }
}

static void store_pool_return(struct store *store, struct redis *redis, enum err err) {
    pthread_mutex_lock(&store->mutex);
    if (err == ERR_UNAVAILABLE || err == ERR_TIMEOUT || err == ERR_PROTOCOL || err == ERR_FULL) {
        redis_describe_error(redis, store->last_error, sizeof(store->last_error));
    }
    if (err == ERR_FULL) {
        store_warn_out_of_memory(store);
    }
    store->idle[store->idle_count++] = redis;
    pthread_cond_signal(&store->returned);
    pthread_mutex_unlock(&store->mutex);
}

void store_last_error(struct store *store, char out[STORE_ERROR_LEN]) {
    pthread_mutex_lock(&store->mutex);
    memcpy(out, store->last_error, STORE_ERROR_LEN);
    pthread_mutex_unlock(&store->mutex);
}

/* ---- a call -------------------------------------------------------------------------------- */

void store_call_begin(struct store_call *call, const struct store *store,
                      enum store_script_id script) {
    call->script = script;
    call->replication = STORE_REPLICATION_IGNORED;
    call->argc = 0;
    call->number_count = 0;
    call->retried = false;
    store_call_str(call, store->key);
    store_call_str(call, store->prefix);
}

void store_call_str(struct store_call *call, const char *text) {
    assert(call->argc < STORE_CALL_ARGS_MAX && text);
    call->argv[call->argc++] = text;
}

void store_call_int(struct store_call *call, int64_t number) {
    assert(call->number_count < STORE_CALL_NUMBERS_MAX);
    char *text = call->numbers[call->number_count++];
    snprintf(text, sizeof call->numbers[0], "%" PRId64, number);
    store_call_str(call, text);
}

void store_call_cursor(struct store_call *call, uint64_t cursor) {
    assert(call->number_count < STORE_CALL_NUMBERS_MAX);
    char *text = call->numbers[call->number_count++];
    snprintf(text, sizeof call->numbers[0], "%" PRIu64, cursor);
    store_call_str(call, text);
}

void store_call_member(struct store_call *call, const struct store_member *member) {
    store_call_str(call, member->node);
    store_call_str(call, member->incarnation);
}

static enum err store_parse_status(const char *script, const struct redis_reply *reply) {
    const char *word = redis_reply_str(redis_reply_at(reply, 0), NULL);
    for (size_t i = 0; word && i < sizeof STATUS_WORDS / sizeof STATUS_WORDS[0]; i++) {
        if (strcmp(word, STATUS_WORDS[i].word) == 0) {
            return STATUS_WORDS[i].err;
        }
    }
    log_event(LOG_ERROR, "store_answer_unknown", KS("script", script), KS("word", word));
    return ERR_PROTOCOL;
}

/* In a cluster, a script cannot use keys of other slots than the first. */
static bool store_is_cross_slot_error(const char *error) {
    return strstr(error, "non local key") || strstr(error, "hash to the same slot");
}

static void store_log_failure(const struct store *store, enum store_script_id script,
                              const char *error) {
    if (store_is_cross_slot_error(error)) {
        log_event(LOG_ERROR, "key_prefix_unfit", KS("key_prefix", store->prefix),
                  KS("detail", "this Redis is a cluster: key_prefix must contain a hash tag, "
                               "such as {fleet}:"));
    } else {
        log_event(LOG_ERROR, "store_script_failed", KS("script", SCRIPTS[script].name));
    }
}

/* Adds the number of this call and the other arguments of history.lua. */
static int64_t store_add_history_arguments(struct store *store, struct store_call *call,
                                           char token[TEXT_ID_LEN]) {
    struct store_history *history = store->history;
    int64_t number = atomic_fetch_add(&history->next, 1) + 1;
    text_random_id(token);
    store_call_str(call, history->caller);
    store_call_int(call, number);
    store_call_int(call, atomic_load(&history->answered));
    store_call_int(call, history->restoring_ms);
    store_call_str(call, token);
    return number;
}

static void store_note_answered(struct store_history *history, int64_t number) {
    int64_t before = atomic_load(&history->answered);
    while (before < number && !atomic_compare_exchange_weak(&history->answered, &before, number)) {
    }
}

static bool store_is_answer(enum err err) {
    return err != ERR_UNAVAILABLE && err != ERR_TIMEOUT && err != ERR_PROTOCOL &&
           err != ERR_MEMORY && err != ERR_FULL;
}

/* A call before its history arguments were added. */
struct store_call_shape {
    int argc;
    size_t number_count;
};

static enum err store_send_once(struct store *store, struct redis *redis, struct store_call *call,
                                const struct store_call_shape *shape, struct redis_reply **reply) {
    const struct store_script *script = &store->scripts[call->script];
    bool writes = SCRIPTS[call->script].kind != SCRIPT_READ_ONLY;
    char token[TEXT_ID_LEN];
    call->argc = shape->argc;
    call->number_count = shape->number_count;
    redis_reply_free(*reply);
    *reply = NULL;
    int64_t number = writes ? store_add_history_arguments(store, call, token) : 0;
    enum err err =
        redis_script(redis, script->sha, script->text, 1, call->argc, call->argv, NULL, reply);
    if (err == ERR_PROTOCOL) {
        store_log_failure(store, call->script, redis_error(redis));
    }
    err = err == ERR_OK ? store_parse_status(SCRIPTS[call->script].name, *reply) : err;
    if (writes && store_is_answer(err) && err != ERR_CANCELED) {
        store_note_answered(store->history, number);
    }
    return err;
}

/* A broken connection is retried once, with new history arguments: the other server may lack calls
 * that were answered since the first attempt. */
static enum err store_run_once(struct store *store, struct redis *redis, struct store_call *call,
                               const struct store_call_shape *shape, struct redis_reply **reply) {
    bool was_open = redis_fd(redis) >= 0;
    enum err err = store_send_once(store, redis, call, shape, reply);
    if (err == ERR_UNAVAILABLE && was_open) {
        call->retried = true;
        err = store_send_once(store, redis, call, shape, reply);
    }
    return err;
}

/* The URL may lead to another server by now, while connections to the old one stay open. */
static void store_pool_reconnect(struct store *store, struct redis *redis) {
    redis_disconnect(redis);
    pthread_mutex_lock(&store->mutex);
    for (size_t i = 0; i < store->idle_count; i++) {
        redis_disconnect(store->idle[i]);
    }
    pthread_mutex_unlock(&store->mutex);
}

/* A Redis that lost data reports it once and has changed nothing. */
static enum err store_run_script(struct store *store, struct redis *redis, struct store_call *call,
                                 struct redis_reply **reply) {
    const struct store_call_shape shape = {call->argc, call->number_count};
    enum err err = store_run_once(store, redis, call, &shape, reply);
    if (err == ERR_CANCELED) {
        log_event(LOG_WARN, "redis_went_back", KS("script", SCRIPTS[call->script].name));
        atomic_store(&store->history->rolled_back, true);
        store_pool_reconnect(store, redis);
        err = store_run_once(store, redis, call, &shape, reply);
    }
    call->argc = shape.argc;
    call->number_count = shape.number_count;
    return err == ERR_CANCELED ? ERR_UNAVAILABLE : err;
}

/* Also waits if this call wrote nothing: an earlier call may have written, and may not be
 * replicated yet. */
static enum err store_wait_replicas(struct store *store, struct redis *redis,
                                    const struct store_call *call) {
    if (call->replication == STORE_REPLICATION_IGNORED || store->replicas_min == 0) {
        return ERR_OK;
    }
    enum err err = redis_wait_replicas(redis, store->replicas_min, store->replicas_timeout_ms);
    if (err == ERR_OK) {
        return ERR_OK;
    }
    log_event(LOG_WARN, "store_not_replicated", KS("script", SCRIPTS[call->script].name),
              KI("min_replicas", store->replicas_min), KS("error", err_name(err)),
              KS("detail", redis_error(redis)));
    return call->replication == STORE_REPLICATION_REQUIRED ? ERR_TIMEOUT : ERR_OK;
}

enum err store_call_run(struct store *store, struct store_call *call, struct redis_reply **reply) {
    *reply = NULL;
    struct redis *redis = store_pool_borrow(store);
    if (!redis) {
        return ERR_UNAVAILABLE;
    }
    enum err err = store_run_script(store, redis, call, reply);
    if (err == ERR_OK || (err == ERR_NOT_FOUND && call->script == SCRIPT_DELETE)) {
        enum err copied = store_wait_replicas(store, redis, call);
        err = copied == ERR_OK ? err : copied;
    }
    store_pool_return(store, redis, err);
    return err;
}

enum err store_call_run_plain(struct store *store, struct store_call *call) {
    struct redis_reply *reply;
    enum err err = store_call_run(store, call, &reply);
    redis_reply_free(reply);
    return err;
}

enum err store_ping(struct store *store) {
    struct redis_reply *reply = NULL;
    struct redis *redis = store_pool_borrow(store);
    if (!redis) {
        return ERR_UNAVAILABLE;
    }
    enum err err = redis_command(redis, 1, (const char *const[]){"PING"}, NULL, &reply);
    store_pool_return(store, redis, err);
    if (err == ERR_OK && redis_reply_type(reply) == REDIS_ERROR) {
        err = ERR_UNAVAILABLE;
    }
    redis_reply_free(reply);
    return err;
}

enum err store_redis_info(struct store *store, struct redis_info *out) {
    struct redis *redis = store_pool_borrow(store);
    if (!redis) {
        return ERR_UNAVAILABLE;
    }
    enum err err = redis_info_fetch(redis, NULL, out);
    store_pool_return(store, redis,
                      err == ERR_REFUSED ? ERR_UNAVAILABLE : err); /* keeps its cause */
    return err;
}

size_t store_batch_len(size_t at, size_t n) {
    return n - at < STORE_BATCH_MAX ? n - at : STORE_BATCH_MAX;
}
