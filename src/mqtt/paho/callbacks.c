/* Owns the callbacks of a Paho connection. They run on Paho's threads, under Paho's one mutex (and
 * on the worker thread inside MQTTAsync_destroy). They mark the connection, wake the worker and
 * return. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <MQTTAsync.h>
#include <utlist.h>
#include "base/text.h"
#include "paho.h"
#include "mqtt/reason_codes.h"

void paho_post(struct engine_connection *connection, enum paho_event event) {
    struct engine *engine = connection->engine;
    connection->marks |= event;
    if (!connection->ready) {
        connection->ready = true;
        DL_APPEND2(engine->ready, connection, ready_prev, ready_next);
    }
    eventfd_write(engine->event_fd, 1);
}

void paho_post_closed(struct engine_connection *connection, const struct engine_closed *closed) {
    if (connection->marks & PAHO_CLOSED) {
        return;
    }
    connection->closed = *closed;
    snprintf(connection->closed_message, sizeof(connection->closed_message), "%s",
             closed->message ? closed->message : client_error_text(closed->error));
    connection->closed.message = connection->closed_message;
    paho_post(connection, PAHO_CLOSED);
}

/* ---- CONNECT ---- */

static uint32_t paho_property_number(MQTTProperties *properties, enum MQTTPropertyCodes code,
                                     uint32_t standard) {
    if (!MQTTProperties_hasProperty(properties, code)) {
        return standard;
    }
    return (uint32_t)MQTTProperties_getNumericValue(properties, code);
}

static void paho_on_connected(void *context, MQTTAsync_successData *data) {
    struct engine_connection *connection = context;
    pthread_mutex_lock(&connection->engine->lock);
    connection->connack = (struct engine_connack){
        .session_present = data->alt.connect.sessionPresent != 0, .maximum_qos = 2};
    paho_post(connection, PAHO_CONNACK);
    pthread_mutex_unlock(&connection->engine->lock);
}

static void paho_on_connected5(void *context, MQTTAsync_successData5 *data) {
    struct engine_connection *connection = context;
    MQTTProperties *properties = &data->properties;
    MQTTProperty *assigned =
        MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_ASSIGNED_CLIENT_IDENTIFER);
    pthread_mutex_lock(&connection->engine->lock);
    struct engine_connack *connack = &connection->connack;
    *connack = (struct engine_connack){
        .session_present = data->alt.connect.sessionPresent != 0,
        .session_expiry_s =
            paho_property_number(properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, 0),
        .server_keepalive_s =
            (uint16_t)paho_property_number(properties, MQTTPROPERTY_CODE_SERVER_KEEP_ALIVE, 0),
        .maximum_qos = (uint8_t)paho_property_number(properties, MQTTPROPERTY_CODE_MAXIMUM_QOS, 2),
    };
    connection->server_packet_max =
        paho_property_number(properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE, 0);
    if (assigned) {
        snprintf(connection->assigned_client_id, sizeof(connection->assigned_client_id), "%.*s",
                 assigned->value.data.len, assigned->value.data.data);
        connack->assigned_client_id = connection->assigned_client_id;
    }
    paho_post(connection, PAHO_CONNACK);
    pthread_mutex_unlock(&connection->engine->lock);
}

/* Paho reports only that it failed and at which step. The details come from its sockets and
 * OpenSSL. engine->lock is held. */
static struct engine_closed paho_explain_failure(struct engine_connection *connection, int code) {
    bool silent = !paho_socket_has_received(&connection->socket);
    struct engine_closed closed = {.reason_code = -1};
    if (code > 0 && code < 0x100) {
        closed.error = reason_error_connack(code);
        closed.reason_code = code;
    } else if (connection->tls && connection->tls_error[0] != '\0') {
        closed.error = CLIENT_ERROR_TLS_FAILED;
        closed.message = connection->tls_error;
    } else if (connection->socket.connect_errno != 0) {
        bool refused = connection->socket.connect_errno == ECONNREFUSED;
        closed.error = refused ? CLIENT_ERROR_CONNECTION_REFUSED : CLIENT_ERROR_NETWORK_UNREACHABLE;
        closed.message = strerrordesc_np(connection->socket.connect_errno);
    } else if (silent) {
        closed.error = connection->tls                     ? CLIENT_ERROR_TLS_CLOSED_AT_ONCE
                       : connection->protocol_version == 5 ? CLIENT_ERROR_CLOSED_BEFORE_CONNACK_V5
                                                           : CLIENT_ERROR_CLOSED_BEFORE_CONNACK;
    } else if (connection->tls) {
        closed.error = CLIENT_ERROR_TLS_FAILED;
        closed.message =
            "the handshake failed: the certificate is for another name, the broker requires a "
            "client certificate, or tls.cert and tls.key do not match";
    } else {
        closed.error = CLIENT_ERROR_CLOSED_IN_CONNACK;
    }
    return closed;
}

