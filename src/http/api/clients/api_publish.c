/* POST /api/v1/clients/{id}/publish: through this node or the owner of the client. Never blocks:
 * the report of a worker continues the request on the worker thread. Only requests for other nodes
 * use a handler thread. */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/text.h"
#include "http/server/json.h"
#include "http/server/pending.h"
#include "http/server/problem.h"
#include "http/api/clients/publication.h"
#include "mqtt/reason_codes.h"

#define GRACE_MS         1000 /* lets the workers report their own timeout first */
#define FORWARD_GRACE_MS 2000
#define LISTING_MS_MAX   5000 /* for a worker to list pending publications */

/* ---- answers --------------------------------------------------------------------------------- */

static void api_publish_answer_not_online(const struct http_api *api, const char *id,
                                          struct http_response *response) {
    struct client_status status;
    const char *state = "connecting";
    if (workers_status(api->context.workers, id, &status) == ERR_OK) {
        state = client_state_shown(status.state);
        client_status_fini(&status);
    }
    http_problem(response, PROBLEM_STATE, "client %s is not online, its state is %s", id, state);
    http_problem_member(response, "state", json_string(state));
}

/* Answers with text and code, as in last_error of the client. */
static void api_publish_answer_given_up(enum give_up reason, struct http_response *response) {
    if (reason == GIVE_UP_NOT_SENT) {
        http_problem(response, PROBLEM_TIMEOUT, "%s", give_up_text(reason));
    } else if (reason == GIVE_UP_SINK_FULL) {
        http_problem(response, PROBLEM_SINK_FULL, "%s; it was not sent", give_up_text(reason));
        http_problem_member(response, "code", json_string("sink_full"));
    } else if (reason == GIVE_UP_DROPPED || reason == GIVE_UP_NOT_COMPLETED ||
               reason == GIVE_UP_EXPIRED) {
        http_problem(response, PROBLEM_UNKNOWN, "%s; the outcome is unknown", give_up_text(reason));
    } else {
        http_problem(response, PROBLEM_PUBLICATION, "%s; it is not sent again",
                     give_up_text(reason));
        http_problem_member(response, "code", json_string("publication_refused"));
    }
    http_problem_member(response, "reason", json_string(give_up_label(reason)));
}

static void api_publish_answer_refused(uint8_t reason_code, struct http_response *response) {
    enum client_error error = reason_error_publication(reason_code);
    http_problem(response, PROBLEM_BROKER, "the broker refused the publication: %s (0x%02X)",
                 client_error_text(error), (unsigned)reason_code);
    http_problem_member(response, "reason_code", json_integer(reason_code));
    http_problem_member(response, "advice", json_string(client_error_advice(error)));
}

/* The broker may have answered nevertheless. */
static void api_publish_answer_unread(const struct http_api *api, const char *id,
                                      struct http_response *response) {
    http_problem(response, PROBLEM_SINK_FULL,
                 "the sink of client %s is full, so the broker's answers could not be read within "
                 "%lld ms; the outcome is unknown",
                 id, (long long)api->context.conf->publish_timeout_ms);
    http_problem_member(response, "code", json_string("sink_full"));
}

static void api_publish_answer_outcome(const struct http_api *api, const char *id, uint8_t qos,
                                       const struct publish_result *result,
                                       struct http_response *response) {
    switch (result->err) {
    case ERR_OK:
        if (reason_is_error(result->reason_code)) {
            api_publish_answer_refused(result->reason_code, response);
            break;
        }
        http_answer_json(response, 200,
                         json_pack("{s:s, s:i}", "result", qos > 0 ? "acknowledged" : "sent",
                                   "reason_code", (int)result->reason_code));
        break;
    case ERR_WRONG_STATE:
        api_publish_answer_not_online(api, id, response);
        break;
    case ERR_TIMEOUT:
        if (result->timeout == PUBLISH_TIMEOUT_READ_BLOCKED) {
            api_publish_answer_unread(api, id, response);
            break;
        }
        http_problem(response, PROBLEM_TIMEOUT,
                     "the broker did not acknowledge it within %lld ms; the outcome is unknown",
                     (long long)api->context.conf->publish_timeout_ms);
        break;
    case ERR_UNAVAILABLE:
        http_problem(response, PROBLEM_UNKNOWN,
                     "the connection to the broker was lost; the outcome is unknown");
        break;
    case ERR_REFUSED:
        api_publish_answer_given_up(result->give_up, response);
        break;
    case ERR_CANCELED:
        http_problem(response, PROBLEM_STOPPING, "the outcome is unknown");
        break;
    case ERR_FULL:
        http_problem(response, PROBLEM_OVERLOAD,
                     "too many publications are outstanding; nothing was sent");
        break;
    default:
        http_problem_error(response, result->err); /* it was not published */
        break;
    }
}

