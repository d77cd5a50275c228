/* Owns the tails and their feeds from other nodes. The streams thread, except tail_follower_add.
 *
 *   LOCATING --runs here--> LOCAL --left this node--> LOCATING      (local_only: LOCAL --> ended)
 *       \----runs elsewhere--> REMOTE --feed ends--> LOCATING */
#include "http/streams/tail_follower.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/percent.h"
#include "base/system/clock.h"
#include "base/secrets/secret_file.h"
#include "base/text.h"
#include "http/server/request.h"
#include "net/http_client.h"

#define TAIL_CHECK_MS      1000  /* at streams, and at where a client runs */
#define REFUSED_MS         10000 /* before a refused feed is requested again */
#define LOCATE_SOON_MS     200   /* after a client has moved, or its node has gone */
#define FEED_SILENCE_S_MAX 45    /* nodes send a keep-alive every 15 s */
#define EVENT_BYTES_MAX    ((size_t)1024 * 1024)

enum tail_state { TAIL_LOCATING, TAIL_LOCAL, TAIL_REMOTE };

struct tail {
    struct tail_follower *follower;
    char *id;
    struct scope scope;
    struct event_stream *stream;
    bool local_only;
    enum tail_state state;
    int64_t check_at_ms;
    const char *last_status; /* last comment; not repeated */
    struct http_client_stream *feed;
    struct buffer event; /* of the feed, not complete yet */
    struct tail *prev, *next;
};

struct tail_follower {
    struct tail_follower_wiring wiring;
    struct http_client *http_client;
    atomic_bool stopping;
    struct tail *all; /* used by the thread only */

    pthread_mutex_t lock; /* guards the rest */
    struct tail *posted;
};

/* ---- life ------------------------------------------------------------------------------------ */

struct tail_follower *tail_follower_create(const struct tail_follower_wiring *wiring) {
    struct tail_follower *follower = calloc(1, sizeof *follower);
    if (!follower) {
        return NULL;
    }
    pthread_mutex_init(&follower->lock, NULL);
    follower->wiring = *wiring;
    follower->http_client = http_client_create(
        &(struct http_client_options){.timeout_ms = wiring->conf->peer_timeout_ms,
                                      .response_bytes_max = EVENT_BYTES_MAX,
                                      .ca = wiring->conf->fleet_ca_file});
    if (!follower->http_client) {
        tail_follower_destroy(follower);
        return NULL;
    }
    return follower;
}

static void tail_follower_close_feed(struct tail *tail) {
    http_client_close_stream(tail->feed);
    tail->feed = NULL;
    buffer_clear(&tail->event);
}

static void tail_follower_free_tail(struct tail *tail) {
    tail_follower_close_feed(tail);
    message_taps_remove(tail->follower->wiring.message_taps, tail->stream);
    event_stream_release(tail->stream);
    buffer_fini(&tail->event);
    free(tail->id);
    free(tail);
}

void tail_follower_destroy(struct tail_follower *follower) {
    struct tail *tail, *next;
    if (!follower) {
        return;
    }
    DL_CONCAT(follower->all, follower->posted);
    DL_FOREACH_SAFE(follower->all, tail, next) {
        tail_follower_free_tail(tail);
    }
    http_client_destroy(follower->http_client);
    pthread_mutex_destroy(&follower->lock);
    free(follower);
}

void tail_follower_stop(struct tail_follower *follower) {
    atomic_store(&follower->stopping, true);
    http_client_wake(follower->http_client);
}

/* ---- local client ---------------------------------------------------------------------------- */

static void tail_follower_put_status(struct tail *tail, const char *text) {
    if (tail->last_status != text) {
        tail->last_status = text;
        event_stream_comment(tail->stream, text);
    }
}

static bool tail_follower_runs_locally(const struct tail *tail) {
    struct client_status status;
    if (workers_status(tail->follower->wiring.workers, tail->id, &status) != ERR_OK) {
        return false;
    }
    client_status_fini(&status);
    return true;
}

