/* Copies the shown fields of the clients of all workers. Any thread; holds a worker's lock for one
 * copy and does not wait for workers. */
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "mqtt/config/client_profiles.h"
#include "workers_internal.h"

static enum err workers_view_list_worker(struct worker *worker, struct workers_client **rows,
                                         size_t *n) {
    enum err err = ERR_OK;
    struct client *client, *next;
    pthread_mutex_lock(&worker->lock);
    size_t more = HASH_COUNT(worker->clients);
    struct workers_client *grown = realloc(*rows, (*n + more + 1) * sizeof *grown);
    if (!grown) {
        pthread_mutex_unlock(&worker->lock);
        return ERR_MEMORY;
    }
    *rows = grown;
    HASH_ITER(hh, worker->clients, client, next) {
        char *id = text_dup(client->id);
        if (!id) {
            err = ERR_MEMORY;
            break;
        }
        grown[(*n)++] = (struct workers_client){
            .id = id,
            .epoch = client->epoch,
            .version = client->version,
            .closing = client->state == CLIENT_CLOSING,
            .state = client->state,
            .keeps_session = client_config_keeps_session(client->config->config)};
    }
    pthread_mutex_unlock(&worker->lock);
    return err;
}

enum err workers_list(struct workers *workers, struct workers_client **rows, size_t *n) {
    *rows = NULL;
    *n = 0;
    for (size_t i = 0; i < workers->count; i++) {
        enum err err = workers_view_list_worker(workers->all[i], rows, n);
        if (err != ERR_OK) {
            workers_list_free(*rows, *n);
            *rows = NULL;
            *n = 0;
            return err;
        }
    }
    return ERR_OK;
}

void workers_list_free(struct workers_client *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
    }
    free(rows);
}

static bool workers_view_is_outdated(const struct client *client) {
    const struct client_profile *profile = client->config->config->profile;
    return profile && client_profiles_is_outdated(profile) && client->state != CLIENT_CLOSING;
}

enum err workers_list_outdated(struct workers *workers, size_t rows_max,
                               struct workers_client **rows, size_t *n, size_t *all) {
    enum err err = ERR_OK;
    *n = *all = 0;
    *rows = calloc(rows_max + 1, sizeof **rows);
    for (size_t i = 0; *rows && i < workers->count; i++) {
        struct client *client, *next;
        pthread_mutex_lock(&workers->all[i]->lock);
        HASH_ITER(hh, workers->all[i]->clients, client, next) {
            bool outdated = workers_view_is_outdated(client);
            char *id = outdated && *n < rows_max ? text_dup(client->id) : NULL;
            *all += outdated;
            if (id) {
                (*rows)[(*n)++] = (struct workers_client){.id = id,
                                                          .epoch = client->epoch,
                                                          .version = client->version,
                                                          .state = client->state};
            }
            err = outdated && !id && *n < rows_max ? ERR_MEMORY : err;
        }
        pthread_mutex_unlock(&workers->all[i]->lock);
    }
    return *rows ? err : ERR_MEMORY;
}

struct recent {
    char *id; /* owned */
    enum client_state state;
    int64_t version;
    struct message_origin *origin; /* one reference */
};

