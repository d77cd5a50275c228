/* Owns malloc and its relatives, which wrap glibc's, and the samples. Any thread.
 *
 *   malloc -> bytes_left -= size, below 0 -> take a stack, find its row, note the pointer
 *   free   -> filter[hash] is 0 (nearly always) -> done; else find and remove it in `live`
 *
 * A block of n bytes is sampled with probability p = 1 - exp(-n / mean). It represents 1 / p blocks
 * of its size, so every sum is an unbiased estimate.
 *
 * `lock` guards stacks and live. It is held briefly, never during an allocation, and never taken in
 * a signal handler. `inside` prevents a thread from sampling its own allocations for sampling. */
#include "profile/heap.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/system/out_of_memory.h"
#include "profile/stack.h"

#define STACKS_MAX       8192  /* row 0 is for samples without room */
#define STACK_TABLE_SIZE 16384 /* a power of two, more than the number of stacks */
#define PROBES_MAX       64
#define SETS             2048 /* of live samples, a power of two */
#define WAYS             8
#define FILTER_SIZE      16384 /* a power of two */
#define FILTER_FULL      255   /* saturated: no longer counted */

static const struct profile_type types_in_use[] = {{"alloc_objects", "count"},
                                                   {"alloc_space", "bytes"},
                                                   {"inuse_objects", "count"},
                                                   {"inuse_space", "bytes"}};
static const struct profile_type type_period = {"space", "bytes"};

#ifdef MQFLEET_NO_PROFILE

bool heap_profile_supported(void) {
    return false;
}
void heap_profile_start(int64_t mean_bytes) {
    (void)mean_bytes;
}
int64_t heap_profile_mean_bytes(void) {
    return 0;
}
struct profile *heap_profile_take(void) {
    return profile_create(types_in_use, 4, type_period, 0);
}
void heap_profile_lost(int64_t *stacks, int64_t *live) {
    *stacks = *live = 0;
}

#else

struct stack_row {
    uint64_t hash;
    uint16_t depth;
    double alloc_objects, alloc_bytes, inuse_objects, inuse_bytes;
    uintptr_t frames[STACK_DEPTH_MAX];
};

