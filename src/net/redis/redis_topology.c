/* Owns the location of the data, shared by all connections of one url: the node that owns the slot
 * of a cluster, or the master that the sentinels named. When one connection learns a new location,
 * the others use it from their next call. Any thread.
 *
 * A generation counts the changes of the location. A connection of an older generation is stale,
 * because its server may not know yet that it is no longer the master. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/text.h"
#include "redis_internal.h"

struct redis_topology {
    struct redis_topology *next;
    char *url;
    atomic_uint_fast64_t generation; /* written under the lock, read without */
    size_t users;
    size_t first_address; /* index among the addresses of the url */
    int64_t checked_ms;
    struct redis_address known; /* no host: unknown, the url applies */
};

static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* guards everything below and all topologies */
static struct redis_topology *topologies;

/* --- life --- */

static struct redis_topology *redis_topology_create(const char *url) {
    struct redis_topology *topology = calloc(1, sizeof *topology);
    char *copy = text_dup(url);
    if (!topology || !copy) {
        free(topology);
        free(copy);
        return NULL;
    }
    topology->url = copy;
    topology->next = topologies;
    topologies = topology;
    return topology;
}

struct redis_topology *redis_topology_acquire(const char *url) {
    pthread_mutex_lock(&lock);
    struct redis_topology *topology = topologies;
    while (topology && strcmp(topology->url, url) != 0) {
        topology = topology->next;
    }
    topology = topology ? topology : redis_topology_create(url);
    if (topology) {
        topology->users++;
    }
    pthread_mutex_unlock(&lock);
    return topology;
}

void redis_topology_release(struct redis_topology *topology) {
    if (!topology) {
        return;
    }
    pthread_mutex_lock(&lock);
    if (--topology->users == 0) {
        struct redis_topology **link = &topologies;
        while (*link != topology) {
            link = &(*link)->next;
        }
        *link = topology->next;
        explicit_bzero(topology->url, strlen(topology->url));
        free(topology->url);
        free(topology);
    }
    pthread_mutex_unlock(&lock);
}

/* --- location of the data --- */

bool redis_address_equal(const struct redis_address *a, const struct redis_address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

static const struct redis_address *redis_topology_current(const struct redis_topology *topology,
                                                          const struct redis_url *url) {
    return topology->known.host[0] ? &topology->known : &url->addresses[topology->first_address];
}

uint64_t redis_topology_locate(struct redis_topology *topology, const struct redis_url *url,
                               struct redis_address *out) {
    pthread_mutex_lock(&lock);
    *out = url->path ? (struct redis_address){0} : *redis_topology_current(topology, url);
    uint64_t generation = topology->generation;
    pthread_mutex_unlock(&lock);
    return generation;
}

uint64_t redis_topology_update(struct redis_topology *topology,
                               const struct redis_address *address) {
    pthread_mutex_lock(&lock);
    bool changed = !redis_address_equal(&topology->known, address);
    struct redis_address before = topology->known;
    if (changed) {
        topology->known = *address;
        topology->generation++;
    }
    uint64_t generation = topology->generation;
    pthread_mutex_unlock(&lock);
    if (changed) {
        log_event(LOG_INFO, "redis_found", KS("host", address->host), KI("port", address->port),
                  KS("before", before.host[0] ? before.host : NULL),
                  KI("before_port", before.port));
    }
    return generation;
}

void redis_topology_report_failure(struct redis_topology *topology, const struct redis_url *url,
                                   const struct redis_address *address) {
    pthread_mutex_lock(&lock);
    if (url->addresses && !url->master &&
        redis_address_equal(redis_topology_current(topology, url), address)) {
        if (topology->known.host[0]) {
            topology->known = (struct redis_address){0};
        } else {
            topology->first_address = (topology->first_address + 1) % url->address_count;
        }
    }
    pthread_mutex_unlock(&lock);
}

uint64_t redis_topology_generation(struct redis_topology *topology) {
    return topology->generation;
}

size_t redis_topology_first_address(struct redis_topology *topology) {
    pthread_mutex_lock(&lock);
    size_t first = topology->first_address;
    pthread_mutex_unlock(&lock);
    return first;
}

void redis_topology_set_first_address(struct redis_topology *topology, size_t index) {
    pthread_mutex_lock(&lock);
    topology->first_address = index;
    pthread_mutex_unlock(&lock);
}

bool redis_topology_check_due(struct redis_topology *topology, int64_t period_ms) {
    pthread_mutex_lock(&lock);
    int64_t now_ms = clock_ms();
    bool due = now_ms - topology->checked_ms >= period_ms;
    if (due) {
        topology->checked_ms = now_ms;
    }
    pthread_mutex_unlock(&lock);
    return due;
}

/* Redis Cluster specification, "MOVED Redirection". An IPv6 address has no brackets; "?" is a node
 * that does not know its own address. */
bool redis_topology_parse_moved(const char *text, const struct redis_address *asked,
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
