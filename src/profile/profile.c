/* Owns the samples of a profile and its two output forms. One thread. */
#include "profile/profile.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <zlib.h>
#include "profile/proto.h"
#include "profile/stack.h"
#include "profile/symbols.h"

#define THREAD_LEN 32

/* Field numbers of profile.proto. */
enum {
    PROFILE_SAMPLE_TYPE = 1,
    PROFILE_SAMPLE = 2,
    PROFILE_MAPPING = 3,
    PROFILE_LOCATION = 4,
    PROFILE_FUNCTION = 5,
    PROFILE_STRING = 6,
    PROFILE_TIME_NANOS = 9,
    PROFILE_DURATION_NANOS = 10,
    PROFILE_PERIOD_TYPE = 11,
    PROFILE_PERIOD = 12,
    PROFILE_DEFAULT_TYPE = 14
};
enum { TYPE_NAME = 1, TYPE_UNIT = 2 };
enum { SAMPLE_LOCATION = 1, SAMPLE_VALUE = 2, SAMPLE_LABEL = 3 };
enum { LABEL_KEY = 1, LABEL_TEXT = 2 };
enum {
    MAPPING_ID = 1,
    MAPPING_BEGIN = 2,
    MAPPING_END = 3,
    MAPPING_OFFSET = 4,
    MAPPING_PATH = 5,
    MAPPING_BUILD_ID = 6,
    MAPPING_HAS_FUNCTIONS = 7
};
enum { LOCATION_ID = 1, LOCATION_MAPPING = 2, LOCATION_ADDRESS = 3, LOCATION_LINE = 4 };
enum { LINE_FUNCTION = 1 };
enum { FUNCTION_ID = 1, FUNCTION_NAME = 2, FUNCTION_SYSTEM_NAME = 3, FUNCTION_FILE = 4 };

struct profile_sample {
    int64_t values[PROFILE_TYPES_MAX];
    char thread[THREAD_LEN]; /* empty: none */
    uint16_t depth;
    size_t frames_at;
};

struct profile {
    const struct profile_type *types;
    size_t type_count;
    struct profile_type period_type;
    int64_t period, begun_at_ns, duration_ns;
    const char *default_type; /* name of a type */
    struct buffer samples, frames;
};

struct profile *profile_create(const struct profile_type *types, size_t type_count,
                               struct profile_type period_type, int64_t period) {
    assert(type_count <= PROFILE_TYPES_MAX);
    struct profile *profile = calloc(1, sizeof *profile);
    if (profile) {
        *profile = (struct profile){.types = types,
                                    .type_count = type_count,
                                    .period_type = period_type,
                                    .period = period,
                                    .default_type = types[type_count - 1].name};
        buffer_init(&profile->samples);
        buffer_init(&profile->frames);
    }
    return profile;
}

void profile_destroy(struct profile *profile) {
    if (profile) {
        buffer_fini(&profile->samples);
        buffer_fini(&profile->frames);
        free(profile);
    }
}

enum err profile_add(struct profile *profile, const uintptr_t *frames, size_t depth,
                     const int64_t *values, const char *thread) {
    struct profile_sample sample = {.depth = (uint16_t)depth,
                                    .frames_at = profile->frames.len / sizeof(uintptr_t)};
    assert(depth <= STACK_DEPTH_MAX);
    memcpy(sample.values, values, profile->type_count * sizeof *values);
    if (thread) {
        strncpy(sample.thread, thread, THREAD_LEN - 1);
    }
    if (depth > 0) {
        buffer_append(&profile->frames, frames, depth * sizeof *frames);
    }
    buffer_append(&profile->samples, &sample, sizeof(sample));
    return profile->samples.failed || profile->frames.failed ? ERR_MEMORY : ERR_OK;
}

void profile_set_default_type(struct profile *profile, const char *type_name) {
    profile->default_type = type_name;
}

void profile_set_time(struct profile *profile, int64_t begun_at_ns, int64_t duration_ns) {
    profile->begun_at_ns = begun_at_ns;
    profile->duration_ns = duration_ns;
}

size_t profile_sample_count(const struct profile *profile) {
    return profile->samples.len / sizeof(struct profile_sample);
}

static const struct profile_sample *profile_sample_at(const struct profile *profile, size_t index) {
    return (const struct profile_sample *)(const void *)profile->samples.data + index;
}

