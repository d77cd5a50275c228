/* POST /api/v1/clients/{id}/publish: through this node or the one that runs the client. Does not
 * block: what the hosts report goes on with the request, on their threads. Only for a client that
 * runs elsewhere a worker is asked. */
#include "http/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json_memory.h"
#include "base/text.h"
#include "http/json.h"
#include "http/pending.h"
#include "http/problem.h"
#include "http/publication.h"
#include "mqtt/reason_codes.h"

#define GRACE_MS         1000 /* for the hosts to report their own time-out */
#define FORWARD_GRACE_MS 2000
#define QUERY_MS         5000 /* for a host to tell what is pending */

/* ---- answers --------------------------------------------------------------------------------- */

static void answer_not_online(const struct http_api *api, const char *id,
                              struct http_response *response) {
    struct client_status status;
    const char *state = "connecting";
    if (hosts_status(api->context.hosts, id, &status) == ERR_OK) {
        state = client_state_shown(status.state);
        client_status_fini(&status);
    }
    http_problem(response, PROBLEM_STATE, "client %s is not online, its state is %s", id, state);
    http_problem_member(response, "state", json_string(state));
}

/* Told in words and by a code, as in the client's last_error. */
static void answer_given_up(enum give_up reason, struct http_response *response) {
    if (reason == GIVE_UP_NOT_SENT) {
        http_problem(response, PROBLEM_TIMEOUT, "%s", give_up_text(reason));
    } else if (reason == GIVE_UP_SINK_FULL) {
        http_problem(response, PROBLEM_SINK_FULL, "%s; it was not sent", give_up_text(reason));
        http_problem_member(response, "code", json_string("sink_full"));
    } else if (reason == GIVE_UP_DROPPED || reason == GIVE_UP_NOT_COMPLETED ||
               reason == GIVE_UP_EXPIRED) {
        http_problem(response, PROBLEM_UNKNOWN, "%s; the outcome is not known",
                     give_up_text(reason));
    } else {
        http_problem(response, PROBLEM_PUBLICATION, "%s; it is not sent again",
                     give_up_text(reason));
        http_problem_member(response, "code", json_string("publication_refused"));
    }
    http_problem_member(response, "reason", json_string(give_up_label(reason)));
}

static void answer_refused(int reason_code, struct http_response *response) {
    enum client_error error = reason_error_publication(reason_code);
    http_problem(response, PROBLEM_BROKER, "the broker refused it: %s (0x%02X)",
                 client_error_text(error), (unsigned)reason_code);
    http_problem_member(response, "reason_code", json_integer(reason_code));
    http_problem_member(response, "advice", json_string(client_error_advice(error)));
}

/* The broker may have answered all the same. */
static void answer_unheard(const struct http_api *api, const char *id,
                           struct http_response *response) {
    http_problem(response, PROBLEM_SINK_FULL,
                 "the sink of client %s is full and holds its messages, so that what the broker "
                 "answered within %lld ms could not be read; the outcome is not known",
                 id, (long long)api->context.conf->publish_timeout_ms);
    http_problem_member(response, "code", json_string("sink_full"));
}

static void answer_outcome(const struct http_api *api, const char *id, uint8_t qos, enum err result,
                           int reason_code, struct http_response *response) {
    switch (result) {
    case ERR_OK:
        if (reason_code >= REASON_UNSPECIFIED) { /* from here on an error */
            answer_refused(reason_code, response);
            break;
        }
        http_answer_json(response, 200,
                         json_pack("{s:s, s:i}", "result", qos > 0 ? "acknowledged" : "sent",
                                   "reason_code", reason_code));
        break;
    case ERR_WRONG_STATE:
        answer_not_online(api, id, response);
        break;
    case ERR_TIMEOUT:
        if (reason_code == HOSTS_UNHEARD) {
            answer_unheard(api, id, response);
            break;
        }
        http_problem(response, PROBLEM_TIMEOUT,
                     "the broker did not acknowledge it within %lld ms; the outcome is not known",
                     (long long)api->context.conf->publish_timeout_ms);
        break;
    case ERR_UNAVAILABLE:
        http_problem(response, PROBLEM_UNKNOWN,
                     "the connection to the broker was lost; the outcome is not known");
        break;
    case ERR_REFUSED:
        answer_given_up((enum give_up)reason_code, response);
        break;
    case ERR_CANCELED:
        http_problem(response, PROBLEM_STOPPING, "the outcome is not known");
        break;
    case ERR_FULL:
        http_problem(response, PROBLEM_OVERLOAD,
                     "too many publications are outstanding; nothing was sent");
        break;
    default:
        http_problem_error(response, result); /* it was not published */
        break;
    }
}

static void answer_throttled(const struct http_api *api, const char *id,
                             const struct engine_publication *publication,
                             struct http_response *response) {
    struct publish_throttled held;
    bool still = hosts_publish_throttled(api->context.hosts, id, publication, &held);
    int64_t wait_s = still ? (held.wait_ms + 999) / 1000 : 1;
    http_problem(
        response, PROBLEM_THROTTLED,
        "publications %s ended the connection of client %s %u times in a row: try again in "
        "%lld s",
        still ? held.what : "like this", id, still ? held.losses : PUBLISH_THROTTLE_AFTER,
        (long long)wait_s);
    http_problem_member(response, "code", json_string("publication_throttled"));
    http_answer_header(response, "Retry-After", "%lld", (long long)wait_s);
}