static void paho_post_connect_failed(struct engine_connection *connection, int code) {
    if (code == MQTTASYNC_OPERATION_INCOMPLETE) {
        return; /* we are destroying it ourselves */
    }
    pthread_mutex_lock(&connection->engine->lock);
    struct engine_closed closed = paho_explain_failure(connection, code);
    paho_post_closed(connection, &closed);
    pthread_mutex_unlock(&connection->engine->lock);
}

static void paho_on_connect_failed(void *context, MQTTAsync_failureData *data) {
    paho_post_connect_failed(context, data->code);
}

static void paho_on_connect_failed5(void *context, MQTTAsync_failureData5 *data) {
    int code = data->reasonCode > 0 ? (int)data->reasonCode : data->code;
    paho_post_connect_failed(context, code);
}

void paho_fill_connect_options(struct engine_connection *connection, void *options) {
    MQTTAsync_connectOptions *connect = options;
    connect->context = connection;
    if (connection->protocol_version == 5) {
        connect->onSuccess5 = paho_on_connected5;
        connect->onFailure5 = paho_on_connect_failed5;
    } else {
        connect->onSuccess = paho_on_connected;
        connect->onFailure = paho_on_connect_failed;
    }
}

/* ---- the end of a connection ---- */

static void paho_on_connection_lost(void *context, char *cause) {
    (void)cause; /* always NULL */
    struct engine_connection *connection = context;
    struct engine_closed closed = {.error = CLIENT_ERROR_CONNECTION_LOST, .reason_code = -1};
    pthread_mutex_lock(&connection->engine->lock);
    paho_post_closed(connection, &closed);
    pthread_mutex_unlock(&connection->engine->lock);
}

/* MQTT 5: the broker's DISCONNECT. No other callback follows it. */
static void paho_on_disconnected(void *context, MQTTProperties *properties,
                                 enum MQTTReasonCodes code) {
    struct engine_connection *connection = context;
    enum client_error error = reason_error_disconnect((int)code);
    char text[PAHO_TEXT_LEN];
    MQTTProperty *said = MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING);
    if (said && !text_is_mqtt_string(said->value.data.data, (size_t)said->value.data.len)) {
        said = NULL;
    }
    snprintf(text, sizeof(text), "%s%s%.*s", client_error_text(error), said ? ": " : "",
             said ? said->value.data.len : 0, said ? said->value.data.data : "");
    struct engine_closed closed = {.error = error, .message = text, .reason_code = (int)code};
    pthread_mutex_lock(&connection->engine->lock);
    paho_post_closed(connection, &closed);
    pthread_mutex_unlock(&connection->engine->lock);
}

static int paho_on_message(void *context, char *topic, int topic_len, MQTTAsync_message *message) {
    return paho_message_arrived(context, topic, topic_len, message);
}

enum err paho_set_callbacks(struct engine_connection *connection) {
    int rc = MQTTAsync_setCallbacks(connection->handle, connection, paho_on_connection_lost,
                                    paho_on_message, NULL);
    if (rc == MQTTASYNC_SUCCESS) {
        rc = MQTTAsync_setDisconnected(connection->handle, connection, paho_on_disconnected);
    }
    return rc == MQTTASYNC_SUCCESS ? ERR_OK : ERR_WRONG_STATE;
}

/* ---- SUBSCRIBE and UNSUBSCRIBE ---- */

/* The SUBACK of one packet: codes for all filters from `first` on or, in MQTT 3.1.1, for that one.
 * Missing codes count as refused. */
static void paho_post_subscribed(const struct paho_subscribe *packet, const int *codes, size_t n) {
    struct engine_connection *connection = packet->connection;
    pthread_mutex_lock(&connection->engine->lock);
    for (size_t i = 0; i < packet->count && connection->codes; i++) {
        connection->codes[packet->first + i] = i < n ? (uint8_t)codes[i] : REASON_UNSPECIFIED;
    }
    connection->codes_missing -= packet->count;
    if (connection->codes_missing == 0) {
        paho_post(connection, PAHO_SUBACK);
    }
    pthread_mutex_unlock(&connection->engine->lock);
}

/* Paho does not report how many codes the broker sent, so a packet has only one filter. */
static void paho_on_subscribed(void *context, MQTTAsync_successData *data) {
    bool known =
        data->alt.qos >= 0 && data->alt.qos <= 2; /* otherwise it may be an uninitialized value */
    int code = known ? data->alt.qos : (int)REASON_UNSPECIFIED;
    paho_post_subscribed(context, &code, 1);
}