static const uintptr_t *profile_sample_frames(const struct profile *profile,
                                              const struct profile_sample *sample) {
    return (const uintptr_t *)(const void *)profile->frames.data + sample->frames_at;
}

/* ---- profile.proto --------------------------------------------------------------------------- */

/* Strings, functions and locations are numbered at first use. */
struct entry {
    UT_hash_handle hh;
    int64_t number;
    size_t key_len;
    char key[]; /* text with its NUL, or an address */
};

struct profile_writer {
    const struct profile *profile;
    struct symbols *symbols;
    struct buffer *out;
    struct entry *strings, *functions, *locations;
    int64_t string_count, function_count, location_count;
    bool failed;
};

/* *fresh: it had no number before. */
static int64_t profile_intern(struct profile_writer *writer, struct entry **table, int64_t *count,
                              const void *key, size_t key_len, bool *fresh) {
    struct entry *entry;
    HASH_FIND(hh, *table, key, key_len, entry);
    *fresh = !entry;
    if (!entry) {
        entry = calloc(1, sizeof *entry + key_len);
        if (!entry) {
            writer->failed = true;
            *fresh = false;
            return 0;
        }
        entry->number = ++*count;
        entry->key_len = key_len;
        memcpy(entry->key, key, key_len);
        HASH_ADD(hh, *table, key, key_len, entry);
    }
    return entry->number;
}

/* The first is "", which is number 0. */
static int64_t profile_string_id(struct profile_writer *writer, const char *text) {
    bool fresh;
    return profile_intern(writer, &writer->strings, &writer->string_count, text, strlen(text) + 1,
                          &fresh) -
           1;
}

/* Appends the embedded message and empties it. */
static void profile_put_message(struct profile_writer *writer, unsigned field,
                                struct buffer *within) {
    writer->failed = writer->failed || within->failed;
    proto_bytes(writer->out, field, within->data, within->len);
    buffer_fini(within);
}

static void profile_put_type(struct profile_writer *writer, unsigned field,
                             struct profile_type type) {
    struct buffer within;
    buffer_init(&within);
    proto_int(&within, TYPE_NAME, profile_string_id(writer, type.name));
    proto_int(&within, TYPE_UNIT, profile_string_id(writer, type.unit));
    profile_put_message(writer, field, &within);
}

static int64_t profile_function_id(struct profile_writer *writer, const char *name) {
    bool fresh;
    int64_t number = profile_intern(writer, &writer->functions, &writer->function_count, name,
                                    strlen(name) + 1, &fresh);
    if (fresh) {
        struct buffer within;
        buffer_init(&within);
        proto_int(&within, FUNCTION_ID, number);
        proto_int(&within, FUNCTION_NAME, profile_string_id(writer, name));
        proto_int(&within, FUNCTION_SYSTEM_NAME, profile_string_id(writer, name));
        profile_put_message(writer, PROFILE_FUNCTION, &within);
    }
    return number;
}

/* 0: in none. */
static int64_t profile_mapping_id(struct profile_writer *writer, uintptr_t address) {
    size_t count;
    const struct module *modules = symbols_modules(writer->symbols, &count);
    for (size_t i = 0; i < count; i++) {
        if (address >= modules[i].begin && address < modules[i].end) {
            return (int64_t)i + 1;
        }
    }
    return 0;
}

/* A function without a name is shown by its module: "libfoo.so.1+0x1234". */
static void profile_symbol_name(struct profile_writer *writer, uintptr_t address, char *out,
                                size_t len) {
    size_t count;
    const struct module *modules = symbols_modules(writer->symbols, &count);
    int64_t mapping = profile_mapping_id(writer, address);
    const char *name = symbols_name(writer->symbols, address);
    if (name) {
        snprintf(out, len, "%s", name);
    } else if (mapping > 0) {
        const struct module *module = &modules[mapping - 1];
        const char *slash = strrchr(module->path, '/');
        snprintf(out, len, "%.100s+0x%" PRIxPTR, slash ? slash + 1 : module->path,
                 address - module->begin + module->offset);
    } else {
        snprintf(out, len, "0x%" PRIxPTR, address);
    }
}

