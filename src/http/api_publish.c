/* POST /api/v1/clients/{id}/publish: through this node or the one that runs the client. Runs on the
 * threads for requests that wait; what the hosts report comes on theirs. */
#include "http/api.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/condition.h"
#include "http/gate.h"
#include "http/json.h"
#include "http/problem.h"
#include "http/publication.h"
#include "mqtt/reason_codes.h"

#define GRACE_MS         1000 /* for the hosts to report their own time-out */
#define FORWARD_GRACE_MS 2000
#define ABORT_LOOK_MS    100

/* ---- waiting for the broker ------------------------------------------------------------------ */

/* Shared by the waiting thread and the host that reports; the last of the two frees it. */
struct outcome {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t reported;
    int users;
    bool done;
    enum err result;
    int reason_code;
};

static struct outcome *outcome_create(void) {
    struct outcome *outcome = calloc(1, sizeof(*outcome));
    if (outcome == NULL) {
        return NULL;
    }
    pthread_mutex_init(&outcome->lock, NULL);
    condition_init(&outcome->reported);
    outcome->users = 2;
    return outcome;
}

static void outcome_release(struct outcome *outcome, int users) {
    pthread_mutex_lock(&outcome->lock);
    outcome->users -= users;
    bool last = outcome->users == 0;
    pthread_mutex_unlock(&outcome->lock);
    if (last) {
        pthread_cond_destroy(&outcome->reported);
        pthread_mutex_destroy(&outcome->lock);
        free(outcome);
    }
}

static void outcome_report(void *context, enum err result, int reason_code) {
    struct outcome *outcome = context;
    pthread_mutex_lock(&outcome->lock);
    outcome->done = true;
    outcome->result = result;
    outcome->reason_code = reason_code;
    pthread_cond_signal(&outcome->reported);
    pthread_mutex_unlock(&outcome->lock);
    outcome_release(outcome, 1);
}

/* ERR_CANCELED: the node stops; ERR_TIMEOUT also when nothing was reported in time. */
static enum err outcome_wait(struct outcome *outcome, const struct http_api *api,
                             int *reason_code) {
    int64_t deadline_ms = clock_ms() + api->context.conf->publish_timeout_ms + GRACE_MS;
    enum err result = ERR_OK;
    pthread_mutex_lock(&outcome->lock);
    while (!outcome->done && result == ERR_OK) {
        struct timespec at = condition_deadline(ABORT_LOOK_MS);
        pthread_cond_timedwait(&outcome->reported, &outcome->lock, &at);
        if (!outcome->done && atomic_load(&api->stop) == HTTP_ABORTING) {
            result = ERR_CANCELED;
        } else if (!outcome->done && clock_ms() >= deadline_ms) {
            result = ERR_TIMEOUT;
        }
    }
    if (outcome->done) {
        result = outcome->result;
        *reason_code = outcome->reason_code;
    }
    pthread_mutex_unlock(&outcome->lock);
    return result;
}

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
        http_problem(response, PROBLEM_INTERNAL, "it was not published: %s", err_name(result));
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

/* ERR_NOT_FOUND: the client does not run here; ERR_ARGUMENT: it cannot send that. Nothing was
 * answered then. */
static enum err publish_here(const struct http_api *api, const char *id,
                             const struct engine_publication *publication,
                             struct http_response *response) {
    struct outcome *outcome = outcome_create();
    if (outcome == NULL) {
        http_problem(response, PROBLEM_INTERNAL, "out of memory");
        return ERR_OK;
    }
    int reason_code = 0;
    enum err result = hosts_publish(api->context.hosts, id, publication, outcome_report, outcome);
    if (result == ERR_OK) {
        result = outcome_wait(outcome, api, &reason_code);
        outcome_release(outcome, 1);
    } else {
        outcome_release(outcome, 2);
        if (result == ERR_NOT_FOUND || result == ERR_ARGUMENT) {
            return result;
        }
        if (result == ERR_REFUSED) {
            answer_throttled(api, id, publication, response);
            return ERR_OK;
        }
    }
    answer_outcome(api, id, publication->qos, result, reason_code, response);
    return ERR_OK;
}

static void publish(const struct http_request *request, const char *id, json_t *document,
                    struct http_response *response) {
    struct publication_input *input = publication_parse(document);
    if (input == NULL) {
        http_problem(response, PROBLEM_INTERNAL, "out of memory");
        return;
    }
    enum err result = ERR_ARGUMENT;
    if (input->faults.count == 0) {
        result = publish_here(request->api, id, &input->publication, response);
    }
    if (input->faults.count == 0 && result == ERR_ARGUMENT) {
        http_fault_add(&input->faults, input->property_pointer,
                       "is a property of MQTT 5, and the client speaks MQTT 3.1.1 "
                       "(protocol_version 4)");
    }
    if (result == ERR_ARGUMENT) {
        http_problem_faults(response, &input->faults);
    }
    publication_destroy(input);
    if (result != ERR_NOT_FOUND) {
        return;
    }
    struct store_client row;
    if (fleet_owner_elsewhere(request, id, &row, response)) {
        char *body = json_dumps(document, JSON_COMPACT);
        fleet_forward(request, row.owner.node, "POST", id, "publish", body,
                      body != NULL ? strlen(body) : 0,
                      request->api->context.conf->publish_timeout_ms + FORWARD_GRACE_MS, response);
        free(body);
    }
    store_client_fini(&row);
}

/* A broker that does not acknowledge holds a quarter of the threads at most. */
void client_publish(const struct http_request *request, const char *id, json_t *document,
                    struct http_response *response) {
    size_t share = (size_t)request->api->context.conf->http_waiters / 4 + 1;
    if (!http_gate_enter(id, share)) {
        http_problem(response, PROBLEM_OVERLOAD,
                     "%zu publications of client %s wait for its broker already", share, id);
        return;
    }
    publish(request, id, document, response);
    http_gate_leave(id);
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

static void answer_pending(const struct http_request *request, bool drop,
                           struct http_response *response) {
    const char *id = request->parameter;
    const char *name = drop ? "dropped" : "publications";
    struct hosts_publication *rows;
    struct store_client row = {0};
    size_t n;
    enum err result = hosts_publications(request->api->context.hosts, id, drop, &rows, &n);
    if (result == ERR_OK) {
        http_answer_json(response, 200, json_pack("{s:o}", name, pending_json(rows, n)));
        hosts_publications_free(rows, n);
    } else if (result != ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_OVERLOAD, "the node is busy: %s", err_name(result));
    } else if (fleet_owner_elsewhere(request, id, &row, response)) {
        fleet_forward(request, row.owner.node, drop ? "DELETE" : "GET", id, "publications", NULL, 0,
                      0, response);
    } else if (row.id != NULL) { /* it is there, but runs nowhere now: nothing is pending */
        http_answer_json(response, 200, json_pack("{s:[]}", name));
    }
    store_client_fini(&row);
}

void api_client_publications(struct http_request *request, struct http_response *response) {
    answer_pending(request, false, response);
}

void api_client_publications_drop(struct http_request *request, struct http_response *response) {
    answer_pending(request, true, response);
}

void api_client_publish(struct http_request *request, struct http_response *response) {
    json_t *document;
    if (http_body_object(request, response, &document)) {
        client_publish(request, request->parameter, document, response);
        json_decref(document);
    }
}
