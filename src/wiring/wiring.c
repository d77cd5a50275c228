/* Owns the order in which the parts of a node are created, and connects layers that do not include
 * each other. Main thread, except for what workers call. */
#include <stdio.h>
#include <string.h>
#include "app.h"
#include "cluster/membership/facts.h"
#include "http/server/certificate.h"
#include "http/streams/message_taps.h"
#include "mqtt/config/client_profiles.h"
#include "net/http_client.h"
#include "node_sinks.h"

#define EMBEDDED_START_MS 60000

/* ---- connections between layers
 * ---------------------------------------------------------------- */

static bool wiring_lease_is_valid(void *context) {
    struct app *app = context;
    return node_lease_valid(app->node);
}

static size_t wiring_fleet_size(void *context) {
    struct app *app = context;
    return node_fleet_size(app->node);
}

static void wiring_on_release_wanted(void *context, const struct workers_release *release) {
    struct app *app = context;
    agent_on_release_wanted(app->agent, release);
}

static void wiring_on_client_stable(void *context, const char *id) {
    struct app *app = context;
    agent_on_client_stable(app->agent, id);
}

static void wiring_on_client_changed(void *context, const struct workers_change *change) {
    struct app *app = context;
    http_server_client_changed(app->http, change->id, change->to, change->version);
    event_bus_post_change(app->event_bus, change);
}

static void wiring_tell_recent(void *context, int64_t since_ms) {
    struct app *app = context;
    workers_report_recent(app->workers, since_ms);
}

static void wiring_on_client_notice(void *context, const struct workers_notice *notice) {
    struct app *app = context;
    event_bus_post_notice(app->event_bus, notice);
}

static void wiring_on_incident(void *context, const struct incident_report *report) {
    struct app *app = context;
    event_bus_post_incident(app->event_bus, report);
}

static void *wiring_prepare_tap(void *context, const struct message *message) {
    return message_taps_prepare(context, message);
}

static void wiring_show_tap(void *context, void *prepared, bool taken) {
    message_taps_deliver(context, prepared, taken);
}

static void wiring_add_sink_fact(struct facts *facts, const char *name, int64_t failing_ms) {
    if (facts->sink_count < FACTS_SINKS_MAX) {
        struct facts_sink *sink = &facts->sinks[facts->sink_count++];
        snprintf(sink->name, sizeof sink->name, "%s", name);
        sink->failing_ms = failing_ms;
    }
}

/* On the agent's and the heartbeat's thread. */
static char *wiring_node_facts(void *context, int64_t lag_ms) {
    struct app *app = context;
    struct facts facts = {.lag_ms = lag_ms, .profiles = true};
    struct sink_status status;
    size_t cursor = 0;
    while (sinks_next(app->sinks, &cursor, &status)) {
        if (status.unavailable || status.leaving) {
            continue; /* no client of it can run here */
        }
        wiring_add_sink_fact(&facts, status.label, status.failing_ms);
        if (strcmp(status.label, status.name) != 0) {
            wiring_add_sink_fact(&facts, status.name, status.failing_ms);
        }
    }
    facts.key_count = secret_box_key_ids(app->secrets, facts.keys);
    struct incidents_sum incidents = workers_incidents_sum(app->workers);
    facts.incidents = incidents.open;
    facts.incident_clients = incidents.clients;
    enum placement_wait wait = agent_drain_wait(app->agent);
    if (wait != PLACEMENT_SOON) {
        snprintf(facts.drain_wait, sizeof facts.drain_wait, "%s", placement_wait_code(wait));
    }
    return facts_text(&facts);
}

/* ---- start ----------------------------------------------------------------------------------- */

static enum err wiring_start_redis(struct app *app, char *fault) {
    if (strcmp(app->conf->redis_url, "embedded") != 0) {
        app->redis_url = app->conf->redis_url;
        return ERR_OK;
    }
    enum err err =
        redis_server_start(&app->redis_server, app->conf->state_dir, EMBEDDED_START_MS, fault);
    if (err == ERR_OK) {
        app->redis_url = redis_server_url(app->redis_server);
        log_event(LOG_INFO, "embedded_redis", KS("url", app->redis_url));
    }
    return err;
}

