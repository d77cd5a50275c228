/* Owns the table of shared settings and the problem with the name of the fleet. The agent thread,
 * unless the header says otherwise. */
#include "cluster/membership/fleet_settings.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"

#define WARNING_PERIOD_MS 60000
#define SETTING_UNKNOWN   INT64_MIN

/* If they differ, nodes fence each other or treat a moving client by different rules. */
#define SHARED(X)                                                                                  \
    X(heartbeat_ms)                                                                                \
    X(heartbeat_ttl_ms)                                                                            \
    X(reclaim_grace_ms)                                                                            \
    X(mass_death_wait_ms)                                                                          \
    X(min_replicas)                                                                                \
    X(max_packet_bytes)                                                                            \
    X(stable_ms)                                                                                   \
    X(conflict_losses)                                                                             \
    X(conflict_min_ms)                                                                             \
    X(conflict_max_ms)                                                                             \
    X(release_after_ms)                                                                            \
    X(rebalance_rate)                                                                              \
    X(rebalance_tolerance)                                                                         \
    X(rebalance_settle_ms)

static const struct {
    const char *name;
    size_t offset;
} shared[] = {
#define SHARED_ROW(field) {#field, offsetof(struct conf, field)},
    SHARED(SHARED_ROW)
#undef SHARED_ROW
};
#define SHARED_COUNT (sizeof shared / sizeof shared[0])
static_assert(SHARED_COUNT <= FLEET_SETTINGS_MAX, "struct fleet_differences has room for each");

struct fleet_settings {
    const struct conf *conf;
    struct store *store;
    char *text;           /* the settings of this node, as published */
    int64_t warned_ms;    /* agent thread */
    pthread_mutex_t lock; /* guards: */
    char fault[FLEET_FAULT_LEN];
};

static int64_t fleet_settings_own_value(const struct conf *conf, size_t i) {
    return *(const int64_t *)((const char *)conf + shared[i].offset);
}

