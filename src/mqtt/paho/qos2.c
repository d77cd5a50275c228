/* Owns received QoS 2 messages of MQTT 3.1.1. Paho calls back at PUBREL, after it has answered
 * PUBREC and the broker has released the message: a crash would lose it. Before it answers, Paho
 * passes the packet to its persistence. So a persistence that stores nothing delivers it there, and
 * the later callback is ignored. Runs on Paho's receive thread under Paho's mutex, like any
 * callback. With MQTT 5, Paho calls back in time. */
#include <stdlib.h>
#include <string.h>
#include <MQTTAsync.h>
#include <MQTTClientPersistence.h>
#include "base/text.h"
#include "paho.h"

#define PAHO_RECEIVED_KEY "r-" /* Paho's prefix of received PUBLISH packets */
#define PAHO_COMMAND_KEY  "c-" /* and of requests that wait to be sent */

static int paho_qos2_open(void **handle, const char *client_id, const char *uri, void *context) {
    (void)client_id;
    (void)uri;
    *handle = context;
    return 0;
}

static int paho_qos2_close(void *handle) {
    (void)handle;
    return 0;
}

/* MQTT 3.1.1 section 3.3: flags in the first byte, then topic, packet identifier and payload. Paho
 * has parsed it already, so it is well-formed. */
static void paho_qos2_deliver_packet(struct engine_connection *connection, uint8_t first,
                                     const uint8_t *data, size_t len) {
    size_t topic_len = len >= 2 ? ((size_t)data[0] << 8 | data[1]) : 0;
    if (len < 2 + topic_len + 2) {
        return;
    }
    char *topic = text_copy(data + 2, topic_len);
    MQTTAsync_message message = MQTTAsync_message_initializer;
    message.payload = (void *)(uintptr_t)(data + 2 + topic_len + 2);
    message.payloadlen = (int)(len - topic_len - 4);
    message.qos = 2;
    message.retained = first & 1;
    message.dup = (first >> 3) & 1;
    paho_deliver(connection, topic, &message);
    free(topic);
}

static int paho_qos2_put(void *handle, char *key, int count, char *buffers[], int lens[]) {
    if (strncmp(key, PAHO_RECEIVED_KEY, strlen(PAHO_RECEIVED_KEY)) == 0 && count == 2 &&
        lens[0] > 0) {
        paho_qos2_deliver_packet(handle, (uint8_t)buffers[0][0], (const uint8_t *)buffers[1],
                                 (size_t)lens[1]);
    }
    /* Paho would drop a stored request from memory and read it back. If it is refused, it stays in
     * memory. */
    return strncmp(key, PAHO_COMMAND_KEY, strlen(PAHO_COMMAND_KEY)) == 0 ? PAHO_NOT_STORED : 0;
}

static int paho_qos2_get(void *handle, char *key, char **buffer, int *len) {
    (void)handle;
    (void)key;
    (void)buffer;
    (void)len;
    return MQTTASYNC_PERSISTENCE_ERROR;
}

static int paho_qos2_remove(void *handle, char *key) {
    (void)handle;
    (void)key;
    return 0;
}

static int paho_qos2_keys(void *handle, char ***keys, int *count) {
    (void)handle;
    *keys = NULL;
    *count = 0;
    return 0;
}

static int paho_qos2_clear(void *handle) {
    (void)handle;
    return 0;
}

static int paho_qos2_contains(void *handle, char *key) {
    (void)handle;
    (void)key;
    return MQTTASYNC_PERSISTENCE_ERROR;
}

void *paho_qos2_persistence(struct engine_connection *connection) {
    MQTTClient_persistence *persistence = calloc(1, sizeof *persistence);
    if (persistence) {
        *persistence = (MQTTClient_persistence){.context = connection,
                                                .popen = paho_qos2_open,
                                                .pclose = paho_qos2_close,
                                                .pput = paho_qos2_put,
                                                .pget = paho_qos2_get,
                                                .premove = paho_qos2_remove,
                                                .pkeys = paho_qos2_keys,
                                                .pclear = paho_qos2_clear,
                                                .pcontainskey = paho_qos2_contains};
    }
    return persistence;
}
