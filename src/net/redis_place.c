/* Owns what all connections of one url know of where the data is: the node that owns the slot of a
 * cluster, or the master that the sentinels named. What one of them learns, the others follow at
 * their next call. Any thread. Knows nothing of connections.
 *
 * A generation counts how often the place has changed; a connection of an older one is stale, for
 * the server at its other end may not know yet that it is no master any more. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "redis_internal.h"

struct redis_place {
    struct redis_place *next;
    char *url;
    atomic_uint_fast64_t generation; /* written under the lock, read without */
    size_t users;
    size_t first; /* index among the addresses of the url */
    int64_t checked_ms;
    struct redis_address known; /* no host: nothing learned, the url says it */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below and all places */
static struct redis_place *places;

/* --- life --- */

static struct redis_place *place_create(const char *url) {
    struct redis_place *place = calloc(1, sizeof *place);
    char *copy = text_dup(url);
    if (!place || !copy) {
        free(place);
        free(copy);
        return NULL;
    }
    place->url = copy;
    place->next = places;
    places = place;
    return place;
}

struct redis_place *redis_place_get(const char *url) {
    pthread_mutex_lock(&lock);
    struct redis_place *place = places;
    while (place && strcmp(place->url, url) != 0) {
        place = place->next;
    }
    place = place ? place : place_create(url);
    if (place) {
        place->users++;
    }
    pthread_mutex_unlock(&lock);
    return place;
}

void redis_place_put(struct redis_place *place) {
    if (!place) {
        return;
    }
    pthread_mutex_lock(&lock);
    if (--place->users == 0) {
        struct redis_place **link = &places;
        while (*link != place) {
            link = &(*link)->next;
        }
        *link = place->next;
        explicit_bzero(place->url, strlen(place->url));
        free(place->url);
        free(place);
    }
    pthread_mutex_unlock(&lock);
}

/* --- where the data is --- */

bool redis_place_same(const struct redis_address *a, const struct redis_address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

static const struct redis_address *where(const struct redis_place *place,
                                         const struct redis_url *url) {
    return place->known.host[0] ? &place->known : &url->addresses[place->first];
}

uint64_t redis_place_where(struct redis_place *place, const struct redis_url *url,
                           struct redis_address *out) {
    pthread_mutex_lock(&lock);
    *out = url->path ? (struct redis_address){0} : *where(place, url);
    uint64_t generation = place->generation;
    pthread_mutex_unlock(&lock);
    return generation;
}

uint64_t redis_place_learn(struct redis_place *place, const struct redis_address *address) {
    pthread_mutex_lock(&lock);
    bool changed = !redis_place_same(&place->known, address);
    struct redis_address before = place->known;
    if (changed) {
        place->known = *address;
        place->generation++;
    }
    uint64_t generation = place->generation;
    pthread_mutex_unlock(&lock);
    if (changed) {
        log_event(LOG_INFO, "redis_found", KS("host", address->host), KI("port", address->port),
                  KS("before", before.host[0] ? before.host : NULL),
                  KI("before_port", before.port));
    }
    return generation;
}

void redis_place_doubt(struct redis_place *place, const struct redis_url *url,
                       const struct redis_address *address) {
    pthread_mutex_lock(&lock);
    if (url->addresses && !url->master && redis_place_same(where(place, url), address)) {
        if (place->known.host[0]) {
            place->known = (struct redis_address){0};
        } else {
            place->first = (place->first + 1) % url->address_count;
        }
    }
    pthread_mutex_unlock(&lock);
}

uint64_t redis_place_generation(struct redis_place *place) {
    return place->generation;
}

size_t redis_place_first(struct redis_place *place) {
    pthread_mutex_lock(&lock);
    size_t first = place->first;
    pthread_mutex_unlock(&lock);
    return first;
}

void redis_place_set_first(struct redis_place *place, size_t index) {
    pthread_mutex_lock(&lock);
    place->first = index;
    pthread_mutex_unlock(&lock);
}

bool redis_place_check_due(struct redis_place *place, int64_t period_ms) {
    pthread_mutex_lock(&lock);
    int64_t now_ms = clock_ms();
    bool due = now_ms - place->checked_ms >= period_ms;
    if (due) {
        place->checked_ms = now_ms;
    }
    pthread_mutex_unlock(&lock);
    return due;
}

/* Redis Cluster specification, "MOVED Redirection". An IPv6 address comes without brackets; "?" is
 * a node that does not know its own address. */
bool redis_place_parse_moved(const char *text, const struct redis_address *asked,
                             struct redis_address *out) {
    const char *host = strncmp(text, "MOVED ", 6) == 0 ? strchr(text + 6, ' ') : NULL;
    const char *colon = host ? strrchr(host, ':') : NULL;
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : 0;
    if (!colon || port < 1 || port > 65535 || *end != '\0') {
        return false;
    }
    host++;
    size_t host_len = (size_t)(colon - host);
    *out = (struct redis_address){.port = (int)port};
    if (host_len == 0 || (host_len == 1 && *host == '?')) {
        memcpy(out->host, asked->host, sizeof out->host);
    } else if (host_len < sizeof out->host) {
        memcpy(out->host, host, host_len);
    }
    return out->host[0] != '\0';
}
