/* The streams of the API: GET /api/v1/events and GET /api/v1/clients/{id}/messages. The handlers
 * only open them. The event bus thread puts events, worker threads put messages through the taps.
 */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "cluster/events/event_bus.h"
#include "store/events.h"
#include "http/streams/event_stream.h"
#include "http/server/problem.h"
#include "http/streams/tail_follower.h"

#define EVENTS_RING_BYTES   ((size_t)512 * 1024)
#define MESSAGES_RING_BYTES ((size_t)1024 * 1024)

/* Opens a stream; false: answered. */
static bool api_events_open_stream(const struct http_request *request, size_t ring_bytes,
                                   struct event_stream **stream, struct http_response *response) {
    enum err err = event_stream_open(request->api->streams, ring_bytes, stream);
    if (err == ERR_FULL) {
        http_problem(response, PROBLEM_OVERLOAD,
                     "this node has reached the limit of open streams, http.streams_max (%lld)",
                     (long long)request->api->context.conf->http_streams_max);
    } else if (err == ERR_WRONG_STATE) {
        http_problem(response, PROBLEM_STOPPING, "nothing was done");
    } else if (err != ERR_OK) {
        http_problem_memory(response);
    }
    return err == ERR_OK;
}

/* ---- changes in the fleet -------------------------------------------------------------------- */

/* One caller: its filter and its stream. */
struct event_subscriber {
    struct event_stream *stream;
    unsigned kind_bits; /* bits by enum event_bus_kind */
    char *state;        /* NULL: any */
    char *client;       /* NULL: any */
    struct scope scope; /* of the caller: with one, only events of its clients */
};

static bool api_events_matches(const struct event_subscriber *event_subscriber,
                               const struct event_bus_event *item) {
    bool is_client = item->kind == EVENT_BUS_CLIENT || item->kind == EVENT_BUS_NOTICE;
    bool included = !scope_is_set(&event_subscriber->scope) ||
                    (is_client && scope_includes_labels(&event_subscriber->scope, item->labels));
    return included && !item->same_state &&
           (event_subscriber->kind_bits & (1U << item->kind)) != 0 &&
           (!event_subscriber->state || strcmp(event_subscriber->state, item->state) == 0) &&
           (!event_subscriber->client ||
            (is_client && strcmp(event_subscriber->client, item->subject) == 0));
}

/* The id is that of the stream in Redis: of an event that is kept. */
static void api_events_put_event(struct event_subscriber *event_subscriber,
                                 const struct event_bus_event *item, const char *text) {
    struct buffer event;
    buffer_init(&event);
    if (item->id && item->id[0] != '\0') {
        buffer_printf(&event, "id: %s\n", item->id);
    }
    buffer_printf(&event, "event: %s\ndata: ", event_bus_kind_name(item->kind));
    buffer_append_str(&event, text);
    buffer_append_str(&event, "\n\n");
    if (!event.failed) {
        (void)event_stream_put(event_subscriber->stream, event.data, event.len);
    }
    buffer_fini(&event);
}

/* A caller with a scope is not told how many: that includes the events of others. */
static void api_events_put_dropped(struct event_subscriber *event_subscriber,
                                   const struct event_bus_event *item) {
    bool kept = item->id && item->id[0] != '\0';
    if (scope_is_set(&event_subscriber->scope) || item->count == 0) {
        api_events_put_event(event_subscriber, item, "{\"count\":null}");
    } else if (kept) {
        api_events_put_event(event_subscriber, item, item->text);
    } else {
        event_stream_count_lost(event_subscriber->stream, item->count);
    }
}

static void api_events_on_event(void *context, const struct event_bus_event *item) {
    struct event_subscriber *event_subscriber = context;
    if (item->kind == EVENT_BUS_STATUS) {
        event_stream_comment(event_subscriber->stream, item->text);
    } else if (item->kind == EVENT_BUS_DROPPED) {
        api_events_put_dropped(event_subscriber, item);
    } else if (item->kind == EVENT_BUS_GAP) {
        api_events_put_event(event_subscriber, item, item->text);
    } else if (api_events_matches(event_subscriber, item)) {
        api_events_put_event(event_subscriber, item, item->text);
    }
}

static bool api_events_has_room(void *context) {
    struct event_subscriber *event_subscriber = context;
    return event_stream_room(event_subscriber->stream) >= EVENTS_RING_BYTES / 2;
}

static bool api_events_subscriber_is_closed(void *context) {
    struct event_subscriber *event_subscriber = context;
    return event_stream_is_ended(event_subscriber->stream);
}

static void api_events_subscriber_destroy(void *context) {
    struct event_subscriber *event_subscriber = context;
    event_stream_release(event_subscriber->stream);
    free(event_subscriber->state);
    free(event_subscriber->client);
    free(event_subscriber);
}

