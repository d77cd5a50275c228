/* Owns the order in which the parts of a node are made, and joins the layers that are blind to each
 * other. Main's thread, but for what hosts call. */
#include <stdio.h>
#include <string.h>
#include "app.h"
#include "cluster/facts.h"
#include "http/certificate.h"
#include "http/taps.h"
#include "net/http_client.h"

#define EMBEDDED_START_MS 60000

/* ---- what joins the layers that are blind to each other ----------------------------------------
 */

static bool lease_valid(void *context) {
    struct app *app = context;
    return node_lease_valid(app->node);
}

static void wants_release(void *context, const struct hosts_release *release) {
    struct app *app = context;
    agent_wants_release(app->agent, release);
}

static void client_stable(void *context, const char *id) {
    struct app *app = context;
    agent_client_stable(app->agent, id);
}

static void client_changed(void *context, const char *id, enum client_state from,
                           enum client_state to, const char *reason, int64_t version) {
    struct app *app = context;
    http_server_changed(app->http, id, to, version);
    news_client(app->news, id, from, to, reason, version);
}

static void tell_recent(void *context, int64_t since_ms) {
    struct app *app = context;
    hosts_tell_recent(app->hosts, since_ms);
}

static void client_noticed(void *context, const char *id, const char *code, const char *message) {
    struct app *app = context;
    news_notice(app->news, id, code, message);
}

static struct sink *sink_of(struct app *app, const char *name) {
    for (size_t i = 0; name && app->sinks[i]; i++) {
        if (strcmp(sink_type(app->sinks[i]), name) == 0) {
            return app->sinks[i];
        }
    }
    return app->sinks[0];
}

static enum err deliver(void *context, const char *sink, struct message *message,
                        void (*accepted)(void *accepted_context, enum err result),
                        void *accepted_context) {
    struct app *app = context;
    struct tap_note *note = taps_note(app->taps, message);
    enum err result = sink_submit(sink_of(app, sink), message, accepted, accepted_context);
    taps_tell(app->taps, note, result == ERR_OK || result == ERR_REFUSED);
    return result;
}

static bool has_room(void *context, const char *sink) {
    return sink_has_room(sink_of(context, sink));
}

static void wait_room(void *context, const char *sink, int64_t timeout_ms) {
    sink_wait_room(sink_of(context, sink), timeout_ms);
}

static void flush_sinks(void *context) {
    struct app *app = context;
    for (size_t i = 0; app->sinks[i]; i++) {
        sink_flush(app->sinks[i]);
    }
}

/* On the agent's and the heartbeat's thread. */
static char *node_facts(void *context, int64_t lag_ms) {
    struct app *app = context;
    struct facts facts = {.lag_ms = lag_ms};
    for (size_t i = 0; app->sinks[i] && i < FACTS_SINKS_MAX; i++) {
        struct sink_status status;
        struct facts_sink *sink = &facts.sinks[facts.sink_count++];
        sink_status(app->sinks[i], &status);
        snprintf(sink->name, sizeof(sink->name), "%s", sink_type(app->sinks[i]));
        sink->failing_ms = status.failing_ms;
    }
    facts.key_count = secret_box_key_ids(app->secrets, facts.keys);
    return facts_text(&facts);
}

static void sink_answered(void *context) {
    struct app *app = context;
    hosts_flush(app->hosts);
}

/* ---- start ----------------------------------------------------------------------------------- */

static enum err redis_start(struct app *app, char *fault) {
    if (strcmp(app->conf->redis_url, "embedded") != 0) {
        app->redis_url = app->conf->redis_url;
        return ERR_OK;
    }
    enum err result =
        redis_server_start(&app->redis_server, app->conf->state_dir, EMBEDDED_START_MS, fault);
    if (result == ERR_OK) {
        app->redis_url = redis_server_url(app->redis_server);
        log_event(LOG_INFO, "embedded_redis", KS("url", app->redis_url));
    }
    return result;
}

static enum err stores_open(struct app *app) {
    const struct conf *conf = app->conf;
    /* A beat that takes longer than its period is worth nothing. */
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
    return ERR_OK;
}

