/* Owns the sinks of a node and their threads. Those of the fleet come and go in sinks_fleet.c. */
#include "sink/sink_types.h"
#include "sinks_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"

#define STOP_MS_MIN 500 /* for dead letters, however long the others took */

struct sinks *sinks_create(const struct sink_environment *environment, struct router *router) {
    struct sinks *sinks = calloc(1, sizeof *sinks);
    if (sinks) {
        sinks->environment = *environment;
        sinks->own_environment = *environment;
        sinks->own_environment.address_allowed = NULL;
        sinks->router = router;
        pthread_mutex_init(&sinks->apply_lock, NULL);
        pthread_mutex_init(&sinks->start_lock, NULL);
        pthread_mutex_init(&sinks->lock, NULL);
    }
    return sinks;
}

void sinks_environment(const struct sinks *sinks, struct sink_environment *out) {
    *out = sinks ? sinks->environment : (struct sink_environment){.node = ""};
}

void sinks_destroy(struct sinks *sinks) {
    if (!sinks) {
        return;
    }
    for (size_t i = 0; i < sinks->count; i++) {
        sink_destroy(sinks->slots[i]->sink);
        message_queue_destroy(sinks->slots[i]->queue);
        json_decref(sinks->slots[i]->wish.settings);
        free(sinks->slots[i]);
    }
    pthread_mutex_destroy(&sinks->apply_lock);
    pthread_mutex_destroy(&sinks->start_lock);
    pthread_mutex_destroy(&sinks->lock);
    free(sinks);
}

/* ---- slots ----------------------------------------------------------------------------------- */

bool sinks_is_named(const struct sinks_slot *slot, const char *name) {
    return strcmp(slot->name, name) == 0 ||
           (slot->sink && strcmp(sink_label(slot->sink), name) == 0);
}

struct sinks_slot *sinks_find(struct sinks *sinks, const char *name) {
    for (size_t i = 0; i < sinks->count; i++) {
        if (sinks_is_named(sinks->slots[i], name)) {
            return sinks->slots[i];
        }
    }
    return NULL;
}

struct sinks_slot *sinks_new_slot(struct sinks *sinks, const char *name) {
    struct sinks_slot *slot = sinks->count < SINKS_NAMES_MAX ? calloc(1, sizeof *slot) : NULL;
    if (slot) {
        snprintf(slot->name, sizeof slot->name, "%s", name);
        slot->sinks = sinks;
        pthread_mutex_lock(&sinks->lock);
        sinks->slots[sinks->count++] = slot;
        pthread_mutex_unlock(&sinks->lock);
    }
    return slot;
}

size_t sinks_running_count(const struct sinks *sinks) {
    size_t n = 0;
    for (size_t i = 0; i < sinks->count; i++) {
        n += sinks->slots[i]->sink != NULL;
    }
    return n;
}

void sinks_set_sink(struct sinks *sinks, struct sinks_slot *slot, struct sink *sink) {
    pthread_mutex_lock(&sinks->lock);
    slot->sink = sink;
    pthread_mutex_unlock(&sinks->lock);
}

/* No client may name it. */
static bool sinks_is_hidden(const char *name) {
    return strcmp(name, SINK_DEAD_LETTER) == 0;
}

/* Whether a template uses the broker of a client. */
static bool sinks_uses_broker(const json_t *value) {
    const char *name;
    json_t *member;
    size_t index;
    if (json_is_string(value)) {
        return strstr(json_string_value(value), "{broker") != NULL;
    }
    json_array_foreach(value, index, member) {
        if (sinks_uses_broker(member)) { /* settings are two deep */
            return true;
        }
    }
    json_object_foreach((json_t *)value, name, member) {
        if (sinks_uses_broker(member)) {
            return true;
        }
    }
    return false;
}

void sinks_require_origin(struct sinks *sinks, const char *type, const json_t *settings) {
    char fault[SINK_FAULT_LEN];
    const struct sink_type *found = sink_types_find(type, fault);
    if ((found && found->uses_broker) || sinks_uses_broker(settings)) {
        router_require_origin(sinks->router);
    }
}

