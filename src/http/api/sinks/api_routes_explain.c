/* /api/v1/routes:explain: which routes a message takes, and what its sinks get. Nothing is sent.
 * The handler threads. */
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "http/api/api.h"
#include "http/api/sinks/api_routes.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "message/routes/route_chain.h"
#include "message/shape/script.h"
#include "message/topic.h"
#include "mqtt/config/client_config.h"
#include "sink/message_json.h"

#define EXPLAIN_BROKER_LEN 272

/* The message in question. */
struct explain_message {
    const char *client, *topic;
    uint8_t *payload; /* owned */
    size_t payload_len;
    json_int_t qos;
    int retain;
    char *sink;      /* of the client; owned; NULL: the default */
    char *client_id; /* owned */
    struct message_origin *origin;
    struct route_table *routes; /* of the client; NULL: none */
};

static void explain_message_fini(struct explain_message *asked) {
    free(asked->payload);
    free(asked->sink);
    free(asked->client_id);
    message_origin_release(asked->origin);
    route_table_release(asked->routes);
}

/* ---- the question ---------------------------------------------------------------------------- */

static bool explain_read_payload(struct explain_message *asked, const json_t *body,
                                 struct client_faults *faults) {
    const json_t *text = json_object_get(body, "payload");
    const json_t *base64 = json_object_get(body, "payload_base64");
    if (!text && json_is_string(base64)) {
        enum err err = text_base64_decode(json_string_value(base64), json_string_length(base64),
                                          &asked->payload, &asked->payload_len);
        if (err == ERR_OK) {
            return true;
        }
    }
    if ((text && !json_is_string(text)) || base64) {
        http_fault_add(faults, base64 ? "/payload_base64" : "/payload",
                       "must be a string; either payload or payload_base64");
        return false;
    }
    asked->payload_len = json_string_length(text);
    asked->payload = (uint8_t *)text_copy(text ? json_string_value(text) : "", asked->payload_len);
    return asked->payload != NULL;
}

static void explain_read_message(struct explain_message *asked, const json_t *body,
                                 struct client_faults *faults) {
    const json_t *topic = json_object_get(body, "topic");
    const json_t *qos = json_object_get(body, "qos");
    const json_t *retain = json_object_get(body, "retain");
    asked->client = json_string_value(json_object_get(body, "client"));
    asked->topic = json_string_value(topic);
    const char *fault = asked->topic ? topic_name_fault(asked->topic, json_string_length(topic))
                                     : "must be a topic name";
    if (fault) {
        http_fault_add(faults, "/topic", "%s", fault);
    }
    asked->qos = json_integer_value(qos);
    if (qos && (!json_is_integer(qos) || asked->qos < 0 || asked->qos > 2)) {
        http_fault_add(faults, "/qos", "must be 0, 1 or 2");
    }
    asked->retain = json_is_true(retain);
    if (retain && !json_is_boolean(retain)) {
        http_fault_add(faults, "/retain", "must be true or false");
    }
    if (json_object_get(body, "client") && !asked->client) {
        http_fault_add(faults, "/client", "must be the id of a client");
    }
    explain_read_payload(asked, body, faults);
}

static enum err explain_take_config(struct explain_message *asked,
                                    const struct client_config *config) {
    char broker[EXPLAIN_BROKER_LEN];
    struct message_label labels[UINT8_MAX];
    for (size_t i = 0; i < config->label_count; i++) {
        labels[i] = (struct message_label){config->labels[i].name, config->labels[i].value};
    }
    snprintf(broker, sizeof broker, "%s:%u", config->host, config->port);
    asked->origin = message_origin_create(broker, labels, config->label_count);
    asked->sink = text_dup(config->sink);
    asked->client_id = text_dup(config->client_id);
    asked->routes = route_table_retain(client_config_routes(config));
    return asked->origin && asked->client_id ? ERR_OK : ERR_MEMORY;
}

/* Labels, broker, sink and routes of the client. False: answered. */
static bool explain_read_client(const struct http_request *request, struct explain_message *asked,
                                struct http_response *response) {
    struct store_client row;
    struct client_config *config = NULL;
    struct client_faults faults = {.count = 0};
    if (!asked->client) {
        return true;
    }
    enum err err = store_get(request->api->context.store, asked->client, &row);
    if (err == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", asked->client);
        return false;
    }
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return false;
    }
    err = client_config_parse_text(row.config, row.config_len, asked->client, &config, &faults);
    store_client_fini(&row);
    if (err != ERR_OK) {
        http_problem(response, PROBLEM_STATE, "the configuration of client %s is not valid",
                     asked->client);
        return false;
    }
    err = explain_take_config(asked, config);
    client_config_destroy(config);
    if (err != ERR_OK) {
        http_problem_memory(response);
    }
    return err == ERR_OK;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void explain_add_sinks(json_t *list, const struct route_table *table, uint64_t bits) {
    for (; bits; bits &= bits - 1) {
        size_t i = (size_t)__builtin_ctzll(bits);
        json_array_append_new(list, json_string(route_table_sink(table, i)));
    }
}

static json_t *explain_sinks(const struct route_table *table, uint64_t bits) {
    json_t *list = json_array();
    explain_add_sinks(list, table, bits);
    return list;
}

static const char *explain_owner(const struct explain_message *asked,
                                 const struct route_table *table) {
    return table == asked->routes ? "client" : "fleet";
}