static void answer_busy(const struct hosts_busy *busy, struct http_response *response) {
    http_problem(response, PROBLEM_BROKER_BUSY,
                 "%zu publications, and %zu bytes, wait for an acknowledgement of broker %s "
                 "already; nothing was sent",
                 busy->use.waiting, busy->use.bytes, busy->broker);
    http_problem_member(response, "code", json_string("broker_busy"));
    http_problem_member(response, "broker", http_json_string(busy->broker));
    http_problem_member(response, "waiting", json_integer((json_int_t)busy->use.waiting));
}

/* ---- waiting for the broker ------------------------------------------------------------------ */

/* What is needed to answer. */
struct publishing {
    char *id;
    uint8_t qos;
    enum err result; /* as reported */
    int reason_code;
    struct pending *pending;
};

static void publishing_free(void *data) {
    struct publishing *publishing = data;
    free(publishing->id);
    free(publishing);
}

/* On a host thread. */
static void publishing_reported(void *context, enum err result, int reason_code) {
    struct publishing *publishing = context;
    struct pending *pending = publishing->pending;
    if (!pending_claim(pending)) {
        pending_drop(pending);
        return;
    }
    publishing->result = result;
    publishing->reason_code = reason_code;
    pending_resume(pending);
}

static void publishing_ended(struct http_request *request, struct http_response *response,
                             enum pending_end end, void *data) {
    const struct publishing *publishing = data;
    enum err result = end == PENDING_DONE       ? publishing->result
                      : end == PENDING_STOPPING ? ERR_CANCELED
                                                : ERR_TIMEOUT;
    answer_outcome(request->api, publishing->id, publishing->qos, result, publishing->reason_code,
                   response);
}

/* Begins to wait before the hosts may report. False: the request does not wait, and may be
 * answered: ERR_NOT_FOUND: the client does not run here; ERR_ARGUMENT: it cannot send that. */
static bool publish_here(struct http_request *request, const char *id,
                         const struct engine_publication *publication, enum err *result,
                         struct http_response *response) {
    const struct http_context *context = &request->api->context;
    struct publishing *publishing = calloc(1, sizeof *publishing);
    if (!publishing || !(publishing->id = text_dup(id))) {
        free(publishing);
        *result = ERR_MEMORY;
        return false;
    }
    publishing->qos = publication->qos;
    struct pending *pending = pending_begin(
        request, response,
        &(struct pending_plan){.timeout_ms = context->conf->publish_timeout_ms + GRACE_MS,
                               .flags = PENDING_QUICK | PENDING_FREES_BODY,
                               .then = publishing_ended,
                               .data = publishing,
                               .free_data = publishing_free});
    *result = ERR_OK;
    if (!pending) {
        return true; /* answered: too many wait */
    }
    publishing->pending = pending;
    *result = hosts_publish(context->hosts, id, publication, publishing_reported, publishing);
    if (*result != ERR_OK) {
        pending_cancel(request, pending);
    }
    return *result == ERR_OK;
}

/* ---- publishing ------------------------------------------------------------------------------ */

static void answer_not_begun(const struct http_request *request, const char *id,
                             struct publication_input *input, enum err result,
                             struct http_response *response) {
    if (result == ERR_REFUSED) {
        answer_throttled(request->api, id, &input->publication, response);
        return;
    }
    if (result == ERR_BUSY) {
        struct hosts_busy busy;
        hosts_publish_busy(request->api->context.hosts, id, &busy);
        answer_busy(&busy, response);
        return;
    }
    if (result != ERR_ARGUMENT) {
        answer_outcome(request->api, id, input->publication.qos, result, 0, response);
        return;
    }
    if (input->faults.count == 0) {
        http_fault_add(&input->faults, input->property_pointer,
                       "is a property of MQTT 5, and the client speaks MQTT 3.1.1 "
                       "(protocol_version 4)");
    }
    http_problem_faults(response, &input->faults);
}

bool client_publish(struct http_request *request, const char *id, json_t *document,
                    struct http_response *response) {
    struct publication_input *input = publication_parse(document);
    enum err result = ERR_ARGUMENT;
    bool waits = false;
    if (!input) {
        http_problem_memory(response);
        return true;
    }
    if (input->faults.count == 0) {
        waits = publish_here(request, id, &input->publication, &result, response);
    }
    if (!waits && result != ERR_NOT_FOUND) {
        answer_not_begun(request, id, input, result, response);
    }
    publication_destroy(input);
    return waits || result != ERR_NOT_FOUND;
}

