/* Owns what this node knows of the resources of the fleet. */
#include "cluster/resources/resources.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "cluster/resources/sink_document.h"
#include "message/routes/route_table.h"
#include "mqtt/config/client_profiles.h"
#include "store/quotas.h"

#define RETRY_MS 1000

struct resources {
    const struct conf *conf;
    struct node *node;
    struct store *store;
    struct secret_box *secrets;
    struct sinks *sinks;
    struct address_policy *policy;
    bool read;
    struct store_resource *rows; /* the sinks that are applied */
    size_t row_count;
    struct store_resource *profiles; /* as stored, for a Redis that loses them */
    size_t profile_count;
    char *routes; /* the document; NULL: none were ever set */
    int64_t routes_version;
    char *quotas; /* the document; NULL: none were ever set */
    int64_t quotas_version;
    bool routes_refused;        /* the routes read last are invalid, which was logged */
    int64_t revision;           /* of all resources above */
    int64_t announced;          /* revision in the last heartbeat before the read */
    int64_t announced_until_ms; /* clock_ms; after it, a heartbeat with this revision is new */
    int64_t retry_at_ms;
};

/* What Redis has. */
struct resources_read {
    struct store_resource *sinks, *profiles;
    size_t sink_count, profile_count;
    int64_t revision;
};

struct resources *resources_create(const struct conf *conf, struct node *node, struct store *store,
                                   struct secret_box *secrets, struct sinks *sinks) {
    struct resources *resources = calloc(1, sizeof *resources);
    if (!resources) {
        return NULL;
    }
    *resources = (struct resources){
        .conf = conf, .node = node, .store = store, .secrets = secrets, .sinks = sinks};
    if (address_policy_create(&resources->policy, conf->broker_allow, conf->broker_deny,
                              conf->http_listen) != ERR_OK) {
        free(resources);
        return NULL;
    }
    return resources;
}

void resources_destroy(struct resources *resources) {
    if (resources) {
        address_policy_destroy(resources->policy);
        store_resources_free(resources->rows, resources->row_count);
        store_resources_free(resources->profiles, resources->profile_count);
        free(resources->routes);
        free(resources->quotas);
        free(resources);
    }
}

/* ---- one document ---------------------------------------------------------------------------- */

/* A document as this node may use it. */
struct resources_sink {
    json_t *settings; /* NULL: not usable here, see fault */
    char fault[SINK_FAULT_LEN];
};

static void resources_note_fault(void *context, const char *pointer, const char *detail) {
    struct resources_sink *sink = context;
    if (!*sink->fault) {
        snprintf(sink->fault, sizeof sink->fault, "%.80s%s%.160s", pointer, *pointer ? ": " : "",
                 detail);
    }
}

static void resources_read_sink(struct resources *resources, const struct store_resource *row,
                                struct resources_sink *out) {
    char fault[SINK_DOCUMENT_FAULT_LEN] = "";
    json_t *document = json_from_text(row->document, strlen(row->document), 0);
    struct sink_document_rules rules = {resources->conf, resources->policy};
    enum err err = sink_document_open(document, row->name, resources->secrets, fault);
    *out = (struct resources_sink){.settings = NULL};
    if (err != ERR_OK) {
        resources_note_fault(out, "", *fault ? fault : err_name(err));
    } else if (sink_document_check(document, &rules, resources_note_fault, out)) {
        out->settings = sink_document_settings(document);
    }
    json_decref(document);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static enum err resources_apply(struct resources *resources, const struct store_resource *rows,
                                size_t count) {
    struct sinks_document *documents = calloc(count + 1, sizeof *documents);
    struct resources_sink *sinks = calloc(count + 1, sizeof *sinks);
    enum err err = documents && sinks ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        resources_read_sink(resources, &rows[i], &sinks[i]);
        documents[i] = (struct sinks_document){.name = rows[i].name,
                                               .type = rows[i].type,
                                               .version = rows[i].version,
                                               .settings = sinks[i].settings,
                                               .fault = sinks[i].fault};
    }
    if (err == ERR_OK) {
        sinks_apply(resources->sinks, documents, count);
    }
    for (size_t i = 0; sinks && i < count; i++) {
        json_decref(sinks[i].settings);
    }
    free(sinks);
    free(documents);
    return err;
}

/* ---- routes ---------------------------------------------------------------------------------- */

struct resources_fault {
    bool out_of_memory;
    char text[SINK_FAULT_LEN]; /* only the first fault; the API reports all */
};

static void resources_note_route_fault(void *context, const char *pointer, const char *detail) {
    struct resources_fault *fault = context;
    fault->out_of_memory = fault->out_of_memory || strcmp(detail, "out of memory") == 0;
    if (!*fault->text) {
        snprintf(fault->text, sizeof fault->text, "%.80s: %.160s", pointer, detail);
    }
}

