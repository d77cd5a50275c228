/* Compares configurations: whether a connection, or the subscriptions, of one can serve the other.
 * Pure; any thread. */
#include <string.h>
#include "mqtt/client/client.h"

static bool client_same_subscription(const struct client_subscription *a,
                                     const struct client_subscription *b) {
    return strcmp(a->filter, b->filter) == 0 && subscription_same_options(a, b);
}

bool client_config_same_subscriptions(const struct client_config *a,
                                      const struct client_config *b) {
    if (a->subscription_count != b->subscription_count) {
        return false;
    }
    for (size_t i = 0; i < a->subscription_count; i++) {
        if (!client_same_subscription(&a->subscriptions[i], &b->subscriptions[i])) {
            return false;
        }
    }
    return true;
}

static bool client_same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool client_same_pairs(const struct client_pair *a, size_t a_count,
                              const struct client_pair *b, size_t b_count) {
    bool same = a_count == b_count;
    for (size_t i = 0; same && i < a_count; i++) {
        same = client_same_text(a[i].name, b[i].name) && client_same_text(a[i].value, b[i].value);
    }
    return same;
}

static bool client_same_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static bool client_same_will_properties(const struct client_will *a, const struct client_will *b) {
    return a->delay_s == b->delay_s && a->payload_format_indicator == b->payload_format_indicator &&
           a->message_expiry_interval == b->message_expiry_interval &&
           client_same_text(a->content_type, b->content_type) &&
           client_same_text(a->response_topic, b->response_topic) &&
           (!a->correlation_data) == (!b->correlation_data) &&
           client_same_bytes(a->correlation_data, a->correlation_data_len, b->correlation_data,
                             b->correlation_data_len) &&
           client_same_pairs(a->user_properties, a->user_property_count, b->user_properties,
                             b->user_property_count);
}

static bool client_same_will(const struct client_will *a, const struct client_will *b) {
    if (!a || !b) {
        return a == b;
    }
    return client_same_text(a->topic, b->topic) &&
           client_same_bytes(a->payload, a->payload_len, b->payload, b->payload_len) &&
           a->qos == b->qos && a->retain == b->retain && client_same_will_properties(a, b);
}

static bool client_same_tls(const struct client_tls *a, const struct client_tls *b) {
    bool same = client_same_text(a->ca, b->ca) && client_same_text(a->cert, b->cert) &&
                client_same_text(a->key, b->key) && client_same_text(a->key_from, b->key_from) &&
                client_same_text(a->key_password, b->key_password) &&
                client_same_text(a->key_password_from, b->key_password_from) &&
                a->min_version == b->min_version && a->security_level == b->security_level &&
                client_same_text(a->server_name, b->server_name) && a->insecure == b->insecure &&
                a->alpn_count == b->alpn_count;
    for (size_t i = 0; same && i < a->alpn_count; i++) {
        same = client_same_text(a->alpn[i], b->alpn[i]);
    }
    return same;
}

static bool client_same_session(const struct client_config *a, const struct client_config *b) {
    return client_same_text(a->client_id, b->client_id) &&
           a->protocol_version == b->protocol_version && a->keepalive_s == b->keepalive_s &&
           a->clean_start == b->clean_start && a->session_expiry_s == b->session_expiry_s &&
           a->receive_maximum == b->receive_maximum && a->max_packet_size == b->max_packet_size &&
           a->topic_alias_maximum == b->topic_alias_maximum && a->oversize == b->oversize &&
           a->request_response_information == b->request_response_information &&
           a->request_problem_information == b->request_problem_information &&
           client_same_pairs(a->user_properties, a->user_property_count, b->user_properties,
                             b->user_property_count);
}

static bool client_same_websocket(const struct client_websocket *a,
                                  const struct client_websocket *b) {
    static const struct client_websocket nothing_given;
    a = a ? a : &nothing_given;
    b = b ? b : &nothing_given;
    return client_same_pairs(a->headers, a->header_count, b->headers, b->header_count) &&
           client_same_text(a->subprotocol, b->subprotocol);
}

static bool client_same_urls(const struct client_config *a, const struct client_config *b) {
    bool same = a->url_count == b->url_count;
    for (size_t i = 0; same && i < a->url_count; i++) {
        const struct client_endpoint *one = &a->urls[i], *other = &b->urls[i];
        same = one->scheme == other->scheme && one->port == other->port &&
               client_same_text(one->host, other->host) && client_same_text(one->path, other->path);
    }
    return same;
}

bool client_config_same_connection(const struct client_config *a, const struct client_config *b) {
    return client_same_urls(a, b) && client_same_websocket(a->websocket, b->websocket) &&
           a->scheme == b->scheme && client_same_text(a->host, b->host) && a->port == b->port &&
           client_same_text(a->path, b->path) && client_same_text(a->username, b->username) &&
           client_same_text(a->password, b->password) &&
           client_same_text(a->password_from, b->password_from) && client_same_session(a, b) &&
           client_same_will(a->will, b->will) &&
           client_same_tls(client_config_tls(a), client_config_tls(b));
}