static void paho_on_subscribed5(void *context, MQTTAsync_successData5 *data) {
    size_t n = (size_t)data->alt.sub.reasonCodeCount;
    const void *codes = n <= 1 ? (const void *)&data->reasonCode : data->alt.sub.reasonCodes;
    _Static_assert(sizeof(enum MQTTReasonCodes) == sizeof(int), "reason codes are read as int");
    paho_post_subscribed(context, codes, n);
}

/* Paho reports the refusal of a single filter as a failure. It reports the same for requests that
 * it could not send, or that ended with the connection; there, the closed event follows. */
static void paho_post_subscribe_failed(const struct paho_subscribe *packet, int code) {
    if (reason_is_error(code)) {
        paho_post_subscribed(packet, &code, 1);
    }
}

static void paho_on_subscribe_failed(void *context, MQTTAsync_failureData *data) {
    paho_post_subscribe_failed(context, data->code);
}

static void paho_on_subscribe_failed5(void *context, MQTTAsync_failureData5 *data) {
    paho_post_subscribe_failed(context, (int)data->reasonCode);
}

static void paho_post_unsubscribed(struct engine_connection *connection) {
    pthread_mutex_lock(&connection->engine->lock);
    paho_post(connection, PAHO_UNSUBACK);
    pthread_mutex_unlock(&connection->engine->lock);
}

static void paho_on_unsubscribed(void *context, MQTTAsync_successData *data) {
    (void)data;
    paho_post_unsubscribed(context);
}

static void paho_on_unsubscribed5(void *context, MQTTAsync_successData5 *data) {
    (void)data;
    paho_post_unsubscribed(context);
}

void paho_fill_subscribe_options(struct paho_subscribe *packet, void *options) {
    MQTTAsync_responseOptions *response = options;
    response->context = packet;
    if (packet->connection->protocol_version == 5) {
        response->onSuccess5 = paho_on_subscribed5;
        response->onFailure5 = paho_on_subscribe_failed5;
    } else {
        response->onSuccess = paho_on_subscribed;
        response->onFailure = paho_on_subscribe_failed;
    }
}

void paho_fill_unsubscribe_options(struct engine_connection *connection, void *options) {
    MQTTAsync_responseOptions *response = options;
    response->context = connection;
    if (connection->protocol_version == 5) {
        response->onSuccess5 = paho_on_unsubscribed5;
    } else {
        response->onSuccess = paho_on_unsubscribed;
    }
}

/* ---- PUBLISH ---- */

void paho_note_suspect(struct engine_connection *connection,
                       const struct paho_publication *publication) {
    if (!connection->suspects && publication->about.qos > 0) {
        connection->suspects = calloc(1, sizeof *connection->suspects);
    }
    struct engine_suspects *suspects = connection->suspects;
    if (!suspects || publication->about.qos == 0) {
        return; /* out of memory: no suspect is recorded */
    }
    if (suspects->described < ENGINE_SUSPECTS_MAX) {
        suspects->suspects[suspects->described++] = publication->about;
    }
    suspects->count++;
}

static void paho_post_published(struct paho_publication *publication, enum err err,
                                enum MQTTReasonCodes reason_code) {
    struct engine_connection *connection = publication->connection;
    pthread_mutex_lock(&connection->engine->lock);
    if (!publication->done) {
        publication->done = true;
        publication->result =
            (struct publish_result){.err = err, .reason_code = (uint8_t)reason_code};
        if (err != ERR_OK) {
            paho_note_suspect(connection, publication);
        }
        paho_post(connection, PAHO_PUBLISHED);
    }
    pthread_mutex_unlock(&connection->engine->lock);
}

static void paho_on_published(void *context, MQTTAsync_successData *data) {
    (void)data;
    paho_post_published(context, ERR_OK, MQTTREASONCODE_SUCCESS);
}

static void paho_on_published5(void *context, MQTTAsync_successData5 *data) {
    paho_post_published(context, ERR_OK, data->reasonCode);
}

static void paho_on_publish_failed(void *context, MQTTAsync_failureData *data) {
    (void)data;
    paho_post_published(context, ERR_UNAVAILABLE, MQTTREASONCODE_SUCCESS);
}

static void paho_on_publish_failed5(void *context, MQTTAsync_failureData5 *data) {
    bool refused = reason_is_error((int)data->reasonCode);
    paho_post_published(context, refused ? ERR_OK : ERR_UNAVAILABLE,
                        refused ? data->reasonCode : MQTTREASONCODE_SUCCESS);
}

void paho_fill_publish_options(struct paho_publication *publication, int protocol_version,
                               void *options) {
    MQTTAsync_responseOptions *response = options;
    response->context = publication;
    if (protocol_version == 5) {
        response->onSuccess5 = paho_on_published5;
        response->onFailure5 = paho_on_publish_failed5;
    } else {
        response->onSuccess = paho_on_published;
        response->onFailure = paho_on_publish_failed;
    }
}