/* A client is left out if memory is short. */
static struct recent *workers_view_recent_of(struct worker *worker, int64_t since_ms, size_t *n) {
    struct client *client, *next;
    *n = 0;
    pthread_mutex_lock(&worker->lock);
    struct recent *rows = malloc((HASH_COUNT(worker->clients) + 1) * sizeof *rows);
    HASH_ITER(hh, worker->clients, client, next) {
        bool recent = client->since_ms >= since_ms || client->version >= since_ms;
        char *id = rows && recent ? text_dup(client->id) : NULL;
        if (id) {
            rows[(*n)++] =
                (struct recent){id, client->state, client->version, route_origin(&client->route)};
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return rows;
}

void workers_report_recent(struct workers *workers, int64_t since_ms) {
    const struct workers_owner *owner = &workers->owner;
    for (size_t i = 0; owner->changed && i < workers->count; i++) {
        size_t n;
        struct recent *rows = workers_view_recent_of(workers->all[i], since_ms, &n);
        for (size_t at = 0; at < n; at++) {
            const struct workers_change change = {.id = rows[at].id,
                                                  .from = rows[at].state,
                                                  .to = rows[at].state,
                                                  .reason = "recent",
                                                  .version = rows[at].version,
                                                  .origin = rows[at].origin};
            owner->changed(owner->context, &change);
            message_origin_release(rows[at].origin);
            free(rows[at].id);
        }
        free(rows);
    }
}

bool workers_has_client(struct workers *workers, const char *id, struct workers_client *out) {
    struct worker *worker = workers_find_worker(workers, id);
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    bool runs = client && client->state != CLIENT_CLOSING;
    if (runs) {
        out->epoch = client->epoch;
        out->version = client->version;
    }
    pthread_mutex_unlock(&worker->lock);
    return runs;
}

size_t workers_count(struct workers *workers) {
    size_t count = 0;
    for (size_t i = 0; i < workers->count; i++) {
        pthread_mutex_lock(&workers->all[i]->lock);
        count += HASH_COUNT(workers->all[i]->clients);
        pthread_mutex_unlock(&workers->all[i]->lock);
    }
    return count;
}

enum err workers_config(struct workers *workers, const char *id, char **config, char **identity) {
    struct worker *worker = workers_find_worker(workers, id);
    *config = NULL;
    *identity = NULL;
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    bool found = client && client->config->config->source;
    if (found) {
        *config = text_dup(client->config->config->source);
        *identity = client_config_identity(client->config->config);
    }
    pthread_mutex_unlock(&worker->lock);
    if (found && (!*config || !*identity)) {
        free(*config);
        free(*identity);
        return ERR_MEMORY;
    }
    return found ? ERR_OK : ERR_NOT_FOUND;
}

enum err workers_status(struct workers *workers, const char *id, struct client_status *out) {
    struct worker *worker = workers_find_worker(workers, id);
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    enum err err = client ? client_copy_status(client, out) : ERR_NOT_FOUND;
    pthread_mutex_unlock(&worker->lock);
    return err;
}

enum err workers_changes(struct workers *workers, const char *id,
                         struct client_change out[CLIENT_CHANGES_MAX], size_t *n) {
    struct worker *worker = workers_find_worker(workers, id);
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    *n = client ? client_copy_changes(client, out) : 0;
    pthread_mutex_unlock(&worker->lock);
    return client ? ERR_OK : ERR_NOT_FOUND;
}

void workers_state_counts(struct workers *workers, int64_t counts[CLIENT_STATE_COUNT]) {
    memset(counts, 0, CLIENT_STATE_COUNT * sizeof *counts);
    for (size_t i = 0; i < workers->count; i++) {
        pthread_mutex_lock(&workers->all[i]->lock);
        for (int state = 0; state < CLIENT_STATE_COUNT; state++) {
            counts[state] += workers->all[i]->counts[state];
        }
        pthread_mutex_unlock(&workers->all[i]->lock);
    }
}

struct incidents_sum workers_incidents_sum(struct workers *workers) {
    return incidents_sum(workers->incidents, clock_ms());
}

size_t workers_incidents(struct workers *workers, struct incident_view *out, size_t max) {
    return incidents_snapshot(workers->incidents, out, max, clock_ms());
}

void workers_visit_brokers(struct workers *workers, incidents_visitor *visitor, void *context) {
    incidents_visit(workers->incidents, clock_ms(), visitor, context);
}

int64_t workers_degraded_count(struct workers *workers) {
    int64_t count = 0;
    for (size_t i = 0; i < workers->count; i++) {
        pthread_mutex_lock(&workers->all[i]->lock);
        count += workers->all[i]->degraded_count;
        pthread_mutex_unlock(&workers->all[i]->lock);
    }
    return count;
}

int64_t workers_silent_count(struct workers *workers) {
    int64_t count = 0;
    for (size_t i = 0; i < workers->count; i++) {
        pthread_mutex_lock(&workers->all[i]->lock);
        count += workers->all[i]->silent_count;
        pthread_mutex_unlock(&workers->all[i]->lock);
    }
    return count;
}

void workers_buffers(struct workers *workers, struct engine_buffers *out) {
    *out = (struct engine_buffers){0};
    for (size_t i = 0; i < workers->count; i++) {
        struct engine_buffers one = {0};
        if (workers->all[i]->ops->buffers) {
            workers->all[i]->ops->buffers(workers->all[i]->engine, &one);
        }
        out->bytes += one.bytes;
        out->bytes_max += one.bytes_max;
        out->held_back_bytes += one.held_back_bytes;
        out->held_back_clients += one.held_back_clients;
    }
}