static int64_t profile_location_id(struct profile_writer *writer, uintptr_t address) {
    bool fresh;
    int64_t number = profile_intern(writer, &writer->locations, &writer->location_count, &address,
                                    sizeof(address), &fresh);
    if (fresh) {
        char name[256];
        struct buffer within, line;
        buffer_init(&within);
        buffer_init(&line);
        profile_symbol_name(writer, address, name, sizeof(name));
        proto_int(&line, LINE_FUNCTION, profile_function_id(writer, name));
        proto_int(&within, LOCATION_ID, number);
        proto_int(&within, LOCATION_MAPPING, profile_mapping_id(writer, address));
        proto_int(&within, LOCATION_ADDRESS, (int64_t)address);
        proto_bytes(&within, LOCATION_LINE, line.data, line.len);
        writer->failed = writer->failed || line.failed;
        buffer_fini(&line);
        profile_put_message(writer, PROFILE_LOCATION, &within);
    }
    return number;
}

static void profile_put_sample(struct profile_writer *writer, const struct profile_sample *sample) {
    int64_t locations[STACK_DEPTH_MAX];
    const uintptr_t *frames = profile_sample_frames(writer->profile, sample);
    struct buffer within, label;
    buffer_init(&within);
    for (size_t i = 0; i < sample->depth; i++) {
        locations[i] = profile_location_id(writer, frames[i]);
    }
    proto_packed(&within, SAMPLE_LOCATION, locations, sample->depth);
    proto_packed(&within, SAMPLE_VALUE, sample->values, writer->profile->type_count);
    if (sample->thread[0] != '\0') {
        buffer_init(&label);
        proto_int(&label, LABEL_KEY, profile_string_id(writer, "thread"));
        proto_int(&label, LABEL_TEXT, profile_string_id(writer, sample->thread));
        proto_bytes(&within, SAMPLE_LABEL, label.data, label.len);
        writer->failed = writer->failed || label.failed;
        buffer_fini(&label);
    }
    profile_put_message(writer, PROFILE_SAMPLE, &within);
}

static void profile_put_mappings(struct profile_writer *writer) {
    size_t count;
    const struct module *modules = symbols_modules(writer->symbols, &count);
    for (size_t i = 0; i < count; i++) {
        struct buffer within;
        buffer_init(&within);
        proto_int(&within, MAPPING_ID, (int64_t)i + 1);
        proto_int(&within, MAPPING_BEGIN, (int64_t)modules[i].begin);
        proto_int(&within, MAPPING_END, (int64_t)modules[i].end);
        proto_int(&within, MAPPING_OFFSET, (int64_t)modules[i].offset);
        proto_int(&within, MAPPING_PATH, profile_string_id(writer, modules[i].path));
        proto_int(&within, MAPPING_BUILD_ID, profile_string_id(writer, modules[i].build_id));
        proto_int(&within, MAPPING_HAS_FUNCTIONS, 1);
        profile_put_message(writer, PROFILE_MAPPING, &within);
    }
}

static void profile_put_all(struct profile_writer *writer) {
    const struct profile *profile = writer->profile;
    profile_string_id(writer, "");
    for (size_t i = 0; i < profile->type_count; i++) {
        profile_put_type(writer, PROFILE_SAMPLE_TYPE, profile->types[i]);
    }
    profile_put_mappings(writer);
    for (size_t i = 0; i < profile_sample_count(profile); i++) {
        profile_put_sample(writer, profile_sample_at(profile, i));
    }
    proto_int(writer->out, PROFILE_TIME_NANOS, profile->begun_at_ns);
    proto_int(writer->out, PROFILE_DURATION_NANOS, profile->duration_ns);
    profile_put_type(writer, PROFILE_PERIOD_TYPE, profile->period_type);
    proto_int(writer->out, PROFILE_PERIOD, profile->period);
    proto_int(writer->out, PROFILE_DEFAULT_TYPE, profile_string_id(writer, profile->default_type));
    for (struct entry *entry = writer->strings; entry; entry = entry->hh.next) {
        proto_bytes(writer->out, PROFILE_STRING, entry->key, entry->key_len - 1);
    }
}

static void profile_free_table(struct entry **table) {
    struct entry *entry, *next;
    HASH_ITER(hh, *table, entry, next) {
        HASH_DEL(*table, entry);
        free(entry);
    }
}

static enum err profile_compress(const struct buffer *plain, struct buffer *out) {
    enum { GZIP_WINDOW_BITS = 15 + 16 };
    unsigned char block[16384];
    z_stream stream = {.next_in = (Bytef *)plain->data, .avail_in = (uInt)plain->len};
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        return ERR_MEMORY;
    }
    int state;
    do {
        stream.next_out = block;
        stream.avail_out = sizeof(block);
        state = deflate(&stream, Z_FINISH);
        buffer_append(out, block, sizeof(block) - stream.avail_out);
    } while (state == Z_OK);
    deflateEnd(&stream);
    return state == Z_STREAM_END && !out->failed ? ERR_OK : ERR_MEMORY;
}

