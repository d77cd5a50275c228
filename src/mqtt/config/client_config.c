/* Turns a JSON document into a checked configuration: reads the fields by their table, then applies
 * the rules between fields. Pure; any thread. */
#include "client_config_fields.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/shared_text.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "mqtt/config/client_profile.h"

#define KEEPALIVE_S_DEFAULT      60
#define SESSION_EXPIRY_S_DEFAULT 86400

/* Every client of a node has one; the next size of the allocator is 216. */
_Static_assert(sizeof(struct client_config) <= 200, "a configuration stays small");

/* A fault at a member of the document. */
#define FAULT_AT(reader, member, ...)                                                              \
    client_field_add_fault((reader), &(const struct client_field_place){.name = (member)},         \
                           __VA_ARGS__)

static bool client_config_has_member(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return value && !json_is_null(value);
}

static char *client_config_keep_text(struct reader *reader, char *text) {
    reader->out_of_memory |= !text;
    return text;
}

/* Rules between fields. All run even after faults; none adds a fault that another one explains. */

static void client_config_rule_broker_or_url(struct reader *reader) {
    bool has_broker = client_config_has_member(reader->document, "broker");
    bool has_url = client_config_has_member(reader->document, "url");
    bool has_urls = client_config_has_member(reader->document, "urls");
    if (!has_broker && !has_url && !has_urls) {
        FAULT_AT(reader, "broker", "is missing: set broker (a host) or url (mqtt://host:1883)");
    }
    if (has_broker && has_url) {
        FAULT_AT(reader, "url", "must be the only one: set either broker or url");
    }
    if (has_urls && (has_broker || has_url)) {
        FAULT_AT(reader, "urls", "must be the only one: set either broker, url or urls");
    }
    if (!has_urls && client_config_has_member(reader->document, "urls_order")) {
        FAULT_AT(reader, "urls_order", "must be omitted without urls: it is their order");
    }
    if (!has_broker && (has_url || has_urls) && reader->port != 0) {
        FAULT_AT(reader, "port", "must be part of the url, as in mqtt://host:1883");
    }
    if (has_broker && reader->port != 0 && reader->url.port != 0 &&
        reader->port != reader->url.port) {
        FAULT_AT(reader, "port", "must be the port in broker, or be omitted");
    }
}

/* Moves the fields of the broker into the configuration. */
static void client_config_rule_address(struct reader *reader) {
    struct client_config *config = reader->config;
    struct client_url *url = &reader->url;
    struct client_endpoint endpoint;
    if (url->host) {
        url->port = url->port != 0 ? url->port : reader->port;
        reader->out_of_memory |= !client_url_take(url, &endpoint);
    } else if (config->url_count > 0) {
        endpoint = config->urls[0];
        endpoint.host = client_config_keep_text(reader, text_dup(endpoint.host));
        endpoint.path =
            endpoint.path ? client_config_keep_text(reader, text_dup(endpoint.path)) : NULL;
    } else {
        return;
    }
    config->scheme = endpoint.scheme & 0xF;
    config->port = endpoint.port;
    config->host = endpoint.host;
    config->path = endpoint.path;
}

/* Whether one of the brokers has a scheme with that property. */
static bool client_config_any_endpoint(const struct client_config *config,
                                       bool (*has)(enum client_scheme)) {
    bool found = config->host && has(config->scheme);
    for (size_t i = 0; !found && i < config->url_count; i++) {
        found = has(config->urls[i].scheme);
    }
    return found;
}

/* Form inputs send "" for empty fields. */
static void client_config_drop_empty(char **text) {
    if (*text && **text == '\0') {
        free(*text);
        *text = NULL;
    }
}

static void client_config_rule_version(struct reader *reader) {
    struct client_config *config = reader->config;
    if (config->protocol_version == 0) {
        config->protocol_version = reader->has_mqtt5 ? 5 : 4;
    }
}

/* MQTT 3.1.1 section 3.1.2.9: a password needs a user name. An empty password is sent if there is a
 * user name, except in the flat form (the one with sub_topic), where "" is an empty input. */
static void client_config_rule_credentials(struct reader *reader) {
    struct client_config *config = reader->config;
    bool is_flat = json_object_get(reader->document, "sub_topic") != NULL;
    bool username_was_wrong =
        !config->username && client_config_has_member(reader->document, "username");
    client_config_drop_empty(&config->username);
    if (!config->username || is_flat) {
        client_config_drop_empty(&config->password);
    }
    bool has_password = config->password || config->password_from;
    if (has_password && !config->username && !username_was_wrong && config->protocol_version == 4) {
        FAULT_AT(reader, "password",
                 "requires a username in MQTT 3.1.1: set one, or set protocol_version to 5");
    }
}

