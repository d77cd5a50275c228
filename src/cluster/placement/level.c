/* Assignment to the least-loaded nodes, with a heap of the nodes. No state; any thread. */
#include "level.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A binary heap of indexes into `nodes`. The least-loaded node is on top; full nodes are removed.
 */
struct heap {
    struct level_node *nodes;
    size_t *items;
    size_t len;
};

static bool level_heap_less(const struct heap *heap, size_t a, size_t b) {
    const struct level_node *left = &heap->nodes[heap->items[a]];
    const struct level_node *right = &heap->nodes[heap->items[b]];
    if (left->clients != right->clients) {
        return left->clients < right->clients;
    }
    return strcmp(left->name, right->name) < 0;
}

static void level_heap_sift_down(struct heap *heap, size_t at) {
    for (;;) {
        size_t least = at, child = 2 * at + 1;
        if (child < heap->len && level_heap_less(heap, child, least)) {
            least = child;
        }
        if (child + 1 < heap->len && level_heap_less(heap, child + 1, least)) {
            least = child + 1;
        }
        if (least == at) {
            return;
        }
        size_t swap = heap->items[at];
        heap->items[at] = heap->items[least];
        heap->items[least] = swap;
        at = least;
    }
}

static void level_heap_sift_up(struct heap *heap, size_t at) {
    while (at > 0 && level_heap_less(heap, at, (at - 1) / 2)) {
        size_t up = (at - 1) / 2, swap = heap->items[at];
        heap->items[at] = heap->items[up];
        heap->items[up] = swap;
        at = up;
    }
}

/* The position to use: the top or, if the top is to be avoided, the better one of its children. */
static size_t level_heap_choose(const struct heap *heap, size_t avoid) {
    if (heap->items[0] != avoid || heap->len == 1) {
        return 0;
    }
    return heap->len > 2 && level_heap_less(heap, 2, 1) ? 2 : 1;
}

static size_t level_heap_place(struct heap *heap, size_t at) {
    size_t index = heap->items[at];
    struct level_node *node = &heap->nodes[index];
    node->clients++;
    if (node->clients >= node->size) {
        heap->items[at] = heap->items[--heap->len];
        if (at < heap->len) {
            level_heap_sift_up(heap, at);
        }
    }
    if (at < heap->len) {
        level_heap_sift_down(heap, at);
    }
    return index;
}

int level_clients(struct level_node *nodes, size_t node_count, const size_t *avoid, size_t n,
                  size_t *placed) {
    struct heap heap = {.nodes = nodes, .items = malloc((node_count + 1) * sizeof(size_t))};
    if (!heap.items) {
        return 0;
    }
    for (size_t i = 0; i < node_count; i++) {
        if (nodes[i].clients < nodes[i].size) {
            heap.items[heap.len++] = i;
        }
    }
    for (size_t i = heap.len / 2; i-- > 0;) {
        level_heap_sift_down(&heap, i);
    }
    for (size_t i = 0; i < n; i++) {
        placed[i] = heap.len == 0 ? LEVEL_NOWHERE
                                  : level_heap_place(&heap, level_heap_choose(&heap, avoid[i]));
    }
    free(heap.items);
    return 1;
}
