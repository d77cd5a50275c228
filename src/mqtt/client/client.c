/* Owns the record of a client: its shown fields, its last changes, its configuration. See client.h
 * for which thread may use which field. */
#include "mqtt/client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/intern.h"
#include "base/text.h"
#include "mqtt/config/client_profile.h"

#define BROKER_LEN           272 /* host:port */
#define CLIENT_CHANGES_FIRST 3   /* twice that number lasts until online */

/* The allocator's next size is 640. */
_Static_assert(sizeof(struct client) <= 512, "a record stays small");

/* `base` owns its members. */
struct client_config_view {
    struct shared_config shared; /* first: other modules know only this part */
    struct client_config config;
    struct shared_config *base;
};

struct shared_config *shared_config_create(struct client_config *config) {
    struct shared_config *shared = malloc(sizeof *shared);
    if (shared) {
        shared->config = config;
        shared->is_view = false;
        atomic_init(&shared->references, 1);
    }
    return shared;
}

struct shared_config *shared_config_hold(struct shared_config *shared) {
    if (shared) {
        atomic_fetch_add(&shared->references, 1);
    }
    return shared;
}

void shared_config_release(struct shared_config *shared) {
    if (!shared || atomic_fetch_sub(&shared->references, 1) != 1) {
        return;
    }
    if (shared->is_view) {
        struct client_config_view *view = (struct client_config_view *)shared;
        shared_config_release(view->base);
    } else {
        client_config_destroy(shared->config);
    }
    free(shared);
}

struct shared_config *shared_config_at(struct shared_config *base, size_t url_index) {
    struct client_config_view *view = malloc(sizeof *view);
    if (!view) {
        return NULL;
    }
    const struct client_endpoint *endpoint = &base->config->urls[url_index];
    view->config = *base->config;
    view->config.scheme = endpoint->scheme & 0xF;
    view->config.host = endpoint->host;
    view->config.port = endpoint->port;
    view->config.path = endpoint->path;
    view->config.urls = NULL;
    view->config.url_count = 0;
    view->base = shared_config_hold(base);
    view->shared.is_view = true;
    view->shared.config = &view->config;
    atomic_init(&view->shared.references, 1);
    return &view->shared;
}

const struct shared_config *shared_config_base(const struct shared_config *shared) {
    return shared->is_view ? ((const struct client_config_view *)shared)->base : NULL;
}

static _Atomic uint64_t client_record_count;

static void client_list_labels(const struct client_config *config,
                               struct message_label labels[UINT8_MAX]) {
    for (size_t i = 0; i < config->label_count; i++) {
        labels[i] = (struct message_label){config->labels[i].name, config->labels[i].value};
    }
}

/* NULL: none. */
static struct rate_quota *client_take_quota(const struct client_config *config,
                                            const struct router *router) {
    struct message_label labels[UINT8_MAX];
    if (!router || config->label_count == 0 || !rate_quotas_exist(router_quotas(router))) {
        return NULL;
    }
    client_list_labels(config, labels);
    return rate_quotas_take(router_quotas(router), labels, config->label_count);
}

/* What templates and routes may use of the client. *out NULL: nothing. */
static enum err client_make_origin(const struct client_config *config, struct router *router,
                                   struct message_origin **out) {
    char broker[BROKER_LEN];
    struct message_label labels[UINT8_MAX];
    *out = NULL;
    const struct route_table *routes = client_config_routes(config);
    bool needed = config->label_count > 0 || (routes && route_table_needs_origin(routes)) ||
                  (router && router_needs_origin(router));
    if (!router || !needed) {
        return ERR_OK;
    }
    client_list_labels(config, labels);
    snprintf(broker, sizeof broker, "%s:%u", config->host, config->port);
    *out = message_origin_create(broker, labels, config->label_count);
    return *out ? ERR_OK : ERR_MEMORY;
}

/* The generation first: sinks, routes and quotas may change meanwhile. Without memory the route is
 * outdated. */