static void client_config_rule_session(struct reader *reader) {
    struct client_config *config = reader->config;
    if (!config->clean_start && config->protocol_version == 5 &&
        !client_config_has_member(reader->document, "session_expiry_s")) {
        config->session_expiry_s = SESSION_EXPIRY_S_DEFAULT;
    }
    if (!config->clean_start && config->client_id && config->client_id[0] == '\0') {
        FAULT_AT(reader, "client_id", "must not be empty unless clean_start is true");
    }
}

static void client_config_rule_tls(struct reader *reader) {
    const json_t *tls = json_object_get(reader->document, "tls");
    const struct client_field_place place = {.name = "tls"};
    const struct client_field_place cert = {.up = &place, .name = "cert"};
    const struct client_field_place key = {.up = &place, .name = "key"};
    if (json_object_size(tls) == 0) {
        return;
    }
    if (reader->config->host && !client_config_any_endpoint(reader->config, client_scheme_is_tls)) {
        client_field_add_fault(reader, &place,
                               "must be omitted unless the broker is an mqtts or wss URL");
    }
    if (client_config_has_member(tls, "cert") && !client_config_has_member(tls, "key")) {
        client_field_add_fault(reader, &key, "is missing: cert requires its private key");
    }
    if (client_config_has_member(tls, "key") && !client_config_has_member(tls, "cert")) {
        client_field_add_fault(reader, &cert, "is missing: key requires its certificate");
    }
}

static void client_config_rule_tls_strength(struct reader *reader) {
    const json_t *tls = json_object_get(reader->document, "tls");
    const struct client_tls *given = client_config_tls(reader->config);
    const struct client_field_place place = {.name = "tls"};
    const struct client_field_place version = {.up = &place, .name = "min_version"};
    const struct client_field_place password = {.up = &place, .name = "key_password"};
    bool old = given->min_version == TLS_FROM_1_0 || given->min_version == TLS_FROM_1_1;
    if (old && given->security_level != 1) {
        client_field_add_fault(
            reader, &version,
            "needs tls.security_level 0: OpenSSL supports no TLS version below 1.2 above that "
            "level");
    }
    if (client_config_has_member(tls, "key_password") && !client_config_has_member(tls, "cert")) {
        client_field_add_fault(reader, &password,
                               "must be omitted: there is no tls.key that it decrypts");
    }
}

static void client_config_rule_websocket(struct reader *reader) {
    if (json_object_size(json_object_get(reader->document, "websocket")) > 0 &&
        reader->config->host &&
        !client_config_any_endpoint(reader->config, client_scheme_has_path)) {
        FAULT_AT(reader, "websocket", "must be omitted unless the broker is a ws or wss URL");
    }
}

static void client_config_rule_sub_topic(struct reader *reader) {
    struct client_config *config = reader->config;
    if (!reader->sub_topic) {
        return;
    }
    for (size_t i = 0; i < config->subscription_count; i++) {
        if (strcmp(config->subscriptions[i].filter, reader->sub_topic) == 0) {
            FAULT_AT(reader, "sub_topic", "must be omitted: this filter is in subscriptions");
            return;
        }
    }
    if (config->subscription_count >= CLIENT_SUBSCRIPTIONS_MAX) {
        FAULT_AT(reader, "sub_topic", "must be omitted: there are already %d subscriptions",
                 CLIENT_SUBSCRIPTIONS_MAX);
        return;
    }
    const struct client_subscription subscription = {
        .filter = reader->sub_topic, .qos = 1, .retain_handling = RETAIN_HANDLING_STANDARD};
    reader->sub_topic = NULL;
    reader->out_of_memory |= !client_subscription_append(config, &subscription);
}

static void client_config_rule_reconnect(struct reader *reader) {
    const struct client_config *config = reader->config;
    if (config->reconnect_max_ms != 0 && config->reconnect_min_ms > config->reconnect_max_ms) {
        FAULT_AT(reader, "reconnect_min_ms", "must be at most reconnect_max_ms, %lld",
                 (long long)config->reconnect_max_ms);
    }
}

/* A burst of less than a second's worth would lower the rate: waits end up to half a second late.
 */
