/* A profile: stacks with values, written as a gzipped profile.proto
 * (https://github.com/google/pprof/blob/main/proto/profile.proto) or as text. One thread. */
#ifndef MQFLEET_PROFILE_PROFILE_H
#define MQFLEET_PROFILE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/err.h"

#define PROFILE_TYPES_MAX 4

struct profile_type {
    const char *name, *unit; /* static */
};

struct profile;

/* types: static; the last one is the default. NULL: out of memory. */
struct profile *profile_create(const struct profile_type *types, size_t type_count,
                               struct profile_type period_type, int64_t period);
void profile_destroy(struct profile *profile);
/* Sets another default type. name: static. */
void profile_set_default_type(struct profile *profile, const char *type_name);
/* Copies its arguments. values: one for each type. thread: a label of that name; NULL: none. */
enum err profile_add(struct profile *profile, const uintptr_t *frames, size_t depth,
                     const int64_t *values, const char *thread) MUST_CHECK;
void profile_set_time(struct profile *profile, int64_t begun_at_ns, int64_t duration_ns);
size_t profile_sample_count(const struct profile *profile);

/* Appends the gzipped form. ERR_MEMORY. */
enum err profile_write(const struct profile *profile, struct buffer *out) MUST_CHECK;
/* Appends one block per stack: values, thread, then one function per line. grouped: merges samples
 * with equal stacks. */
enum err profile_print(const struct profile *profile, bool grouped, struct buffer *out) MUST_CHECK;

#endif