static void tail_follower_attach_local(struct tail *tail) {
    if (message_taps_add(tail->follower->wiring.message_taps, tail->id, &tail->scope,
                         tail->stream) == ERR_OK) {
        tail->state = TAIL_LOCAL;
        tail_follower_put_status(tail, "the client runs on this node");
    }
}

enum err tail_follower_add(struct tail_follower *follower, const char *id,
                           const struct scope *scope, struct event_stream *stream,
                           bool local_only) {
    struct tail *tail = calloc(1, sizeof *tail);
    char *copy = text_dup(id);
    if (!tail || !copy) {
        free(tail);
        free(copy);
        event_stream_release(stream);
        return ERR_MEMORY;
    }
    tail->follower = follower;
    tail->id = copy;
    tail->scope = *scope;
    tail->stream = stream;
    tail->local_only = local_only;
    buffer_init(&tail->event);
    if (tail_follower_runs_locally(tail)) { /* at once: no message after the answer is missed */
        tail_follower_attach_local(tail);
    }
    pthread_mutex_lock(&follower->lock);
    DL_APPEND(follower->posted, tail);
    pthread_mutex_unlock(&follower->lock);
    http_client_wake(follower->http_client);
    return ERR_OK;
}

/* ---- from another node ----------------------------------------------------------------------- */

/* Comments are for this node, not for the caller. */
static void tail_follower_forward_event(struct tail *tail, const char *text, size_t len) {
    if (text[0] != ':') {
        (void)event_stream_put(tail->stream, text, len);
    }
}

/* Forwards complete events, each up to its blank line, and keeps the rest. */
static bool tail_follower_read_feed(void *context, const char *data, size_t len) {
    struct tail *tail = context;
    struct buffer *event = &tail->event;
    buffer_append(event, data, len);
    size_t done = 0;
    char *end;
    while (!event->failed && event->len > done &&
           (end = memmem(event->data + done, event->len - done, "\n\n", 2))) {
        size_t event_len = (size_t)(end + 2 - (event->data + done));
        tail_follower_forward_event(tail, event->data + done, event_len);
        done += event_len;
    }
    if (done > 0) {
        memmove(event->data, event->data + done, event->len - done);
        event->len -= done;
        event->data[event->len] = '\0';
    }
    return !event->failed && event->len < EVENT_BYTES_MAX && !event_stream_is_ended(tail->stream);
}

static const struct store_node *tail_follower_find_node(const struct store_node *nodes, size_t n,
                                                        const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(nodes[i].name, name) == 0) {
            return &nodes[i];
        }
    }
    return NULL;
}

static void tail_follower_open_feed(struct tail *tail, const struct store_node *node) {
    struct tail_follower *follower = tail->follower;
    char *escaped = percent_encode(tail->id);
    char *path = NULL, *url = NULL;
    if (escaped && asprintf(&path, "/api/v1/clients/%s/messages", escaped) >= 0) {
        url = peers_url(follower->wiring.peers, node->host, node->port, path);
    } else {
        path = NULL;
    }
    if (url) {
        struct peer_headers headers;
        char scope[SCOPE_TEXT_LEN];
        scope_format(&tail->scope, scope);
        peers_headers(follower->wiring.peers,
                      &(struct peer_call){.incarnation = node->incarnation, .scope = scope},
                      &headers);
        tail->feed = http_client_open_stream(follower->http_client, url, headers.lines,
                                             FEED_SILENCE_S_MAX, tail_follower_read_feed, tail);
        secret_wipe(&headers, sizeof(headers));
    }
    if (tail->feed) {
        tail->state = TAIL_REMOTE;
        tail_follower_put_status(tail, "the client runs on another node");
    }
    free(url);
    free(path);
    free(escaped);
}

static void tail_follower_connect_owner(struct tail *tail, const char *owner) {
    const struct tail_follower_wiring *wiring = &tail->follower->wiring;
    struct store_node *nodes = NULL;
    size_t n = 0;
    if (strcmp(owner, wiring->conf->node_name) != 0 &&
        store_nodes(wiring->store, wiring->conf->heartbeat_ttl_ms, &nodes, &n, NULL) == ERR_OK) {
        const struct store_node *node = tail_follower_find_node(nodes, n, owner);
        if (node && node->heartbeat_valid) {
            tail_follower_open_feed(tail, node);
        }
        store_nodes_free(nodes, n);
    }
}

