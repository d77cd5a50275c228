/* Copies the histories of clients, to be continued on other nodes. Any thread; holds a worker's
 * lock while it passes over the clients of that worker, and copies those that changed. */
#include <stdlib.h>
#include "base/text.h"
#include "workers_internal.h"

char *workers_history(struct workers *workers, const char *id) {
    struct worker *worker = workers_find_worker(workers, id);
    struct client_history history;
    pthread_mutex_lock(&worker->lock);
    const struct client *client = workers_find_locked(worker, id);
    if (client) {
        client_copy_history(client, &history);
    }
    pthread_mutex_unlock(&worker->lock);
    return client ? client_history_format(&history, workers->conf->node_name) : NULL;
}

/* False: out of memory. */
static bool workers_history_copy_row(const struct workers *workers, const struct client *client,
                                     struct workers_unsaved *row) {
    struct client_history history;
    client_copy_history(client, &history);
    *row = (struct workers_unsaved){.id = text_dup(client->id),
                                    .history =
                                        client_history_format(&history, workers->conf->node_name),
                                    .epoch = client->epoch,
                                    .mark = client_history_mark(client)};
    if (row->id && row->history) {
        return true;
    }
    free(row->id);
    free(row->history);
    return false;
}

enum err workers_list_unsaved(struct workers *workers, size_t *from, size_t rows_max,
                              struct workers_unsaved **rows, size_t *n) {
    size_t place = 0, begin = *from;
    enum err err = ERR_OK;
    *n = *from = 0;
    *rows = calloc(rows_max + 1, sizeof **rows);
    for (size_t i = 0; *rows && i < workers->count; i++) {
        struct client *client, *next;
        pthread_mutex_lock(&workers->all[i]->lock);
        HASH_ITER(hh, workers->all[i]->clients, client, next) {
            bool wanted = place++ >= begin && client->saved_mark != client_history_mark(client);
            if (wanted && *n == rows_max) {
                *from = *from == 0 ? place - 1 : *from;
                break;
            }
            if (wanted && workers_history_copy_row(workers, client, &(*rows)[*n])) {
                ++*n;
            } else if (wanted) {
                err = ERR_MEMORY;
            }
        }
        pthread_mutex_unlock(&workers->all[i]->lock);
        if (*from != 0) {
            break;
        }
    }
    return *rows ? err : ERR_MEMORY;
}

void workers_unsaved_free(struct workers_unsaved *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
        free(rows[i].history);
    }
    free(rows);
}

void workers_mark_saved(struct workers *workers, const struct workers_unsaved *row) {
    struct worker *worker = workers_find_worker(workers, row->id);
    pthread_mutex_lock(&worker->lock);
    struct client *client = workers_find_locked(worker, row->id);
    if (client && client->epoch == row->epoch) {
        client->saved_mark = row->mark;
    }
    pthread_mutex_unlock(&worker->lock);
}

void workers_forget_saved(struct workers *workers) {
    for (size_t i = 0; i < workers->count; i++) {
        struct client *client, *next;
        pthread_mutex_lock(&workers->all[i]->lock);
        HASH_ITER(hh, workers->all[i]->clients, client, next) {
            client->saved_mark = 0;
        }
        pthread_mutex_unlock(&workers->all[i]->lock);
    }
}