static enum err client_set_route(struct client *client, struct router *router,
                                 const struct client_config *config) {
    uint16_t generation = router ? router_generation(router) : 0;
    struct message_origin *origin;
    enum err err = client_make_origin(config, router, &origin);
    if (err == ERR_OK &&
        !route_set(&client->route, router, config->sink, client_config_routes(config), origin)) {
        err = ERR_MEMORY;
    }
    if (err == ERR_OK && !route_set_quota(&client->route, client_take_quota(config, router))) {
        err = ERR_MEMORY;
    }
    if (err == ERR_OK) {
        client->route_generation = generation;
    }
    return err;
}

bool client_route_is_outdated(const struct client *client) {
    const struct router *router = client->route.router;
    return router && client->route_generation != router_generation(router);
}

bool client_update_route(struct client *client) {
    return !client_route_is_outdated(client) ||
           client_set_route(client, client->route.router, client->config->config) == ERR_OK;
}

struct client *client_create(struct worker *worker, struct router *router,
                             struct shared_config *config) {
    struct client *client = calloc(1, sizeof *client);
    if (!client) {
        return NULL;
    }
    client->worker = worker;
    client->record = ++client_record_count;
    client->state = CLIENT_CLOSED;
    client->since_ms = clock_wall_ms();
    client->offline_since_ms = clock_ms();
    client->config = shared_config_hold(config);
    client->id = text_dup(config->config->id);
    if (!client->id || client_set_route(client, router, config->config) != ERR_OK ||
        !route_set_limits(&client->route, client_config_limits(config->config)) ||
        subscribing_init(&client->subscribing, config->config) != ERR_OK) {
        client_destroy(client);
        return NULL;
    }
    return client;
}

void client_start_destroy(struct client_start *start) {
    if (start) {
        shared_config_release(start->config);
        free(start);
    }
}

void client_destroy(struct client *client) {
    if (!client) {
        return;
    }
    free(client->changes);
    route_fini(&client->route);
    subscribing_fini(&client->subscribing);
    free(client->tried);
    free(client->failed);
    free(client->error_message);
    free(client->loss);
    free(client->suspects);
    publish_throttle_destroy(client->throttle);
    shared_config_release(client->config);
    shared_config_release(client->opened);
    shared_config_release(client->applied);
    client_start_destroy(client->next);
    free(client->id);
    free(client);
}

uint64_t client_number(const struct client *client) {
    return (uint64_t)client->hh.hashv | (uint64_t)1 << 32;
}

/* ---- changes ---- */

static bool client_grow_changes(struct client *client) {
    size_t capacity =
        client->change_capacity ? (size_t)client->change_capacity * 2 : CLIENT_CHANGES_FIRST;
    capacity = capacity > CLIENT_CHANGES_MAX ? CLIENT_CHANGES_MAX : capacity;
    struct client_change_entry *changes =
        realloc(client->changes, capacity * sizeof *client->changes);
    if (!changes) {
        return false;
    }
    client->changes = changes;
    client->change_capacity = (uint8_t)capacity;
    return true;
}

/* The slot of the next entry: a new one, or the oldest. NULL: out of memory. */
static struct client_change_entry *client_change_slot(struct client *client) {
    if (client->change_count == CLIENT_CHANGES_MAX) {
        struct client_change_entry *oldest = &client->changes[client->change_first];
        client->change_first = (uint8_t)((client->change_first + 1) % CLIENT_CHANGES_MAX);
        return oldest;
    }
    if (client->change_count == client->change_capacity && !client_grow_changes(client)) {
        return NULL;
    }
    return &client->changes[client->change_count++];
}

void client_record_change(struct client *client, enum client_state to, const char *reason) {
    struct client_change_entry *slot = client_change_slot(client);
    int64_t now_ms = clock_wall_ms();
    if (slot) {
        *slot = (struct client_change_entry){.at_ms = (uint64_t)now_ms & CLIENT_CHANGE_AT_MAX,
                                             .from = client->state & 0xF,
                                             .to = to & 0xF,
                                             .reason = intern(reason)};
    }
    client->state = to;
    client->since_ms = now_ms;
}

static const struct client_change_entry *client_change_at(const struct client *client, size_t i) {
    return &client->changes[(client->change_first + i) % client->change_capacity];
}

