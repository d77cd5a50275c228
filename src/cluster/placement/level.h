/* Private to the placement: assigns clients to the least-loaded nodes. No state; any thread. */
#ifndef MQFLEET_PLACEMENT_LEVEL_H
#define MQFLEET_PLACEMENT_LEVEL_H

#include <stddef.h>
#include <stdint.h>

struct level_node {
    const char *name;
    int64_t clients; /* that it owns now */
    int64_t size;    /* maximum of clients */
};

#define LEVEL_NOWHERE ((size_t)-1)

/* Assigns each of `n` clients to the node with the fewest clients; ties are broken by name. No node
 * exceeds its size. avoid[i]: index of a node on which client i just failed, used only if no other
 * node has room; LEVEL_NOWHERE: none. placed[i]: index of the node; LEVEL_NOWHERE: no node has
 * room. Adds the assigned clients to nodes[].clients. O((n + nodes) log nodes). 0: out of memory,
 * else 1.
 */
int level_clients(struct level_node *nodes, size_t node_count, const size_t *avoid, size_t n,
                  size_t *placed);

#endif
