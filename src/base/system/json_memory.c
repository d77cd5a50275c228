/* Owns what jansson allocates while it parses, writes or copies. jansson (2.14) is not safe when
 * memory runs out. Its text buffer drops bytes that do not fit: an assertion fails, a token is read
 * or written beyond its end, or the result is incomplete. Therefore a failed allocation never
 * returns to jansson. A longjmp leaves it, and everything that it has allocated is freed. Blocks
 * that jansson frees are kept until it is done, so that nothing is freed twice.
 *
 * Any thread; the state is thread-local. */
#include "base/system/json_memory.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_INLINE 64 /* this many need no memory of their own */

static _Thread_local struct {
    bool active;
    jmp_buf out;
    void **blocks; /* everything that was allocated: count */
    size_t count, capacity;
    void *inline_blocks[BLOCKS_INLINE];
    void *freed; /* the first of a list linked through the first bytes of each block; malloc returns
                    at least these */
} work;

static bool json_memory_grow_blocks(void) {
    bool own = work.blocks == work.inline_blocks;
    void **grown = reallocarray(own ? NULL : work.blocks, 2 * work.capacity, sizeof *grown);
    if (!grown) {
        return false;
    }
    if (own) {
        memcpy(grown, work.inline_blocks, sizeof work.inline_blocks);
    }
    work.blocks = grown;
    work.capacity *= 2;
    return true;
}

static bool json_memory_track_block(void *block) {
    if (work.count == work.capacity && !json_memory_grow_blocks()) {
        return false;
    }
    work.blocks[work.count++] = block;
    return true;
}

static void *json_memory_alloc(size_t bytes) {
    void *block = malloc(bytes < sizeof(void *) ? sizeof(void *) : bytes);
    if (!work.active) {
        return block;
    }
    if (!block || !json_memory_track_block(block)) {
        free(block);
        longjmp(work.out, 1);
    }
    return block;
}

static void json_memory_free(void *block) {
    if (!work.active || !block) {
        free(block);
        return;
    }
    memcpy(block, &work.freed, sizeof work.freed);
    work.freed = block;
}

/* Before main, so that no block is freed by a different allocator than the one that made it. */
__attribute__((constructor)) static void json_memory_install(void) {
    json_set_alloc_funcs(json_memory_alloc, json_memory_free);
}

static void json_memory_free_list(void *block) {
    while (block) { /* bounded by the list */
        void *next;
        memcpy(&next, block, sizeof next);
        free(block);
        block = next;
    }
}

static void json_memory_begin(void) {
    work.count = 0;
    work.capacity = BLOCKS_INLINE;
    work.blocks = work.inline_blocks;
    work.freed = NULL;
    work.active = true;
}

static void json_memory_end(bool failed) {
    work.active = false;
    for (size_t i = 0; failed && i < work.count; i++) {
        free(work.blocks[i]);
    }
    if (!failed) {
        json_memory_free_list(work.freed);
    }
    if (work.blocks != work.inline_blocks) {
        free(work.blocks);
    }
}

enum err json_parse(json_t **out, const char *data, size_t len, size_t flags, json_error_t *error) {
    *out = NULL;
    json_memory_begin();
    if (setjmp(work.out) != 0) {
        json_memory_end(true);
        return ERR_MEMORY;
    }
    json_t *document = json_loadb(data, len, flags, error);
    json_memory_end(false);
    *out = document;
    return document ? ERR_OK : ERR_ARGUMENT;
}

json_t *json_from_text(const char *data, size_t len, size_t flags) {
    json_t *out;
    json_error_t ignored;
    return json_parse(&out, data, len, flags, &ignored) == ERR_OK ? out : NULL;
}

char *json_to_text(const json_t *json, size_t flags) {
    json_memory_begin();
    if (setjmp(work.out) != 0) {
        json_memory_end(true);
        return NULL;
    }
    char *text = json_dumps(json, flags);
    json_memory_end(false);
    return text;
}

json_t *json_whole_copy(const json_t *json) {
    json_memory_begin();
    if (setjmp(work.out) != 0) {
        json_memory_end(true);
        return NULL;
    }
    json_t *copy = json_deep_copy(json);
    json_memory_end(false);
    return copy;
}

/* The member as it is after the patch: new, or NULL without memory. */
static json_t *json_merge_member(json_t *member, json_t *patch) {
    if (!json_is_object(patch)) {
        return json_whole_copy(patch);
    }
    json_t *merged = json_is_object(member) ? json_whole_copy(member) : json_object();
    if (merged && json_merge_patch(merged, patch) != ERR_OK) {
        json_decref(merged);
        merged = NULL;
    }
    return merged;
}

enum err json_merge_patch(json_t *target, const json_t *patch) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patch, name, value) {
        if (json_is_null(value)) {
            (void)json_object_del(target, name);
        } else if (json_object_set_new(target, name,
                                       json_merge_member(json_object_get(target, name), value)) !=
                   0) {
            return ERR_MEMORY;
        }
    }
    return ERR_OK;
}