struct live_sample { /* the same value is added and subtracted, so its precision matters little */
    _Atomic(uintptr_t) block; /* 0: free */
    uint32_t stack;
    float objects, bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Allocated in order, so that only pages of existing stacks are touched. */
static struct stack_row stacks[STACKS_MAX];
static uint32_t stack_count = 1;
static uint16_t stack_table[STACK_TABLE_SIZE]; /* row of the stack by hash; 0: none */
static struct live_sample live[SETS][WAYS];
static int64_t lost_stacks, lost_live;
static atomic_uchar filter[FILTER_SIZE];
static atomic_llong mean;

#define TLS _Thread_local __attribute__((tls_model("initial-exec")))
static TLS int64_t bytes_left;
static TLS uint64_t random_state; /* 0: the thread has no distance yet */
static TLS bool sampling;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

/* ---- time of samples ------------------------------------------------------------------------- */

static uint64_t heap_mix_hash(uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdu;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53u;
    return value ^ value >> 33;
}

/* xorshift64*, then the inverse of the exponential distribution. */
static int64_t heap_draw_distance(int64_t mean_bytes) {
    if (random_state == 0) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        random_state = heap_mix_hash((uint64_t)now.tv_nsec ^ (uintptr_t)&random_state) | 1;
    }
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    double uniform =
        ((double)((random_state * 2685821657736338717u) >> 11) + 1) / 9007199254740993.0;
    return (int64_t)(-log(uniform) * (double)mean_bytes) + 1;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static size_t heap_filter_index(uintptr_t block) {
    return (size_t)((block >> 4) * 0x9E3779B97F4A7C15u >> 50) & (FILTER_SIZE - 1);
}

static struct live_sample *heap_live_set(uintptr_t block) {
    return live[heap_mix_hash(block) & (SETS - 1)];
}

/* Called with the lock. Row 0 if there is no other left. */
static uint16_t heap_new_row(uint64_t hash, const uintptr_t *frames, size_t depth) {
    if (stack_count == STACKS_MAX) {
        lost_stacks++;
        return 0;
    }
    struct stack_row *row = &stacks[stack_count];
    row->hash = hash;
    row->depth = (uint16_t)depth;
    memcpy(row->frames, frames, depth * sizeof *frames);
    return (uint16_t)stack_count++;
}

/* Called with the lock. The index of the stack's row, or 0. */
static uint32_t heap_find_row(const uintptr_t *frames, size_t depth) {
    uint64_t hash = depth + 1;
    for (size_t i = 0; i < depth; i++) {
        hash = heap_mix_hash(hash ^ frames[i]);
    }
    hash |= 1;
    for (size_t probe = 0; probe < PROBES_MAX; probe++) {
        uint16_t *place = &stack_table[(hash + probe) & (STACK_TABLE_SIZE - 1)];
        struct stack_row *row = &stacks[*place];
        if (*place == 0) {
            *place = heap_new_row(hash, frames, depth);
            return *place;
        }
        if (row->hash == hash && row->depth == depth &&
            memcmp(row->frames, frames, depth * sizeof *frames) == 0) {
            return *place;
        }
    }
    lost_stacks++;
    return 0;
}

/* Called with the lock. */
static void heap_live_add(uintptr_t block, uint32_t stack, float objects, float bytes) {
    struct live_sample *set = heap_live_set(block);
    for (size_t i = 0; i < WAYS; i++) {
        if (atomic_load_explicit(&set[i].block, memory_order_relaxed) == 0) {
            set[i].stack = stack;
            set[i].objects = objects;
            set[i].bytes = bytes;
            stacks[stack].inuse_objects += objects;
            stacks[stack].inuse_bytes += bytes;
            atomic_store_explicit(&set[i].block, block, memory_order_release);
            atomic_uchar *cell = &filter[heap_filter_index(block)];
            if (atomic_load(cell) != FILTER_FULL) {
                atomic_fetch_add(cell, 1);
            }
            return;
        }
    }
    lost_live++;
}

/* Called with the lock. */
static void heap_live_remove(struct live_sample *sample) {
    uintptr_t block = atomic_load_explicit(&sample->block, memory_order_relaxed);
    stacks[sample->stack].inuse_objects -= sample->objects;
    stacks[sample->stack].inuse_bytes -= sample->bytes;
    atomic_store_explicit(&sample->block, 0, memory_order_release);
    atomic_uchar *cell = &filter[heap_filter_index(block)];
    if (atomic_load(cell) != FILTER_FULL) {
        atomic_fetch_sub(cell, 1);
    }
}

/* ---- sampling -------------------------------------------------------------------------------- */

static __attribute__((noinline)) void heap_take_sample(void *block, size_t size) {
    int64_t mean_bytes = atomic_load_explicit(&mean, memory_order_relaxed);
    if (mean_bytes <= 0) { /* off: check again later */
        bytes_left = INT64_MAX / 2;
        return;
    }
    bool fresh = random_state == 0;
    bytes_left = heap_draw_distance(mean_bytes);
    if (fresh) { /* the thread's first distance starts with this block */
        bytes_left -= (int64_t)size;
        if (bytes_left >= 0) {
            return;
        }
        bytes_left = heap_draw_distance(mean_bytes);
    }
    if (!block || sampling) {
        return;
    }
    int error = errno;
    uintptr_t frames[STACK_DEPTH_MAX];
    sampling = true;
    size_t depth = stack_capture(frames, 1); /* skips malloc, the innermost function */
    double objects = 1 / -expm1(-(double)size / (double)mean_bytes);
    double bytes = objects * (double)size;
    pthread_mutex_lock(&lock);
    uint32_t stack = heap_find_row(frames, depth);
    stacks[stack].alloc_objects += objects;
    stacks[stack].alloc_bytes += bytes;
    heap_live_add((uintptr_t)block, stack, (float)objects, (float)bytes);
    pthread_mutex_unlock(&lock);
    sampling = false;
    errno = error;
}

static inline void *heap_on_allocated(void *block, size_t size) {
    if (__builtin_expect(!block, 0)) { /* of any size, so the count could overflow */
        if (size > 0) {                /* otherwise realloc has freed it */
            out_of_memory_note(size);
        }
        return NULL;
    }
    bytes_left -= (int64_t)(size > 0 ? size : 1);
    if (__builtin_expect(bytes_left < 0, 0)) {
        heap_take_sample(block, size > 0 ? size : 1);
    }
    return block;
}

static __attribute__((noinline)) void heap_forget_block(uintptr_t block) {
    struct live_sample *set = heap_live_set(block);
    for (size_t i = 0; i < WAYS; i++) {
        if (atomic_load_explicit(&set[i].block, memory_order_acquire) == block) {
            pthread_mutex_lock(&lock);
            heap_live_remove(&set[i]);
            pthread_mutex_unlock(&lock);
            return;
        }
    }
}

/* Before the block is freed, because another thread may get it immediately. */
static inline void heap_on_freed(void *block) {
    atomic_uchar *cell = &filter[heap_filter_index((uintptr_t)block)];
    if (__builtin_expect(atomic_load_explicit(cell, memory_order_relaxed) != 0, 0) && block) {
        heap_forget_block((uintptr_t)block);
    }
}

/* ---- malloc(3), and posix_memalign(3) -------------------------------------------------------- */

void *malloc(size_t size) {
    return heap_on_allocated(__libc_malloc(size), size);
}

void *calloc(size_t count, size_t size) {
    return heap_on_allocated(__libc_calloc(count, size),
                             count * size); /* too large: malloc fails anyway */
}

void *realloc(void *block, size_t size) {
    heap_on_freed(block);
    return heap_on_allocated(__libc_realloc(block, size), size);
}

void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

void free(void *block) {
    heap_on_freed(block);
    __libc_free(block);
}

void *memalign(size_t alignment, size_t size) {
    return heap_on_allocated(__libc_memalign(alignment, size), size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return heap_on_allocated(__libc_memalign(alignment, size), size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) {
        return EINVAL;
    }
    int error = errno;
    void *block = __libc_memalign(alignment, size);
    errno = error;
    block = heap_on_allocated(block, size);
    if (!block) {
        return ENOMEM;
    }
    *out = block;
    return 0;
}

/* ---- evaluation ------------------------------------------------------------------------------ */

bool heap_profile_supported(void) {
    return true;
}

/* A child inherits the lock in an unknown state, so it neither samples nor searches. */
static void heap_disable_in_child(void) {
    sampling = true;
    atomic_store(&mean, 0);
    memset((void *)filter, 0, sizeof(filter));
}

void heap_profile_start(int64_t mean_bytes) {
    static bool prepared;
    if (!prepared) {
        prepared = true;
        stack_prepare();
        pthread_atfork(NULL, NULL, heap_disable_in_child);
    }
    atomic_store(&mean, mean_bytes);
    bytes_left = 0; /* of this thread; the others have not started */
}

int64_t heap_profile_mean_bytes(void) {
    return atomic_load(&mean);
}

void heap_profile_lost(int64_t *lost_stacks_out, int64_t *lost_live_out) {
    pthread_mutex_lock(&lock);
    *lost_stacks_out = lost_stacks;
    *lost_live_out = lost_live;
    pthread_mutex_unlock(&lock);
}

static int64_t heap_round(double value) {
    return value > 0 ? (int64_t)(value + 0.5) : 0;
}

struct profile *heap_profile_take(void) {
    struct timespec now;
    struct profile *profile = profile_create(types_in_use, 4, type_period, atomic_load(&mean));
    for (size_t i = 0; profile && i < STACKS_MAX; i++) {
        pthread_mutex_lock(&lock);
        struct stack_row row = stacks[i]; /* copied, because adding allocates */
        pthread_mutex_unlock(&lock);
        int64_t values[] = {heap_round(row.alloc_objects), heap_round(row.alloc_bytes),
                            heap_round(row.inuse_objects), heap_round(row.inuse_bytes)};
        if (values[0] > 0 && profile_add(profile, row.frames, row.depth, values, NULL) != ERR_OK) {
            profile_destroy(profile);
            return NULL;
        }
    }
    if (profile) {
        clock_gettime(CLOCK_REALTIME, &now);
        profile_set_time(profile, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, 0);
    }
    return profile;
}

#endif
