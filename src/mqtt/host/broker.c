/* Owns the table of brokers of one host, and the evidence of losses. Host thread only. Knows no
 * client and no connection. */
#include "mqtt/broker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_MS    1000
#define WINDOWS_KEPT 64
#define MASS_LEAST   2
#define MASS_SHARE   10 /* one of so many */
#define KEY_LEN      (256 + 8)

struct broker *broker_acquire(struct brokers *brokers, const char *host, uint16_t port) {
    char key[KEY_LEN];
    struct broker *broker;
    snprintf(key, sizeof(key), "%s:%u", host, port);
    HASH_FIND_STR(brokers->table, key, broker);
    if (broker == NULL) {
        broker = calloc(1, sizeof(*broker));
        if (broker == NULL || (broker->key = strdup(key)) == NULL) {
            free(broker);
            return NULL;
        }
        HASH_ADD_KEYPTR(hh, brokers->table, broker->key, strlen(broker->key), broker);
    }
    broker->references++;
    return broker;
}

void broker_release(struct brokers *brokers, struct broker *broker) {
    if (broker == NULL || --broker->references > 0) {
        return;
    }
    assert(broker->waiting == NULL && broker->in_flight == 0 && broker->online == 0);
    HASH_DEL(brokers->table, broker);
    free(broker->key);
    free(broker);
}

static void next_window(struct loss_watch *watch, int64_t now_ms, size_t online_before) {
    watch->window++;
    watch->mass_windows <<= 1;
    watch->window_at_ms = now_ms;
    watch->losses = 0;
    watch->online_before = online_before;
}

uint64_t loss_watch_note(struct loss_watch *watch, int64_t now_ms, size_t online_before) {
    if (watch->window == 0 || now_ms - watch->window_at_ms >= WINDOW_MS) {
        next_window(watch, now_ms, online_before);
    }
    watch->losses++;
    if (watch->losses >= MASS_LEAST && watch->losses * MASS_SHARE >= watch->online_before) {
        watch->mass_windows |= 1;
    }
    return watch->window;
}

bool loss_watch_was_mass(const struct loss_watch *watch, uint64_t window) {
    uint64_t age = watch->window - window;
    return age >= WINDOWS_KEPT || ((watch->mass_windows >> age) & 1);
}