enum err profile_write(const struct profile *profile, struct buffer *out) {
    struct buffer plain;
    buffer_init(&plain);
    struct profile_writer writer = {.profile = profile, .symbols = symbols_open(), .out = &plain};
    if (writer.symbols) {
        profile_put_all(&writer);
    }
    bool good = writer.symbols && !writer.failed && !plain.failed;
    profile_free_table(&writer.strings);
    profile_free_table(&writer.functions);
    profile_free_table(&writer.locations);
    symbols_close(writer.symbols);
    enum err err = good ? profile_compress(&plain, out) : ERR_MEMORY;
    buffer_fini(&plain);
    return err;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void profile_print_sample(struct profile_writer *writer, const struct profile_sample *sample,
                                 const int64_t *values) {
    const uintptr_t *frames = profile_sample_frames(writer->profile, sample);
    for (size_t i = 0; i < writer->profile->type_count; i++) {
        buffer_printf(writer->out, "%s%" PRId64, i > 0 ? " " : "", values[i]);
    }
    buffer_append_str(writer->out, " @");
    for (size_t i = 0; i < sample->depth; i++) {
        buffer_printf(writer->out, " 0x%" PRIxPTR, frames[i]);
    }
    buffer_printf(writer->out, "\n%s%s%s", sample->thread[0] != '\0' ? "# thread " : "",
                  sample->thread, sample->thread[0] != '\0' ? "\n" : "");
    for (size_t i = 0; i < sample->depth; i++) {
        char name[256];
        profile_symbol_name(writer, frames[i], name, sizeof(name));
        buffer_printf(writer->out, "#\t0x%" PRIxPTR "\t%s\n", frames[i], name);
    }
    buffer_append_str(writer->out, "\n");
}

struct profile_group {
    UT_hash_handle hh;
    const struct profile_sample *sample;
    int64_t values[PROFILE_TYPES_MAX];
    size_t key_len;
    char key[]; /* thread and frames */
};

static int profile_compare_first_value(const struct profile_group *left,
                                       const struct profile_group *right) {
    return left->values[0] < right->values[0] ? 1 : left->values[0] > right->values[0] ? -1 : 0;
}

static void profile_group_sample(struct profile_writer *writer, struct profile_group **groups,
                                 const struct profile_sample *sample) {
    char key[THREAD_LEN + STACK_DEPTH_MAX * sizeof(uintptr_t)];
    size_t frames_len = sample->depth * sizeof(uintptr_t), len = THREAD_LEN + frames_len;
    struct profile_group *group;
    memcpy(key, sample->thread, THREAD_LEN);
    if (frames_len > 0) {
        memcpy(key + THREAD_LEN, profile_sample_frames(writer->profile, sample), frames_len);
    }
    HASH_FIND(hh, *groups, key, len, group);
    if (!group) {
        group = calloc(1, sizeof *group + len);
        if (!group) {
            writer->failed = true;
            return;
        }
        group->sample = sample;
        group->key_len = len;
        memcpy(group->key, key, len);
        HASH_ADD(hh, *groups, key, len, group);
    }
    for (size_t i = 0; i < writer->profile->type_count; i++) {
        group->values[i] += sample->values[i];
    }
}

enum err profile_print(const struct profile *profile, bool grouped, struct buffer *out) {
    struct profile_writer writer = {.profile = profile, .symbols = symbols_open(), .out = out};
    struct profile_group *groups = NULL, *group, *next;
    size_t count = writer.symbols ? profile_sample_count(profile) : 0;
    for (size_t i = 0; i < count; i++) {
        const struct profile_sample *sample = profile_sample_at(profile, i);
        if (grouped) {
            profile_group_sample(&writer, &groups, sample);
        } else {
            profile_print_sample(&writer, sample, sample->values);
        }
    }
    HASH_SORT(groups, profile_compare_first_value);
    HASH_ITER(hh, groups, group, next) {
        profile_print_sample(&writer, group->sample, group->values);
        HASH_DEL(groups, group);
        free(group);
    }
    bool good = writer.symbols && !writer.failed && !out->failed;
    symbols_close(writer.symbols);
    return good ? ERR_OK : ERR_MEMORY;
}