static void client_config_rule_limits(struct reader *reader) {
    const struct rate_limit_values *limits = client_config_limits(reader->config);
    const struct client_field_place place = {.name = "limits"};
    const struct client_field_place burst = {.up = &place, .name = "burst"};
    const json_t *given = json_object_get(reader->document, "limits");
    if (!limits || limits->burst == 0) {
        return;
    }
    if (!client_config_has_member(given, "messages_per_s")) {
        client_field_add_fault(
            reader, &burst, "must be omitted without messages_per_s: it is a number of messages");
    } else if (limits->messages_per_s > limits->burst) {
        client_field_add_fault(reader, &burst, "must be at least messages_per_s, %u",
                               limits->messages_per_s);
    }
}

static void (*const client_config_rules[])(struct reader *reader) = {
    client_config_rule_broker_or_url, client_config_rule_address,   client_config_rule_version,
    client_config_rule_credentials,   client_config_rule_session,   client_config_rule_tls,
    client_config_rule_tls_strength,  client_config_rule_websocket, client_config_rule_sub_topic,
    client_config_rule_reconnect,     client_config_rule_limits,
};

/* The identifiers: the id of the document, the one it is addressed by, or its client_id. */

static void client_config_id_from_hint(struct reader *reader, const char *hint) {
    struct client_config *config = reader->config;
    const char *fault = client_id_fault(hint, strlen(hint));
    if (fault) {
        FAULT_AT(reader, "id", "%s", fault);
    } else if (config->id && strcmp(config->id, hint) != 0) {
        FAULT_AT(reader, "id", "must be the id in the path, or be omitted");
    } else if (!config->id) {
        config->id = client_config_keep_text(reader, text_dup(hint));
    }
}

static void client_config_id_from_client_id(struct reader *reader) {
    struct client_config *config = reader->config;
    if (!config->client_id || config->client_id[0] == '\0') {
        FAULT_AT(reader, "id", "is missing: set id, or a client_id that is used as the id");
        return;
    }
    const char *fault = client_id_fault(config->client_id, strlen(config->client_id));
    if (fault) {
        FAULT_AT(reader, "id", "is missing, and client_id cannot be used instead: it %s", fault);
        return;
    }
    config->id = config->client_id;
}

static void client_config_read_identifiers(struct reader *reader, const char *id_hint) {
    struct client_config *config = reader->config;
    bool id_was_wrong = !config->id && client_config_has_member(reader->document, "id");
    bool client_id_was_wrong =
        !config->client_id && client_config_has_member(reader->document, "client_id");
    if (id_hint && !id_was_wrong) {
        client_config_id_from_hint(reader, id_hint);
    } else if (!config->id && !id_was_wrong && !client_id_was_wrong) {
        client_config_id_from_client_id(reader);
    }
    if (!config->client_id && config->id) {
        config->client_id = config->id;
    }
}

static struct client_config *client_config_create(void) {
    struct client_config *config = calloc(1, sizeof *config);
    if (config) {
        config->keepalive_s = KEEPALIVE_S_DEFAULT;
        config->clean_start = true;
        config->request_problem_information = true;
        config->desired = DESIRED_RUNNING;
    }
    return config;
}

enum err client_config_read(json_t *document, enum client_source source, const char *id_hint,
                            struct client_config **out, struct client_faults *faults) {
    struct reader reader = {.document = document, .source = source, .faults = faults};
    enum err err = ERR_OK;

    assert(document && out && faults);
    *out = NULL;
    faults->count = 0;
    reader.config = client_config_create();
    if (!reader.config) {
        return ERR_MEMORY;
    }
    if (client_fields_read(&reader, &client_fields, document, NULL, reader.config)) {
        client_config_read_identifiers(&reader, id_hint);
        for (size_t i = 0; i < sizeof(client_config_rules) / sizeof(client_config_rules[0]); i++) {
            client_config_rules[i](&reader);
        }
    }
    client_url_fini(&reader.url);
    free(reader.sub_topic);
    if (reader.out_of_memory) {
        err = ERR_MEMORY;
    } else if (faults->count > 0) {
        err = ERR_ARGUMENT;
    }
    if (err == ERR_OK) {
        *out = reader.config;
    } else {
        client_config_destroy(reader.config);
    }
    return err;
}

