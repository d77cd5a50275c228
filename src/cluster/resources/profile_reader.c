/* Owns the reading of single profiles. Any thread. */
#include "cluster/resources/profile_reader.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "mqtt/config/client_profiles.h"

#define FRESH_MS      20
#define MISSING_MS    200 /* a profile that Redis does not have is not looked for again before */
#define MISSING_NAMES 16

/* Names that stored clients have and Redis did not, by their hash. Two that share a slot cost a
 * read. */
static struct {
    _Atomic uint64_t hash;
    _Atomic int64_t at_ms; /* clock_ms */
} profile_reader_missing[MISSING_NAMES];

static void profile_reader_note_missing(const char *name) {
    uint64_t hash = text_hash(name, SIZE_MAX);
    atomic_store(&profile_reader_missing[hash % MISSING_NAMES].hash, hash);
    atomic_store(&profile_reader_missing[hash % MISSING_NAMES].at_ms, clock_ms());
}

static bool profile_reader_just_missed(const char *name) {
    uint64_t hash = text_hash(name, SIZE_MAX);
    return atomic_load(&profile_reader_missing[hash % MISSING_NAMES].hash) == hash &&
           clock_ms() - atomic_load(&profile_reader_missing[hash % MISSING_NAMES].at_ms) <
               MISSING_MS;
}

/* Whether Redis said just now what it has under that name. */
static bool profile_reader_is_fresh(const char *name) {
    struct client_profile *profile = client_profiles_find(name);
    int64_t read_ms = profile ? atomic_load(&profile->read_ms) : 0;
    bool missed = !profile && profile_reader_just_missed(name);
    client_profile_release(profile);
    return missed || (read_ms != 0 && clock_ms() - read_ms <= FRESH_MS);
}

enum err profile_reader_refresh(struct store *store, const char *name) {
    struct store_resource *rows;
    size_t n;
    int64_t revision = 0;
    enum err err = store_resources(store, STORE_PROFILES, name, &rows, &n, &revision);
    if (err == ERR_OK && n == 0) {
        client_profiles_remove(name, revision);
        err = ERR_NOT_FOUND;
    } else if (err == ERR_OK) {
        err = client_profiles_put(
            &(struct client_profile_row){rows[0].name, rows[0].document, rows[0].version}, false);
    }
    store_resources_free(rows, n);
    struct client_profile *profile = err == ERR_OK ? client_profiles_find(name) : NULL;
    if (profile) {
        atomic_store(&profile->read_ms, clock_ms());
    }
    client_profile_release(profile);
    return err;
}

/* A batch of thousands of clients reads their profile a few times only. */
void profile_reader_freshen(struct store *store, const json_t *document) {
    const char *name = client_profile_of(document);
    struct client_profile *profile = name ? client_profiles_find(name) : NULL;
    int64_t read_ms = profile ? atomic_load(&profile->read_ms) : 0;
    client_profile_release(profile);
    if (name && (read_ms == 0 || clock_ms() - read_ms > FRESH_MS)) {
        enum err err = profile_reader_refresh(store, name);
        (void)err; /* without Redis, the write that follows fails too */
    }
}

/* The name of the profile in a text; NULL: none. free(). */
static char *profile_reader_name(const char *text, size_t len) {
    json_t *document =
        memmem(text, len, "profile", strlen("profile")) ? json_from_text(text, len, 0) : NULL;
    const char *name = client_profile_of(document);
    char *copy = name ? text_dup(name) : NULL;
    json_decref(document);
    return copy;
}

enum err profile_reader_parse(struct store *store, const struct store_client *row,
                              struct client_config **out, struct client_faults *faults) {
    enum err err = client_config_parse_text(row->config, row->config_len, row->id, out, faults);
    char *name = err == ERR_ARGUMENT ? profile_reader_name(row->config, row->config_len) : NULL;
    enum err read =
        name && !profile_reader_is_fresh(name) ? profile_reader_refresh(store, name) : ERR_CANCELED;
    if (read == ERR_OK) {
        err = client_config_parse_text(row->config, row->config_len, row->id, out, faults);
    } else if (read == ERR_NOT_FOUND) {
        profile_reader_note_missing(name);
    } else if (read != ERR_CANCELED) {
        err = read; /* the client may be valid */
    }
    free(name);
    return err;
}
