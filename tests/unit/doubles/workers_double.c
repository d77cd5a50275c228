#include "doubles/workers_double.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define CLIENTS_MAX 4096
#define CALLS_MAX   65536

struct workers_double_client {
    char id[64];
    char *source; /* owned */
    char *identity;
    int64_t epoch, version;
    workers_done *done; /* of a stop that is held */
    void *context;
};

struct workers_double_call {
    const char *verb;
    char id[64], text[64];
};

static struct workers_double_client clients[CLIENTS_MAX];
static size_t client_count;
static struct workers_double_call calls[CALLS_MAX];
static size_t call_count;
static char accepted[TEXT_ID_LEN];

struct workers_double_answers workers_double_answers;

struct workers *workers_double(void) {
    return (struct workers *)clients;
}

/* ---- what tests see ------------------------------------------------------------------------ */

static struct workers_double_client *find(const char *id) {
    for (size_t i = 0; i < client_count; i++) {
        if (strcmp(clients[i].id, id) == 0) {
            return &clients[i];
        }
    }
    return NULL;
}

static void forget(struct workers_double_client *client) {
    free(client->source);
    free(client->identity);
    *client = clients[--client_count];
}

static void record(const char *verb, const char *id, const char *text) {
    assert(call_count < CALLS_MAX);
    struct workers_double_call *call = &calls[call_count++];
    call->verb = verb;
    snprintf(call->id, sizeof call->id, "%s", id);
    snprintf(call->text, sizeof call->text, "%s", text);
}

void workers_double_reset(void) {
    while (client_count > 0) {
        forget(&clients[0]);
    }
    call_count = 0;
    accepted[0] = '\0';
    workers_double_answers = (struct workers_double_answers){0};
}

static void put(const char *id, char *source, char *identity, int64_t epoch, int64_t version) {
    struct workers_double_client *client = find(id);
    if (!client) {
        assert(client_count < CLIENTS_MAX);
        client = &clients[client_count++];
        *client = (struct workers_double_client){0};
        snprintf(client->id, sizeof client->id, "%s", id);
    }
    free(client->source);
    free(client->identity);
    client->source = source;
    client->identity = identity;
    client->epoch = epoch;
    client->version = version;
}

void workers_double_run(const char *id, int64_t epoch, int64_t version) {
    char text[160];
    snprintf(text, sizeof text, "{\"id\":\"%s\",\"url\":\"mqtt://broker:1883\"}", id);
    char *source = text_dup(text);
    snprintf(text, sizeof text, "broker:1883/%s", id);
    put(id, source, text_dup(text), epoch, version);
}

void workers_double_closed(const char *id) {
    struct workers_double_client *client = find(id);
    assert(client && client->done);
    workers_done *done = client->done;
    void *context = client->context;
    forget(client);
    done(context);
}

bool workers_double_runs(const char *id, int64_t *epoch) {
    const struct workers_double_client *client = find(id);
    if (client && epoch) {
        *epoch = client->epoch;
    }
    return client != NULL;
}

size_t workers_double_calls(const char *verb, const char *text) {
    size_t n = 0;
    for (size_t i = 0; i < call_count; i++) {
        n += strcmp(calls[i].verb, verb) == 0 &&
             (!text || strcmp(calls[i].id, text) == 0 || strcmp(calls[i].text, text) == 0);
    }
    return n;
}

const char *workers_double_last(const char *verb) {
    for (size_t i = call_count; i > 0; i--) {
        if (strcmp(calls[i - 1].verb, verb) == 0) {
            return calls[i - 1].text;
        }
    }
    return "";
}

/* ---- workers.h ----------------------------------------------------------------------------- */

void workers_accept(struct workers *workers, const char *incarnation) {
    (void)workers;
    record("accept", "", incarnation);
    snprintf(accepted, sizeof accepted, "%s", incarnation);
}

enum err workers_start(struct workers *workers, struct client_config *config,
                       const struct workers_assignment *assignment) {
    const char *incarnation = assignment->incarnation;
    int64_t epoch = assignment->epoch, version = assignment->version;
    (void)workers;
    record("start", config->id, incarnation);
    enum err err = workers_double_answers.start;
    if (err == ERR_OK && strcmp(incarnation, accepted) != 0) {
        err = ERR_WRONG_STATE;
    }
    const struct workers_double_client *client = find(config->id);
    bool older =
        client && (epoch < client->epoch || (epoch == client->epoch && version <= client->version));
    if (err == ERR_OK && !older) {
        put(config->id, text_dup(config->source), client_config_identity(config), epoch, version);
    }
    client_config_destroy(config);
    return err;
}

