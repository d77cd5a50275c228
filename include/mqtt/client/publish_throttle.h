/* Throttles publications that repeatedly end a client's connection. Decides by their shape (topic;
 * or, across topics, size, QoS 2, retain) whether and for how long they are refused. Pure; the
 * caller locks. Allocated with the first charge. */
#ifndef MQFLEET_CLIENT_PUBLISH_THROTTLE_H
#define MQFLEET_CLIENT_PUBLISH_THROTTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUBLISH_THROTTLE_AFTER    3 /* losses in a row */
#define PUBLISH_THROTTLE_MS_FIRST 10000
#define PUBLISH_THROTTLE_MS_MAX   600000

struct publish_throttle;

struct publish_shape {
    const char *topic;
    size_t payload_len;
    uint8_t qos;
    bool retain;
};

struct publish_throttled {
    int64_t wait_ms;
    unsigned losses;  /* in a row */
    const char *what; /* which publications; static */
};

/* A connection ended because of a publication of that shape. Charges with the same now_ms belong to
 * one loss and count once. *throttle may be NULL. If memory is short, nothing is recorded. */
void publish_throttle_charge(struct publish_throttle **throttle, const struct publish_shape *shape,
                             int64_t now_ms);
/* The broker has acknowledged one of that shape. NULL is legal. */
void publish_throttle_clear(struct publish_throttle *throttle, const struct publish_shape *shape);
/* Whether such a publication is refused now. NULL is legal. */
bool publish_throttle_refuses(const struct publish_throttle *throttle,
                              const struct publish_shape *shape, int64_t now_ms,
                              struct publish_throttled *out);
void publish_throttle_destroy(struct publish_throttle *throttle);

#endif