const char *client_last_reason(const struct client *client) {
    if (client->change_count == 0) {
        return "";
    }
    const struct client_change_entry *last = client_change_at(client, client->change_count - 1u);
    return last->node == 0 ? last->reason : ""; /* it has not done anything here */
}

size_t client_copy_changes(const struct client *client,
                           struct client_change out[CLIENT_CHANGES_MAX]) {
    for (size_t i = 0; i < client->change_count; i++) {
        const struct client_change_entry *from = client_change_at(client, i);
        out[i] = (struct client_change){
            .at_ms = (int64_t)from->at_ms, .from = from->from, .to = from->to};
        snprintf(out[i].reason, sizeof(out[i].reason), "%s", from->reason);
        snprintf(out[i].node, sizeof(out[i].node), "%s", client_history_node_name(from->node));
    }
    return client->change_count;
}

/* ---- history --------------------------------------------------------------------------------- */

void client_copy_history(const struct client *client, struct client_history *out) {
    out->counts[HISTORY_TIMES_ONLINE] = client->times_online;
    out->counts[HISTORY_MESSAGES_IN] = client->route.messages;
    out->counts[HISTORY_MESSAGES_OUT] = client->messages_out;
    out->counts[HISTORY_BYTES_IN] = client->route.bytes;
    out->counts[HISTORY_BYTES_OUT] = client->bytes_out;
    (void)route_get_dropped(&client->route, &out->counts[HISTORY_DROPPED]);
    out->n = client_copy_changes(client, out->changes);
}

void client_restore_history(struct client *client, const struct client_history *history) {
    int64_t times_online = history->counts[HISTORY_TIMES_ONLINE];
    client->times_online = times_online < UINT32_MAX ? (uint32_t)times_online : UINT32_MAX;
    client->messages_out = history->counts[HISTORY_MESSAGES_OUT];
    client->bytes_out = history->counts[HISTORY_BYTES_OUT];
    route_restore_counts(&client->route, history->counts[HISTORY_MESSAGES_IN],
                         history->counts[HISTORY_BYTES_IN], &history->counts[HISTORY_DROPPED]);
    for (size_t i = 0; i < history->n; i++) {
        const struct client_change *change = &history->changes[i];
        struct client_change_entry *slot = client_change_slot(client);
        if (slot) {
            *slot = (struct client_change_entry){.at_ms =
                                                     (uint64_t)change->at_ms & CLIENT_CHANGE_AT_MAX,
                                                 .from = change->from & 0xF,
                                                 .to = change->to & 0xF,
                                                 .node = client_history_node_number(change->node),
                                                 .reason = intern(change->reason)};
        }
    }
    client->saved_mark = client_history_mark(client);
}

void client_forget_history(struct client *client) {
    static const struct client_history nothing;
    enum client_state state = client->state;
    client_restore_history(client, &nothing);
    client->times_online = state == CLIENT_ONLINE;
    client->change_first = client->change_count = 0;
    client->state = CLIENT_CLOSED;
    client_record_change(client, state, "created_again");
    client->saved_mark = 0;
}

uint16_t client_history_mark(const struct client *client) {
    int64_t dropped[MESSAGE_DROP_COUNT];
    uint64_t sum = (uint64_t)client->route.messages + (uint64_t)client->messages_out +
                   (uint64_t)route_get_dropped(&client->route, dropped) + client->times_online;
    if (client->change_count > 0) {
        const struct client_change_entry *last =
            client_change_at(client, client->change_count - 1u);
        sum += (uint64_t)last->at_ms * 31 + last->to;
    }
    sum ^= sum >> 32;
    uint16_t mark = (uint16_t)(sum ^ sum >> 16);
    return mark != 0 ? mark : 1;
}

void client_note_error(struct client *client, enum client_error error, const char *message) {
    client->error = error;
    free(client->error_message);
    client->error_message = message ? text_dup(message) : NULL;
    client->error_at_ms = clock_wall_ms();
}

/* ---- status ---- */

