/* Owns the waits of requests for clients. Any thread notifies; handler threads begin waits and
 * check clients; the event bus thread delivers events. */
#include "http/api/clients/client_waits.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "cluster/peers/peer_calls.h"
#include "http/api/api.h"
#include "http/api/peer_wait.h"
#include "http/server/pending.h"
#include "http/server/problem.h"
#include "http/server/handler_pool.h"

#define CHECKS_PER_TURN_MAX 200   /* clients checked before other handler tasks run */
#define LISTEN_IDLE_MS      10000 /* how long the listener stays after the last wait */

enum wait_item_state {
    WAIT_ITEM_WATCHED, /* in the list of its client */
    WAIT_ITEM_CHECK,   /* in waits->to_check as well */
    WAIT_ITEM_SETTLED  /* notified; in no list */
};

/* One client that one request waits for. */
struct wait_item {
    struct client_wait *wait;
    char *id;
    enum wait_item_state state;
    struct wait_item *prev, *next; /* of the same client */
    struct wait_item *check_prev, *check_next;
};

/* All waits for one client. */
struct watched_client {
    const char *id; /* of its first item */
    struct wait_item *items;
    UT_hash_handle hh;
};

/* The wait of one request; freed with its pending. Guarded by the lock of client_waits. */
struct client_wait {
    struct client_waits *owner;
    struct pending *pending;
    struct client_wait_plan plan; /* without ids */
    struct wait_item *items;
    size_t item_count, unsettled_count;
    bool ended; /* the thread that sets it drops the source's reference to the pending */
    struct client_wait *next; /* in the chain of ended waits */
};

struct client_waits {
    const struct http_api *api;
    struct handler_task check_task;
    atomic_size_t item_count; /* number of items: without waits, a notification costs one load */

    pthread_mutex_t lock; /* guards the rest */
    struct watched_client *watched;
    struct wait_item *to_check; /* clients to be checked */
    bool check_queued;          /* the task is queued or runs */
    bool listening;             /* to the event bus */
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
    for (size_t i = 0; i < wait->item_count; i++) {
        free(wait->items[i].id);
    }
    client_wait_free_context(wait);
    free(wait->items);
    free(wait);
}

/* NULL: out of memory; the context of the plan is not taken over. */
static struct client_wait *client_wait_create(struct client_waits *waits,
                                              const struct client_wait_plan *plan) {
    struct client_wait *wait = calloc(1, sizeof *wait);
    if (!wait) {
        return NULL;
    }
    wait->owner = waits;
    wait->items = calloc(plan->n, sizeof *wait->items);
    for (size_t i = 0; wait->items && i < plan->n; i++) {
        wait->items[i] = (struct wait_item){.wait = wait, .id = text_dup(plan->ids[i])};
        if (!wait->items[i].id) {
            break;
        }
        wait->item_count++;
    }
    if (wait->item_count < plan->n) {
        client_wait_free(wait);
        return NULL;
    }
    wait->plan = *plan;
    wait->plan.ids = NULL;
    wait->unsettled_count = wait->item_count;
    return wait;
}

/* ---- lists: under the lock ------------------------------------------------------------------- */

static void client_waits_item_remove(struct client_waits *waits,
                                     struct watched_client *watched_client,
                                     struct wait_item *item) {
    DL_DELETE(watched_client->items, item);
    if (item->state == WAIT_ITEM_CHECK) {
        DL_DELETE2(waits->to_check, item, check_prev, check_next);
    }
    item->state = WAIT_ITEM_SETTLED;
    atomic_fetch_sub(&waits->item_count, 1);
    if (watched_client->items) {
        watched_client->id = watched_client->items->id;
        HASH_DEL(waits->watched, watched_client);
        HASH_ADD_KEYPTR(hh, waits->watched, watched_client->id, strlen(watched_client->id),
                        watched_client);
    } else {
        HASH_DEL(waits->watched, watched_client);
        free(watched_client);
    }
}