enum err workers_stop(struct workers *workers, const char *id, int64_t epoch, const char *reason,
                      workers_done *done, void *context) {
    (void)workers;
    record("stop", id, reason);
    if (workers_double_answers.stop != ERR_OK) {
        return workers_double_answers.stop;
    }
    struct workers_double_client *client = find(id);
    if (client && (epoch == 0 || epoch >= client->epoch)) {
        if (workers_double_answers.holds && done) {
            client->done = done;
            client->context = context;
            return ERR_OK;
        }
        forget(client);
    }
    if (done) {
        done(context);
    }
    return ERR_OK;
}

enum err workers_restart(struct workers *workers, const char *id, const char *reason) {
    (void)workers;
    record("restart", id, reason);
    return find(id) ? ERR_OK : ERR_NOT_FOUND;
}

enum err workers_stop_all(struct workers *workers, const char *reason, bool with_disconnect,
                          int64_t timeout_ms) {
    (void)workers;
    (void)with_disconnect;
    (void)timeout_ms;
    record("stop_all", "", reason);
    accepted[0] = '\0';
    while (workers_double_answers.stop_all == ERR_OK && client_count > 0) {
        forget(&clients[0]);
    }
    return workers_double_answers.stop_all;
}

enum err workers_retry(struct workers *workers, const char *id, int64_t epoch, int64_t delay_ms) {
    (void)workers;
    (void)epoch;
    (void)delay_ms;
    record("retry", id, "");
    return workers_double_answers.retry;
}

enum err workers_list(struct workers *workers, struct workers_client **rows, size_t *n) {
    (void)workers;
    *rows = NULL;
    *n = 0;
    record("list", "", "");
    if (workers_double_answers.list != ERR_OK) {
        return workers_double_answers.list;
    }
    *rows = calloc(client_count + 1, sizeof **rows);
    for (size_t i = 0; i < client_count; i++) {
        (*rows)[i] = (struct workers_client){.id = text_dup(clients[i].id),
                                             .epoch = clients[i].epoch,
                                             .version = clients[i].version,
                                             .closing = clients[i].done != NULL,
                                             .state = CLIENT_ONLINE,
                                             .keeps_session = !workers_double_answers.no_sessions};
    }
    *n = client_count;
    return ERR_OK;
}

enum err workers_list_outdated(struct workers *workers, size_t rows_max,
                               struct workers_client **rows, size_t *n, size_t *all) {
    (void)workers;
    (void)rows_max;
    *n = *all = 0;
    *rows = calloc(1, sizeof **rows);
    return *rows ? ERR_OK : ERR_MEMORY;
}

void workers_list_free(struct workers_client *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rows[i].id);
    }
    free(rows);
}

size_t workers_count(struct workers *workers) {
    (void)workers;
    return client_count;
}

bool workers_has_client(struct workers *workers, const char *id, struct workers_client *out) {
    (void)workers;
    const struct workers_double_client *client = find(id);
    if (!client || client->done) {
        return false;
    }
    out->epoch = client->epoch;
    out->version = client->version;
    out->closing = false;
    return true;
}

enum err workers_config(struct workers *workers, const char *id, char **config, char **identity) {
    (void)workers;
    const struct workers_double_client *client = find(id);
    *config = client ? text_dup(client->source) : NULL;
    *identity = client ? text_dup(client->identity) : NULL;
    return client ? ERR_OK : ERR_NOT_FOUND;
}

enum err workers_status(struct workers *workers, const char *id, struct client_status *out) {
    (void)workers;
    const struct workers_double_client *client = find(id);
    *out = (struct client_status){0};
    if (client) {
        out->epoch = client->epoch;
        out->version = client->version;
    }
    return client ? ERR_OK : ERR_NOT_FOUND;
}

void client_status_fini(struct client_status *status) {
    *status = (struct client_status){0};
}

char *workers_history(struct workers *workers, const char *id) {
    (void)workers;
    return find(id) ? text_dup("{\"counts\":[],\"changes\":[]}") : NULL;
}

enum err workers_list_unsaved(struct workers *workers, size_t *from, size_t rows_max,
                              struct workers_unsaved **rows, size_t *n) {
    (void)workers;
    (void)rows_max;
    *from = *n = 0;
    *rows = NULL;
    return ERR_OK;
}

void workers_unsaved_free(struct workers_unsaved *rows, size_t n) {
    (void)rows;
    (void)n;
}

void workers_mark_saved(struct workers *workers, const struct workers_unsaved *row) {
    (void)workers;
    (void)row;
}

void workers_forget_saved(struct workers *workers) {
    (void)workers;
    record("forget_saved", "", "");
}
