/* Owns the tails and the feeds they get from other nodes. One thread, tails_add excepted. Must not
 * know what a message says.
 *
 *   SEEKING --runs here--> HERE --runs here no more--> SEEKING
 *      \-----runs elsewhere--> ELSEWHERE --feed ends--> SEEKING     (here_only: HERE --> over) */
#include "http/tails.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/secret_file.h"
#include "base/text.h"
#include "http/request.h"
#include "net/http_client.h"

#define LOOK_MS         1000  /* at streams, and at where a client runs */
#define REFUSED_MS      10000 /* until a node that refuses a feed is asked again */
#define SEEK_SOON_MS    200   /* when a client has just moved, or its node just went */
#define FEED_SILENCE_S  45    /* a node says something every 15 s */
#define EVENT_BYTES_MAX ((size_t)1024 * 1024)

enum tail_state { TAIL_SEEKING, TAIL_HERE, TAIL_ELSEWHERE };

struct tail {
    struct tails *tails;
    char *id;
    struct event_stream *stream;
    bool here_only;
    enum tail_state state;
    int64_t look_at_ms;
    const char *said; /* the last remark: none is made twice in a row */
    struct http_feed *feed;
    struct buffer event; /* of the feed, not whole yet */
    struct tail *prev, *next;
};

struct tails {
    struct tails_wiring wiring;
    struct http_client *client;
    atomic_bool stopping;
    struct tail *all; /* the thread's */

    pthread_mutex_t lock; /* guards the rest */
    struct tail *added;
};

/* ---- life ------------------------------------------------------------------------------------ */

struct tails *tails_create(const struct tails_wiring *wiring) {
    struct tails *tails = calloc(1, sizeof(*tails));
    if (tails == NULL) {
        return NULL;
    }
    pthread_mutex_init(&tails->lock, NULL);
    tails->wiring = *wiring;
    tails->client = http_client_create(wiring->conf->peer_timeout_ms, EVENT_BYTES_MAX,
                                       wiring->conf->fleet_ca_file);
    if (tails->client == NULL) {
        tails_destroy(tails);
        return NULL;
    }
    return tails;
}

static void feed_end(struct tail *tail) {
    http_feed_close(tail->feed);
    tail->feed = NULL;
    buffer_clear(&tail->event);
}

static void tail_destroy(struct tail *tail) {
    feed_end(tail);
    taps_remove(tail->tails->wiring.taps, tail->stream);
    event_stream_release(tail->stream);
    buffer_fini(&tail->event);
    free(tail->id);
    free(tail);
}

void tails_destroy(struct tails *tails) {
    struct tail *tail, *next;
    if (tails == NULL) {
        return;
    }
    DL_CONCAT(tails->all, tails->added);
    DL_FOREACH_SAFE(tails->all, tail, next) {
        tail_destroy(tail);
    }
    http_client_destroy(tails->client);
    pthread_mutex_destroy(&tails->lock);
    free(tails);
}

void tails_stop(struct tails *tails) {
    atomic_store(&tails->stopping, true);
    http_client_wake(tails->client);
}

/* ---- where the client is --------------------------------------------------------------------- */

static void remark(struct tail *tail, const char *text) {
    if (tail->said != text) {
        tail->said = text;
        event_stream_comment(tail->stream, text);
    }
}

static bool runs_here(const struct tail *tail) {
    struct client_status status;
    if (hosts_status(tail->tails->wiring.hosts, tail->id, &status) != ERR_OK) {
        return false;
    }
    client_status_fini(&status);
    return true;
}

static void tail_here(struct tail *tail) {
    if (taps_add(tail->tails->wiring.taps, tail->id, tail->stream) == ERR_OK) {
        tail->state = TAIL_HERE;
        remark(tail, "the client runs on this node");
    }
}

enum err tails_add(struct tails *tails, const char *id, struct event_stream *stream,
                   bool here_only) {
    struct tail *tail = calloc(1, sizeof(*tail));
    char *copy = text_dup(id);
    if (tail == NULL || copy == NULL) {
        free(tail);
        free(copy);
        event_stream_release(stream);
        return ERR_MEMORY;
    }
    tail->tails = tails;
    tail->id = copy;
    tail->stream = stream;
    tail->here_only = here_only;
    buffer_init(&tail->event);
    if (runs_here(tail)) { /* at once: what comes after the answer is not missed */
        tail_here(tail);
    }
    pthread_mutex_lock(&tails->lock);
    DL_APPEND(tails->added, tail);
    pthread_mutex_unlock(&tails->lock);
    http_client_wake(tails->client);
    return ERR_OK;
}

/* ---- from another node ----------------------------------------------------------------------- */

/* Comments are of the two nodes, not for the caller. */
static void pass_event(struct tail *tail, const char *text, size_t len) {
    if (text[0] != ':') {
        (void)event_stream_put(tail->stream, text, len);
    }
}

/* Passes whole events on, up to the blank line that ends each, and keeps the rest. */
static bool take_feed(void *context, const char *data, size_t len) {
    struct tail *tail = context;
    struct buffer *event = &tail->event;
    buffer_append(event, data, len);
    size_t done = 0;
    char *end;
    while (!event->failed && event->len > done &&
           (end = memmem(event->data + done, event->len - done, "\n\n", 2)) != NULL) {
        size_t event_len = (size_t)(end + 2 - (event->data + done));
        pass_event(tail, event->data + done, event_len);
        done += event_len;
    }
    if (done > 0) {
        memmove(event->data, event->data + done, event->len - done);
        event->len -= done;
        event->data[event->len] = '\0';
    }
    return !event->failed && event->len < EVENT_BYTES_MAX && !event_stream_is_over(tail->stream);
}

