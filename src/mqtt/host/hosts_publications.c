/* Owns the question what of a client's publications is pending, and the order to drop it: from any
 * thread to the client's host and back. Only the host thread can answer; who asks waits for it. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/condition.h"
#include "base/text.h"
#include "hosts_internal.h"

/* Shared by who waits and the host; the last of the two frees it. */
struct publications_query {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t answered;
    int users;
    bool drop;
    bool done;
    enum err result;
    struct hosts_publication *rows;
    size_t count;
};

static struct publications_query *query_create(bool drop) {
    struct publications_query *query = calloc(1, sizeof *query);
    if (query != NULL) {
        pthread_mutex_init(&query->lock, NULL);
        condition_init(&query->answered);
        query->users = 1;
        query->drop = drop;
    }
    return query;
}

static void query_release(struct publications_query *query) {
    pthread_mutex_lock(&query->lock);
    bool last = --query->users == 0;
    pthread_mutex_unlock(&query->lock);
    if (last) {
        hosts_publications_free(query->rows, query->count);
        pthread_cond_destroy(&query->answered);
        pthread_mutex_destroy(&query->lock);
        free(query);
    }
}

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
    pthread_mutex_lock(&query->lock);
    query->result = client != NULL ? query_collect(client, query) : result;
    query->done = true;
    pthread_cond_signal(&query->answered);
    pthread_mutex_unlock(&query->lock);
    query_release(query);
}

/* ---- on the thread that asks ---- */

static enum err query_wait(struct publications_query *query, int64_t timeout_ms) {
    struct timespec until = condition_deadline(timeout_ms);
    int failed = 0;
    pthread_mutex_lock(&query->lock);
    while (!query->done && failed == 0) {
        failed = pthread_cond_timedwait(&query->answered, &query->lock, &until);
    }
    enum err result = query->done ? query->result : ERR_TIMEOUT;
    pthread_mutex_unlock(&query->lock);
    return result;
}

enum err hosts_publications(struct hosts *hosts, const char *id, bool drop,
                            struct hosts_publication **rows, size_t *n) {
    struct publications_query *query = query_create(drop);
    *rows = NULL;
    *n = 0;
    if (query == NULL) {
        return ERR_MEMORY;
    }
    query->users++;
    enum err result = hosts_push_query(hosts, id, query);
    if (result == ERR_OK) {
        result = query_wait(query, HOSTS_QUERY_MS);
    } else {
        query_release(query);
    }
    if (result == ERR_OK) {
        *rows = query->rows;
        *n = query->count;
        query->rows = NULL;
        query->count = 0;
    }
    query_release(query);
    return result;
}