static enum err client_copy_subscriptions(const struct client *client, struct client_status *out) {
    const struct client_config *config = client->config->config;
    out->subscriptions = calloc(config->subscription_count + 1, sizeof *out->subscriptions);
    if (!out->subscriptions) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < config->subscription_count; i++) {
        struct client_subscription_status *to = &out->subscriptions[out->subscription_count++];
        to->qos = config->subscriptions[i].qos;
        const struct subscribing_filter *filter = &client->subscribing.filters[i];
        to->granted = subscribing_shown_code(filter);
        to->refusal = subscribing_refusal(filter);
        to->filter = text_dup(config->subscriptions[i].filter);
        if (!to->filter) {
            return ERR_MEMORY;
        }
    }
    return ERR_OK;
}

/* 0: none since it runs here. */
static int64_t client_last_message_wall_ms(const struct client *client) {
    int64_t at_ms = client->route.last_message_at_ms;
    return at_ms != 0 ? clock_wall_ms() - (clock_ms() - at_ms) : 0;
}

/* What a quota holds or has just dropped. False: out of memory. */
static bool client_copy_over_quota(const struct client *client, struct client_status *out) {
    const struct rate_quota *quota = route_quota(&client->route);
    bool held = client->state == CLIENT_QUEUED && client->held_by_quota;
    if (!quota || (!held && !route_is_over_quota(&client->route))) {
        return true;
    }
    out->quota = held ? RATE_CONNECTS : RATE_MESSAGES;
    out->quota_scope = text_dup(rate_quota_scope(quota));
    return out->quota_scope != NULL;
}

enum err client_copy_status(const struct client *client, struct client_status *out) {
    const char *message =
        client->error_message ? client->error_message : client_error_text(client->error);
    const struct client_profile *profile = client->config->config->profile;
    *out = (struct client_status){
        .state = client->state,
        .reason = text_dup(client_last_reason(client)),
        .since_ms = client->since_ms,
        .error = client->error,
        .error_message = text_dup(message),
        .error_at_ms = client->error_at_ms,
        .next_retry_at_ms = client->next_retry_at_ms,
        .connected_at_ms = client->state == CLIENT_ONLINE ? client->since_ms : 0,
        .last_message_at_ms = client_last_message_wall_ms(client),
        .certificate_expires_at_ms = client->certificate_expires_at_ms,
        .session_present = client->session_present,
        .degraded = client->degraded,
        .silent = client->silent,
        .limited = route_is_limited(&client->route),
        .reconnects = client->times_online > 1 ? client->times_online - 1 : 0,
        .messages_in = client->route.messages,
        .messages_out = client->messages_out,
        .bytes_in = client->route.bytes,
        .bytes_out = client->bytes_out,
        .epoch = client->epoch,
        .version = client->version,
        .profile = profile ? text_dup(profile->name) : NULL,
        .profile_version = profile ? profile->version : 0,
        .broker = client->broker ? text_dup(client->broker->key) : NULL,
    };
    out->hold_count = route_get_holds(&client->route, client->config->config->sink, out->holds);
    out->messages_dropped = route_get_dropped(&client->route, out->dropped);
    enum err err = client_copy_subscriptions(client, out);
    if (!out->reason || !out->error_message || (profile && !out->profile) ||
        !client_copy_over_quota(client, out)) {
        err = ERR_MEMORY;
    }
    if (err != ERR_OK) {
        client_status_fini(out);
    }
    return err;
}

void client_status_fini(struct client_status *status) {
    for (size_t i = 0; i < status->subscription_count; i++) {
        free(status->subscriptions[i].filter);
    }
    free(status->subscriptions);
    free(status->reason);
    free(status->broker);
    free(status->profile);
    free(status->quota_scope);
    free(status->error_message);
    *status = (struct client_status){0};
}

/* ---- configurations ---- */

enum err client_replace_config(struct client *client, struct shared_config *config) {
    if (!route_set_limits(&client->route, client_config_limits(config->config))) {
        return ERR_MEMORY;
    }
    enum err err = client_set_route(client, client->route.router, config->config);
    if (err == ERR_OK) {
        err = subscribing_change(&client->subscribing, client->config->config, config->config);
    }
    if (err != ERR_OK) {
        return err;
    }
    shared_config_release(client->config);
    client->config = shared_config_hold(config);
    return ERR_OK;
}