/* False: out of memory. */
static bool client_waits_item_add(struct client_waits *waits, struct wait_item *item) {
    struct watched_client *watched_client;
    HASH_FIND_STR(waits->watched, item->id, watched_client);
    if (!watched_client) {
        watched_client = calloc(1, sizeof *watched_client);
        if (!watched_client) {
            return false;
        }
        watched_client->id = item->id;
        HASH_ADD_KEYPTR(hh, waits->watched, watched_client->id, strlen(watched_client->id),
                        watched_client);
    }
    DL_APPEND(watched_client->items, item);
    item->state = WAIT_ITEM_CHECK;
    DL_APPEND2(waits->to_check, item, check_prev, check_next);
    atomic_fetch_add(&waits->item_count, 1);
    return true;
}

/* A client that cannot be added counts as notified. */
static void client_wait_add_items(struct client_wait *wait) {
    for (size_t i = 0; i < wait->item_count; i++) {
        if (!client_waits_item_add(wait->owner, &wait->items[i])) {
            wait->items[i].state = WAIT_ITEM_SETTLED;
            wait->unsettled_count--;
        }
    }
}

static void client_wait_remove_items(struct client_wait *wait) {
    struct client_waits *waits = wait->owner;
    for (size_t i = 0; i < wait->item_count; i++) {
        struct wait_item *item = &wait->items[i];
        struct watched_client *watched_client;
        if (item->state != WAIT_ITEM_SETTLED) {
            HASH_FIND_STR(waits->watched, item->id, watched_client);
            client_waits_item_remove(waits, watched_client, item);
        }
    }
    if (!waits->watched) {
        waits->idle_since_ms = clock_ms();
    }
}

/* ---- notifications --------------------------------------------------------------------------- */