static void api_publish_answer_throttled(const struct http_api *api, const char *id,
                                         const struct engine_publication *publication,
                                         struct http_response *response) {
    struct publish_throttled held;
    bool still = workers_publish_throttled(api->context.workers, id, publication, &held);
    int64_t wait_s = still ? (held.wait_ms + 999) / 1000 : 1;
    http_problem(
        response, PROBLEM_THROTTLED,
        "publications %s ended the connection of client %s %u times in a row; try again in "
        "%lld s",
        still ? held.what : "like this", id, still ? held.losses : PUBLISH_THROTTLE_AFTER,
        (long long)wait_s);
    http_problem_member(response, "code", json_string("publication_throttled"));
    http_answer_header(response, "Retry-After", "%lld", (long long)wait_s);
}

static void api_publish_answer_over_quota(const struct http_api *api, const char *id,
                                          struct http_response *response) {
    struct workers_over_quota over;
    const char *name = rate_quota_name(RATE_PUBLICATIONS);
    workers_publish_over_quota(api->context.workers, id, &over);
    int64_t wait_s = over.wait_ms / 1000 + 1;
    http_problem(response, PROBLEM_RATE_QUOTA,
                 "the quota %s of %s is used up: %lu in the whole fleet; nothing was sent", name,
                 over.scope ? over.scope : "its scope", (unsigned long)over.per_s);
    http_problem_member(response, "quota", json_string(name));
    http_problem_member(response, "scope", http_json_string(over.scope ? over.scope : ""));
    http_answer_header(response, "Retry-After", "%lld", (long long)wait_s);
    free(over.scope);
}

static void api_publish_answer_busy(const struct workers_busy *busy,
                                    struct http_response *response) {
    http_problem(response, PROBLEM_BROKER_BUSY,
                 "%zu publications (%zu bytes) already wait for an acknowledgement of broker %s; "
                 "nothing was sent",
                 busy->use.waiting, busy->use.bytes, busy->broker);
    http_problem_member(response, "code", json_string("broker_busy"));
    http_problem_member(response, "broker", http_json_string(busy->broker));
    http_problem_member(response, "waiting", json_integer((json_int_t)busy->use.waiting));
}

/* ---- waiting for the broker ------------------------------------------------------------------ */

/* Data for the answer. */
struct publish_wait {
    char *id;
    uint8_t qos;
    struct publish_result result; /* as reported */
    struct pending *pending;
};

static void api_publish_wait_free(void *data) {
    struct publish_wait *publish_wait = data;
    free(publish_wait->id);
    free(publish_wait);
}

/* On a worker thread. */
static void api_publish_wait_reported(void *context, const struct publish_result *result) {
    struct publish_wait *publish_wait = context;
    struct pending *pending = publish_wait->pending;
    if (!pending_claim(pending)) {
        pending_drop(pending);
        return;
    }
    publish_wait->result = *result;
    pending_resume(pending);
}

static void api_publish_wait_ended(struct http_request *request, struct http_response *response,
                                   enum pending_end end, void *data) {
    const struct publish_wait *publish_wait = data;
    struct publish_result result = {.err = end == PENDING_STOPPING ? ERR_CANCELED : ERR_TIMEOUT};
    api_publish_answer_outcome(request->api, publish_wait->id, publish_wait->qos,
                               end == PENDING_DONE ? &publish_wait->result : &result, response);
}

/* Begins the wait before a worker can report. False: the request does not wait, and may be
 * answered: ERR_NOT_FOUND: the client does not run here; ERR_ARGUMENT: it cannot send that. */
