/* Owns the table of brokers of one worker. Worker thread only. */
#include "mqtt/broker/broker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_LEN (256 + 8)

static void broker_free_unused(struct brokers *brokers, struct broker *broker) {
    if (broker->references == 0) {
        HASH_DEL(brokers->table, broker);
        free(broker->key);
        free(broker);
    }
}

struct broker *broker_acquire(struct brokers *brokers, const char *host, uint16_t port) {
    char key[KEY_LEN];
    struct broker *broker;
    snprintf(key, sizeof(key), "%s:%u", host, port);
    HASH_FIND_STR(brokers->table, key, broker);
    if (!broker) {
        broker = calloc(1, sizeof *broker);
        if (!broker || !(broker->key = strdup(key))) {
            free(broker);
            return NULL;
        }
        HASH_ADD_KEYPTR(hh, brokers->table, broker->key, strlen(broker->key), broker);
    }
    struct incident *incident = incident_acquire(brokers->incidents, key);
    if (!incident) {
        broker_free_unused(brokers, broker);
        return NULL;
    }
    broker->incident = incident;
    broker->references++;
    return broker;
}

void broker_release(struct brokers *brokers, struct broker *broker) {
    if (!broker) {
        return;
    }
    incident_release(broker->incident);
    broker->references--;
    assert(broker->references > 0 ||
           (!broker->waiting && broker->in_flight == 0 && !broker->parked));
    broker_free_unused(brokers, broker);
}