static enum err wiring_open_stores(struct app *app) {
    const struct conf *conf = app->conf;
    /* A heartbeat that takes longer than its period is useless. */
    int64_t beat_timeout_ms =
        conf->redis_timeout_ms < conf->heartbeat_ms ? conf->redis_timeout_ms : conf->heartbeat_ms;
    app->heartbeat_store = store_open(app->redis_url, conf->key_prefix, beat_timeout_ms, 1);
    app->agent_store = store_open(app->redis_url, conf->key_prefix, conf->redis_timeout_ms, 2);
    app->api_store = store_open(app->redis_url, conf->key_prefix, conf->redis_timeout_ms,
                                (size_t)conf->http_workers + 4);
    if (!app->heartbeat_store || !app->agent_store || !app->api_store) {
        return ERR_MEMORY;
    }
    store_share_history(app->agent_store, app->heartbeat_store);
    store_share_history(app->api_store, app->heartbeat_store);
    store_set_restoring_ms(app->heartbeat_store, node_restoring_ms(conf));
    store_require_replicas(app->agent_store, conf->min_replicas, conf->min_replicas_timeout_ms);
    store_require_replicas(app->api_store, conf->min_replicas, conf->min_replicas_timeout_ms);
    store_set_audit_keep_ms(app->agent_store, conf->audit_keep_s * 1000);
    store_set_audit_keep_ms(app->api_store, conf->audit_keep_s * 1000);
    return ERR_OK;
}

static bool wiring_sink_address_allowed(const void *context, const char *host,
                                        const struct sockaddr *address, const char **why) {
    return address_policy_address(context, host, address, why);
}

/* The way of messages, from clients to sinks. */
static enum err wiring_create_sinks(struct app *app, char *fault) {
    const struct conf *conf = app->conf;
    enum err err = address_policy_create(&app->sink_policy, conf->broker_allow, conf->broker_deny,
                                         conf->http_listen);
    if (err != ERR_OK) {
        return err;
    }
    struct sink_environment environment = {.node = conf->node_name,
                                           .conf = conf,
                                           .redis_url = app->redis_url,
                                           .key_prefix = conf->key_prefix,
                                           .redis_timeout_ms = conf->redis_timeout_ms,
                                           .redis_replicas_timeout_ms =
                                               conf->min_replicas_timeout_ms,
                                           .address_allowed = wiring_sink_address_allowed,
                                           .address_context = app->sink_policy};
    app->router = router_create();
    app->message_taps = message_taps_create();
    app->sinks = app->router ? sinks_create(&environment, app->router) : NULL;
    if (!app->sinks || !app->message_taps) {
        return ERR_MEMORY;
    }
    router_observe(app->router, &(struct router_observer){.context = app->message_taps,
                                                          .prepare = wiring_prepare_tap,
                                                          .show = wiring_show_tap});
    return node_sinks_add(app->sinks, conf, fault);
}