static bool client_waits_is_settled(const char *shown) {
    static const char *const states[] = {"online", "backoff", "conflict", "paused", "deleted"};
    for (size_t i = 0; shown && i < sizeof states / sizeof *states; i++) {
        if (strcmp(shown, states[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Under the lock. Removes the items that waited for this state, and chains the waits that end. */
static struct client_wait *client_waits_collect_settled(struct client_waits *waits, const char *id,
                                                        int64_t version) {
    struct client_wait *chain = NULL;
    struct watched_client *watched_client;
    HASH_FIND_STR(waits->watched, id, watched_client);
    struct wait_item *item = watched_client ? watched_client->items : NULL;
    while (item) {
        struct wait_item *next = item->next;
        struct client_wait *wait = item->wait;
        if (version >= wait->plan.version) {
            client_waits_item_remove(waits, watched_client,
                                     item); /* the last removal frees `watched` */
            if (--wait->unsettled_count == 0 && !wait->ended) {
                wait->ended = true;
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

static void client_waits_resume_chain(struct client_wait *chain) {
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

void client_waits_notify(struct client_waits *waits, const char *id, const char *shown,
                         int64_t version) {
    if (atomic_load(&waits->item_count) == 0 || !client_waits_is_settled(shown)) {
        return;
    }
    pthread_mutex_lock(&waits->lock);
    struct client_wait *chain = client_waits_collect_settled(waits, id, version);
    pthread_mutex_unlock(&waits->lock);
    client_waits_resume_chain(chain);
}

/* ---- checks: handler threads ----------------------------------------------------------------- */

/* The answer of an owner about its clients. On the peer calls thread. */
static void client_waits_on_statuses(struct peer_call *call, void *context) {
    struct client_waits *waits = context;
    json_t *answer = call->result == ERR_OK && call->status == 200 && call->answer.data
                         ? json_from_text(call->answer.data, call->answer.len, 0)
                         : NULL;
    const char *id;
    json_t *status;
    json_object_foreach(json_object_get(answer, "statuses"), id, status) {
        client_waits_notify(waits, id, json_string_value(json_object_get(status, "state")),
                            json_integer_value(json_object_get(status, "version")));
    }
    json_decref(answer);
}

/* asked: node -> ids, as {"node": ["id", ...]}. */
static void client_waits_ask_owners(struct client_waits *waits, const json_t *asked) {
    const struct http_context *context = &waits->api->context;
    struct store_node *nodes = NULL;
    size_t n = 0;
    if (json_object_size(asked) == 0 ||
        store_nodes(context->store, context->conf->heartbeat_ttl_ms, &nodes, &n, NULL) != ERR_OK) {
        return;
    }
    int64_t timeout_ms = peer_wait_short_ms(context->conf);
    for (size_t i = 0; i < n; i++) {
        json_t *ids = json_object_get(asked, nodes[i].name);
        bool asks = ids && nodes[i].state != STORE_NODE_DEAD;
        json_t *document = asks ? json_pack("{s:O}", "ids", ids) : NULL;
        char *body = document ? json_to_text(document, JSON_COMPACT) : NULL;
        if (body) {
            const struct peer_call call = {.host = nodes[i].host,
                                           .port = nodes[i].port,
                                           .incarnation = nodes[i].incarnation,
                                           .method = "POST",
                                           .path = "/fleet/statuses",
                                           .body = body,
                                           .body_len = strlen(body)};
            enum err err = /* without an answer, events notify */
                peer_calls_post(context->peer_calls, &call, timeout_ms, client_waits_on_statuses,
                                waits);
            (void)err;
        }
        free(body);
        json_decref(document);
    }
    store_nodes_free(nodes, n);
}

static bool client_waits_check_local(struct client_waits *waits, const char *id) {
    struct client_status status;
    if (workers_status(waits->api->context.workers, id, &status) != ERR_OK) {
        return false;
    }
    client_waits_notify(waits, id, client_state_shown(status.state), status.version);
    client_status_fini(&status);
    return true;
}

/* Runs nowhere, or on another node. */
static void client_waits_check_remote(struct client_waits *waits, const char *id, json_t *asked) {
    struct store_client row;
    enum err err = store_get(waits->api->context.store, id, &row);
    if (err == ERR_NOT_FOUND) {
        client_waits_notify(waits, id, "deleted", INT64_MAX);
    } else if (err == ERR_OK && row.state == STORE_OWNED) {
        json_t *ids = json_object_get(asked, row.owner.node);
        if (!ids) {
            ids = json_array();
            json_object_set_new(asked, row.owner.node, ids);
        }
        json_array_append_new(ids, json_string(id));
    } else if (err == ERR_OK && row.attempt_code) {
        client_waits_notify(waits, id, "backoff", row.version);
    }
    store_client_fini(&row);
}

/* A copy of the next id to check; NULL: none, and the task ends. */
static char *client_waits_next_check(struct client_waits *waits) {
    pthread_mutex_lock(&waits->lock);
    struct wait_item *item = waits->to_check;
    char *id = item ? text_dup(item->id) : NULL;
    if (item) {
        item->state = WAIT_ITEM_WATCHED;
        DL_DELETE2(waits->to_check, item, check_prev, check_next);
    }
    waits->check_queued = id != NULL;
    pthread_mutex_unlock(&waits->lock);
    return id;
}

static void client_waits_run_checks(struct handler_task *task) {
    struct client_waits *waits =
        (struct client_waits *)(void *)((char *)task - offsetof(struct client_waits, check_task));
    json_t *asked = json_object();
    char *id = NULL;
    for (size_t n = 0; n < CHECKS_PER_TURN_MAX && (id = client_waits_next_check(waits)); n++) {
        if (!client_waits_check_local(waits, id)) {
            client_waits_check_remote(waits, id, asked);
        }
        free(id);
    }
    client_waits_ask_owners(waits, asked);
    json_decref(asked);
    if (id && handler_pool_push_begun(waits->api->handler_pool, &waits->check_task) != ERR_OK) {
        pthread_mutex_lock(&waits->lock);
        waits->check_queued = false; /* the server stops */
        pthread_mutex_unlock(&waits->lock);
    }
}

/* Under the lock. */
static void client_waits_schedule_checks(struct client_waits *waits) {
    if (!waits->check_queued && waits->to_check) {
        waits->check_task.run = client_waits_run_checks;
        waits->check_queued =
            handler_pool_push_begun(waits->api->handler_pool, &waits->check_task) == ERR_OK;
    }
}

static void client_waits_check_all(struct client_waits *waits) {
    struct watched_client *watched_client, *next;
    pthread_mutex_lock(&waits->lock);
    HASH_ITER(hh, waits->watched, watched_client, next) {
        struct wait_item *item;
        DL_FOREACH(watched_client->items, item) {
            if (item->state == WAIT_ITEM_WATCHED) {
                item->state = WAIT_ITEM_CHECK;
                DL_APPEND2(waits->to_check, item, check_prev, check_next);
            }
        }
    }
    client_waits_schedule_checks(waits);
    pthread_mutex_unlock(&waits->lock);
}

/* ---- events: the event bus thread ------------------------------------------------------------ */

static void client_waits_on_event(void *context, const struct event_bus_event *item) {
    struct client_waits *waits = context;
    if (item->kind == EVENT_BUS_CLIENT) {
        client_waits_notify(waits, item->subject, item->state, item->version);
    } else if (item->kind == EVENT_BUS_DROPPED || item->covers_fleet) {
        client_waits_check_all(waits);
    }
}

static bool client_waits_listener_is_closed(void *context) {
    struct client_waits *waits = context;
    pthread_mutex_lock(&waits->lock);
    bool over = !waits->watched && clock_ms() - waits->idle_since_ms >= LISTEN_IDLE_MS;
    if (over) {
        waits->listening = false;
    }
    pthread_mutex_unlock(&waits->lock);
    return over;
}

static void client_waits_listener_release(void *context) {
    (void)context;
}

/* Without a listener, the check still finds the present state. */
static void client_waits_listen(struct client_waits *waits) {
    pthread_mutex_lock(&waits->lock);
    bool begins = !waits->listening;
    waits->listening = true;
    waits->idle_since_ms = clock_ms();
    pthread_mutex_unlock(&waits->lock);
    const struct event_bus_listener listener = {waits, client_waits_on_event,
                                                client_waits_listener_is_closed,
                                                client_waits_listener_release, NULL};
    if (begins && event_bus_listen(waits->api->context.event_bus, &listener, NULL) != ERR_OK) {
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
    pthread_mutex_lock(&wait->owner->lock);
    bool mine = !wait->ended;
    wait->ended = true;
    client_wait_remove_items(wait);
    pthread_mutex_unlock(&wait->owner->lock);
    if (mine) {
        pending_drop(wait->pending);
    }
    wait->plan.then(request, response, wait->plan.context);
    client_wait_free_context(wait); /* freed on this thread, not on a notifying one */
}

/* After pending_begin; the wait may end at once. */
static void client_wait_start(struct client_wait *wait) {
    struct client_waits *waits = wait->owner;
    bool none = false;
    client_waits_listen(waits); /* before the check, so no change is missed in between */
    pthread_mutex_lock(&waits->lock);
    client_wait_add_items(wait);
    if (wait->unsettled_count == 0) {
        wait->ended = none = true;
    }
    client_waits_schedule_checks(waits);
    pthread_mutex_unlock(&waits->lock);
    if (none) {
        wait->next = NULL;
        client_waits_resume_chain(wait);
    }
}

void client_waits_begin(struct http_request *request, struct http_response *response,
                        const struct client_wait_plan *plan) {
    struct client_waits *waits = request->api->client_waits;
    struct client_wait *wait = NULL;
    if (request->wait_ms > 0 && plan->n > 0) {
        wait = client_wait_create(waits, plan);
    }
    if (!wait) { /* out of memory: answers with the present state */
        plan->then(request, response, plan->context);
        if (plan->free_context && plan->context) {
            plan->free_context(plan->context);
        }
        return;
    }
    struct pending_plan pending = {.timeout_ms = request->wait_ms,
                                   .flags = PENDING_ENDS_AT_STOP,
                                   .then = client_wait_ended,
                                   .data = wait,
                                   .free_data = client_wait_free};
    struct pending *begun = pending_begin(request, response, &pending);
    if (begun) { /* otherwise, the wait is already freed */
        wait->pending = begun;
        client_wait_start(wait);
    }
}