void client_config_check_members(json_t *document, struct client_faults *faults) {
    struct reader reader = {
        .document = document, .source = CLIENT_FROM_API, .faults = faults, .partial = true};
    faults->count = 0;
    reader.config = client_config_create();
    if (reader.config &&
        client_fields_read(&reader, &client_fields, document, NULL, reader.config) &&
        (client_config_has_member(document, "broker") ||
         client_config_has_member(document, "url") || client_config_has_member(document, "urls"))) {
        client_config_rule_broker_or_url(&reader);
    }
    client_url_fini(&reader.url);
    free(reader.sub_topic);
    client_config_destroy(reader.config);
}

static void client_config_pairs_free(struct client_pair *pairs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
    }
    free(pairs);
}

static void client_config_texts_free(char **texts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(texts[i]);
    }
    free(texts);
}

static void client_config_subscriptions_free(struct client_subscription *subscriptions,
                                             size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(subscriptions[i].filter);
    }
    free(subscriptions);
}

void client_config_drop_will(struct client_config *config) {
    struct client_will *will = config->will;
    if (!will) {
        return;
    }
    client_config_pairs_free(will->user_properties, will->user_property_count);
    free(will->topic);
    free(will->payload);
    free(will->content_type);
    free(will->response_topic);
    free(will->correlation_data);
    free(will);
    config->will = NULL;
}

bool client_config_keeps_session(const struct client_config *config) {
    bool kept = config->protocol_version == 4 || config->session_expiry_s > 0;
    return kept && !config->clean_start;
}

const struct client_tls *client_config_tls(const struct client_config *config) {
    static const struct client_tls nothing_given;
    return config->tls ? config->tls : &nothing_given;
}

static void client_config_websocket_free(struct client_websocket *websocket) {
    if (websocket) {
        client_config_pairs_free(websocket->headers, websocket->header_count);
        free(websocket->subprotocol);
        free(websocket);
    }
}

static void client_config_endpoints_free(struct client_endpoint *endpoints, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(endpoints[i].host);
        free(endpoints[i].path);
    }
    free(endpoints);
}

static void client_config_tls_free(struct client_tls *tls) {
    if (tls) {
        client_config_texts_free(tls->alpn, tls->alpn_count);
        shared_text_release(tls->ca);
        shared_text_release(tls->cert);
        free(tls->key);
        free(tls->key_from);
        free(tls->key_password);
        free(tls->key_password_from);
        free(tls->server_name);
        free(tls);
    }
}

const struct rate_limit_values *client_config_limits(const struct client_config *config) {
    const struct client_reception *reception = config->reception;
    return reception && reception->limited ? &reception->limits : NULL;
}

struct route_table *client_config_routes(const struct client_config *config) {
    return config->reception ? config->reception->routes : NULL;
}

static void client_config_reception_free(struct client_reception *reception) {
    if (reception) {
        route_table_release(reception->routes);
        free(reception);
    }
}

void client_config_destroy(struct client_config *config) {
    if (!config) {
        return;
    }
    client_config_drop_will(config);
    client_config_pairs_free(config->user_properties, config->user_property_count);
    client_config_pairs_free(config->labels, config->label_count);
    client_config_tls_free(config->tls);
    client_config_websocket_free(config->websocket);
    client_config_reception_free(config->reception);
    client_profile_release(config->profile);
    client_config_endpoints_free(config->urls, config->url_count);
    client_config_texts_free(config->retired_filters, config->retired_filter_count);
    client_config_subscriptions_free(config->subscriptions, config->subscription_count);
    char *const texts[] = {
        config->id,
        config->client_id != config->id ? config->client_id : NULL,
        config->host,
        config->path,
        config->username,
        config->password,
        config->password_from,
        config->sink,
        config->source,
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        free(texts[i]);
    }
    free(config);
}

/* Without a client_id, the broker assigns one that no other client can use. The "?" distinguishes
 * such identities from all with a client_id. */
static bool client_config_append_identity(struct buffer *out, const struct client_config *config,
                                          const char *host, uint16_t port) {
    bool anonymous = config->client_id[0] == '\0';
    buffer_printf(out, "%s%s:%u%c%s", out->len > 0 ? "\n" : "", host, port, anonymous ? '?' : '/',
                  anonymous ? config->id : config->client_id);
    return !out->failed;
}

char *client_config_identity(const struct client_config *config) {
    struct buffer identity = {0};
    bool done = config->url_count > 0 ||
                client_config_append_identity(&identity, config, config->host, config->port);
    for (size_t i = 0; done && i < config->url_count; i++) {
        done = client_config_append_identity(&identity, config, config->urls[i].host,
                                             config->urls[i].port);
    }
    char *text = done ? text_copy(identity.data, identity.len) : NULL;
    buffer_fini(&identity);
    return text;
}
