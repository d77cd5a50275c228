/* Visits the clients of all workers, for sums and selections. Any thread; holds a worker's lock for
 * a slice of its clients and does not wait for workers. */
#include <sched.h>
#include "workers_internal.h"

#define VISIT_SLICE_LEN 256

/* The code of what keeps the client from working; NULL: it works, or is paused. */
static const char *workers_visit_error(const struct client *client) {
    bool works =
        (client->state == CLIENT_ONLINE && !client->degraded) || client->state == CLIENT_PAUSED;
    if (works) {
        return client->silent ? client_error_code(CLIENT_ERROR_SILENT) : NULL;
    }
    return client_error_code(client->error);
}

static void workers_visit_client(const struct client *client, const char *node,
                                 workers_visitor *visitor, void *context) {
    char first[CLIENT_BROKER_LEN]; /* until it has tried one */
    struct workers_visited visited = {
        .facts = {.id = client->id,
                  .state = client_state_shown(client->state),
                  .error = workers_visit_error(client),
                  .broker = client->broker ? client->broker->key : NULL,
                  .node = node,
                  .silent = client->silent,
                  .degraded = client->degraded},
        .since_ms = client->since_ms,
        .version = client->version,
    };
    client_facts_set_config(&visited.facts, client->config->config, first);
    visitor(context, &visited);
}

/* A record is CLOSED for a moment before it starts, and CLOSING while it is being stopped. */
static bool workers_visit_runs(const struct client *client) {
    return client->state != CLIENT_CLOSING;
}

/* worker->lock is held. */
static void workers_visit_slice(struct worker_visit *visit, const char *node,
                                workers_visitor *visitor, void *context) {
    for (int i = 0; i < VISIT_SLICE_LEN && visit->next; i++) {
        const struct client *client = visit->next;
        visit->next = client->hh.next;
        if (workers_visit_runs(client)) {
            workers_visit_client(client, node, visitor, context);
        }
    }
}

static void workers_visit_end(struct worker *worker, struct worker_visit *visit) {
    struct worker_visit **at = &worker->visits;
    while (*at != visit) {
        at = &(*at)->other;
    }
    *at = visit->other;
}

static void workers_visit_worker(struct worker *worker, const char *node, workers_visitor *visitor,
                                 void *context) {
    pthread_mutex_lock(&worker->lock);
    struct worker_visit visit = {.next = worker->clients, .other = worker->visits};
    worker->visits = &visit;
    while (visit.next) {
        workers_visit_slice(&visit, node, visitor, context);
        pthread_mutex_unlock(&worker->lock);
        sched_yield(); /* the worker may be waiting for the lock */
        pthread_mutex_lock(&worker->lock);
    }
    workers_visit_end(worker, &visit);
    pthread_mutex_unlock(&worker->lock);
}

void workers_visit(struct workers *workers, const char *node, workers_visitor *visitor,
                   void *context) {
    for (size_t i = 0; i < workers->count; i++) {
        workers_visit_worker(workers->all[i], node, visitor, context);
    }
}