/* The label of the default is a second name: that of its type, which clients have always used. */
void sinks_route(struct sinks *sinks, struct sink *sink) {
    bool hidden = sinks_is_hidden(sink_name(sink)); /* only routes whose script fails use it */
    bool added = router_add_sink(sinks->router, sink_name(sink), sink_queue(sink)) &&
                 (hidden || router_add_sink(sinks->router, sink_label(sink), sink_queue(sink)));
    assert(added); /* there is room for SINKS_MAX and the labels */
    (void)added;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *sinks_run(void *argument) {
    struct sinks_slot *slot = argument;
    sink_run(slot->sink);
    slot->ended = true;
    return NULL;
}

enum err sinks_start_slot(struct sinks_slot *slot, char *fault) {
    slot->ended = false;
    int error = pthread_create(&slot->thread, NULL, sinks_run, slot);
    if (error != 0) {
        snprintf(fault, SINK_FAULT_LEN, "cannot start the thread of the sink %s: %s", slot->name,
                 strerror(error));
        return ERR_UNAVAILABLE;
    }
    pthread_setname_np(slot->thread, "sink");
    slot->runs = true;
    return ERR_OK;
}

void sinks_join_slot(struct sinks_slot *slot) {
    if (slot->runs) {
        pthread_join(slot->thread, NULL);
        slot->runs = false;
    }
}

/* Starts a sink with its first message, because most nodes never need it. Runs on the thread that
 * flushes the queue. */
static bool sinks_start_on_demand(void *context) {
    struct sinks_slot *slot = context;
    char fault[SINK_FAULT_LEN];
    enum err err = ERR_OK;
    pthread_mutex_lock(&slot->sinks->start_lock);
    if (!slot->runs && !slot->sinks->stopped) {
        err = sinks_start_slot(slot, fault);
    }
    pthread_mutex_unlock(&slot->sinks->start_lock);
    if (err != ERR_OK) {
        log_event(LOG_WARN, "thread_not_started", KS("name", "sink"), KS("detail", fault));
    }
    return err == ERR_OK;
}

static enum err sinks_start_or_wait(struct sinks_slot *slot, char *fault) {
    if (slot->sink && slot->on_demand) {
        message_queue_start_on_demand(sink_queue(slot->sink), sinks_start_on_demand, slot);
        return ERR_OK;
    }
    return slot->sink ? sinks_start_slot(slot, fault) : ERR_OK;
}

enum err sinks_start(struct sinks *sinks, char *fault) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&sinks->apply_lock);
    for (size_t i = 0; i < sinks->count && err == ERR_OK; i++) {
        err = sinks_start_or_wait(sinks->slots[i], fault);
    }
    sinks->started = err == ERR_OK;
    pthread_mutex_unlock(&sinks->apply_lock);
    return err;
}

static void sinks_stop_some(struct sinks *sinks, bool dead_letters, int64_t timeout_ms) {
    for (size_t i = 0; i < sinks->count; i++) {
        struct sink *sink = sinks->slots[i]->sink;
        if (sink && sink_is_dead_letter(sink) == dead_letters) {
            sink_stop(sink, timeout_ms);
        }
    }
}

/* What was put and no longer started a thread is written by the thread that stops. Ends at once if
 * there is nothing. */
static void sinks_run_unstarted(struct sinks_slot *slot) {
    if (slot->sink && slot->on_demand && !slot->runs && slot->sinks->started &&
        !message_queue_is_over(sink_queue(slot->sink))) {
        sink_run(slot->sink);
    }
}

static void sinks_await_senders(struct sinks *sinks) {
    for (size_t i = 0; i < sinks->count; i++) {
        struct sinks_slot *slot = sinks->slots[i];
        if (!slot->sink || sink_is_dead_letter(slot->sink)) {
            continue;
        }
        if (slot->runs) {
            sink_await_end(slot->sink);
        } else {
            sinks_run_unstarted(slot);
        }
    }
}

