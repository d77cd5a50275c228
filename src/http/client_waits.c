/* Owns who waits for which client. Any thread tells; workers begin waits and look. */
#include "http/client_waits.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/json_memory.h"
#include "base/text.h"
#include "cluster/peer_calls.h"
#include "http/api.h"
#include "http/pending.h"
#include "http/problem.h"
#include "http/workers.h"

#define LOOKS_PER_TURN 200   /* clients looked at before other tasks have their turn */
#define LISTEN_MS      10000 /* so long news are heard on after the last wait */
#define CALL_MS_MAX    2000

/* One client that one request waits for. */
struct item {
    struct client_wait *wait;
    char *id;
    bool told;                /* out of all lists */
    bool to_look;             /* in waits->looks */
    struct item *prev, *next; /* of the same client */
    struct item *look_prev, *look_next;
};

/* Those who wait for one client. */
struct watched {
    const char *id; /* of its first item */
    struct item *items;
    UT_hash_handle hh;
};

/* The wait of one request; freed with its pending. Under the lock of all. */
struct client_wait {
    struct client_waits *waits;
    struct pending *pending;
    struct client_wait_plan plan; /* without ids */
    struct item *items;
    size_t n, left;
    bool over;                /* whoever sets it lets go of the source's part of the pending */
    struct client_wait *next; /* of those that have just ended */
};

struct client_waits {
    const struct http_api *api;
    struct http_task look;
    atomic_size_t count; /* of items, so that it costs a load while nobody waits */

    pthread_mutex_t lock; /* guards the rest */
    struct watched *watched;
    struct item *looks; /* still to be looked at */
    bool looking;       /* the task is queued or runs */
    bool listening;     /* to the news */
    int64_t idle_since_ms;
};

/* ---- life ------------------------------------------------------------------------------------ */

struct client_waits *client_waits_create(const struct http_api *api) {
    struct client_waits *waits = calloc(1, sizeof *waits);
    if (waits) {
        waits->api = api;
        pthread_mutex_init(&waits->lock, NULL);
    }
    return waits;
}

void client_waits_destroy(struct client_waits *waits) {
    if (waits) {
        pthread_mutex_destroy(&waits->lock);
        free(waits);
    }
}

static void client_wait_free_context(struct client_wait *wait) {
    if (wait->plan.free_context && wait->plan.context) {
        wait->plan.free_context(wait->plan.context);
    }
    wait->plan.context = NULL;
}

static void client_wait_free(void *data) {
    struct client_wait *wait = data;
    for (size_t i = 0; i < wait->n; i++) {
        free(wait->items[i].id);
    }
    client_wait_free_context(wait);
    free(wait->items);
    free(wait);
}

/* NULL: out of memory; the plan's context is still its owner's. */
static struct client_wait *client_wait_create(struct client_waits *waits,
                                              const struct client_wait_plan *plan) {
    struct client_wait *wait = calloc(1, sizeof *wait);
    if (!wait) {
        return NULL;
    }
    wait->waits = waits;
    wait->items = calloc(plan->n, sizeof *wait->items);
    for (size_t i = 0; wait->items && i < plan->n; i++) {
        wait->items[i] = (struct item){.wait = wait, .id = text_dup(plan->ids[i])};
        if (!wait->items[i].id) {
            break;
        }
        wait->n++;
    }
    if (wait->n < plan->n) {
        client_wait_free(wait);
        return NULL;
    }
    wait->plan = *plan;
    wait->plan.ids = NULL;
    wait->left = wait->n;
    return wait;
}

/* ---- lists: under the lock ------------------------------------------------------------------- */

static void item_leave(struct client_waits *waits, struct watched *watched, struct item *item) {
    DL_DELETE(watched->items, item);
    if (item->to_look) {
        item->to_look = false;
        DL_DELETE2(waits->looks, item, look_prev, look_next);
    }
    item->told = true;
    atomic_fetch_sub(&waits->count, 1);
    if (watched->items) {
        watched->id = watched->items->id;
        HASH_DEL(waits->watched, watched);
        HASH_ADD_KEYPTR(hh, waits->watched, watched->id, strlen(watched->id), watched);
    } else {
        HASH_DEL(waits->watched, watched);
        free(watched);
    }
}