/* *table NULL: no routes. ERR_ARGUMENT: this node cannot use them; they are of a later version, or
 * were written by hand. */
static enum err resources_compile_routes(struct resources *resources, const char *text,
                                         struct route_table **table) {
    struct resources_fault fault = {.out_of_memory = false};
    json_t *document = NULL;
    *table = NULL;
    enum err err = text ? json_parse(&document, text, strlen(text), 0, NULL) : ERR_OK;
    if (text && (!json_is_array(document) || json_array_size(document) > 0)) {
        *table = err == ERR_MEMORY
                     ? NULL
                     : route_table_create(document, resources_note_route_fault, &fault);
        err = *table                                     ? ERR_OK
              : err == ERR_MEMORY || fault.out_of_memory ? ERR_MEMORY
                                                         : ERR_ARGUMENT;
    }
    json_decref(document);
    if (err == ERR_ARGUMENT && !resources->routes_refused) {
        log_event(LOG_ERROR, "routes_not_applied", KS("detail", fault.text));
    }
    return err;
}

/* With routes that it cannot use, a node keeps those that it has. One that has none yet starts no
 * client: their messages would go where they are not to go. */
static enum err resources_read_routes(struct resources *resources) {
    char *text;
    int64_t version;
    struct route_table *table;
    enum err err = store_routes(resources->store, &text, &version);
    if (err != ERR_OK || version == resources->routes_version) {
        free(text);
        return err;
    }
    err = resources_compile_routes(resources, text, &table);
    resources->routes_refused = err == ERR_ARGUMENT;
    if (err == ERR_ARGUMENT && resources->read) {
        free(text);
        return ERR_OK;
    }
    if (err == ERR_OK && !sinks_set_routes(resources->sinks, table)) {
        err = ERR_MEMORY;
    }
    if (err != ERR_OK) {
        free(text);
        return err;
    }
    free(resources->routes);
    resources->routes = text;
    resources->routes_version = version;
    return ERR_OK;
}

/* ---- quotas ---------------------------------------------------------------------------------- */

/* A rate that is missing, or that was written by hand and is none, is not limited. */
static uint32_t resources_rate(const json_t *quota, enum rate_quota_kind kind) {
    json_int_t per_s = json_integer_value(json_object_get(quota, rate_quota_name(kind)));
    return per_s > 0 && per_s <= RATE_QUOTA_MAX ? (uint32_t)per_s : 0;
}

/* The quotas with a rate: that of clients holds in Redis. *label "": there are none. */
static size_t resources_rate_rows(const json_t *document,
                                  struct rate_quota_row rows[STORE_QUOTAS_MAX],
                                  const char **label) {
    size_t n = 0;
    *label = "";
    for (size_t i = 0; i < json_array_size(document) && n < STORE_QUOTAS_MAX; i++) {
        const json_t *quota = json_array_get(document, i);
        const char *of = json_string_value(json_object_get(quota, "label"));
        struct rate_quota_row row = {.value = json_string_value(json_object_get(quota, "value")),
                                     .scope = json_string_value(json_object_get(quota, "scope"))};
        bool limits = false;
        for (enum rate_quota_kind kind = 0; kind < RATE_QUOTA_COUNT; kind++) {
            row.per_s[kind] = resources_rate(quota, kind);
            limits = limits || row.per_s[kind] > 0;
        }
        if (limits && of && row.value && row.scope) {
            *label = of;
            rows[n++] = row;
        }
    }
    return n;
}

static enum err resources_read_quotas(struct resources *resources) {
    struct rate_quota_row rows[STORE_QUOTAS_MAX];
    const char *label;
    char *text;
    int64_t version;
    enum err err = store_quotas(resources->store, NULL, 0, NULL, &text, &version);
    if (err != ERR_OK || version == resources->quotas_version) {
        free(text);
        return err;
    }
    json_t *document = text ? json_from_text(text, strlen(text), 0) : NULL;
    size_t n = resources_rate_rows(document, rows, &label);
    size_t nodes = node_fleet_size(resources->node);
    if (!rate_quotas_apply(sinks_quotas(resources->sinks), label, rows, n, nodes)) {
        err = ERR_MEMORY;
        free(text);
    } else {
        sinks_quotas_changed(resources->sinks);
        free(resources->quotas);
        resources->quotas = text;
        resources->quotas_version = version;
    }
    json_decref(document);
    return err;
}

/* ---- profiles -------------------------------------------------------------------------------- */

