/* Owns the table of addresses that sent wrong tokens. Any thread. */
#include "http/auth/auth_throttle.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"

#define SLOT_PROBES_MAX 8 /* places one address may have */

struct throttle_slot {
    uint64_t key;
    uint32_t failures;
    int64_t window_begun_ms; /* of its window; 0: free */
};

struct auth_throttle {
    pthread_mutex_t lock; /* guards places */
    uint64_t seed;        /* random, so nobody can choose addresses that share slots */
    struct throttle_slot slots[AUTH_THROTTLE_ADDRESSES_MAX];
};

struct auth_throttle *auth_throttle_create(void) {
    struct auth_throttle *throttle = calloc(1, sizeof *throttle);
    if (throttle) {
        pthread_mutex_init(&throttle->lock, NULL);
        throttle->seed = (uint64_t)clock_us() * 0x9E3779B97F4A7C15ull ^ (uintptr_t)throttle;
    }
    return throttle;
}

void auth_throttle_destroy(struct auth_throttle *throttle) {
    if (throttle) {
        pthread_mutex_destroy(&throttle->lock);
        free(throttle);
    }
}

/* The IPv4 address, or the /64 network of an IPv6 address, because one host can use all of it. */
static uint64_t auth_throttle_address_key(const struct sockaddr *address) {
    uint64_t key = 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        return (uint64_t)v4->sin_addr.s_addr + 1;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
        memcpy(&key, v6->sin6_addr.s6_addr + (mapped ? 8 : 0), sizeof(key));
    }
    return key;
}

/* splitmix64's finish. */
static uint64_t auth_throttle_mix_hash(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
}

/* The slot of the address. If it has none: a free slot, or the one with the oldest window. */
static struct throttle_slot *auth_throttle_find_slot(struct auth_throttle *throttle, uint64_t key) {
    uint64_t hash = auth_throttle_mix_hash(key ^ throttle->seed);
    struct throttle_slot *oldest = NULL;
    for (size_t i = 0; i < SLOT_PROBES_MAX; i++) {
        struct throttle_slot *place = &throttle->slots[(hash + i) % AUTH_THROTTLE_ADDRESSES_MAX];
        if (place->window_begun_ms != 0 && place->key == key) {
            return place;
        }
        if (!oldest || place->window_begun_ms < oldest->window_begun_ms) {
            oldest = place;
        }
    }
    *oldest = (struct throttle_slot){.key = key};
    return oldest;
}

int64_t auth_throttle_record_failure(struct auth_throttle *throttle,
                                     const struct sockaddr *address) {
    int64_t now_ms = clock_ms();
    int64_t wait_ms = 0;
    pthread_mutex_lock(&throttle->lock);
    struct throttle_slot *place =
        auth_throttle_find_slot(throttle, auth_throttle_address_key(address));
    if (place->window_begun_ms == 0 || now_ms - place->window_begun_ms >= AUTH_THROTTLE_WINDOW_MS) {
        place->window_begun_ms = now_ms;
        place->failures = 0;
    }
    if (place->failures < AUTH_THROTTLE_FAILURES_MAX) {
        place->failures++;
    } else {
        wait_ms = place->window_begun_ms + AUTH_THROTTLE_WINDOW_MS - now_ms;
    }
    pthread_mutex_unlock(&throttle->lock);
    return wait_ms;
}