/* ---- following ------------------------------------------------------------------------------- */

static void tail_follower_locate(struct tail *tail) {
    struct store_client row = {0};
    enum err err = ERR_OK;
    if (tail_follower_runs_locally(tail)) {
        tail_follower_attach_local(tail);
        return;
    }
    if (tail->local_only) {
        event_stream_end(tail->stream);
        return;
    }
    err = store_get(tail->follower->wiring.store, tail->id, &row);
    bool included =
        err == ERR_OK && scope_includes_text(&tail->scope, row.id, row.config, row.config_len);
    if (err == ERR_NOT_FOUND || (err == ERR_OK && !included)) {
        tail_follower_put_status(tail, "the client no longer exists");
        event_stream_end(tail->stream);
    } else if (err != ERR_OK) {
        tail_follower_put_status(tail, "Redis does not answer: the node of the client is unknown");
    } else if (row.state == STORE_OWNED) {
        tail_follower_connect_owner(tail, row.owner.node);
    } else {
        tail_follower_put_status(tail, "the client currently runs on no node");
    }
    store_client_fini(&row);
}

static void tail_follower_locate_soon(struct tail *tail, int64_t now_ms) {
    tail->state = TAIL_LOCATING;
    tail->check_at_ms = now_ms + LOCATE_SOON_MS;
}

static void tail_follower_advance(struct tail *tail, int64_t now_ms) {
    long status;
    if (tail->state == TAIL_REMOTE && http_client_stream_has_ended(tail->feed, &status)) {
        tail_follower_close_feed(tail);
        tail_follower_locate_soon(tail, now_ms);
        if (status >= 400 && status != 404 &&
            status != 409) { /* 404, 409: the client has just moved */
            tail_follower_put_status(tail, "the node of the client refuses to show its messages");
            tail->check_at_ms = now_ms + REFUSED_MS;
        }
    }
    if (now_ms < tail->check_at_ms) {
        return;
    }
    tail->check_at_ms = now_ms + TAIL_CHECK_MS;
    if (tail->state == TAIL_LOCATING) {
        tail_follower_locate(tail);
    } else if (tail->state == TAIL_LOCAL && !tail_follower_runs_locally(tail)) {
        message_taps_remove(tail->follower->wiring.message_taps, tail->stream);
        tail_follower_locate_soon(tail, now_ms);
    }
}

static void tail_follower_take_added(struct tail_follower *follower) {
    pthread_mutex_lock(&follower->lock);
    DL_CONCAT(follower->all, follower->posted);
    follower->posted = NULL;
    pthread_mutex_unlock(&follower->lock);
}

/* How long nothing is due. */
static int64_t tail_follower_wait_ms(const struct tail_follower *follower, int64_t now_ms,
                                     int64_t tick_at_ms) {
    int64_t until_ms = tick_at_ms;
    const struct tail *tail;
    DL_FOREACH(follower->all, tail) {
        until_ms = tail->check_at_ms < until_ms ? tail->check_at_ms : until_ms;
    }
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

void *tail_follower_run(void *argument) {
    struct tail_follower *follower = argument;
    int64_t tick_at_ms = 0;
    while (!atomic_load(&follower->stopping)) {
        int64_t now_ms = clock_ms();
        struct tail *tail, *next;
        if (now_ms >= tick_at_ms) {
            tick_at_ms = now_ms + TAIL_CHECK_MS;
            event_streams_tick(follower->wiring.streams);
        }
        tail_follower_take_added(follower);
        DL_FOREACH_SAFE(follower->all, tail, next) {
            if (event_stream_is_ended(tail->stream)) {
                DL_DELETE(follower->all, tail);
                tail_follower_free_tail(tail);
            } else {
                tail_follower_advance(tail, now_ms);
            }
        }
        http_client_poll(follower->http_client,
                         tail_follower_wait_ms(follower, clock_ms(), tick_at_ms));
    }
    return NULL;
}