/* False: it is answered. A document that cannot be read is for its owner to judge. */
static bool publish_count_elsewhere(struct http_request *request, const struct store_client *row,
                                    struct http_response *response) {
    struct hosts *hosts = request->api->context.hosts;
    struct client_config *config = NULL;
    struct client_faults faults = {0};
    struct hosts_busy busy;
    if (client_config_parse_text(row->config, row->config_len, row->id, &config, &faults) !=
        ERR_OK) {
        return true;
    }
    snprintf(busy.broker, sizeof busy.broker, "%s:%u", config->host, (unsigned)config->port);
    client_config_destroy(config);
    enum err result = hosts_publish_elsewhere(hosts, busy.broker, &request->share);
    if (result == ERR_BUSY) {
        busy.use = hosts_publish_use_of(hosts, busy.broker);
        answer_busy(&busy, response);
    }
    return result != ERR_BUSY;
}

void client_publish_elsewhere(struct http_request *request, const char *id, const json_t *document,
                              struct http_response *response) {
    struct store_client row;
    if (fleet_owner_elsewhere(request, id, &row, response) &&
        publish_count_elsewhere(request, &row, response)) {
        char *body = json_text(document, JSON_COMPACT);
        fleet_forward(request, row.owner.node, "POST", id, "publish", body,
                      body != NULL ? strlen(body) : 0,
                      request->api->context.conf->publish_timeout_ms + FORWARD_GRACE_MS, response);
        free(body);
    }
    store_client_fini(&row);
}

static void publish_elsewhere(struct http_request *request, struct http_response *response) {
    json_t *document;
    if (http_body_object(request, response, &document)) {
        client_publish_elsewhere(request, request->parameter, document, response);
        json_decref(document);
    }
}

void api_client_publish(struct http_request *request, struct http_response *response) {
    json_t *document;
    if (http_body_object(request, response, &document)) {
        if (!client_publish(request, request->parameter, document, response)) {
            request->later = publish_elsewhere;
        }
        json_decref(document);
    }
}

/* ---- what is pending ---------------------------------------------------------------------------
 */

static json_t *pending_json(const struct hosts_publication *rows, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct hosts_publication *row = &rows[i];
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

/* The question to the client's host. */
struct listing {
    struct pending *pending;
    enum err result; /* as answered */
    struct hosts_publication *rows;
    size_t n;
};

static void listing_free(void *data) {
    struct listing *listing = data;
    hosts_publications_free(listing->rows, listing->n);
    free(listing);
}

static bool is_drop(const struct http_request *request) {
    return strcmp(request->method, "DELETE") == 0;
}

/* On the host's thread. */
static void listing_answered(void *context, enum err result, struct hosts_publication *rows,
                             size_t n) {
    struct listing *listing = context;
    struct pending *pending = listing->pending;
    if (!pending_claim(pending)) {
        hosts_publications_free(rows, n);
        pending_drop(pending);
        return;
    }
    listing->result = result;
    listing->rows = rows;
    listing->n = n;
    pending_resume(pending);
}

/* On a worker. */
static void list_elsewhere(struct http_request *request, struct http_response *response) {
    const char *id = request->parameter;
    struct store_client row = {0};
    if (fleet_owner_elsewhere(request, id, &row, response)) {
        fleet_forward(request, row.owner.node, is_drop(request) ? "DELETE" : "GET", id,
                      "publications", NULL, 0, 0, response);
    } else if (row.id != NULL) { /* it is there, but runs nowhere now: nothing is pending */
        http_answer_json(response, 200,
                         json_pack("{s:[]}", is_drop(request) ? "dropped" : "publications"));
    }
    store_client_fini(&row);
}

static void list_result(struct http_request *request, enum err result,
                        struct http_response *response) {
    if (result == ERR_NOT_FOUND) {
        request->later = list_elsewhere;
    } else {
        http_problem(response, PROBLEM_OVERLOAD, "the node is busy: %s", err_name(result));
    }
}

static void listing_ended(struct http_request *request, struct http_response *response,
                          enum pending_end end, void *data) {
    const struct listing *listing = data;
    enum err result = end == PENDING_DONE ? listing->result : ERR_TIMEOUT;
    if (result == ERR_OK) {
        http_answer_json(response, 200,
                         json_pack("{s:o}", is_drop(request) ? "dropped" : "publications",
                                   pending_json(listing->rows, listing->n)));
    } else {
        list_result(request, result, response);
    }
}

static void list_publications(struct http_request *request, struct http_response *response) {
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        http_problem_memory(response);
        return;
    }
    struct pending *pending = pending_begin(request, response,
                                            &(struct pending_plan){.timeout_ms = QUERY_MS,
                                                                   .flags = PENDING_QUICK,
                                                                   .then = listing_ended,
                                                                   .data = listing,
                                                                   .free_data = listing_free});
    if (!pending) {
        return;
    }
    listing->pending = pending;
    enum err result = hosts_publications(request->api->context.hosts, request->parameter,
                                         is_drop(request), listing_answered, listing);
    if (result != ERR_OK) {
        pending_cancel(request, pending);
        list_result(request, result, response);
    }
}

void api_client_publications(struct http_request *request, struct http_response *response) {
    list_publications(request, response);
}

void api_client_publications_drop(struct http_request *request, struct http_response *response) {
    list_publications(request, response);
}