static char *fleet_settings_to_text(const struct conf *conf) {
    json_t *all = json_object();
    for (size_t i = 0; i < SHARED_COUNT; i++) {
        json_object_set_new(all, shared[i].name, json_integer(fleet_settings_own_value(conf, i)));
    }
    char *text = json_to_text(all, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(all);
    return text;
}

static void fleet_settings_parse(const char *text, int64_t values[FLEET_SETTINGS_MAX]) {
    json_t *all = text ? json_from_text(text, strlen(text), 0) : NULL;
    for (size_t i = 0; i < SHARED_COUNT; i++) {
        const json_t *value = json_object_get(all, shared[i].name);
        values[i] = json_is_integer(value) ? json_integer_value(value) : SETTING_UNKNOWN;
    }
    json_decref(all);
}

struct fleet_settings *fleet_settings_create(const struct conf *conf, struct store *store) {
    struct fleet_settings *settings = calloc(1, sizeof *settings);
    if (!settings) {
        return NULL;
    }
    pthread_mutex_init(&settings->lock, NULL);
    settings->conf = conf;
    settings->store = store;
    settings->text = fleet_settings_to_text(conf);
    if (!settings->text) {
        fleet_settings_destroy(settings);
        return NULL;
    }
    return settings;
}

void fleet_settings_destroy(struct fleet_settings *settings) {
    if (!settings) {
        return;
    }
    pthread_mutex_destroy(&settings->lock);
    free(settings->text);
    free(settings);
}

/* ---- the name -------------------------------------------------------------------------------- */

/* other: the name of the fleet that owns Redis; NULL: it is the fleet of this node. */
static void fleet_settings_set_fault(struct fleet_settings *settings, const char *other) {
    char fault[FLEET_FAULT_LEN] = "";
    if (other) {
        snprintf(fault, sizeof fault, "Redis belongs to fleet %s, but this node to fleet %s", other,
                 settings->conf->fleet_name);
    }
    pthread_mutex_lock(&settings->lock);
    bool changed = strcmp(settings->fault, fault) != 0;
    memcpy(settings->fault, fault, sizeof fault);
    pthread_mutex_unlock(&settings->lock);
    int64_t now_ms = clock_ms();
    if (other && (changed || now_ms - settings->warned_ms >= WARNING_PERIOD_MS)) {
        settings->warned_ms = now_ms;
        log_event(LOG_ERROR, "other_fleet", KS("node", settings->conf->node_name),
                  KS("detail", fault),
                  KS("do", "use another Redis or key_prefix for this node, or correct fleet.name "
                           "(docs/redis.md)"));
    } else if (!other && changed) {
        log_event(LOG_INFO, "own_fleet_again", KS("node", settings->conf->node_name));
    }
}

void fleet_settings_fault(struct fleet_settings *settings, char out[FLEET_FAULT_LEN]) {
    pthread_mutex_lock(&settings->lock);
    memcpy(out, settings->fault, FLEET_FAULT_LEN);
    pthread_mutex_unlock(&settings->lock);
}

/* ---- settings -------------------------------------------------------------------------------- */

/* Logs one line per differing setting, with the first node that has another value. */
static void fleet_settings_warn_differing(struct fleet_settings *settings,
                                          const struct store_fleet *fleet) {
    const char *node[FLEET_SETTINGS_MAX] = {NULL};
    int64_t there[FLEET_SETTINGS_MAX], values[FLEET_SETTINGS_MAX], nodes[FLEET_SETTINGS_MAX] = {0};
    for (size_t row = 0; row < fleet->n; row++) {
        fleet_settings_parse(fleet->rows[row].settings, values);
        for (size_t i = 0; i < SHARED_COUNT; i++) {
            if (values[i] == SETTING_UNKNOWN ||
                values[i] == fleet_settings_own_value(settings->conf, i)) {
                continue;
            }
            node[i] = node[i] ? node[i] : fleet->rows[row].node;
            there[i] = nodes[i]++ == 0 ? values[i] : there[i];
        }
    }
    for (size_t i = 0; i < SHARED_COUNT; i++) {
        if (node[i]) {
            log_event(LOG_WARN, "fleet_settings_differ", KS("setting", shared[i].name),
                      KI("here", fleet_settings_own_value(settings->conf, i)),
                      KI("there", there[i]), KS("node", node[i]), KI("nodes", nodes[i]));
        }
    }
}

enum err fleet_settings_join(struct fleet_settings *settings) {
    struct store_fleet fleet;
    const struct conf *conf = settings->conf;
    enum err err = store_publish_settings(settings->store, conf->fleet_name, conf->node_name,
                                          settings->text, &fleet);
    if (err == ERR_OK) {
        fleet_settings_set_fault(settings, NULL);
        fleet_settings_warn_differing(settings, &fleet);
    } else if (err == ERR_REFUSED) {
        fleet_settings_set_fault(settings, fleet.name);
    }
    store_fleet_fini(&fleet);
    return err;
}

void fleet_settings_check(struct fleet_settings *settings) {
    struct store_fleet fleet;
    if (settings->conf->fleet_name[0] == '\0') {
        return;
    }
    enum err err = store_set_fleet_name(settings->store, settings->conf->fleet_name, &fleet);
    if (err == ERR_OK || err == ERR_REFUSED) {
        fleet_settings_set_fault(settings, err == ERR_REFUSED ? fleet.name : NULL);
    }
    store_fleet_fini(&fleet);
}

/* ---- for the API ----------------------------------------------------------------------------- */

void fleet_settings_compare(const struct store_fleet *fleet, struct fleet_differences *out) {
    int64_t first[FLEET_SETTINGS_MAX], values[FLEET_SETTINGS_MAX];
    *out = (struct fleet_differences){0};
    for (size_t i = 0; i < SHARED_COUNT; i++) {
        first[i] = SETTING_UNKNOWN;
    }
    for (size_t row = 0; row < fleet->n; row++) {
        fleet_settings_parse(fleet->rows[row].settings, values);
        for (size_t i = 0; i < SHARED_COUNT; i++) {
            first[i] = first[i] == SETTING_UNKNOWN ? values[i] : first[i];
            out->differs[i] |= values[i] != SETTING_UNKNOWN && values[i] != first[i];
        }
    }
}

json_t *fleet_settings_differing(const struct fleet_differences *differences,
                                 const struct store_fleet *fleet, const char *node) {
    json_t *shown = json_object();
    int64_t values[FLEET_SETTINGS_MAX];
    for (size_t row = 0; row < fleet->n; row++) {
        if (strcmp(fleet->rows[row].node, node) != 0) {
            continue;
        }
        fleet_settings_parse(fleet->rows[row].settings, values);
        for (size_t i = 0; i < SHARED_COUNT; i++) {
            if (differences->differs[i] && values[i] != SETTING_UNKNOWN) {
                json_object_set_new(shown, shared[i].name, json_integer(values[i]));
            }
        }
    }
    return shown;
}
