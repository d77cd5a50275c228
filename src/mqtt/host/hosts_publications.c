/* Owns the question what of a client's publications is pending, and the order to drop it: from any
 * thread to the client's host, which answers it. */
#include <pthread.h>
#include <stdlib.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/text.h"
#include "hosts_internal.h"

struct publications_query {
    bool drop;
    hosts_publications_answered *answered;
    void *context;
    struct hosts_publication *rows;
    size_t count;
};

void hosts_publications_free(struct hosts_publication *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].topic);
    }
    free(rows);
}

/* ---- on the host thread ---- */

static const char *query_state_name(enum engine_publication_state state) {
    static const char *const names[] = {[PUBLICATION_QUEUED] = "queued",
                                        [PUBLICATION_SENT] = "sent",
                                        [PUBLICATION_RELEASED] = "released"};
    return names[state];
}

static struct hosts_publication query_row(const struct client *client,
                                          const struct host_publication *publication) {
    const struct engine_ops *ops = client->host->ops;
    const struct engine_publication *about = &publication->publication;
    struct engine_publication_status status = {.state = PUBLICATION_SENT, .tries = 1};
    if (ops->publication_status != NULL) {
        ops->publication_status(client->session, (uint64_t)(uintptr_t)publication, &status);
    }
    return (struct hosts_publication){.topic = text_dup(about->topic),
                                      .payload_len = about->payload_len,
                                      .qos = about->qos,
                                      .retain = about->retain,
                                      .age_ms = (clock_us() - publication->begun_us) / 1000,
                                      .tries = status.tries,
                                      .losses = status.losses,
                                      .state = query_state_name(status.state),
                                      .waited_for = publication->published != NULL};
}

/* What an engine cannot drop is left out. */
static bool query_drop(struct client *client, struct host_publication *publication) {
    const struct host *host = client->host;
    return host->ops->publication_drop != NULL &&
           host->ops->publication_drop(host->engine, client->session,
                                       (uint64_t)(uintptr_t)publication, GIVE_UP_DROPPED);
}

static enum err query_collect(struct client *client, struct publications_query *query) {
    struct host_publication *one, *next;
    query->rows = calloc(HOST_PUBLICATIONS_MAX, sizeof *query->rows);
    if (query->rows == NULL) {
        return ERR_MEMORY;
    }
    if (query->drop) {
        pthread_mutex_lock(&client->host->lock);
        publish_throttle_destroy(client->throttle);
        client->throttle = NULL;
        pthread_mutex_unlock(&client->host->lock);
    }
    DL_FOREACH_SAFE2(client->publications, one, next, client_next) {
        if (query->count == HOST_PUBLICATIONS_MAX) {
            break;
        }
        struct hosts_publication row = query_row(client, one);
        if (row.topic != NULL && (!query->drop || query_drop(client, one))) {
            query->rows[query->count++] = row;
        } else {
            free(row.topic);
        }
    }
    return ERR_OK;
}

void host_answer_query(struct client *client, struct publications_query *query, enum err result) {
    result = client != NULL ? query_collect(client, query) : result;
    query->answered(query->context, result, query->rows, query->count);
    free(query);
}

/* ---- on the thread that asks ---- */

enum err hosts_publications(struct hosts *hosts, const char *id, bool drop,
                            hosts_publications_answered *answered, void *context) {
    struct publications_query *query = calloc(1, sizeof *query);
    if (query == NULL) {
        return ERR_MEMORY;
    }
    *query = (struct publications_query){.drop = drop, .answered = answered, .context = context};
    enum err result = hosts_push_query(hosts, id, query);
    if (result != ERR_OK) {
        free(query);
    }
    return result;
}