static enum err wiring_create_parts(struct app *app) {
    const struct conf *conf = app->conf;
    struct workers_owner owner = {.context = app,
                                  .lease_valid = wiring_lease_is_valid,
                                  .fleet_size = wiring_fleet_size,
                                  .wants_release = wiring_on_release_wanted,
                                  .stable = wiring_on_client_stable,
                                  .changed = wiring_on_client_changed,
                                  .noticed = wiring_on_client_notice,
                                  .incident = wiring_on_incident,
                                  .router = app->router};
    app->event_bus = event_bus_create(conf, app->api_store, app->redis_url, app->router);
    app->node = node_create(conf, app->heartbeat_store);
    if (app->node) {
        node_set_facts_source(app->node, wiring_node_facts, app);
    }
    app->workers = workers_create(conf, &owner);
    struct fleet_secret *secret = access_fleet_secret(app->access);
    app->peers = peers_create(conf, secret);
    app->peer_calls = app->peers ? peer_calls_create(conf, app->peers) : NULL;
    if (app->event_bus) {
        event_bus_on_announcement(app->event_bus, wiring_tell_recent, app);
    }
    app->time_series = time_series_create();
    if (!app->time_series || !app->event_bus || !app->node || !app->workers || !app->peers ||
        !app->peer_calls) {
        return ERR_MEMORY;
    }
    app->agent = agent_create(&(struct agent_wiring){.conf = conf,
                                                     .node = app->node,
                                                     .store = app->agent_store,
                                                     .redis_url = app->redis_url,
                                                     .workers = app->workers,
                                                     .secrets = app->secrets,
                                                     .sinks = app->sinks});
    client_profiles_init(app->secrets);
    app->leader = leader_create(conf, app->node, app->agent_store, app->redis_url);
    app->wait_reasons = wait_reasons_create(app->api_store, app->sinks, conf->heartbeat_ttl_ms);
    app->operations = operations_create(&(struct operations_wiring){.conf = conf,
                                                                    .node = app->node,
                                                                    .store = app->agent_store,
                                                                    .peer_calls = app->peer_calls,
                                                                    .workers = app->workers,
                                                                    .agent = app->agent,
                                                                    .secrets = app->secrets});
    if (!app->agent || !app->leader || !app->wait_reasons || !app->operations) {
        return ERR_MEMORY;
    }
    leader_set_sinks(app->leader, app->sinks);
    leader_set_operations(app->leader, app->operations);
    app->stop_progress = stop_progress_create(app->workers, app->sinks, app->agent);
    return app->stop_progress ? ERR_OK : ERR_MEMORY;
}

enum err app_create(struct app *app, char *fault) {
    snprintf(fault, FAULT_LEN, "out of memory");
    enum err err = http_client_global_init();
    if (err == ERR_OK) {
        err = wiring_start_redis(app, fault);
    }
    if (err == ERR_OK) {
        err = wiring_open_stores(app);
    }
    if (err == ERR_OK) {
        err = wiring_create_sinks(app, fault);
    }
    if (err == ERR_OK) {
        err = wiring_create_parts(app);
    }
    if (err == ERR_OK) {
        err = http_server_start(&app->http,
                                &(struct http_context){.conf = app->conf,
                                                       .access = app->access,
                                                       .store = app->api_store,
                                                       .node = app->node,
                                                       .agent = app->agent,
                                                       .wait_reasons = app->wait_reasons,
                                                       .workers = app->workers,
                                                       .peers = app->peers,
                                                       .peer_calls = app->peer_calls,
                                                       .sinks = app->sinks,
                                                       .event_bus = app->event_bus,
                                                       .message_taps = app->message_taps,
                                                       .time_series = app->time_series,
                                                       .secrets = app->secrets,
                                                       .operations = app->operations},
                                fault);
    }
    return err;
}

void app_destroy(struct app *app) {
    stop_progress_destroy(app->stop_progress);
    http_server_destroy(app->http);
    event_bus_destroy(app->event_bus);
    message_taps_destroy(app->message_taps);
    time_series_destroy(app->time_series);
    http_certificate_unload();
    wait_reasons_destroy(app->wait_reasons);
    leader_destroy(app->leader);
    operations_destroy(app->operations);
    agent_destroy(app->agent);
    workers_destroy(app->workers);
    peer_calls_destroy(app->peer_calls);
    peers_destroy(app->peers);
    node_destroy(app->node);
    sinks_destroy(app->sinks);
    client_profiles_clear();
    address_policy_destroy(app->sink_policy);
    router_destroy(app->router);
    store_close(app->api_store);
    store_close(app->agent_store);
    store_close(app->heartbeat_store);
    redis_server_stop(app->redis_server);
    secret_box_destroy(app->secrets);
    access_destroy(app->access);
    conf_destroy(app->conf);
    conf_destroy(app->reloaded);
}
