/* Owns the diagnosis when a broker does not answer CONNECT with CONNACK: which setting of the
 * client is the likely cause. Worker thread. */
#include <stdio.h>
#include <string.h>
#include "reactor.h"

#define GREETING_SHOWN      80 /* bytes shown of an answer that is not MQTT */
#define GREETING_PREFIX     4 /* this many printable bytes are text, not a packet; AMQP has no more */
#define GREETING_TLS_PORT   443
#define GREETING_MQTTS_PORT 8883
#define GREETING_TLS_ALERT  0x15 /* content types of a TLS record, RFC 8446 section 5.1 */
#define GREETING_TLS_HELLO  0x16
#define GREETING_TLS_MAJOR  0x03

/* On this port, protocol names (ALPN) separate HTTPS and MQTT. */
static bool greeting_lacks_alpn(const struct client_config *config) {
    return config->scheme == SCHEME_MQTTS && config->port == GREETING_TLS_PORT &&
           client_config_tls(config)->alpn_count == 0;
}

static bool greeting_is_tls_port(uint16_t port) {
    return port == GREETING_TLS_PORT || port == GREETING_MQTTS_PORT;
}

static bool greeting_has_websocket(const struct client_config *config) {
    return config->scheme == SCHEME_WS || config->scheme == SCHEME_WSS;
}

enum client_error greeting_closed(const struct engine_connection *connection) {
    const struct client_config *config = connection->config;
    if (connection->received_at_ms != 0) {
        return CLIENT_ERROR_CLOSED_IN_CONNACK;
    }
    if (greeting_has_websocket(config)) {
        return CLIENT_ERROR_CLOSED_BEFORE_CONNACK_PATH;
    }
    if (greeting_lacks_alpn(config)) {
        return CLIENT_ERROR_CLOSED_BEFORE_CONNACK_ALPN;
    }
    if (config->scheme == SCHEME_MQTT && greeting_is_tls_port(config->port)) {
        return CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS_PORT;
    }
    if (connection->version == 5) {
        return CLIENT_ERROR_CLOSED_BEFORE_CONNACK_V5;
    }
    return config->scheme == SCHEME_MQTTS ? CLIENT_ERROR_CLOSED_BEFORE_CONNACK_TLS
                                          : CLIENT_ERROR_CLOSED_BEFORE_CONNACK;
}

enum client_error greeting_timeout(const struct engine_connection *connection) {
    if (connection->state == CONNECTION_AWAITING_CONNACK) {
        return greeting_has_websocket(connection->config) ? CLIENT_ERROR_CONNACK_TIMEOUT_PATH
                                                          : CLIENT_ERROR_CONNACK_TIMEOUT;
    }
    switch (connection->stream.step) {
    case STREAM_TLS:
        return CLIENT_ERROR_TLS_TIMEOUT;
    case STREAM_WEBSOCKET:
        return CLIENT_ERROR_WEBSOCKET_TIMEOUT;
    default:
        return CLIENT_ERROR_TCP_TIMEOUT;
    }
}

enum client_error greeting_fault(const struct engine_connection *connection,
                                 enum client_error error) {
    const struct client_config *config = connection->config;
    switch (error) {
    case CLIENT_ERROR_TLS_CLOSED:
    case CLIENT_ERROR_TLS_CLOSED_AT_ONCE:
        return greeting_lacks_alpn(config) ? CLIENT_ERROR_TLS_CLOSED_ALPN : error;
    case CLIENT_ERROR_TLS_ALPN_REFUSED:
        return client_config_tls(config)->alpn_count == 0 ? CLIENT_ERROR_TLS_ALPN_WANTED : error;
    case CLIENT_ERROR_TLS_HANDSHAKE_REFUSED:
        return client_config_tls(config)->cert ? CLIENT_ERROR_TLS_NOTHING_IN_COMMON : error;
    case CLIENT_ERROR_WEBSOCKET_FRAMES:
        return connection->state == CONNECTION_AWAITING_CONNACK ? CLIENT_ERROR_NO_MQTT_IN_FRAMES
                                                                : error;
    default:
        return error;
    }
}

