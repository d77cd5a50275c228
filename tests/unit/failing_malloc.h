/* Replaces malloc and its relatives; one call fails after a given number. Header-only; for programs
 * that do not wrap the allocator themselves (profile/heap.c). */
#ifndef MQFLEET_TEST_FAILING_MALLOC_H
#define MQFLEET_TEST_FAILING_MALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* A sanitizer's allocator cannot be wrapped. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_FAIL 0
#else
#define CAN_FAIL 1
#endif

/* Some tests use only some of them. */
#define MAY_BE_UNUSED __attribute__((unused))
MAY_BE_UNUSED static long left = -1;    /* allocations until one fails; below 0: none does */
MAY_BE_UNUSED static bool stays;        /* then all fail */
MAY_BE_UNUSED static long failed, live; /* allocations that failed; existing blocks */

#if CAN_FAIL
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);

static bool is_to_fail(void) {
    bool fails = left == 0;
    left -= left > 0 || (fails && !stays);
    failed += fails;
    return fails;
}

void *malloc(size_t size) {
    void *block = is_to_fail() ? NULL : __libc_malloc(size);
    live += block != NULL;
    return block;
}

void *calloc(size_t count, size_t size) {
    void *block = is_to_fail() ? NULL : __libc_calloc(count, size);
    live += block != NULL;
    return block;
}

void *realloc(void *block, size_t size) {
    void *grown = is_to_fail() ? NULL : __libc_realloc(block, size);
    live += !block && grown;
    return grown;
}

void *reallocarray(void *block, size_t count, size_t size) {
    return realloc(block, count * size);
}

void free(void *block) {
    live -= block != NULL;
    __libc_free(block);
}
#endif

#endif
