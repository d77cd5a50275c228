/* The documents of a client. No state; any thread. */
#include "http/api/api.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "cluster/resources/profile_reader.h"
#include "mqtt/config/client_profiles.h"
#include "mqtt/reason_codes.h"
#include "http/server/json.h"

bool client_state_is_known(const char *shown) {
    for (int state = 0; state < CLIENT_STATE_COUNT; state++) {
        if (strcmp(client_state_shown((enum client_state)state), shown) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- status ---------------------------------------------------------------------------------- */

/* code: used if it is not an error of a client. */
static json_t *client_view_error_json(enum client_error error, const char *code,
                                      const char *message, int64_t at_ms) {
    if (!code) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:s?, s:o}", "code", http_json_string(code), "message",
                     http_json_string(message ? message : ""), "advice", client_error_advice(error),
                     "at", http_json_time(at_ms));
}

/* The error among those with the same code; for rows of older nodes, the most general one. */
static enum client_error client_view_last_attempt_error(const struct store_client *row) {
    enum client_error error = client_error_of_name(row->attempt_error);
    return error != CLIENT_ERROR_NONE ? error : client_error_of_code(row->attempt_code);
}

static json_t *client_view_subscriptions_json(const struct client_status *status) {
    json_t *list = json_array();
    for (size_t i = 0; i < status->subscription_count; i++) {
        const struct client_subscription_status *one = &status->subscriptions[i];
        json_t *granted = one->granted < 0 ? json_null() : json_integer(one->granted);
        json_array_append_new(list,
                              json_pack("{s:o, s:i, s:o}", "filter", http_json_string(one->filter),
                                        "qos", (int)one->qos, "granted", granted));
    }
    return list;
}

/* The refused subscriptions. code: from SUBACK; null: the broker closed the connection instead. */
static json_t *client_view_refused_json(const struct client_status *status) {
    json_t *list = json_array();
    for (size_t i = 0; i < status->subscription_count; i++) {
        const struct client_subscription_status *one = &status->subscriptions[i];
        if (one->refusal != CLIENT_ERROR_NONE) {
            json_t *code = reason_is_error(one->granted) ? json_integer(one->granted) : json_null();
            json_array_append_new(list, json_pack("{s:o, s:o, s:s}", "filter",
                                                  http_json_string(one->filter), "code", code,
                                                  "message", client_error_text(one->refusal)));
        }
    }
    return list;
}

static json_t *client_view_dropped_json(const int64_t dropped[MESSAGE_DROP_COUNT]) {
    json_t *reasons = json_object();
    for (size_t i = 0; i < MESSAGE_DROP_COUNT; i++) {
        json_object_set_new(reasons, message_drop_name((enum message_drop)i),
                            json_integer((json_int_t)dropped[i]));
    }
    return reasons;
}

/* Wall clock; 0: not known. */
static int64_t client_view_hold_since_ms(const struct route_hold *hold,
                                         const struct sink_status *sink) {
    int64_t ago_ms = hold->since_ms > 0 ? clock_ms() - hold->since_ms : sink->failing_ms;
    return ago_ms > 0 ? clock_wall_ms() - ago_ms : 0;
}

/* Sinks that keep the client from going on, with what the node knows of them. Messages that are in
 * the queue of a sink that works are no reason. */
static json_t *client_view_held_by_json(struct sinks *sinks, const struct client_status *status) {
    json_t *list = json_array();
    for (size_t i = 0; i < status->hold_count; i++) {
        const struct route_hold *hold = &status->holds[i];
        struct sink_status sink = {.failing = false};
        bool found = sinks_get_status(sinks, hold->sink, &sink);
        bool missing = hold->reason == ROUTE_HOLD_MISSING;
        if (hold->reason == ROUTE_HOLD_QUEUED && !sink.failing) {
            continue;
        }
        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:o, s:o}", "sink", hold->sink, "reason",
                      missing        ? "missing"
                      : sink.failing ? "failing"
                                     : "full",
                      "since", http_json_time(client_view_hold_since_ms(hold, &sink)), "last_error",
                      found && *sink.error ? http_json_string(sink.error) : json_null()));
    }
    return list;
}

/* null: no quota holds the client or its messages. */
static json_t *client_view_over_quota_json(const struct client_status *status) {
    if (!status->quota_scope) {
        return json_null();
    }
    return json_pack("{s:s, s:o}", "quota", rate_quota_name(status->quota), "scope",
                     http_json_string(status->quota_scope));
}

/* Takes ownership. */
static json_t *client_view_add_details(json_t *status, const struct client_status *details,
                                       json_t *refused, json_t *held_by) {
    json_object_set_new(status, "dropped", client_view_dropped_json(details->dropped));
    json_object_set_new(status, "limited", json_boolean(details->limited));
    json_object_set_new(status, "over_quota", client_view_over_quota_json(details));
    json_object_set_new(status, "degraded", json_boolean(details->degraded));
    json_object_set_new(status, "silent", json_boolean(details->silent));
    json_object_set_new(status, "last_message_at", http_json_time(details->last_message_at_ms));
    if (details->profile) {
        json_object_set_new(status, "profile", http_json_string(details->profile));
        json_object_set_new(status, "profile_version", json_integer(details->profile_version));
    }
    json_object_set_new(status, "refused_filters", refused);
    json_object_set_new(status, "held_by", held_by);
    return status;
}