/* ---- answers that are not MQTT ---- */

static bool greeting_is_printable(uint8_t byte) {
    return (byte >= ' ' && byte < 0x7F) || byte == '\r' || byte == '\n' || byte == '\t';
}

static bool greeting_is_text(const uint8_t *data, size_t len) {
    size_t n = len < GREETING_PREFIX ? len : GREETING_PREFIX;
    for (size_t i = 0; i < n; i++) {
        if (!greeting_is_printable(data[i])) {
            return false;
        }
    }
    return true;
}

static bool greeting_is_tls(const uint8_t *data, size_t len) {
    return len >= 2 && (data[0] == GREETING_TLS_ALERT || data[0] == GREETING_TLS_HELLO) &&
           data[1] == GREETING_TLS_MAJOR;
}

/* The printable start of the first line. */
static void greeting_first_line(const uint8_t *data, size_t len, char out[GREETING_SHOWN + 1]) {
    size_t n = 0;
    while (n < len && n < GREETING_SHOWN && data[n] != '\r' && data[n] != '\n') {
        out[n] = (char)(greeting_is_printable(data[n]) && data[n] != '"' ? data[n] : '?');
        n++;
    }
    out[n] = '\0';
}

static enum client_error greeting_classify(const struct engine_connection *connection,
                                           const uint8_t *data, size_t len) {
    static const char http[] = "HTTP/";
    if (greeting_has_websocket(connection->config)) {
        return CLIENT_ERROR_NO_MQTT_AT_PATH;
    }
    if (len >= sizeof(http) - 1 && memcmp(data, http, sizeof(http) - 1) == 0) {
        return CLIENT_ERROR_HTTP_NOT_MQTT;
    }
    return greeting_is_tls(data, len) ? CLIENT_ERROR_TLS_NOT_MQTT : CLIENT_ERROR_NOT_MQTT;
}

/* An echo server returns packets that only a client sends. */
static bool greeting_is_server_packet(unsigned type) {
    return type > PACKET_CONNECT && type != PACKET_SUBSCRIBE && type != PACKET_UNSUBSCRIBE &&
           type != PACKET_PINGREQ;
}

/* Detects flags that no packet has, and packets without the body they need: another protocol, such
 * as MySQL, which starts with a length of three bytes. */
static bool greeting_is_well_formed(const uint8_t *data, size_t len) {
    unsigned type = data[0] >> 4, flags = data[0] & 0x0F;
    bool may_be_empty = type == PACKET_PINGRESP || type == PACKET_DISCONNECT || type == PACKET_AUTH;
    return (type == PACKET_PUBLISH || flags == (type == PACKET_PUBREL ? 2 : 0)) &&
           (len < 2 || data[1] != 0 || may_be_empty);
}

bool greeting_may_be_mqtt(const uint8_t *data, size_t len) {
    bool is_connack = data[0] == PACKET_CONNACK << 4; /* also a space */
    return is_connack || (greeting_is_server_packet(data[0] >> 4) &&
                          greeting_is_well_formed(data, len) && !greeting_is_text(data, len));
}

void greeting_refuse(struct engine_connection *connection, const uint8_t *data, size_t len) {
    enum client_error error = greeting_classify(connection, data, len);
    char line[GREETING_SHOWN + 1], message[GREETING_SHOWN + 128];
    if (len > 0 && greeting_is_text(data, len)) {
        greeting_first_line(data, len, line);
        snprintf(message, sizeof(message), "%s: \"%s\"", client_error_text(error), line);
    } else {
        snprintf(message, sizeof(message), "%s", client_error_text(error));
    }
    connection_end(connection,
                   &(struct engine_closed){.error = error, .message = message, .reason_code = -1});
}
