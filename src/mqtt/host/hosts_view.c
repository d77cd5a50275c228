/* Copies what is shown of the clients of all hosts. Any thread; takes a host's lock for one copy
 * and waits for no host. Must not change a client. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/text.h"
#include "hosts_internal.h"

static enum err list_host(struct host *host, struct hosts_client **rows, size_t *n) {
    enum err result = ERR_OK;
    struct client *client, *next;
    pthread_mutex_lock(&host->lock);
    size_t more = HASH_COUNT(host->clients);
    struct hosts_client *grown = realloc(*rows, (*n + more + 1) * sizeof(*grown));
    if (grown == NULL) {
        pthread_mutex_unlock(&host->lock);
        return ERR_MEMORY;
    }
    *rows = grown;
    HASH_ITER(hh, host->clients, client, next) {
        char *id = text_dup(client->id);
        if (id == NULL) {
            result = ERR_MEMORY;
            break;
        }
        grown[(*n)++] = (struct hosts_client){id, client->epoch, client->version,
                                              client->state == CLIENT_CLOSING};
    }
    pthread_mutex_unlock(&host->lock);
    return result;
}

enum err hosts_list(struct hosts *hosts, struct hosts_client **rows, size_t *n) {
    *rows = NULL;
    *n = 0;
    for (size_t i = 0; i < hosts->count; i++) {
        enum err result = list_host(hosts->all[i], rows, n);
        if (result != ERR_OK) {
            hosts_list_free(*rows, *n);
            *rows = NULL;
            *n = 0;
            return result;
        }
    }
    return ERR_OK;
}

void hosts_list_free(struct hosts_client *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
    }
    free(rows);
}

struct recent {
    char *id; /* owned */
    enum client_state state;
    int64_t version;
};

/* One without memory is left out. */
static struct recent *recent_of(struct host *host, int64_t since_ms, size_t *n) {
    struct client *client, *next;
    *n = 0;
    pthread_mutex_lock(&host->lock);
    struct recent *rows = malloc((HASH_COUNT(host->clients) + 1) * sizeof *rows);
    HASH_ITER(hh, host->clients, client, next) {
        bool recent = client->since_ms >= since_ms || client->version >= since_ms;
        char *id = rows && recent ? text_dup(client->id) : NULL;
        if (id) {
            rows[(*n)++] = (struct recent){id, client->state, client->version};
        }
    }
    pthread_mutex_unlock(&host->lock);
    return rows;
}

void hosts_tell_recent(struct hosts *hosts, int64_t since_ms) {
    const struct hosts_owner *owner = &hosts->owner;
    for (size_t i = 0; owner->changed && i < hosts->count; i++) {
        size_t n;
        struct recent *rows = recent_of(hosts->all[i], since_ms, &n);
        for (size_t at = 0; at < n; at++) {
            owner->changed(owner->context, rows[at].id, rows[at].state, rows[at].state, "recent",
                           rows[at].version);
            free(rows[at].id);
        }
        free(rows);
    }
}

bool hosts_runs(struct hosts *hosts, const char *id, struct hosts_client *out) {
    struct host *host = hosts_host_of(hosts, id);
    pthread_mutex_lock(&host->lock);
    const struct client *client = hosts_find_locked(host, id);
    bool runs = client != NULL && client->state != CLIENT_CLOSING;
    if (runs) {
        out->epoch = client->epoch;
        out->version = client->version;
    }
    pthread_mutex_unlock(&host->lock);
    return runs;
}

size_t hosts_count(struct hosts *hosts) {
    size_t count = 0;
    for (size_t i = 0; i < hosts->count; i++) {
        pthread_mutex_lock(&hosts->all[i]->lock);
        count += HASH_COUNT(hosts->all[i]->clients);
        pthread_mutex_unlock(&hosts->all[i]->lock);
    }
    return count;
}

enum err hosts_config(struct hosts *hosts, const char *id, char **config, char **identity) {
    struct host *host = hosts_host_of(hosts, id);
    *config = NULL;
    *identity = NULL;
    pthread_mutex_lock(&host->lock);
    const struct client *client = hosts_find_locked(host, id);
    bool found = client != NULL && client->config->config->source != NULL;
    if (found) {
        *config = text_dup(client->config->config->source);
        *identity = client_config_identity(client->config->config);
    }
    pthread_mutex_unlock(&host->lock);
    if (found && (*config == NULL || *identity == NULL)) {
        free(*config);
        free(*identity);
        return ERR_MEMORY;
    }
    return found ? ERR_OK : ERR_NOT_FOUND;
}

enum err hosts_status(struct hosts *hosts, const char *id, struct client_status *out) {
    struct host *host = hosts_host_of(hosts, id);
    pthread_mutex_lock(&host->lock);
    const struct client *client = hosts_find_locked(host, id);
    enum err result = client ? client_copy_status(client, out) : ERR_NOT_FOUND;
    pthread_mutex_unlock(&host->lock);
    return result;
}

enum err hosts_changes(struct hosts *hosts, const char *id,
                       struct client_change out[CLIENT_CHANGES_MAX], size_t *n) {
    struct host *host = hosts_host_of(hosts, id);
    pthread_mutex_lock(&host->lock);
    const struct client *client = hosts_find_locked(host, id);
    *n = client ? client_copy_changes(client, out) : 0;
    pthread_mutex_unlock(&host->lock);
    return client ? ERR_OK : ERR_NOT_FOUND;
}

void hosts_state_counts(struct hosts *hosts, int64_t counts[CLIENT_STATE_COUNT]) {
    memset(counts, 0, CLIENT_STATE_COUNT * sizeof(*counts));
    for (size_t i = 0; i < hosts->count; i++) {
        pthread_mutex_lock(&hosts->all[i]->lock);
        for (int state = 0; state < CLIENT_STATE_COUNT; state++) {
            counts[state] += hosts->all[i]->counts[state];
        }
        pthread_mutex_unlock(&hosts->all[i]->lock);
    }
}

size_t hosts_incidents(struct hosts *hosts, struct incident_view *out, size_t max) {
    return incidents_snapshot(hosts->incidents, out, max, clock_ms());
}

int64_t hosts_degraded_count(struct hosts *hosts) {
    int64_t count = 0;
    for (size_t i = 0; i < hosts->count; i++) {
        pthread_mutex_lock(&hosts->all[i]->lock);
        count += hosts->all[i]->degraded_count;
        pthread_mutex_unlock(&hosts->all[i]->lock);
    }
    return count;
}

void hosts_buffers(struct hosts *hosts, struct engine_buffers *out) {
    *out = (struct engine_buffers){0};
    for (size_t i = 0; i < hosts->count; i++) {
        struct engine_buffers one = {0};
        if (hosts->all[i]->ops->buffers != NULL) {
            hosts->all[i]->ops->buffers(hosts->all[i]->engine, &one);
        }
        out->bytes += one.bytes;
        out->bytes_max += one.bytes_max;
        out->held_back_bytes += one.held_back_bytes;
        out->held_back_clients += one.held_back_clients;
    }
}
