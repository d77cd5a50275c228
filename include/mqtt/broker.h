/* What one host knows of each broker its clients use: who waits to connect, how many are being
 * connected, how many are online, and what was lost when. Host thread only. */
#ifndef MQFLEET_MQTT_BROKER_H
#define MQFLEET_MQTT_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

/* Evidence to tell a client that is kicked from a broker that went away: losses are counted by
 * windows of a second. */
struct loss_watch {
    int64_t window_at_ms;
    uint64_t window; /* number of the current one */
    size_t losses, online_before;
    uint64_t mass_windows; /* bit n: window - n lost many at once */
};

struct pacer_ticket;

struct broker {
    char *key; /* "host:port" */
    unsigned references;
    size_t online;
    struct loss_watch losses;
    /* The pacer's. */
    struct pacer_ticket *waiting;
    size_t in_flight;
    int64_t next_at_us; /* of the token bucket */
    bool in_ring;
    struct broker *prev, *next;
    UT_hash_handle hh;
};

struct brokers {
    struct broker *table;
};

/* NULL: out of memory. */
struct broker *broker_acquire(struct brokers *brokers, const char *host, uint16_t port);
void broker_release(struct brokers *brokers, struct broker *broker); /* NULL is legal */

/* A connection was lost; online_before: how many were online at this broker before it. Returns the
 * window to ask about later. */
uint64_t loss_watch_note(struct loss_watch *watch, int64_t now_ms, size_t online_before);
/* Whether a tenth or more of all went in that window (two at least), or it is too long ago. */
bool loss_watch_was_mass(const struct loss_watch *watch, uint64_t window);

#endif
