/* Owns the table of profiles. Any thread; the lock guards the table, which is small and rarely
 * changes. */
#include "mqtt/config/client_profiles.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"

#define CLIENT_PROFILES_STEP 64

static struct {
    pthread_mutex_t lock;
    struct secret_box *secrets;
    struct client_profile **rows; /* sorted by name */
    size_t count, capacity;
    uint64_t generation;
} client_profiles = {.lock = PTHREAD_MUTEX_INITIALIZER};

void client_profiles_init(struct secret_box *secrets) {
    client_profiles.secrets = secrets;
}

void client_profiles_clear(void) {
    pthread_mutex_lock(&client_profiles.lock);
    for (size_t i = 0; i < client_profiles.count; i++) {
        client_profile_release(client_profiles.rows[i]);
    }
    free(client_profiles.rows);
    client_profiles.rows = NULL;
    client_profiles.count = client_profiles.capacity = 0;
    client_profiles.secrets = NULL;
    pthread_mutex_unlock(&client_profiles.lock);
}

uint64_t client_profiles_generation(void) {
    pthread_mutex_lock(&client_profiles.lock);
    uint64_t generation = client_profiles.generation;
    pthread_mutex_unlock(&client_profiles.lock);
    return generation;
}

/* ---- under the lock -------------------------------------------------------------------------- */

/* The place of that name, or where it would be. */
static size_t client_profiles_place(const char *name, bool *found) {
    size_t low = 0, high = client_profiles.count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(client_profiles.rows[middle]->name, name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return low;
}

static bool client_profiles_insert(size_t place, struct client_profile *profile) {
    if (client_profiles.count == client_profiles.capacity) {
        size_t capacity = client_profiles.capacity + CLIENT_PROFILES_STEP;
        struct client_profile **grown = reallocarray(client_profiles.rows, capacity, sizeof *grown);
        if (!grown) {
            return false;
        }
        client_profiles.rows = grown;
        client_profiles.capacity = capacity;
    }
    memmove(&client_profiles.rows[place + 1], &client_profiles.rows[place],
            (client_profiles.count - place) * sizeof *client_profiles.rows);
    client_profiles.rows[place] = profile;
    client_profiles.count++;
    return true;
}

static void client_profiles_remove_at(size_t place) {
    struct client_profile *profile = client_profiles.rows[place];
    client_profiles.count--;
    memmove(&client_profiles.rows[place], &client_profiles.rows[place + 1],
            (client_profiles.count - place) * sizeof *client_profiles.rows);
    client_profiles.generation++;
    atomic_store(&profile->outdated, true);
    client_profile_release(profile);
}

static bool client_profiles_is_wanted(const struct client_profile *present, int64_t version,
                                      bool force) {
    return force ? version != present->version : version > present->version;
}

/* Takes over the profile. */
static enum err client_profiles_store(struct client_profile *profile, bool force) {
    bool found;
    size_t place = client_profiles_place(profile->name, &found);
    if (found && !client_profiles_is_wanted(client_profiles.rows[place], profile->version, force)) {
        client_profile_release(profile);
        return ERR_OK;
    }
    if (found) {
        atomic_store(&client_profiles.rows[place]->outdated, true);
        client_profile_release(client_profiles.rows[place]);
        client_profiles.rows[place] = profile;
    } else if (!client_profiles_insert(place, profile)) {
        client_profile_release(profile);
        return ERR_MEMORY;
    }
    client_profiles.generation++;
    return ERR_OK;
}

/* ---- any thread ------------------------------------------------------------------------------ */

bool client_profiles_is_outdated(const struct client_profile *profile) {
    bool found = false;
    if (atomic_load(&profile->outdated)) {
        pthread_mutex_lock(&client_profiles.lock);
        (void)client_profiles_place(profile->name, &found);
        pthread_mutex_unlock(&client_profiles.lock);
    }
    return found;
}

struct client_profile *client_profiles_find(const char *name) {
    bool found;
    pthread_mutex_lock(&client_profiles.lock);
    size_t place = client_profiles_place(name, &found);
    struct client_profile *profile =
        found ? client_profile_hold(client_profiles.rows[place]) : NULL;
    pthread_mutex_unlock(&client_profiles.lock);
    return profile;
}

/* Whether putting it would change nothing; then its text need not be parsed. */
static bool client_profiles_has(const struct client_profile_row *row, bool force) {
    struct client_profile *present = client_profiles_find(row->name);
    bool has = present && !client_profiles_is_wanted(present, row->version, force);
    client_profile_release(present);
    return has;
}

enum err client_profiles_put(const struct client_profile_row *row, bool force) {
    json_t *stored = NULL;
    struct client_profile *profile = NULL;
    if (client_profiles_has(row, force)) {
        return ERR_OK;
    }
    enum err err = json_parse(&stored, row->text, strlen(row->text), JSON_REJECT_DUPLICATES, NULL);
    if (err == ERR_OK && !json_is_object(stored)) {
        err = ERR_ARGUMENT;
    }
    if (err == ERR_OK) {
        profile = client_profile_create(row->name, row->version, stored, client_profiles.secrets);
        err = profile ? ERR_OK : ERR_MEMORY;
    }
    json_decref(stored);
    if (err == ERR_OK) {
        pthread_mutex_lock(&client_profiles.lock);
        err = client_profiles_store(profile, force);
        pthread_mutex_unlock(&client_profiles.lock);
    }
    return err;
}

void client_profiles_remove(const char *name, int64_t version) {
    bool found;
    pthread_mutex_lock(&client_profiles.lock);
    size_t place = client_profiles_place(name, &found);
    if (found && client_profiles.rows[place]->version <= version) {
        client_profiles_remove_at(place);
    }
    pthread_mutex_unlock(&client_profiles.lock);
}

static bool client_profiles_is_listed(const struct client_profile_row *rows, size_t n,
                                      const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

enum err client_profiles_apply(const struct client_profile_row *rows, size_t n, int64_t revision,
                               bool force) {
    enum err err = ERR_OK;
    for (size_t i = 0; err != ERR_MEMORY && i < n; i++) {
        err = client_profiles_put(&rows[i], force);
    }
    pthread_mutex_lock(&client_profiles.lock);
    for (size_t i = client_profiles.count; i > 0; i--) {
        const struct client_profile *present = client_profiles.rows[i - 1];
        if ((force || present->version <= revision) &&
            !client_profiles_is_listed(rows, n, present->name)) {
            client_profiles_remove_at(i - 1);
        }
    }
    pthread_mutex_unlock(&client_profiles.lock);
    return err == ERR_MEMORY ? err : ERR_OK;
}

json_t *client_profile_effective(const json_t *document) {
    const char *name = client_profile_of(document);
    struct client_profile *profile = name ? client_profiles_find(name) : NULL;
    json_t *effective =
        profile ? client_profile_merge(profile->stored, document) : json_whole_copy(document);
    client_profile_release(profile);
    return effective;
}
