/* Owns the table of addresses that presented wrong tokens. Any thread. Must not know what a token
 * is. */
#include "http/attempts.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"

#define PROBES 8 /* places one address may have */

struct place {
    uint64_t key;
    uint32_t count;
    int64_t begun_ms; /* of its window; 0: free */
};

struct attempts {
    pthread_mutex_t lock; /* guards places */
    uint64_t seed;        /* so that nobody can choose addresses that share places */
    struct place places[ATTEMPTS_ADDRESSES];
};

struct attempts *attempts_create(void) {
    struct attempts *attempts = calloc(1, sizeof(*attempts));
    if (attempts != NULL) {
        pthread_mutex_init(&attempts->lock, NULL);
        attempts->seed = (uint64_t)clock_us() * 0x9E3779B97F4A7C15ull ^ (uintptr_t)attempts;
    }
    return attempts;
}

void attempts_destroy(struct attempts *attempts) {
    if (attempts != NULL) {
        pthread_mutex_destroy(&attempts->lock);
        free(attempts);
    }
}

/* An IPv4 address, or the network that one subscriber has: he may use any address of it. */
static uint64_t key_of(const struct sockaddr *address) {
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
static uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
}

/* The address's place, or the one to take: free, or begun first. */
static struct place *place_of(struct attempts *attempts, uint64_t key) {
    uint64_t hash = mix(key ^ attempts->seed);
    struct place *oldest = NULL;
    for (size_t i = 0; i < PROBES; i++) {
        struct place *place = &attempts->places[(hash + i) % ATTEMPTS_ADDRESSES];
        if (place->begun_ms != 0 && place->key == key) {
            return place;
        }
        if (oldest == NULL || place->begun_ms < oldest->begun_ms) {
            oldest = place;
        }
    }
    *oldest = (struct place){.key = key};
    return oldest;
}

int64_t attempts_note(struct attempts *attempts, const struct sockaddr *address) {
    int64_t now_ms = clock_ms();
    int64_t wait_ms = 0;
    pthread_mutex_lock(&attempts->lock);
    struct place *place = place_of(attempts, key_of(address));
    if (place->begun_ms == 0 || now_ms - place->begun_ms >= ATTEMPTS_WINDOW_MS) {
        place->begun_ms = now_ms;
        place->count = 0;
    }
    if (place->count < ATTEMPTS_FREE) {
        place->count++;
    } else {
        wait_ms = place->begun_ms + ATTEMPTS_WINDOW_MS - now_ms;
    }
    pthread_mutex_unlock(&attempts->lock);
    return wait_ms;
}