/* A profile that this node cannot read stays as it was. */
static enum err resources_apply_profiles(const struct resources_read *read, bool force) {
    struct client_profile_row *rows = calloc(read->profile_count + 1, sizeof *rows);
    if (!rows) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < read->profile_count; i++) {
        rows[i] = (struct client_profile_row){read->profiles[i].name, read->profiles[i].document,
                                              read->profiles[i].version};
    }
    enum err err = client_profiles_apply(rows, read->profile_count, read->revision, force);
    free(rows);
    return err;
}

/* ---- all of them, and what Redis lost ---- */

static void resources_read_fini(struct resources_read *read) {
    store_resources_free(read->sinks, read->sink_count);
    store_resources_free(read->profiles, read->profile_count);
    *read = (struct resources_read){.revision = 0};
}

/* Takes over the rows. */
static void resources_keep(struct resources *resources, struct resources_read *read) {
    bool changed = resources->read && read->revision != resources->revision;
    log_event(changed ? LOG_INFO : LOG_DEBUG, "resources_applied", KI("revision", read->revision),
              KI("sinks", read->sink_count), KI("profiles", read->profile_count));
    store_resources_free(resources->rows, resources->row_count);
    store_resources_free(resources->profiles, resources->profile_count);
    resources->rows = read->sinks;
    resources->row_count = read->sink_count;
    resources->profiles = read->profiles;
    resources->profile_count = read->profile_count;
    resources->revision = read->revision;
    resources->read = true;
}

/* A Redis that came back empty has no revision: it gets what this node has, unless another node was
 * faster. True: the resources must be read again. */
static bool resources_restore(struct resources *resources, int64_t revision) {
    bool restored = false;
    if (revision != 0 || (resources->row_count == 0 && resources->profile_count == 0 &&
                          !resources->routes && !resources->quotas)) {
        return false;
    }
    enum err err = store_restore_resources(
        resources->store,
        &(struct store_all_resources){.sinks = resources->rows,
                                      .sink_count = resources->row_count,
                                      .profiles = resources->profiles,
                                      .profile_count = resources->profile_count,
                                      .routes = resources->routes,
                                      .routes_version = resources->routes_version,
                                      .quotas = resources->quotas,
                                      .quotas_version = resources->quotas_version,
                                      .revision = resources->revision},
        &restored);
    if (restored) {
        log_event(LOG_WARN, "resources_restored", KI("sinks", resources->row_count),
                  KI("profiles", resources->profile_count));
    }
    return err == ERR_OK;
}

/* The revision is that of the first call: a change in between is announced by the next heartbeat.
 */
static enum err resources_load_once(struct resources *resources, struct resources_read *read) {
    int64_t later;
    enum err err = store_resources(resources->store, STORE_SINKS, NULL, &read->sinks,
                                   &read->sink_count, &read->revision);
    if (err == ERR_OK) {
        err = store_resources(resources->store, STORE_PROFILES, NULL, &read->profiles,
                              &read->profile_count, &later);
    }
    return err;
}

static enum err resources_load(struct resources *resources, struct resources_read *read) {
    enum err err = resources_load_once(resources, read);
    if (err == ERR_OK && resources_restore(resources, read->revision)) {
        resources_read_fini(read);
        err = resources_load_once(resources, read);
    }
    return err;
}

static enum err resources_read_all(struct resources *resources) {
    struct resources_read read = {.revision = 0};
    enum err err = resources_load(resources, &read);
    if (err == ERR_OK) { /* after Redis went back, an older version of a profile holds */
        err = resources_apply_profiles(&read, read.revision < resources->revision);
    }
    if (err == ERR_OK) {
        err = resources_apply(resources, read.sinks, read.sink_count);
    }
    if (err == ERR_OK) {
        err = resources_read_routes(resources);
    }
    if (err == ERR_OK) {
        err = resources_read_quotas(resources);
    }
    if (err == ERR_OK) {
        resources_keep(resources, &read);
    } else {
        resources_read_fini(&read);
    }
    return err;
}

bool resources_step(struct resources *resources) {
    struct node_fleet_view fleet;
    node_fleet_view(resources->node, &fleet);
    int64_t announced = fleet.resources_revision;
    bool late = announced == resources->announced && clock_ms() < resources->announced_until_ms;
    bool current = announced == resources->revision || late;
    if (!resources->sinks || (resources->read && current) || clock_ms() < resources->retry_at_ms) {
        return !resources->sinks || resources->read;
    }
    enum err err = resources_read_all(resources);
    if (err == ERR_OK) {
        resources->announced = announced;
        resources->announced_until_ms = clock_ms() + 2 * resources->conf->heartbeat_ms;
    } else {
        resources->retry_at_ms = clock_ms() + RETRY_MS;
        log_event(LOG_WARN, "resources_not_read", KS("error", err_name(err)));
    }
    return resources->read;
}