/* Those that take dead letters are stopped after the others, which send them until they end. */
void sinks_stop(struct sinks *sinks, int64_t timeout_ms) {
    int64_t deadline_ms = clock_ms() + timeout_ms;
    router_stop(sinks->router);
    pthread_mutex_lock(&sinks->apply_lock);
    pthread_mutex_lock(&sinks->start_lock);
    sinks->stopped = true;
    pthread_mutex_unlock(&sinks->start_lock);
    sinks_stop_some(sinks, false, timeout_ms);
    sinks_await_senders(sinks);
    int64_t left_ms = deadline_ms - clock_ms();
    sinks_stop_some(sinks, true, left_ms > STOP_MS_MIN ? left_ms : STOP_MS_MIN);
    for (size_t i = 0; i < sinks->count; i++) {
        sinks_run_unstarted(sinks->slots[i]);
        sinks_join_slot(sinks->slots[i]);
    }
    pthread_mutex_unlock(&sinks->apply_lock);
}

/* ---- dead letters ---------------------------------------------------------------------------- */

void sinks_name_dead_letter(struct sinks_slot *slot, const json_t *settings) {
    const char *name = json_string_value(json_object_get(settings, "dead_letter"));
    snprintf(slot->dead_letter, sizeof slot->dead_letter, "%s", name ? name : SINK_DEAD_LETTER);
}

bool sinks_connect(struct sinks *sinks, struct sinks_slot *slot, char *fault) {
    const char *name = slot->dead_letter;
    struct sinks_slot *to = *name ? sinks_find(sinks, name) : NULL;
    bool found = to && to->sink && !to->leaving;
    if (to == slot) {
        return true;
    }
    sink_set_dead_letter(slot->sink, found ? to->sink : NULL);
    if (*name && !found) {
        snprintf(fault, SINK_FAULT_LEN, "dead_letter: the node has no sink %.64s", name);
    }
    return !*name || found;
}

enum err sinks_connect_dead_letters(struct sinks *sinks, char *fault) {
    char missing[SINK_FAULT_LEN];
    for (size_t i = 0; i < sinks->count; i++) {
        if (!sinks_connect(sinks, sinks->slots[i], missing)) {
            snprintf(fault, SINK_FAULT_LEN, "sink %s: %.180s", sinks->slots[i]->name, missing);
            return ERR_ARGUMENT;
        }
    }
    return ERR_OK;
}

/* ---- sinks of the settings ------------------------------------------------------------------- */

