/* Owns the connections to the nodes of a cluster, and the known owners of its slots. Runs on the
 * thread of its user.
 *
 *   owners[slot]   0: the connection of the url, which answers MOVED if another node is the owner
 *   nodes[1...]    connections to one node each, made when a MOVED names it
 */
#include "net/redis/redis_router.h"

#include <stdlib.h>
#include <string.h>
#include "redis_internal.h"

struct redis_router {
    char *url;
    int64_t timeout_ms;
    struct redis_access access;
    struct redis *nodes[REDIS_ROUTER_NODES_MAX];
    size_t count;
    uint8_t owners[REDIS_SLOTS];
};

struct redis_router *redis_router_create(const char *url, int64_t timeout_ms, bool one_slot) {
    struct redis_router *router = calloc(1, sizeof *router);
    if (!router) {
        return NULL;
    }
    router->timeout_ms = timeout_ms;
    router->url = strdup(url);
    router->nodes[0] = redis_create(url, timeout_ms);
    if (!router->url || !router->nodes[0]) {
        redis_router_destroy(router);
        return NULL;
    }
    router->count = 1;
    router->nodes[0]->routed = !one_slot;
    return router;
}

void redis_router_destroy(struct redis_router *router) {
    if (!router) {
        return;
    }
    for (size_t i = 0; i < REDIS_ROUTER_NODES_MAX; i++) {
        redis_destroy(router->nodes[i]);
    }
    if (router->url) {
        explicit_bzero(router->url, strlen(router->url)); /* it may have a password */
    }
    free(router->url);
    free(router);
}

void redis_router_restrict(struct redis_router *router, const struct redis_access *access) {
    router->access = *access;
    redis_restrict(router->nodes[0], access);
}

/* CRC-16/XMODEM, as the Redis Cluster specification demands. */
static unsigned redis_router_crc16(const char *data, size_t len) {
    unsigned crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= (unsigned)(uint8_t)data[i] << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000) ? (crc << 1) ^ 0x1021 : crc << 1;
        }
    }
    return crc & 0xffff;
}

unsigned redis_router_slot(const char *key) {
    const char *tag = strchr(key, '{');
    const char *end = tag ? strchr(tag, '}') : NULL;
    if (end && end > tag + 1) {
        return redis_router_crc16(tag + 1, (size_t)(end - tag - 1)) % REDIS_SLOTS;
    }
    return redis_router_crc16(key, strlen(key)) % REDIS_SLOTS;
}

/* A node that fails may no longer be the owner: the node of the url is asked again. */
size_t redis_router_find(struct redis_router *router, unsigned slot) {
    size_t owner = router->owners[slot];
    if (owner > 0 && router->nodes[owner]->failures > 0) {
        owner = router->owners[slot] = 0;
    }
    return owner;
}

struct redis *redis_router_at(struct redis_router *router, size_t index) {
    return router->nodes[index];
}

size_t redis_router_count(const struct redis_router *router) {
    return router->count;
}

/* The index of the connection to that address; 0: no memory for it. */
static size_t redis_router_connect_to(struct redis_router *router,
                                      const struct redis_address *address) {
    for (size_t i = 1; i < router->count; i++) {
        if (redis_address_equal(&router->nodes[i]->url.addresses[0], address)) {
            return i;
        }
    }
    struct redis *node = router->count < REDIS_ROUTER_NODES_MAX
                             ? redis_create_at(router->url, address, router->timeout_ms)
                             : NULL;
    if (!node) {
        return 0;
    }
    redis_restrict(node, &router->access);
    router->nodes[router->count] = node;
    return router->count++;
}

bool redis_router_learn(struct redis_router *router, size_t index) {
    struct redis *from = router->nodes[index];
    if (!redis_is_moved(from)) {
        return false;
    }
    size_t owner = redis_router_connect_to(router, &from->moved_to);
    router->owners[from->moved_slot % REDIS_SLOTS] = (uint8_t)owner;
    from->moved_to = (struct redis_address){0};
    router->nodes[owner]->failures = 0; /* asked at least once */
    return owner != index && owner > 0;
}