static bool api_publish_start_local(struct http_request *request, const char *id,
                                    const struct engine_publication *publication, enum err *err,
                                    struct http_response *response) {
    const struct http_context *context = &request->api->context;
    struct publish_wait *publish_wait = calloc(1, sizeof *publish_wait);
    if (!publish_wait || !(publish_wait->id = text_dup(id))) {
        free(publish_wait);
        *err = ERR_MEMORY;
        return false;
    }
    publish_wait->qos = publication->qos;
    struct pending *pending = pending_begin(
        request, response,
        &(struct pending_plan){.timeout_ms = context->conf->publish_timeout_ms + GRACE_MS,
                               .flags = PENDING_QUICK | PENDING_FREES_BODY,
                               .then = api_publish_wait_ended,
                               .data = publish_wait,
                               .free_data = api_publish_wait_free});
    *err = ERR_OK;
    if (!pending) {
        return true; /* answered: too many requests wait */
    }
    publish_wait->pending = pending;
    *err =
        workers_publish(context->workers, id, publication, api_publish_wait_reported, publish_wait);
    if (*err != ERR_OK) {
        pending_cancel(request, pending);
    }
    return *err == ERR_OK;
}

/* ---- publishing ------------------------------------------------------------------------------ */

static void api_publish_answer_not_started(const struct http_request *request, const char *id,
                                           struct publication_input *input, enum err err,
                                           struct http_response *response) {
    if (err == ERR_REFUSED) {
        api_publish_answer_throttled(request->api, id, &input->publication, response);
        return;
    }
    if (err == ERR_OVER_QUOTA) {
        api_publish_answer_over_quota(request->api, id, response);
        return;
    }
    if (err == ERR_BUSY) {
        struct workers_busy busy;
        workers_publish_busy(request->api->context.workers, id, &busy);
        api_publish_answer_busy(&busy, response);
        return;
    }
    if (err != ERR_ARGUMENT) {
        api_publish_answer_outcome(request->api, id, input->publication.qos,
                                   &(struct publish_result){.err = err}, response);
        return;
    }
    if (input->faults.count == 0) {
        http_fault_add(
            &input->faults, input->property_pointer,
            "is a property of MQTT 5, but the client uses MQTT 3.1.1 (protocol_version 4)");
    }
    http_problem_faults(response, &input->faults);
}

bool api_publish_document(struct http_request *request, const char *id, json_t *document,
                          struct http_response *response) {
    struct publication_input *input = publication_parse(document);
    enum err err = ERR_ARGUMENT;
    bool waits = false;
    if (!input) {
        http_problem_memory(response);
        return true;
    }
    if (input->faults.count == 0) {
        waits = api_publish_start_local(request, id, &input->publication, &err, response);
    }
    if (!waits && err != ERR_NOT_FOUND) {
        api_publish_answer_not_started(request, id, input, err, response);
    }
    publication_destroy(input);
    return waits || err != ERR_NOT_FOUND;
}

/* False: answered. If the document is invalid, the owner reports it. */
static bool api_publish_count_remote(struct http_request *request, const struct store_client *row,
                                     struct http_response *response) {
    struct workers *workers = request->api->context.workers;
    struct client_config *config = NULL;
    struct client_faults faults = {0};
    struct workers_busy busy;
    if (client_config_parse_text(row->config, row->config_len, row->id, &config, &faults) !=
        ERR_OK) {
        return true;
    }
    snprintf(busy.broker, sizeof busy.broker, "%s:%u", config->host, (unsigned)config->port);
    client_config_destroy(config);
    enum err err = workers_publish_remote(workers, busy.broker, &request->publish_share);
    if (err == ERR_BUSY) {
        busy.use = workers_publish_use_of(workers, busy.broker);
        api_publish_answer_busy(&busy, response);
    }
    return err != ERR_BUSY;
}

void api_publish_remote(struct http_request *request, const char *id, const json_t *document,
                        struct http_response *response) {
    struct store_client row;
    if (peer_proxy_find_owner(request, id, &row, response) &&
        api_publish_count_remote(request, &row, response)) {
        char *body = json_to_text(document, JSON_COMPACT);
        peer_proxy_forward(
            request, row.owner.node, "POST", id, "publish", body, body ? strlen(body) : 0,
            request->api->context.conf->publish_timeout_ms + FORWARD_GRACE_MS, response);
        free(body);
    }
    store_client_fini(&row);
}

static void api_publish_forward_step(struct http_request *request, struct http_response *response) {
    json_t *document;
    if (http_body_object(request, response, &document)) {
        api_publish_remote(request, request->parameter, document, response);
        json_decref(document);
    }
}