/* False: out of memory. */
static bool item_enter(struct client_waits *waits, struct item *item) {
    struct watched *watched;
    HASH_FIND_STR(waits->watched, item->id, watched);
    if (!watched) {
        watched = calloc(1, sizeof *watched);
        if (!watched) {
            return false;
        }
        watched->id = item->id;
        HASH_ADD_KEYPTR(hh, waits->watched, watched->id, strlen(watched->id), watched);
    }
    DL_APPEND(watched->items, item);
    item->to_look = true;
    DL_APPEND2(waits->looks, item, look_prev, look_next);
    atomic_fetch_add(&waits->count, 1);
    return true;
}

/* What is not entered counts as told: it is not waited for. */
static void wait_enter(struct client_wait *wait) {
    for (size_t i = 0; i < wait->n; i++) {
        if (!item_enter(wait->waits, &wait->items[i])) {
            wait->items[i].told = true;
            wait->left--;
        }
    }
}

static void wait_leave(struct client_wait *wait) {
    struct client_waits *waits = wait->waits;
    for (size_t i = 0; i < wait->n; i++) {
        struct item *item = &wait->items[i];
        struct watched *watched;
        if (!item->told) {
            HASH_FIND_STR(waits->watched, item->id, watched);
            item_leave(waits, watched, item);
        }
    }
    if (!waits->watched) {
        waits->idle_since_ms = clock_ms();
    }
}

/* ---- telling --------------------------------------------------------------------------------- */