json_t *client_status_json(const struct http_api *api, const struct client_status *status) {
    json_t *shown = json_pack(
        "{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}",
        "state", client_state_shown(status->state), "version", (json_int_t)status->version,
        "reason", http_json_string(status->reason), "since", http_json_time(status->since_ms),
        "last_error",
        client_view_error_json(status->error, client_error_code(status->error),
                               status->error_message, status->error_at_ms),
        "next_retry_at", http_json_time(status->next_retry_at_ms), "connected_at",
        http_json_time(status->connected_at_ms), "certificate_expires_at",
        http_json_time(status->certificate_expires_at_ms), "session_present",
        status->connected_at_ms > 0 ? json_boolean(status->session_present) : json_null(),
        "reconnects", (json_int_t)status->reconnects, "messages_in",
        (json_int_t)status->messages_in, "messages_out", (json_int_t)status->messages_out,
        "bytes_in", (json_int_t)status->bytes_in, "bytes_out", (json_int_t)status->bytes_out,
        "messages_dropped", (json_int_t)status->messages_dropped, "subscriptions",
        client_view_subscriptions_json(status), "broker",
        status->broker ? http_json_string(status->broker) : json_null());
    return client_view_add_details(shown, status, client_view_refused_json(status),
                                   client_view_held_by_json(api->context.sinks, status));
}

/* A status without a running version. Takes ownership of the JSON values. */
static json_t *client_view_idle_json(const char *state, const char *reason, int64_t since_ms,
                                     json_t *last_error, int64_t next_retry_at_ms) {
    json_t *shown = json_pack(
        "{s:s, s:n, s:o, s:o, s:o, s:o, s:n, s:n, s:n, s:i, s:i, s:i, s:i, s:i, s:i, s:[], s:n}",
        "state", state, "version", "reason", http_json_string(reason), "since",
        http_json_time(since_ms), "last_error", last_error, "next_retry_at",
        http_json_time(next_retry_at_ms), "connected_at", "certificate_expires_at",
        "session_present", "reconnects", 0, "messages_in", 0, "messages_out", 0, "bytes_in", 0,
        "bytes_out", 0, "messages_dropped", 0, "subscriptions", "broker");
    return client_view_add_details(shown, &(struct client_status){0}, json_array(), json_array());
}

/* By the clock of this node, not of Redis. 0: at once. */
static int64_t client_view_next_attempt_ms(const struct store_client *row) {
    return row->cooldown_ms > 0 ? clock_wall_ms() + row->cooldown_ms : 0;
}

static const char *client_view_waiting_state(const struct store_client *row) {
    return row->cooldown_ms > 0 && client_error_is_conflict(client_view_last_attempt_error(row))
               ? "conflict"
               : "waiting";
}

json_t *client_waiting_json(const struct store_client *row) {
    return client_view_idle_json(
        client_view_waiting_state(row), row->attempt_code ? row->attempt_code : "not placed yet",
        row->attempt_at_ms,
        client_view_error_json(client_view_last_attempt_error(row), row->attempt_code,
                               row->attempt_message, row->attempt_at_ms),
        client_view_next_attempt_ms(row));
}

void client_waiting_facts(const struct store_client *row, const struct client_config *config,
                          bool is_invalid, char broker[CLIENT_BROKER_LEN],
                          struct workers_visited *out) {
    const char *code = client_error_code(client_view_last_attempt_error(row));
    *out = (struct workers_visited){
        .facts = {.id = row->id,
                  .state = client_view_waiting_state(row),
                  .error = is_invalid ? client_error_code(CLIENT_ERROR_BAD_CONFIG) : code},
        .since_ms = row->attempt_at_ms,
        .version = row->version};
    if (config) {
        client_facts_set_config(&out->facts, config, broker);
    }
}

json_t *client_unknown_json(const struct store_client *row, const char *reason) {
    return client_view_idle_json("connecting", reason, row->owner.since_ms, json_null(), 0);
}

/* The client may be online. "connecting" promises the least of all states. */
json_t *client_unreachable_json(const struct store_client *row) {
    char message[320];
    snprintf(message, sizeof(message),
             "node %.128s, which owns the client, does not answer; the state of the client is "
             "unknown",
             row->owner.node);
    return client_view_idle_json(
        "connecting", "owner_unreachable", row->owner.since_ms,
        client_view_error_json(CLIENT_ERROR_OWNER_UNREACHABLE,
                               client_error_code(CLIENT_ERROR_OWNER_UNREACHABLE), message,
                               clock_wall_ms()),
        0);
}

/* ---- documents ------------------------------------------------------------------------------- */