enum err sinks_add(struct sinks *sinks, const struct sink_config *config, char *fault) {
    struct sink_config complete = *config;
    struct sink *sink = NULL;
    complete.environment = &sinks->own_environment;
    if (sinks_running_count(sinks) == SINKS_MAX) {
        snprintf(fault, SINK_FAULT_LEN, "a node has at most %d sinks", SINKS_MAX);
        return ERR_FULL;
    }
    enum err err = sink_create(&sink, &complete, fault);
    struct sinks_slot *slot = err == ERR_OK ? sinks_new_slot(sinks, config->name) : NULL;
    if (!slot) {
        sink_destroy(sink);
        return err == ERR_OK ? ERR_MEMORY : err;
    }
    slot->on_demand = config->rarely_used && !sink_needs_maintenance(sink);
    sinks_name_dead_letter(slot, config->settings);
    sinks_set_sink(sinks, slot, sink);
    sinks_require_origin(sinks, config->type, config->settings);
    sinks_route(sinks, sink);
    return ERR_OK;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* A message of QoS 0 that finds no room is freed by the queue. */
static enum err sinks_put(struct message_queue *queue, struct message *message,
                          struct receipt *receipt) {
    enum err err = message_queue_put(queue, NULL, message, receipt);
    if (err == ERR_FULL || err == ERR_WRONG_STATE) {
        message_destroy(message);
    }
    message_queue_flush(queue);
    return err == ERR_REFUSED || err == ERR_BUSY ? ERR_FULL : err;
}

enum err sinks_submit(struct sinks *sinks, const char *name, struct message *message,
                      struct receipt *receipt) {
    pthread_mutex_lock(&sinks->lock);
    const struct sinks_slot *slot = sinks_find(sinks, name);
    bool found = slot && slot->sink && !slot->leaving && !sinks_is_hidden(name);
    enum err err = found ? sinks_put(sink_queue(slot->sink), message, receipt) : ERR_NOT_FOUND;
    pthread_mutex_unlock(&sinks->lock);
    if (!found) {
        message_destroy(message);
    }
    return err;
}

/* ---- status ---------------------------------------------------------------------------------- */

static bool sinks_slot_runs(const struct sinks_slot *slot) {
    return slot->sink && !slot->leaving && !sinks_is_hidden(slot->name);
}

static bool sinks_slot_is_known(const struct sinks_slot *slot) {
    return sinks_slot_runs(slot) || slot->wish.wanted;
}

static bool sinks_slot_is_own(const struct sinks_slot *slot) {
    return !slot->of_fleet;
}

static bool sinks_any(struct sinks *sinks, const char *name,
                      bool (*holds)(const struct sinks_slot *slot)) {
    bool found = false;
    if (!sinks) {
        return false;
    }
    pthread_mutex_lock(&sinks->lock);
    for (size_t i = 0; i < sinks->count && !found; i++) {
        found = sinks_is_named(sinks->slots[i], name) && holds(sinks->slots[i]);
    }
    pthread_mutex_unlock(&sinks->lock);
    return found;
}

bool sinks_set_routes(struct sinks *sinks, struct route_table *table) {
    return router_set_routes(sinks->router, table);
}

struct route_table *sinks_routes(struct sinks *sinks) {
    return router_routes(sinks->router);
}

struct rate_quotas *sinks_quotas(const struct sinks *sinks) {
    return router_quotas(sinks->router);
}

void sinks_quotas_changed(struct sinks *sinks) {
    router_quotas_changed(sinks->router);
}

bool sinks_has(struct sinks *sinks, const char *name) {
    return sinks_any(sinks, name, sinks_slot_runs);
}

bool sinks_knows(struct sinks *sinks, const char *name) {
    return sinks_any(sinks, name, sinks_slot_is_known);
}

bool sinks_owns(struct sinks *sinks, const char *name) {
    return sinks_any(sinks, name, sinks_slot_is_own);
}

/* Of a sink of the fleet that this node cannot use. */
static void sinks_describe_missing(const struct sinks_slot *slot, struct sink_status *out) {
    *out = (struct sink_status){.type = "",
                                .unavailable = true,
                                .failing = true,
                                .failing_ms = clock_ms() - slot->fault_since_ms,
                                .store_bytes = -1,
                                .store_bytes_max = -1,
                                .store_entries = -1};
    snprintf(out->name, sizeof out->name, "%s", slot->name);
    snprintf(out->label, sizeof out->label, "%s", slot->name);
    snprintf(out->error, sizeof out->error, "%.*s", (int)sizeof out->error - 1, slot->fault);
}

static void sinks_describe(const struct sinks_slot *slot, struct sink_status *out) {
    if (slot->sink) {
        sink_status(slot->sink, out);
    } else {
        sinks_describe_missing(slot, out);
    }
    out->of_fleet = slot->of_fleet;
    out->shadows = !slot->of_fleet && slot->wish.wanted;
    out->leaving = slot->leaving;
    out->version = slot->version;
    snprintf(out->fault, sizeof out->fault, "%s", slot->fault);
}

static bool sinks_is_shown(const struct sinks_slot *slot) {
    return slot->sink || (slot->wish.wanted && *slot->fault);
}

bool sinks_get_status(struct sinks *sinks, const char *name, struct sink_status *out) {
    if (!sinks) {
        return false;
    }
    pthread_mutex_lock(&sinks->lock);
    const struct sinks_slot *slot = sinks_find(sinks, name);
    bool found = slot && sinks_is_shown(slot);
    if (found) {
        sinks_describe(slot, out);
    }
    pthread_mutex_unlock(&sinks->lock);
    return found;
}

bool sinks_next(struct sinks *sinks, size_t *cursor, struct sink_status *out) {
    bool found = false;
    if (!sinks) {
        return false;
    }
    pthread_mutex_lock(&sinks->lock);
    while (*cursor < sinks->count && !found) {
        const struct sinks_slot *slot = sinks->slots[(*cursor)++];
        found = sinks_is_shown(slot);
        if (found) {
            sinks_describe(slot, out);
        }
    }
    pthread_mutex_unlock(&sinks->lock);
    return found;
}
