/* Owns the queries and drops of a client's pending publications: from any thread to the client's
 * worker, which answers them. */
#include <pthread.h>
#include <stdlib.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "workers_internal.h"

struct workers_query {
    bool drop;
    workers_publications_answered *answered;
    void *context;
    struct workers_publication *rows;
    size_t count;
};

void workers_publications_free(struct workers_publication *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].topic);
    }
    free(rows);
}

/* ---- worker thread ---- */

static const char *workers_query_state_name(enum engine_publication_state state) {
    static const char *const names[] = {[PUBLICATION_QUEUED] = "queued",
                                        [PUBLICATION_SENT] = "sent",
                                        [PUBLICATION_RELEASED] = "released"};
    return names[state];
}

static struct workers_publication workers_query_row(const struct client *client,
                                                    const struct worker_publication *publication) {
    const struct engine_ops *ops = client->worker->ops;
    const struct engine_publication *about = &publication->publication;
    struct engine_publication_status status = {.state = PUBLICATION_SENT, .tries = 1};
    if (ops->publication_status) {
        ops->publication_status(client->session, (uint64_t)(uintptr_t)publication, &status);
    }
    return (struct workers_publication){.topic = text_dup(about->topic),
                                        .payload_len = about->payload_len,
                                        .qos = about->qos,
                                        .retain = about->retain,
                                        .age_ms = (clock_us() - publication->begun_us) / 1000,
                                        .tries = status.tries,
                                        .losses = status.losses,
                                        .state = workers_query_state_name(status.state),
                                        .waited_for =
                                            publication->phase == WORKER_PUBLICATION_AWAITED};
}

/* Publications that an engine cannot drop are left out. */
static bool workers_query_drop(struct client *client, struct worker_publication *publication) {
    const struct worker *worker = client->worker;
    return worker->ops->publication_drop &&
           worker->ops->publication_drop(worker->engine, client->session,
                                         (uint64_t)(uintptr_t)publication, GIVE_UP_DROPPED);
}

static enum err workers_query_collect(struct client *client, struct workers_query *query) {
    struct worker_publication *one, *next;
    query->rows = calloc(WORKER_PUBLICATIONS_MAX, sizeof *query->rows);
    if (!query->rows) {
        return ERR_MEMORY;
    }
    if (query->drop) {
        pthread_mutex_lock(&client->worker->lock);
        publish_throttle_destroy(client->throttle);
        client->throttle = NULL;
        pthread_mutex_unlock(&client->worker->lock);
    }
    DL_FOREACH_SAFE2(client->publications, one, next, client_next) {
        if (query->count == WORKER_PUBLICATIONS_MAX) {
            break;
        }
        struct workers_publication row = workers_query_row(client, one);
        if (row.topic && (!query->drop || workers_query_drop(client, one))) {
            query->rows[query->count++] = row;
        } else {
            free(row.topic);
        }
    }
    return ERR_OK;
}

void worker_answer_query(struct client *client, struct workers_query *query, enum err err) {
    err = client ? workers_query_collect(client, query) : err;
    query->answered(query->context, err, query->rows, query->count);
    free(query);
}

/* ---- calling thread ---- */

enum err workers_publications(struct workers *workers, const char *id, bool drop,
                              workers_publications_answered *answered, void *context) {
    struct workers_query *query = calloc(1, sizeof *query);
    if (!query) {
        return ERR_MEMORY;
    }
    *query = (struct workers_query){.drop = drop, .answered = answered, .context = context};
    enum err err = workers_push_query(workers, id, query);
    if (err != ERR_OK) {
        free(query);
    }
    return err;
}