/* False: no such kind. */
static bool api_events_parse_kinds(const char *text, unsigned *kinds) {
    *kinds = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        unsigned kind = EVENT_BUS_CLIENT;
        while (kind < EVENT_BUS_DROPPED && (strlen(event_bus_kind_name(kind)) != len ||
                                            strncmp(event_bus_kind_name(kind), text, len) != 0)) {
            kind++;
        }
        if (kind == EVENT_BUS_DROPPED) {
            return false;
        }
        *kinds |= 1U << kind;
        text += len + (text[len] == ',');
    }
    return *kinds != 0;
}

/* Whether it is a state of a client, of a node or of the leader. */
static bool api_events_state_is_known(const char *state) {
    static const char *const others[] = {"deleted", "live",    "draining", "dead",  "missing",
                                         "gone",    "leading", "none",     "began", "ended"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(state, others[i]) == 0) {
            return true;
        }
    }
    return client_state_is_known(state);
}

/* NULL: answered. */
static struct event_subscriber *api_events_subscriber_create(const struct http_request *request,
                                                             struct http_response *response) {
    const char *kinds = http_query_get(&request->query, "kind");
    const char *state = http_query_get(&request->query, "state");
    const char *client = http_query_get(&request->query, "client");
    unsigned wanted = ~0U;
    if (kinds && !api_events_parse_kinds(kinds, &wanted)) {
        http_problem(
            response, PROBLEM_BAD_REQUEST,
            "kind: must be client, node, leader, notice or incident, or several of them separated "
            "by commas");
        return NULL;
    }
    if (state && !api_events_state_is_known(state)) {
        http_problem(
            response, PROBLEM_BAD_REQUEST,
            "state: must be a state of a client, a node or an incident, or deleted, gone or "
            "leading");
        return NULL;
    }
    struct event_subscriber *event_subscriber = calloc(1, sizeof *event_subscriber);
    if (!event_subscriber) {
        http_problem_memory(response);
        return NULL;
    }
    event_subscriber->kind_bits = wanted;
    event_subscriber->scope = request->caller.scope;
    event_subscriber->state = text_dup(state);
    event_subscriber->client = text_dup(client);
    return event_subscriber;
}

/* False: answered. */
static bool api_events_check_last_id(const struct http_request *request,
                                     struct http_response *response) {
    struct store_event_place place;
    const char *id = request->last_event_id;
    bool valid = !id || store_event_place_parse(id, &place);
    if (!valid) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "Last-Event-ID: must be the id of an event, or 0 for all that are kept");
    }
    return valid;
}

void api_events(struct http_request *request, struct http_response *response) {
    if (!api_events_check_last_id(request, response)) {
        return;
    }
    struct event_subscriber *event_subscriber = api_events_subscriber_create(request, response);
    if (!event_subscriber) {
        return;
    }
    if (!api_events_open_stream(request, EVENTS_RING_BYTES, &event_subscriber->stream, response)) {
        api_events_subscriber_destroy(event_subscriber);
        return;
    }
    struct event_stream *stream = event_subscriber->stream;
    event_stream_comment(stream,
                         "reporting changes on this node; changes in the fleet follow soon");
    http_answer_stream(response, stream);
    const struct event_bus_listener listener = {event_subscriber, api_events_on_event,
                                                api_events_subscriber_is_closed,
                                                api_events_subscriber_destroy, api_events_has_room};
    if (event_bus_listen(request->api->context.event_bus, &listener, request->last_event_id) !=
        ERR_OK) {
        api_events_subscriber_destroy(event_subscriber);
        http_problem(response, PROBLEM_OVERLOAD, "too many listeners");
    }
}

/* ---- the messages of a client ---------------------------------------------------------------- */

/* False: answered. Another node may tail clients that run here; a caller, any client. */
static bool api_events_may_tail(const struct http_request *request,
                                struct http_response *response) {
    const char *id = request->parameter;
    struct client_status status;
    struct store_client row = {0};
    if (workers_status(request->api->context.workers, id, &status) == ERR_OK) {
        client_status_fini(&status);
        return true;
    }
    enum err err = store_get(request->api->context.store, id, &row);
    store_client_fini(&row);
    if (err == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", id);
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (request->forwarded) {
        http_problem(response, PROBLEM_STATE, "client %s does not run on this node", id);
    } else {
        return true;
    }
    return false;
}

void api_client_messages(struct http_request *request, struct http_response *response) {
    struct event_stream *stream;
    if (!api_events_may_tail(request, response) ||
        !api_events_open_stream(request, MESSAGES_RING_BYTES, &stream, response)) {
        return;
    }
    event_stream_comment(stream, "listening for messages");
    http_answer_stream(response, stream);
    if (tail_follower_add(request->api->tail_follower, request->parameter, &request->caller.scope,
                          stream, request->forwarded) != ERR_OK) {
        http_problem_memory(response);
    }
}
