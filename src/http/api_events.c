/* The streams of the API: GET /api/v1/events and GET /api/v1/clients/{id}/messages. The handlers
 * only begin them; what comes is put in by the news thread, and by host threads through the taps.
 */
#include "http/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "cluster/news.h"
#include "http/event_stream.h"
#include "http/problem.h"
#include "http/tails.h"

#define EVENTS_RING_BYTES   ((size_t)512 * 1024)
#define MESSAGES_RING_BYTES ((size_t)1024 * 1024)

/* Opens a stream; false: answered. */
static bool open_stream(const struct http_request *request, size_t ring_bytes,
                        struct event_stream **stream, struct http_response *response) {
    enum err result = event_stream_open(request->api->streams, ring_bytes, stream);
    if (result == ERR_FULL) {
        http_problem(response, PROBLEM_OVERLOAD,
                     "this node has as many streams open as http.streams_max allows, %lld",
                     (long long)request->api->context.conf->http_streams_max);
    } else if (result == ERR_WRONG_STATE) {
        http_problem(response, PROBLEM_STOPPING, "nothing was done");
    } else if (result != ERR_OK) {
        http_problem_memory(response);
    }
    return result == ERR_OK;
}

/* ---- changes in the fleet -------------------------------------------------------------------- */

/* What one caller wants to hear, and where to put it. */
struct audience {
    struct event_stream *stream;
    unsigned kinds; /* bits by enum news_kind */
    char *state;    /* NULL: any */
    char *client;   /* NULL: any */
    unsigned long long sequence;
};

static bool wants(const struct audience *audience, const struct news_item *item) {
    bool is_client = item->kind == NEWS_CLIENT || item->kind == NEWS_NOTICE;
    return !item->same && (audience->kinds & (1U << item->kind)) != 0 &&
           (audience->state == NULL || strcmp(audience->state, item->state) == 0) &&
           (audience->client == NULL ||
            (is_client && strcmp(audience->client, item->subject) == 0));
}

static void put(struct audience *audience, const char *kind, const char *text) {
    struct buffer event;
    buffer_init(&event);
    buffer_printf(&event, "id: %llu\nevent: %s\ndata: ", ++audience->sequence, kind);
    buffer_append_str(&event, text);
    buffer_append_str(&event, "\n\n");
    if (!event.failed) {
        (void)event_stream_put(audience->stream, event.data, event.len);
    }
    buffer_fini(&event);
}

static void heard(void *context, const struct news_item *item) {
    struct audience *audience = context;
    if (item->kind == NEWS_REMARK) {
        event_stream_comment(audience->stream, item->text);
    } else if (item->kind == NEWS_DROPPED && item->count > 0) {
        event_stream_lost(audience->stream, item->count);
    } else if (item->kind == NEWS_DROPPED) {
        put(audience, "dropped", "{\"count\":null}");
    } else if (wants(audience, item)) {
        put(audience, news_kind_name(item->kind), item->text);
    }
}

static bool audience_over(void *context) {
    struct audience *audience = context;
    return event_stream_is_over(audience->stream);
}

static void audience_destroy(void *context) {
    struct audience *audience = context;
    event_stream_release(audience->stream);
    free(audience->state);
    free(audience->client);
    free(audience);
}

/* False: no such kind. */
static bool parse_kinds(const char *text, unsigned *kinds) {
    *kinds = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        unsigned kind = NEWS_CLIENT;
        while (kind < NEWS_DROPPED && (strlen(news_kind_name(kind)) != len ||
                                       strncmp(news_kind_name(kind), text, len) != 0)) {
            kind++;
        }
        if (kind == NEWS_DROPPED) {
            return false;
        }
        *kinds |= 1U << kind;
        text += len + (text[len] == ',');
    }
    return *kinds != 0;
}

/* What a client, a node or the leadership may become. */
static bool state_is_known(const char *state) {
    static const char *const others[] = {"deleted", "live", "draining", "dead",
                                         "missing", "gone", "leading",  "none"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(state, others[i]) == 0) {
            return true;
        }
    }
    return client_state_known(state);
}

/* NULL: answered. */
static struct audience *audience_create(const struct http_request *request,
                                        struct http_response *response) {
    const char *kinds = http_query_get(&request->query, "kind");
    const char *state = http_query_get(&request->query, "state");
    const char *client = http_query_get(&request->query, "client");
    unsigned wanted = ~0U;
    if (kinds != NULL && !parse_kinds(kinds, &wanted)) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "kind: must be client, node, leader or notice, or several with commas");
        return NULL;
    }
    if (state != NULL && !state_is_known(state)) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "state: must be a state of a client or a node, or deleted, gone, leading");
        return NULL;
    }
    struct audience *audience = calloc(1, sizeof(*audience));
    if (audience == NULL) {
        http_problem_memory(response);
        return NULL;
    }
    audience->kinds = wanted;
    audience->state = text_dup(state);
    audience->client = text_dup(client);
    return audience;
}

void api_events(struct http_request *request, struct http_response *response) {
    struct audience *audience = audience_create(request, response);
    if (audience == NULL) {
        return;
    }
    if (!open_stream(request, EVENTS_RING_BYTES, &audience->stream, response)) {
        audience_destroy(audience);
        return;
    }
    struct event_stream *stream = audience->stream;
    event_stream_comment(stream, "changes of this node from now on, of the fleet shortly");
    http_answer_stream(response, stream);
    const struct news_listener listener = {audience, heard, audience_over, audience_destroy};
    if (news_listen(request->api->context.news, &listener) != ERR_OK) {
        audience_destroy(audience);
        http_problem(response, PROBLEM_OVERLOAD, "too many listen already");
    }
}

/* ---- the messages of a client ---------------------------------------------------------------- */

/* False: answered. For another node, only what runs here; for a caller, any client there is. */
static bool may_tail(const struct http_request *request, struct http_response *response) {
    const char *id = request->parameter;
    struct client_status status;
    struct store_client row = {0};
    if (hosts_status(request->api->context.hosts, id, &status) == ERR_OK) {
        client_status_fini(&status);
        return true;
    }
    enum err result = store_get(request->api->context.store, id, &row);
    store_client_fini(&row);
    if (result == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", id);
    } else if (result != ERR_OK) {
        http_problem_store(response, result);
    } else if (request->forwarded) {
        http_problem(response, PROBLEM_STATE, "client %s does not run on this node", id);
    } else {
        return true;
    }
    return false;
}

void api_client_messages(struct http_request *request, struct http_response *response) {
    struct event_stream *stream;
    if (!may_tail(request, response) ||
        !open_stream(request, MESSAGES_RING_BYTES, &stream, response)) {
        return;
    }
    event_stream_comment(stream, "messages from now on");
    http_answer_stream(response, stream);
    if (tails_add(request->api->tails, request->parameter, stream, request->forwarded) != ERR_OK) {
        http_problem_memory(response);
    }
}
