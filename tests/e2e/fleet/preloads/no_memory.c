/* Preloaded into a node by the tests: there is no memory for blocks of E2E_NO_BYTES bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

/* What the node's front of the allocator calls. */
void *__libc_malloc(size_t size) {
    static void *(*next)(size_t);
    static size_t refused;
    if (!next) {
        const char *bytes = getenv("E2E_NO_BYTES");
        refused = bytes ? strtoul(bytes, NULL, 10) : 0;
        next = (void *(*)(size_t))dlsym(RTLD_NEXT, "__libc_malloc");
    }
    return size == refused ? NULL : next(size);
}