/* The default sink first, then the others that a client may name and that can be had. */
static enum err sinks_create(struct app *app, char *fault) {
    static const char *const types[SINKS_MAX] = {"redis_stream", "file", "null"};
    const struct conf *conf = app->conf;
    static char stream_key[512];
    snprintf(stream_key, sizeof(stream_key), "%s%s", conf->key_prefix, conf->sink_key);
    bool own = conf->sink_url[0] != '\0' && strcmp(conf->sink_url, app->redis_url) != 0;
    struct sink_config config = {.node = conf->node_name,
                                 .redis_url = own ? conf->sink_url : app->redis_url,
                                 .redis_timeout_ms = conf->redis_timeout_ms,
                                 .redis_shared = !own,
                                 .redis_bytes_max = conf->sink_redis_bytes_max,
                                 .stream_key = stream_key,
                                 .stream_maxlen = conf->sink_maxlen,
                                 .file_path = conf->sink_path,
                                 .queue_messages = (size_t)conf->sink_queue_messages,
                                 .queue_bytes = (size_t)conf->sink_queue_bytes,
                                 .batch_messages = (size_t)conf->sink_batch,
                                 .answered = sink_answered,
                                 .context = app};
    config.type = conf->sink_type;
    enum err result = sink_create(&app->sinks[0], &config, fault);
    for (size_t i = 0, n = 1; result == ERR_OK && i < SINKS_MAX; i++) {
        bool usable = strcmp(types[i], "file") != 0 || conf->sink_path[0] != '\0';
        if (usable && strcmp(types[i], conf->sink_type) != 0) {
            config.type = types[i];
            result = sink_create(&app->sinks[n++], &config, fault);
        }
    }
    return result;
}

static enum err parts_create(struct app *app) {
    const struct conf *conf = app->conf;
    struct hosts_owner owner = {.context = app,
                                .lease_valid = lease_valid,
                                .wants_release = wants_release,
                                .stable = client_stable,
                                .changed = client_changed,
                                .noticed = client_noticed,
                                .deliver = deliver,
                                .flush = flush_sinks,
                                .has_room = has_room,
                                .wait_room = wait_room};
    app->news = news_create(conf, app->api_store, app->redis_url);
    app->taps = taps_create();
    app->node = node_create(conf, app->heartbeat_store);
    if (app->node) {
        node_tell(app->node, node_facts, app);
    }
    app->hosts = hosts_create(conf, &owner);
    struct fleet_secret *secret = access_fleet_secret(app->access);
    app->peers = peers_create(conf, secret);
    app->calls = app->peers ? peer_calls_create(conf, app->peers) : NULL;
    if (app->news) {
        news_on_call(app->news, tell_recent, app);
    }
    if (!app->news || !app->taps || !app->node || !app->hosts || !app->peers || !app->calls) {
        return ERR_MEMORY;
    }
    app->agent = agent_create(&(struct agent_wiring){.conf = conf,
                                                     .node = app->node,
                                                     .store = app->agent_store,
                                                     .redis_url = app->redis_url,
                                                     .hosts = app->hosts,
                                                     .secrets = app->secrets});
    app->leader = leader_create(conf, app->node, app->agent_store, app->redis_url);
    app->outlook = outlook_create(app->api_store, conf->heartbeat_ttl_ms);
    if (!app->agent || !app->leader || !app->outlook) {
        return ERR_MEMORY;
    }
    app->progress = progress_create(app->hosts, app->sinks, app->agent);
    return app->progress ? ERR_OK : ERR_MEMORY;
}

enum err app_create(struct app *app, char *fault) {
    snprintf(fault, FAULT_LEN, "out of memory");
    enum err result = http_client_global_init();
    if (result == ERR_OK) {
        result = redis_start(app, fault);
    }
    if (result == ERR_OK) {
        result = stores_open(app);
    }
    if (result == ERR_OK) {
        result = sinks_create(app, fault);
    }
    if (result == ERR_OK) {
        result = parts_create(app);
    }
    if (result == ERR_OK) {
        result = http_server_start(&app->http,
                                   &(struct http_context){.conf = app->conf,
                                                          .access = app->access,
                                                          .store = app->api_store,
                                                          .node = app->node,
                                                          .agent = app->agent,
                                                          .outlook = app->outlook,
                                                          .hosts = app->hosts,
                                                          .peers = app->peers,
                                                          .calls = app->calls,
                                                          .sinks = app->sinks,
                                                          .news = app->news,
                                                          .taps = app->taps,
                                                          .secrets = app->secrets},
                                   fault);
    }
    return result;
}

void app_destroy(struct app *app) {
    progress_destroy(app->progress);
    http_server_destroy(app->http);
    news_destroy(app->news);
    taps_destroy(app->taps);
    http_certificate_unload();
    outlook_destroy(app->outlook);
    leader_destroy(app->leader);
    agent_destroy(app->agent);
    hosts_destroy(app->hosts);
    peer_calls_destroy(app->calls);
    peers_destroy(app->peers);
    node_destroy(app->node);
    for (size_t i = 0; app->sinks[i]; i++) {
        sink_destroy(app->sinks[i]);
    }
    store_close(app->api_store);
    store_close(app->agent_store);
    store_close(app->heartbeat_store);
    redis_server_stop(app->redis_server);
    secret_box_destroy(app->secrets);
    access_destroy(app->access);
    conf_destroy(app->conf);
    conf_destroy(app->reloaded);
}