void api_client_publish(struct http_request *request, struct http_response *response) {
    json_t *document;
    if (http_body_object(request, response, &document)) {
        if (!api_publish_document(request, request->parameter, document, response)) {
            request->next_step = api_publish_forward_step;
        }
        json_decref(document);
    }
}

/* ---- pending publications ----------------------------------------------------------------------
 */

static json_t *api_publish_pending_json(const struct workers_publication *rows, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct workers_publication *row = &rows[i];
        json_array_append_new(list, json_pack("{s:o, s:i, s:b, s:I, s:I, s:i, s:i, s:s, s:b}",
                                              "topic", http_json_string(row->topic), "qos",
                                              (int)row->qos, "retain", (int)row->retain, "bytes",
                                              (json_int_t)row->payload_len, "age_ms",
                                              (json_int_t)row->age_ms, "tries", (int)row->tries,
                                              "losses", (int)row->losses, "state", row->state,
                                              "waited_for", (int)row->waited_for));
    }
    return list;
}

/* A request to the worker of the client. */
struct listing {
    struct pending *pending;
    enum err result; /* as answered */
    struct workers_publication *rows;
    size_t n;
};

static void api_publish_listing_free(void *data) {
    struct listing *listing = data;
    workers_publications_free(listing->rows, listing->n);
    free(listing);
}

static bool api_publish_is_drop(const struct http_request *request) {
    return strcmp(request->method, "DELETE") == 0;
}

/* On the worker thread. */
static void api_publish_listing_reported(void *context, enum err err,
                                         struct workers_publication *rows, size_t n) {
    struct listing *listing = context;
    struct pending *pending = listing->pending;
    if (!pending_claim(pending)) {
        workers_publications_free(rows, n);
        pending_drop(pending);
        return;
    }
    listing->result = err;
    listing->rows = rows;
    listing->n = n;
    pending_resume(pending);
}

/* On a handler thread. */
static void api_publish_listing_forward(struct http_request *request,
                                        struct http_response *response) {
    const char *id = request->parameter;
    struct store_client row = {0};
    if (peer_proxy_find_owner(request, id, &row, response)) {
        peer_proxy_forward(request, row.owner.node, api_publish_is_drop(request) ? "DELETE" : "GET",
                           id, "publications", NULL, 0, 0, response);
    } else if (row.id) { /* it exists, but runs on no node: nothing is pending */
        http_answer_json(
            response, 200,
            json_pack("{s:[]}", api_publish_is_drop(request) ? "dropped" : "publications"));
    }
    store_client_fini(&row);
}

static void api_publish_listing_answer_error(struct http_request *request, enum err err,
                                             struct http_response *response) {
    if (err == ERR_NOT_FOUND) {
        request->next_step = api_publish_listing_forward;
    } else {
        http_problem(response, PROBLEM_OVERLOAD, "the node is busy: %s", err_name(err));
    }
}

static void api_publish_listing_ended(struct http_request *request, struct http_response *response,
                                      enum pending_end end, void *data) {
    const struct listing *listing = data;
    enum err err = end == PENDING_DONE ? listing->result : ERR_TIMEOUT;
    if (err == ERR_OK) {
        http_answer_json(response, 200,
                         json_pack("{s:o}",
                                   api_publish_is_drop(request) ? "dropped" : "publications",
                                   api_publish_pending_json(listing->rows, listing->n)));
    } else {
        api_publish_listing_answer_error(request, err, response);
    }
}

static void api_publish_listing_start(struct http_request *request,
                                      struct http_response *response) {
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        http_problem_memory(response);
        return;
    }
    struct pending *pending =
        pending_begin(request, response,
                      &(struct pending_plan){.timeout_ms = LISTING_MS_MAX,
                                             .flags = PENDING_QUICK,
                                             .then = api_publish_listing_ended,
                                             .data = listing,
                                             .free_data = api_publish_listing_free});
    if (!pending) {
        return;
    }
    listing->pending = pending;
    enum err err =
        workers_publications(request->api->context.workers, request->parameter,
                             api_publish_is_drop(request), api_publish_listing_reported, listing);
    if (err != ERR_OK) {
        pending_cancel(request, pending);
        api_publish_listing_answer_error(request, err, response);
    }
}

void api_client_publications(struct http_request *request, struct http_response *response) {
    api_publish_listing_start(request, response);
}

void api_client_publications_drop(struct http_request *request, struct http_response *response) {
    api_publish_listing_start(request, response);
}