static bool is_settled(const char *shown) {
    static const char *const states[] = {"online", "backoff", "conflict", "paused", "deleted"};
    for (size_t i = 0; shown && i < sizeof states / sizeof *states; i++) {
        if (strcmp(shown, states[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Under the lock: takes out who waited for that; those with nothing left are chained. */
static struct client_wait *collect_told(struct client_waits *waits, const char *id,
                                        int64_t version) {
    struct client_wait *chain = NULL;
    struct watched *watched;
    HASH_FIND_STR(waits->watched, id, watched);
    struct item *item = watched ? watched->items : NULL;
    while (item) {
        struct item *next = item->next;
        struct client_wait *wait = item->wait;
        if (version >= wait->plan.version) {
            item_leave(waits, watched, item); /* with the last one `watched` goes */
            if (--wait->left == 0 && !wait->over) {
                wait->over = true;
                wait->next = chain;
                chain = wait;
            }
        }
        item = next;
    }
    if (!waits->watched) {
        waits->idle_since_ms = clock_ms();
    }
    return chain;
}

static void end_chain(struct client_wait *chain) {
    while (chain) {
        struct pending *pending = chain->pending;
        chain = chain->next;
        if (pending_claim(pending)) {
            pending_resume(pending);
        } else {
            pending_drop(pending);
        }
    }
}

void client_waits_tell(struct client_waits *waits, const char *id, const char *shown,
                       int64_t version) {
    if (atomic_load(&waits->count) == 0 || !is_settled(shown)) {
        return;
    }
    pthread_mutex_lock(&waits->lock);
    struct client_wait *chain = collect_told(waits, id, version);
    pthread_mutex_unlock(&waits->lock);
    end_chain(chain);
}

/* ---- looking: a worker ----------------------------------------------------------------------- */

/* What an owner says of its clients. On the thread of the calls. */
static void statuses_came(struct peer_call *call, void *context) {
    struct client_waits *waits = context;
    json_t *answer = call->result == ERR_OK && call->status == 200 && call->answer.data
                         ? json_of_text(call->answer.data, call->answer.len, 0)
                         : NULL;
    const char *id;
    json_t *status;
    json_object_foreach(json_object_get(answer, "statuses"), id, status) {
        client_waits_tell(waits, id, json_string_value(json_object_get(status, "state")),
                          json_integer_value(json_object_get(status, "version")));
    }
    json_decref(answer);
}

/* asked: node -> ids, as {"node": ["id", ...]}. */
static void ask_owners(struct client_waits *waits, const json_t *asked) {
    const struct http_context *context = &waits->api->context;
    struct store_node *nodes = NULL;
    size_t n = 0;
    if (json_object_size(asked) == 0 ||
        store_nodes(context->store, context->conf->heartbeat_ttl_ms, &nodes, &n, NULL) != ERR_OK) {
        return;
    }
    int64_t timeout_ms = context->conf->peer_timeout_ms;
    for (size_t i = 0; i < n; i++) {
        json_t *ids = json_object_get(asked, nodes[i].name);
        json_t *document = ids && nodes[i].beating ? json_pack("{s:O}", "ids", ids) : NULL;
        char *body = document ? json_text(document, JSON_COMPACT) : NULL;
        if (body) {
            const struct peer_call call = {.host = nodes[i].host,
                                           .port = nodes[i].port,
                                           .incarnation = nodes[i].incarnation,
                                           .method = "POST",
                                           .path = "/fleet/statuses",
                                           .body = body,
                                           .body_len = strlen(body)};
            enum err ignored = /* news tell, if not the owner itself */
                peer_calls_post(context->calls, &call,
                                timeout_ms < CALL_MS_MAX ? timeout_ms : CALL_MS_MAX, statuses_came,
                                waits);
            (void)ignored;
        }
        free(body);
        json_decref(document);
    }
    store_nodes_free(nodes, n);
}

static bool look_here(struct client_waits *waits, const char *id) {
    struct client_status status;
    if (hosts_status(waits->api->context.hosts, id, &status) != ERR_OK) {
        return false;
    }
    client_waits_tell(waits, id, client_state_shown(status.state), status.version);
    client_status_fini(&status);
    return true;
}

/* Runs nowhere, or on another node. */
static void look_elsewhere(struct client_waits *waits, const char *id, json_t *asked) {
    struct store_client row;
    enum err result = store_get(waits->api->context.store, id, &row);
    if (result == ERR_NOT_FOUND) {
        client_waits_tell(waits, id, "deleted", INT64_MAX);
    } else if (result == ERR_OK && row.where == STORE_OWNED) {
        json_t *ids = json_object_get(asked, row.owner.node);
        if (!ids) {
            ids = json_array();
            json_object_set_new(asked, row.owner.node, ids);
        }
        json_array_append_new(ids, json_string(id));
    } else if (result == ERR_OK && row.attempt_code) {
        client_waits_tell(waits, id, "backoff", row.version);
    }
    store_client_fini(&row);
}

/* A copy of the id that is looked at next; NULL: none, and the task ends. */
static char *look_next(struct client_waits *waits) {
    pthread_mutex_lock(&waits->lock);
    struct item *item = waits->looks;
    char *id = item ? text_dup(item->id) : NULL;
    if (item) {
        item->to_look = false;
        DL_DELETE2(waits->looks, item, look_prev, look_next);
    }
    waits->looking = id != NULL;
    pthread_mutex_unlock(&waits->lock);
    return id;
}

static void look_run(struct http_task *task) {
    struct client_waits *waits =
        (struct client_waits *)(void *)((char *)task - offsetof(struct client_waits, look));
    json_t *asked = json_object();
    char *id = NULL;
    for (size_t n = 0; n < LOOKS_PER_TURN && (id = look_next(waits)); n++) {
        if (!look_here(waits, id)) {
            look_elsewhere(waits, id, asked);
        }
        free(id);
    }
    ask_owners(waits, asked);
    json_decref(asked);
    if (id && http_workers_push_on(waits->api->workers, &waits->look) != ERR_OK) {
        pthread_mutex_lock(&waits->lock);
        waits->looking = false; /* the server stops */
        pthread_mutex_unlock(&waits->lock);
    }
}

/* Under the lock. */
static void look_soon(struct client_waits *waits) {
    if (!waits->looking && waits->looks) {
        waits->look.run = look_run;
        waits->looking = http_workers_push_on(waits->api->workers, &waits->look) == ERR_OK;
    }
}

static void look_at_all(struct client_waits *waits) {
    struct watched *watched, *next;
    pthread_mutex_lock(&waits->lock);
    HASH_ITER(hh, waits->watched, watched, next) {
        struct item *item;
        DL_FOREACH(watched->items, item) {
            if (!item->to_look) {
                item->to_look = true;
                DL_APPEND2(waits->looks, item, look_prev, look_next);
            }
        }
    }
    look_soon(waits);
    pthread_mutex_unlock(&waits->lock);
}

/* ---- news: their thread ---------------------------------------------------------------------- */

static void news_heard(void *context, const struct news_item *item) {
    struct client_waits *waits = context;
    if (item->kind == NEWS_CLIENT) {
        client_waits_tell(waits, item->subject, item->state, item->version);
    } else if (item->kind == NEWS_DROPPED || item->complete) {
        look_at_all(waits);
    }
}

static bool news_over(void *context) {
    struct client_waits *waits = context;
    pthread_mutex_lock(&waits->lock);
    bool over = !waits->watched && clock_ms() - waits->idle_since_ms >= LISTEN_MS;
    if (over) {
        waits->listening = false;
    }
    pthread_mutex_unlock(&waits->lock);
    return over;
}

static void news_forget(void *context) {
    (void)context;
}

/* Without news the look still finds what is so by then. */
static void listen_to_news(struct client_waits *waits) {
    pthread_mutex_lock(&waits->lock);
    bool begins = !waits->listening;
    waits->listening = true;
    waits->idle_since_ms = clock_ms();
    pthread_mutex_unlock(&waits->lock);
    const struct news_listener listener = {waits, news_heard, news_over, news_forget};
    if (begins && news_listen(waits->api->context.news, &listener) != ERR_OK) {
        pthread_mutex_lock(&waits->lock);
        waits->listening = false;
        pthread_mutex_unlock(&waits->lock);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void client_wait_ended(struct http_request *request, struct http_response *response,
                              enum pending_end end, void *data) {
    struct client_wait *wait = data;
    (void)end;
    pthread_mutex_lock(&wait->waits->lock);
    bool mine = !wait->over;
    wait->over = true;
    wait_leave(wait);
    pthread_mutex_unlock(&wait->waits->lock);
    if (mine) {
        pending_drop(wait->pending);
    }
    wait->plan.then(request, response, wait->plan.context);
    client_wait_free_context(wait); /* here, not where the last teller happens to let go */
}

/* After the request has its pending, which may end at once. */
static void client_wait_begin(struct client_wait *wait) {
    struct client_waits *waits = wait->waits;
    bool none = false;
    listen_to_news(waits); /* before the look, so that nothing falls between */
    pthread_mutex_lock(&waits->lock);
    wait_enter(wait);
    if (wait->left == 0) {
        wait->over = none = true;
    }
    look_soon(waits);
    pthread_mutex_unlock(&waits->lock);
    if (none) {
        wait->next = NULL;
        end_chain(wait);
    }
}

void clients_wait(struct http_request *request, struct http_response *response,
                  const struct client_wait_plan *plan) {
    struct client_waits *waits = request->api->waits;
    struct client_wait *wait = NULL;
    if (request->wait_ms > 0 && plan->n > 0) {
        wait = client_wait_create(waits, plan);
    }
    if (!wait) { /* also without memory: what is so now is answered */
        plan->then(request, response, plan->context);
        if (plan->free_context && plan->context) {
            plan->free_context(plan->context);
        }
        return;
    }
    struct pending_plan pending = {.timeout_ms = request->wait_ms,
                                   .flags = PENDING_HEEDS_STOP,
                                   .then = client_wait_ended,
                                   .data = wait,
                                   .free_data = client_wait_free};
    struct pending *begun = pending_begin(request, response, &pending);
    if (begun) { /* else the wait was freed */
        wait->pending = begun;
        client_wait_begin(wait);
    }
}
