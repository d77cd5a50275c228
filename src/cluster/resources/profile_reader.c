/* Owns the reading of single profiles. Any thread. */
#include "cluster/resources/profile_reader.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "mqtt/config/client_profiles.h"

#define FRESH_MS 20

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
    if (name && profile_reader_refresh(store, name) == ERR_OK) {
        err = client_config_parse_text(row->config, row->config_len, row->id, out, faults);
    }
    free(name);
    return err;
}
