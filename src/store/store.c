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
#define RESTORING_MS 3000

/* What comes between common.lua and a script's own text. A script that writes first says what this
 * process knows to be written (history.lua), and before that decides what becomes of it when Redis
 * is out of memory. */
static const char *const PREAMBLES[] = {
    [SCRIPT_READS] = NULL,
    /* It goes on: a script that has written is not refused for lack of memory any more, from Redis
     * 2.6 to 8 and in Valkey ("flags=allow-oom" would be a syntax error before Redis 7). */
    [SCRIPT_GOES_ON] = "redis.call('DEL', PREFIX .. 'mqtt_fleet:none')\n",
    /* It is refused at once, although something that it does first might free memory. */
    [SCRIPT_REFUSED] = "redis.call('SET', PREFIX .. 'mqtt_fleet:none', '', 'XX')\n",
};

static const struct {
    const char *name;
    enum script_kind kind;
} SCRIPTS[SCRIPT_COUNT] = {
#define SCRIPT_ROW(symbol, name, kind) [symbol] = {(name), (kind)},
    SCRIPT_TABLE(SCRIPT_ROW)
#undef SCRIPT_ROW
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
    {"BACK", ERR_CANCELED}, /* for call_run alone */
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
        const char *preamble = PREAMBLES[SCRIPTS[i].kind];
        if (preamble) {
            buffer_append_str(&text, preamble);
            buffer_append_str(&text, source("history"));
        }
        buffer_append_str(&text, source(SCRIPTS[i].name));
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
    condition_init(&store->freed);
    store->timeout_ms = timeout_ms;
    store->history = &store->own_history;
    store->own_history.restoring_ms = RESTORING_MS;
    text_random_id(store->own_history.caller);
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

void store_share_history(struct store *store, struct store *with) {
    store->history = with->history;
}

void store_set_restoring_ms(struct store *store, int64_t restoring_ms) {
    store->history->restoring_ms = restoring_ms;
}

bool store_went_back(struct store *store) {
    return atomic_exchange(&store->history->went_back, false);
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
        log_event(LOG_ERROR, "store_script_failed", KS("script", SCRIPTS[script].name));
    }
}

/* The number of this call; what common.lua takes off the end of the arguments. */
static int64_t present(struct store *store, struct call *call, char token[TEXT_ID_LEN]) {
    struct store_history *history = store->history;
    int64_t number = atomic_fetch_add(&history->next, 1) + 1;
    text_random_id(token);
    call_str(call, history->caller);
    call_int(call, number);
    call_int(call, atomic_load(&history->answered));
    call_int(call, history->restoring_ms);
    call_str(call, token);
    return number;
}

static void answered(struct store_history *history, int64_t number) {
    int64_t before = atomic_load(&history->answered);
    while (before < number && !atomic_compare_exchange_weak(&history->answered, &before, number)) {
    }
}

static bool is_answer(enum err err) {
    return err != ERR_UNAVAILABLE && err != ERR_TIMEOUT && err != ERR_PROTOCOL &&
           err != ERR_MEMORY && err != ERR_FULL;
}

/* A call as it came, before its numbers. */
struct call_shape {
    int argc;
    size_t number_count;
};

static enum err send_once(struct store *store, struct redis *redis, struct call *call,
                          const struct call_shape *shape, struct redis_reply **reply) {
    const struct store_script *script = &store->scripts[call->script];
    bool writes = SCRIPTS[call->script].kind != SCRIPT_READS;
    char token[TEXT_ID_LEN];
    call->argc = shape->argc;
    call->number_count = shape->number_count;
    redis_reply_free(*reply);
    *reply = NULL;
    int64_t number = writes ? present(store, call, token) : 0;
    enum err err =
        redis_script(redis, script->sha, script->text, 1, call->argc, call->argv, NULL, reply);
    if (err == ERR_PROTOCOL) {
        log_failure(store, call->script, redis_error(redis));
    }
    err = err == ERR_OK ? word_err(SCRIPTS[call->script].name, *reply) : err;
    if (writes && is_answer(err) && err != ERR_CANCELED) {
        answered(store->history, number);
    }
    return err;
}

/* A broken connection is tried once more, with numbers of now: Redis may be another one, which
 * lacks what was answered since the first time. */
static enum err run_once(struct store *store, struct redis *redis, struct call *call,
                         const struct call_shape *shape, struct redis_reply **reply) {
    bool was_open = redis_fd(redis) >= 0;
    enum err err = send_once(store, redis, call, shape, reply);
    if (err == ERR_UNAVAILABLE && was_open) {
        call->repeated = true;
        err = send_once(store, redis, call, shape, reply);
    }
    return err;
}

/* A Redis that lost what it had answered says so, once, and has changed nothing. */
static enum err run_script(struct store *store, struct redis *redis, struct call *call,
                           struct redis_reply **reply) {
    const struct call_shape shape = {call->argc, call->number_count};
    enum err err = run_once(store, redis, call, &shape, reply);
    if (err == ERR_CANCELED) {
        log_event(LOG_WARN, "redis_went_back", KS("script", SCRIPTS[call->script].name));
        atomic_store(&store->history->went_back, true);
        err = run_once(store, redis, call, &shape, reply);
    }
    call->argc = shape.argc;
    call->number_count = shape.number_count;
    return err == ERR_CANCELED ? ERR_UNAVAILABLE : err;
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
    log_event(LOG_WARN, "store_not_replicated", KS("script", SCRIPTS[call->script].name),
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