void client_view_open(struct client_view *view, const struct http_api *api,
                      const struct store_client *row) {
    *view = (struct client_view){.wait_reasons = api->context.wait_reasons, .row = row};
    struct client_faults faults;
    if (profile_reader_parse(api->context.store, row, &view->config, &faults) != ERR_OK) {
        const struct client_fault *fault = &faults.items[0];
        snprintf(view->fault, sizeof(view->fault), "%.80s%s%.160s",
                 faults.count > 0 ? fault->pointer : "",
                 faults.count > 0 && fault->pointer[0] != '\0' ? ": " : "",
                 faults.count > 0 ? fault->detail : "out of memory");
        view->shown = json_null();
        return;
    }
    json_t *document = json_from_text(row->config, row->config_len, JSON_REJECT_DUPLICATES);
    view->shown = document ? client_config_redacted(document) : NULL;
    json_decref(document);
}

void client_view_show_effective(struct client_view *view) {
    const struct store_client *row = view->row;
    json_t *document = json_from_text(row->config, row->config_len, JSON_REJECT_DUPLICATES);
    json_t *effective = json_is_object(document) ? client_profile_effective(document) : NULL;
    if (effective) {
        json_decref(view->shown);
        view->shown = client_config_redacted(effective);
    }
    json_decref(effective);
    json_decref(document);
}

void client_view_close(struct client_view *view) {
    client_config_destroy(view->config);
    json_decref(view->shown);
}

void client_view_facts(const struct client_view *view, const json_t *status,
                       char broker[CLIENT_BROKER_LEN], struct client_facts *out) {
    const char *state = json_string_value(json_object_get(status, "state"));
    const json_t *error = json_object_get(status, "last_error");
    bool degraded = json_is_true(json_object_get(status, "degraded"));
    bool works =
        state && ((strcmp(state, "online") == 0 && !degraded) || strcmp(state, "paused") == 0);
    *out = (struct client_facts){
        .id = view->row->id,
        .state = state,
        .error = works ? NULL : json_string_value(json_object_get(error, "code")),
        .broker = json_string_value(json_object_get(status, "broker")),
        .node = view->row->state == STORE_OWNED ? view->row->owner.node : NULL,
        .silent = json_is_true(json_object_get(status, "silent")),
        .degraded = degraded};
    if (view->config) {
        client_facts_set_config(out, view->config, broker);
    }
}

static json_t *client_view_placement_json(const struct store_client *row) {
    if (row->state != STORE_OWNED) {
        return json_null();
    }
    return json_pack("{s:o, s:I, s:o}", "node", http_json_string(row->owner.node), "epoch",
                     (json_int_t)row->owner.epoch, "since", http_json_time(row->owner.since_ms));
}

static json_t *client_view_default_status(const struct client_view *view) {
    const struct store_client *row = view->row;
    if (!view->config) {
        return client_view_idle_json(
            "waiting", "bad_config", row->attempt_at_ms,
            client_view_error_json(CLIENT_ERROR_BAD_CONFIG,
                                   client_error_code(CLIENT_ERROR_BAD_CONFIG), view->fault,
                                   row->attempt_at_ms),
            client_view_next_attempt_ms(row));
    }
    return row->state == STORE_OWNED ? client_unknown_json(row, "its owner has not reported it yet")
                                     : client_waiting_json(row);
}

/* Why the client has no node; null: it has one. */
static json_t *client_view_wait_reason_json(const struct client_view *view) {
    if (view->row->state == STORE_OWNED) {
        return json_null();
    }
    enum placement_wait why = wait_reasons_of(view->wait_reasons, view->row, view->config);
    return json_pack("{s:s, s:s}", "reason", placement_wait_code(why), "message",
                     placement_wait_text(why));
}

json_t *client_view_document(const struct client_view *view, json_t *status) {
    const struct store_client *row = view->row;
    if (!status || !view->config) {
        json_decref(status);
        status = client_view_default_status(view);
    }
    json_object_set_new(status, "waiting", client_view_wait_reason_json(view));
    if (view->config && view->config->profile && !json_object_get(status, "profile")) {
        json_object_set_new(status, "profile", json_string(view->config->profile->name));
    }
    json_t *desired =
        view->config ? json_string(client_desired_name(view->config->desired)) : json_null();
    json_t *document =
        json_pack("{s:o, s:I, s:O, s:o, s:o, s:o}", "id", http_json_string(row->id), "version",
                  (json_int_t)row->version, "config", view->shown, "desired", desired, "placement",
                  client_view_placement_json(row), "status", status);
    if (document && !view->config) {
        json_object_set_new(document, "config_text_bytes",
                            json_integer((json_int_t)row->config_len));
    }
    return document;
}

json_t *client_view_render(const struct http_api *api, const struct store_client *row,
                           json_t *status) {
    struct client_view view;
    client_view_open(&view, api, row);
    json_t *document = client_view_document(&view, status);
    client_view_close(&view);
    return document;
}

json_t *client_flat_json(const struct client_config *config) {
    const char *filter = config->subscription_count > 0 ? config->subscriptions[0].filter : "";
    return json_pack("{s:o, s:i, s:o, s:s, s:o, s:o}", "broker", http_json_string(config->host),
                     "port", (int)config->port, "username",
                     http_json_string(config->username ? config->username : ""), "password",
                     config->password ? "***" : "", "sub_topic", http_json_string(filter),
                     "client_id", http_json_string(config->client_id));
}
