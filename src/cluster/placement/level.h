/* Levels counts: plain arrays in, plain arrays out. */
#ifndef MQFLEET_PLACEMENT_LEVEL_H
#define MQFLEET_PLACEMENT_LEVEL_H

#include <stddef.h>
#include <stdint.h>

struct level_node {
    const char *name;
    int64_t clients; /* owned now */
    int64_t size;    /* most it may own */
};

#define LEVEL_NOWHERE ((size_t)-1)

/* Pours `n` clients like water onto the nodes so that their counts end level; ties by name; no node
 * over its size. avoid[i]: index of a node that just failed client i, taken only when no other has
 * room; LEVEL_NOWHERE: none. placed[i]: index of the node, or LEVEL_NOWHERE: no room left.
 * O((n + nodes) log nodes). nodes[].clients is raised by what was placed. 0: out of memory, else 1.
 */
int level_clients(struct level_node *nodes, size_t node_count, const size_t *avoid, size_t n,
                  size_t *placed);

#endif
