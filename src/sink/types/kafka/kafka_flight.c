/* Owns the list of deliveries, and their places in the current batch. */
#include "kafka_flight.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

/* A message that was given up is freed and its address is reused, so the number identifies it. */
struct kafka_identity {
    const struct message *message; /* not read */
    uint64_t number;
};

struct kafka_delivery {
    struct kafka_identity identity;
    size_t index; /* in the batch */
    struct kafka_delivery *prev, *next;
    UT_hash_handle hh; /* while a batch adopts */
};

void kafka_flight_init(struct kafka_flight *flight) {
    *flight = (struct kafka_flight){0};
}

void kafka_flight_fini(struct kafka_flight *flight) {
    struct kafka_delivery *delivery;
    struct kafka_delivery *next;
    DL_FOREACH_SAFE(flight->deliveries, delivery, next) {
        free(delivery);
    }
    free(flight->current);
    kafka_flight_init(flight);
}

/* count: not 0. */
static enum err kafka_flight_make_room(struct kafka_flight *flight, size_t count) {
    if (count > flight->capacity) {
        struct kafka_delivery **current = realloc(flight->current, count * sizeof *current);
        if (!current) {
            return ERR_MEMORY;
        }
        flight->current = current;
        flight->capacity = count;
    }
    memset(flight->current, 0, count * sizeof(struct kafka_delivery *));
    return ERR_OK;
}

static struct kafka_identity kafka_flight_identify(const struct sink_batch *batch, size_t index) {
    const struct message *message = batch->messages[index];
    return (struct kafka_identity){message, message->number};
}

static void kafka_flight_find(struct kafka_flight *flight, const struct sink_batch *batch) {
    struct kafka_delivery *by_identity = NULL;
    struct kafka_delivery *delivery;
    DL_FOREACH(flight->deliveries, delivery) {
        HASH_ADD(hh, by_identity, identity, sizeof delivery->identity, delivery);
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct kafka_identity identity = kafka_flight_identify(batch, i);
        HASH_FIND(hh, by_identity, &identity, sizeof identity, delivery);
        if (delivery) {
            delivery->index = i;
            flight->current[i] = delivery;
            flight->due++;
            flight->abandoned--;
        }
    }
    HASH_CLEAR(hh, by_identity);
}

void kafka_flight_abandon(struct kafka_flight *flight) {
    struct kafka_delivery *delivery;
    DL_FOREACH(flight->deliveries, delivery) {
        delivery->index = KAFKA_NO_INDEX;
    }
    flight->abandoned += flight->due;
    flight->due = 0;
}

enum err kafka_flight_adopt(struct kafka_flight *flight, const struct sink_batch *batch) {
    enum err err = kafka_flight_make_room(flight, batch->count);
    if (err != ERR_OK) {
        return err;
    }
    kafka_flight_abandon(flight);
    if (flight->deliveries) {
        kafka_flight_find(flight, batch);
    }
    return ERR_OK;
}

bool kafka_flight_has(const struct kafka_flight *flight, size_t index) {
    return flight->current[index] != NULL;
}

struct kafka_delivery *kafka_flight_add(struct kafka_flight *flight, const struct sink_batch *batch,
                                        size_t index) {
    struct kafka_delivery *delivery = calloc(1, sizeof *delivery);
    if (!delivery) {
        return NULL;
    }
    delivery->identity = kafka_flight_identify(batch, index);
    delivery->index = index;
    DL_APPEND(flight->deliveries, delivery);
    flight->current[index] = delivery;
    flight->due++;
    return delivery;
}

size_t kafka_flight_remove(struct kafka_flight *flight, struct kafka_delivery *delivery) {
    size_t index = delivery->index;
    if (index == KAFKA_NO_INDEX) {
        flight->abandoned--;
    } else {
        flight->current[index] = NULL;
        flight->due--;
    }
    DL_DELETE(flight->deliveries, delivery);
    free(delivery);
    return index;
}
