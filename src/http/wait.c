/* Owns the waiting of ?wait_ms=: looks again and again until every client is online or has failed.
 * Runs on the threads for requests that wait. */
#include "http/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "http/gate.h"

#define LOOK_MS        25         /* between two looks at this node's own clients */
#define LOOKS_PER_PEER 4          /* of them, every how many also at Redis and the other nodes */
#define GATE_KEY       "/wait_ms" /* no id holds a slash */
#define WINDOW         200        /* ids looked at at once */

struct waiting {
    const struct http_request *request;
    const char **ids; /* the first n are still waited for */
    size_t n;
    int64_t version;
};

static bool is_settled(const char *shown) {
    static const char *const states[] = {"online", "backoff", "conflict", "paused"};
    for (size_t i = 0; shown != NULL && i < sizeof(states) / sizeof(states[0]); i++) {
        if (strcmp(shown, states[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Of a client that runs on this node. */
static bool settled_here(const struct waiting *waiting, const char *id) {
    struct client_status status;
    if (hosts_status(waiting->request->api->context.hosts, id, &status) != ERR_OK) {
        return false;
    }
    bool settled =
        status.version >= waiting->version && is_settled(client_state_shown(status.state));
    client_status_fini(&status);
    return settled;
}

/* Keeps those of the first `count` ids that are not settled; true: all were. */
static bool drop_settled(struct waiting *waiting, size_t count, const bool *settled) {
    size_t kept = 0;
    for (size_t i = 0; i < waiting->n; i++) {
        if (i >= count || !settled[i]) {
            waiting->ids[kept++] = waiting->ids[i];
        }
    }
    size_t dropped = waiting->n - kept;
    waiting->n = kept;
    return dropped == count;
}

static bool look_here(struct waiting *waiting, size_t count) {
    bool settled[WINDOW];
    for (size_t i = 0; i < count; i++) {
        settled[i] = settled_here(waiting, waiting->ids[i]);
    }
    return drop_settled(waiting, count, settled);
}

/* Asks Redis where they are and their owners how they do. */
static bool look_everywhere(struct waiting *waiting, size_t count) {
    struct store_client rows[WINDOW] = {0};
    json_t *statuses[WINDOW];
    bool settled[WINDOW];
    struct store *store = waiting->request->api->context.store;
    for (size_t i = 0; i < count; i++) {
        enum err result = store_get(store, waiting->ids[i], &rows[i]);
        settled[i] = result == ERR_NOT_FOUND || rows[i].attempt_code != NULL;
    }
    fleet_statuses(waiting->request, rows, count, statuses);
    for (size_t i = 0; i < count; i++) {
        const char *state = json_string_value(json_object_get(statuses[i], "state"));
        json_int_t version = json_integer_value(json_object_get(statuses[i], "version"));
        if (rows[i].where == STORE_OWNED) {
            settled[i] = version >= waiting->version && is_settled(state);
        }
        json_decref(statuses[i]);
        store_client_fini(&rows[i]);
    }
    return drop_settled(waiting, count, settled);
}

static bool must_end(const struct waiting *waiting, int64_t deadline_ms) {
    return waiting->n == 0 || clock_ms() >= deadline_ms ||
           atomic_load(&waiting->request->api->stop) != HTTP_RUNNING;
}

void clients_wait(const struct http_request *request, const char *const *ids, size_t n,
                  int64_t version) {
    struct waiting waiting = {.request = request, .n = n, .version = version};
    if (request->wait_ms == 0) {
        return;
    }
    /* Half of the threads are left to publications; who finds no place is answered at once. */
    if (!http_gate_enter(GATE_KEY, (size_t)request->api->context.conf->http_waiters / 2 + 1)) {
        return;
    }
    waiting.ids = calloc(n + 1, sizeof(*waiting.ids));
    if (waiting.ids == NULL) {
        http_gate_leave(GATE_KEY);
        return;
    }
    memcpy(waiting.ids, ids, n * sizeof(*ids));
    int64_t deadline_ms = clock_ms() + request->wait_ms;
    for (unsigned look = 1; !must_end(&waiting, deadline_ms); look++) {
        size_t count = waiting.n < WINDOW ? waiting.n : WINDOW;
        bool all = look_here(&waiting, count);
        if (!all && look % LOOKS_PER_PEER == 0) {
            count = waiting.n < WINDOW ? waiting.n : WINDOW;
            all = look_everywhere(&waiting, count);
        }
        if (!all) {
            clock_sleep_ms(LOOK_MS);
        }
    }
    free(waiting.ids);
    http_gate_leave(GATE_KEY);
}