static const struct store_node *find_node(const struct store_node *nodes, size_t n,
                                          const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(nodes[i].name, name) == 0) {
            return &nodes[i];
        }
    }
    return NULL;
}

static void open_feed(struct tail *tail, const struct store_node *node) {
    struct tails *tails = tail->tails;
    char *escaped = http_percent_encode(tail->id);
    char *path = NULL, *url = NULL;
    if (escaped != NULL && asprintf(&path, "/api/v1/clients/%s/messages", escaped) >= 0) {
        url = peers_url(tails->wiring.peers, node->host, node->port, path);
    } else {
        path = NULL;
    }
    if (url != NULL) {
        struct peer_headers headers;
        peers_headers(tails->wiring.peers, &(struct peer_call){.incarnation = node->incarnation},
                      &headers);
        tail->feed =
            http_feed_open(tails->client, url, headers.lines, FEED_SILENCE_S, take_feed, tail);
        secret_wipe(&headers, sizeof(headers));
    }
    if (tail->feed != NULL) {
        tail->state = TAIL_ELSEWHERE;
        remark(tail, "the client runs on another node");
    }
    free(url);
    free(path);
    free(escaped);
}

static void follow_owner(struct tail *tail, const char *owner) {
    const struct tails_wiring *wiring = &tail->tails->wiring;
    struct store_node *nodes = NULL;
    size_t n = 0;
    if (strcmp(owner, wiring->conf->node_name) != 0 &&
        store_nodes(wiring->store, wiring->conf->heartbeat_ttl_ms, &nodes, &n, NULL) == ERR_OK) {
        const struct store_node *node = find_node(nodes, n, owner);
        if (node != NULL && node->beating) {
            open_feed(tail, node);
        }
        store_nodes_free(nodes, n);
    }
}

/* ---- moving on ------------------------------------------------------------------------------- */

static void seek(struct tail *tail) {
    struct store_client row = {0};
    enum err result = ERR_OK;
    if (runs_here(tail)) {
        tail_here(tail);
        return;
    }
    if (tail->here_only) {
        event_stream_end(tail->stream);
        return;
    }
    result = store_get(tail->tails->wiring.store, tail->id, &row);
    if (result == ERR_NOT_FOUND) {
        remark(tail, "there is no such client any more");
        event_stream_end(tail->stream);
    } else if (result != ERR_OK) {
        remark(tail, "Redis does not answer: where the client runs is not known");
    } else if (row.where == STORE_OWNED) {
        follow_owner(tail, row.owner.node);
    } else {
        remark(tail, "the client runs on no node now");
    }
    store_client_fini(&row);
}

static void seek_soon(struct tail *tail, int64_t now_ms) {
    tail->state = TAIL_SEEKING;
    tail->look_at_ms = now_ms + SEEK_SOON_MS;
}

static void move_on(struct tail *tail, int64_t now_ms) {
    long status;
    if (tail->state == TAIL_ELSEWHERE && http_feed_is_over(tail->feed, &status)) {
        feed_end(tail);
        seek_soon(tail, now_ms);
        if (status >= 400 && status != 404 && status != 409) { /* those: it has just moved */
            remark(tail, "the node of the client refuses to show its messages");
            tail->look_at_ms = now_ms + REFUSED_MS;
        }
    }
    if (now_ms < tail->look_at_ms) {
        return;
    }
    tail->look_at_ms = now_ms + LOOK_MS;
    if (tail->state == TAIL_SEEKING) {
        seek(tail);
    } else if (tail->state == TAIL_HERE && !runs_here(tail)) {
        taps_remove(tail->tails->wiring.taps, tail->stream);
        seek_soon(tail, now_ms);
    }
}

static void take_added(struct tails *tails) {
    pthread_mutex_lock(&tails->lock);
    DL_CONCAT(tails->all, tails->added);
    tails->added = NULL;
    pthread_mutex_unlock(&tails->lock);
}

/* Until when nothing is due. */
static int64_t wait_ms(const struct tails *tails, int64_t now_ms, int64_t tick_at_ms) {
    int64_t until_ms = tick_at_ms;
    const struct tail *tail;
    DL_FOREACH(tails->all, tail) {
        until_ms = tail->look_at_ms < until_ms ? tail->look_at_ms : until_ms;
    }
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

void *tails_run(void *argument) {
    struct tails *tails = argument;
    int64_t tick_at_ms = 0;
    while (!atomic_load(&tails->stopping)) {
        int64_t now_ms = clock_ms();
        struct tail *tail, *next;
        if (now_ms >= tick_at_ms) {
            tick_at_ms = now_ms + LOOK_MS;
            event_streams_tick(tails->wiring.streams);
        }
        take_added(tails);
        DL_FOREACH_SAFE(tails->all, tail, next) {
            if (event_stream_is_over(tail->stream)) {
                DL_DELETE(tails->all, tail);
                tail_destroy(tail);
            } else {
                move_on(tail, now_ms);
            }
        }
        http_client_follow(tails->client, wait_ms(tails, clock_ms(), tick_at_ms));
    }
    return NULL;
}
