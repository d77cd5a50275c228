/* Owns a tree with one node per level of a filter:
 *
 *   a/+/c  = 1        root -- "a" -- "+" -- "c" {1}
 *   a/#    = 2                  \--- "#" {2}
 *
 * The children of a node are sorted, and searched by bisection. */
#include "message/routes/topic_trie.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

struct trie_node {
    char *level;
    struct trie_node **children; /* without "+" and "#" */
    size_t child_count, child_capacity;
    struct trie_node *any;  /* "+" */
    struct trie_node *rest; /* "#" */
    uint32_t *values;
    size_t value_count;
};

struct topic_trie {
    struct trie_node root;
};

struct trie_search {
    void (*found)(void *context, uint32_t value);
    void *context;
};

struct topic_trie *topic_trie_create(void) {
    return calloc(1, sizeof(struct topic_trie));
}

/* As deep as the longest filter: TOPIC_TRIE_LEVELS_MAX. */
static void trie_free_node(struct trie_node *node) {
    if (!node) {
        return;
    }
    for (size_t i = 0; i < node->child_count; i++) {
        trie_free_node(node->children[i]);
        free(node->children[i]);
    }
    trie_free_node(node->any);
    trie_free_node(node->rest);
    free(node->any);
    free(node->rest);
    free(node->children);
    free(node->values);
    free(node->level);
}

void topic_trie_destroy(struct topic_trie *trie) {
    if (trie) {
        trie_free_node(&trie->root);
        free(trie);
    }
}

/* ---- fill ------------------------------------------------------------------------------------ */

/* The place of the child with that level, or where it would be; *found: it is there. */
static size_t trie_place(const struct trie_node *node, const char *level, size_t len, bool *found) {
    size_t low = 0, high = node->child_count;
    *found = false;
    while (low < high && !*found) {
        size_t middle = low + (high - low) / 2;
        const char *have = node->children[middle]->level;
        int order = strncmp(have, level, len);
        order = order == 0 && have[len] != '\0' ? 1 : order;
        *found = order == 0;
        low = order < 0 ? middle + 1 : *found ? middle : low;
        high = order > 0 ? middle : high;
    }
    return low;
}

static bool trie_reserve_child(struct trie_node *node) {
    if (node->child_count < node->child_capacity) {
        return true;
    }
    size_t capacity = node->child_capacity ? 2 * node->child_capacity : 4;
    struct trie_node **children = realloc(node->children, capacity * sizeof *children);
    if (!children) {
        return false;
    }
    node->children = children;
    node->child_capacity = capacity;
    return true;
}

static struct trie_node *trie_insert_child(struct trie_node *node, size_t place, const char *level,
                                           size_t len) {
    struct trie_node *child = trie_reserve_child(node) ? calloc(1, sizeof *child) : NULL;
    char *copy = child ? text_copy(level, len) : NULL;
    if (!copy) {
        free(child);
        return NULL;
    }
    child->level = copy;
    memmove(&node->children[place + 1], &node->children[place],
            (node->child_count - place) * sizeof *node->children);
    node->children[place] = child;
    node->child_count++;
    return child;
}

static struct trie_node *trie_wildcard_child(struct trie_node **child) {
    *child = *child ? *child : calloc(1, sizeof **child);
    return *child;
}

/* NULL: out of memory. */
static struct trie_node *trie_child(struct trie_node *node, const char *level, size_t len) {
    if (len == 1 && *level == '+') {
        return trie_wildcard_child(&node->any);
    }
    if (len == 1 && *level == '#') {
        return trie_wildcard_child(&node->rest);
    }
    bool found;
    size_t place = trie_place(node, level, len, &found);
    return found ? node->children[place] : trie_insert_child(node, place, level, len);
}

static enum err trie_add_value(struct trie_node *node, uint32_t value) {
    uint32_t *values = realloc(node->values, (node->value_count + 1) * sizeof *values);
    if (!values) {
        return ERR_MEMORY;
    }
    values[node->value_count++] = value;
    node->values = values;
    return ERR_OK;
}

enum err topic_trie_add(struct topic_trie *trie, const char *filter, uint32_t value) {
    struct trie_node *node = &trie->root;
    const char *level = filter;
    for (size_t depth = 0; level; depth++) {
        if (depth == TOPIC_TRIE_LEVELS_MAX) {
            return ERR_ARGUMENT;
        }
        size_t len = strcspn(level, "/");
        node = trie_child(node, level, len);
        if (!node) {
            return ERR_MEMORY;
        }
        level = level[len] == '/' ? level + len + 1 : NULL;
    }
    return trie_add_value(node, value);
}

/* ---- match ----------------------------------------------------------------------------------- */

static void trie_report(const struct trie_node *node, const struct trie_search *search) {
    for (size_t i = 0; node && i < node->value_count; i++) {
        search->found(search->context, node->values[i]);
    }
}

/* level: what of the topic is below the node; NULL: nothing. "#" also matches the level above it.
 * Recursion: as deep as the tree. */
static void trie_match_below(const struct trie_node *node, const char *level, bool system,
                             const struct trie_search *search) {
    if (!system) {
        trie_report(node->rest, search);
    }
    if (!level) {
        trie_report(node, search);
        return;
    }
    size_t len = strcspn(level, "/");
    const char *next = level[len] == '/' ? level + len + 1 : NULL;
    bool found;
    size_t place = trie_place(node, level, len, &found);
    if (found) {
        trie_match_below(node->children[place], next, false, search);
    }
    if (node->any && !system) {
        trie_match_below(node->any, next, false, search);
    }
}

void topic_trie_match(const struct topic_trie *trie, const char *topic,
                      void (*found)(void *context, uint32_t value), void *context) {
    struct trie_search search = {found, context};
    /* A wildcard at the beginning does not match $SYS/... (4.7.2). */
    trie_match_below(&trie->root, topic, *topic == '$', &search);
}