static json_t *explain_message_json(const struct http_request *request,
                                    const struct message *message) {
    struct buffer text;
    buffer_init(&text);
    message_json_append(&text, message, node_name(request->api->context.node));
    json_t *json = text.failed ? NULL : json_from_text(text.data, text.len, JSON_ALLOW_NUL);
    buffer_fini(&text);
    return json ? json : json_null();
}

struct explain_answer {
    const struct http_request *request;
    const struct explain_message *asked;
    const struct message *message;
    json_t *matched, *scripted;
};

static json_t *explain_script(const struct explain_answer *answer, const struct route_table *table,
                              const struct route_scripted *scripted) {
    struct message *made[SCRIPT_MESSAGES_MAX];
    char fault[SCRIPT_FAULT_LEN] = "";
    size_t count;
    enum err err = script_run(scripted->script, answer->message, made, &count, fault);
    json_t *messages = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(messages, explain_message_json(answer->request, made[i]));
        message_destroy(made[i]);
    }
    json_t *json =
        json_pack("{s:I, s:s, s:o, s:o, s:o}", "route", (json_int_t)scripted->route, "of",
                  explain_owner(answer->asked, table), "to", explain_sinks(table, scripted->to),
                  "also", explain_sinks(table, scripted->also), "messages", messages);
    if (err != ERR_OK) {
        json_object_set_new(json, "error",
                            http_json_string(err == ERR_MEMORY ? "out of memory" : fault));
    }
    return json;
}

static void explain_add_scripts(const struct explain_answer *answer,
                                const struct route_table *table,
                                const struct route_decision *decision) {
    for (size_t i = 0; i < decision->scripted_count; i++) {
        json_array_append_new(answer->scripted,
                              explain_script(answer, table, &decision->scripted[i]));
    }
}

static void explain_note_route(void *context, const struct route_table *table, size_t route) {
    struct explain_answer *answer = context;
    json_array_append_new(answer->matched, json_pack("{s:I, s:s, s:s?}", "route", (json_int_t)route,
                                                     "of", explain_owner(answer->asked, table),
                                                     "name", route_table_name(table, route)));
}

static void explain_decide(struct explain_answer *answer, const struct route_table *fleet,
                           struct http_response *response) {
    const struct route_table *own = answer->asked->routes;
    struct route_chain chain;
    struct route_chain_decision decision;
    struct message_view view;
    route_chain_init(&chain, own, fleet);
    message_view_init(&view, answer->message, "");
    route_chain_match(&chain, &view, &decision, explain_note_route, answer);
    message_view_fini(&view);
    explain_add_scripts(answer, own, &decision.client);
    explain_add_scripts(answer, fleet, &decision.fleet);
    json_t *to = json_array(), *also = json_array();
    explain_add_sinks(to, own, decision.client.to);
    explain_add_sinks(to, fleet, decision.fleet.to);
    explain_add_sinks(also, own, decision.client.also);
    explain_add_sinks(also, fleet, decision.fleet.also);
    if (decision.to_default) {
        json_array_append_new(
            to, json_string(answer->asked->sink ? answer->asked->sink : SINK_DEFAULT));
    }
    http_answer_json(response, 200,
                     json_pack("{s:o, s:o, s:o, s:b, s:o, s:o}", "matched", answer->matched, "to",
                               to, "also", also, "default", decision.to_default, "message",
                               explain_message_json(answer->request, answer->message), "scripted",
                               answer->scripted));
}

static void explain_answer(const struct http_request *request, const struct route_table *fleet,
                           const struct explain_message *asked, struct http_response *response) {
    struct message *message =
        message_create(&(struct message){.id = asked->client ? asked->client : "",
                                         .client_id = asked->client_id ? asked->client_id : "",
                                         .topic = asked->topic,
                                         .payload = asked->payload,
                                         .payload_len = asked->payload_len,
                                         .qos = (uint8_t)asked->qos,
                                         .retain = asked->retain != 0,
                                         .origin = asked->origin,
                                         .received_at_ms = clock_wall_ms()});
    if (!message) {
        http_problem_memory(response);
        return;
    }
    struct explain_answer answer = {request, asked, message, json_array(), json_array()};
    explain_decide(&answer, fleet, response);
    message_destroy(message);
}

/* An empty list has no faults. */
static void explain_ignore_fault(void *context, const char *pointer, const char *detail) {
    (void)context;
    (void)pointer;
    (void)detail;
}

/* The routes in the body, to try them before they are set; else those of this node. NULL:
 * answered. */
static struct route_table *explain_routes(const struct http_request *request, const json_t *body,
                                          struct http_response *response) {
    if (json_object_get(body, "routes")) {
        return api_routes_compile(request, body, response);
    }
    struct route_table *table = sinks_routes(request->api->context.sinks);
    json_t *none = table ? NULL : json_array();
    table = table ? table : route_table_create(none, explain_ignore_fault, NULL);
    json_decref(none);
    if (!table) {
        http_problem_memory(response);
    }
    return table;
}

void api_routes_explain(struct http_request *request, struct http_response *response) {
    struct client_faults faults = {.count = 0};
    struct explain_message asked = {.client = NULL};
    json_t *body = NULL;
    if (!http_body_object(request, response, &body)) {
        return;
    }
    explain_read_message(&asked, body, &faults);
    if (faults.count > 0) {
        http_problem_faults(response, &faults);
    } else if (explain_read_client(request, &asked, response)) {
        struct route_table *table = explain_routes(request, body, response);
        if (table) {
            explain_answer(request, table, &asked, response);
        }
        route_table_release(table);
    }
    explain_message_fini(&asked);
    json_decref(body);
}
