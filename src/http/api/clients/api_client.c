/* /api/v1/clients/{id}: one client and its actions, except publishing. The handler threads. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "cluster/operations/audit_record.h"
#include "http/api/clients/client_edit.h"
#include "http/api/clients/client_waits.h"
#include "http/api/if_match.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/client/client_history.h"
#include "http/api/routes.h"
#include "http/api/scope_gate.h"

#define WRITE_RETRY_MS_MAX                                                                         \
    5000 /* attempts of an unconditional write that conflicts with others                          \
          */

/* ---- reading --------------------------------------------------------------------------------- */

/* False: answered. */
static bool api_client_read_row(const struct http_request *request, struct store_client *row,
                                struct http_response *response) {
    *row = (struct store_client){0};
    enum err err = store_get(request->api->context.store, request->parameter, row);
    if (err == ERR_OK && !scope_gate_includes(request, row)) { /* no longer, see scope_gate.h */
        store_client_fini(row);
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", request->parameter);
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    }
    return err == ERR_OK;
}

static void api_client_answer_with_status(struct http_request *request,
                                          struct http_response *response,
                                          struct peer_proxy_rows *rows, void *context) {
    const struct store_client *row = &rows->rows[0];
    const char *effective = http_query_get(&request->query, "effective");
    struct client_view view;
    (void)context;
    client_view_open(&view, request->api, row);
    if (effective && strcmp(effective, "true") == 0) {
        client_view_show_effective(&view);
    }
    http_answer_json(response, 200, client_view_document(&view, rows->statuses[0]));
    client_view_close(&view);
    rows->statuses[0] = NULL;
    http_answer_header(response, "ETag", "\"%lld\"", (long long)row->version);
}

/* Takes over the content of the row. */
static void api_client_answer_row(struct http_request *request, struct store_client *row,
                                  struct http_response *response) {
    peer_proxy_status(request, response, row, api_client_answer_with_status);
}

void api_client_get(struct http_request *request, struct http_response *response) {
    const char *effective = http_query_get(&request->query, "effective");
    struct store_client row;
    if (effective && strcmp(effective, "true") != 0 && strcmp(effective, "false") != 0) {
        http_problem(response, PROBLEM_BAD_REQUEST, "effective: must be true or false");
        return;
    }
    if (api_client_read_row(request, &row, response)) {
        api_client_answer_row(request, &row, response);
    }
    store_client_fini(&row);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void api_client_row_destroy(void *row) {
    store_client_fini(row);
    free(row);
}

/* After the wait for the new configuration. context: the row. */
static void api_client_answer_awaited(struct http_request *request, struct http_response *response,
                                      void *context) {
    struct store_client *row = context;
    struct store_client now = {0};
    bool read = request->wait_ms > 0 &&
                store_get(request->api->context.store, request->parameter, &now) == ERR_OK;
    api_client_answer_row(request, read ? &now : row, response);
    store_client_fini(&now);
}

/* Takes over the content of the row. */
static void api_client_answer_written(struct http_request *request, struct store_client *row,
                                      struct http_response *response) {
    const char *id = request->parameter;
    struct store_client *written = malloc(sizeof *written);
    if (!written) {
        http_problem_memory(response);
        return;
    }
    *written = *row;
    *row = (struct store_client){0};
    client_waits_begin(request, response,
                       &(struct client_wait_plan){.ids = &id,
                                                  .n = 1,
                                                  .version = written->version,
                                                  .then = api_client_answer_awaited,
                                                  .context = written,
                                                  .free_context = api_client_row_destroy});
}

/* How a request changes a client. */
struct client_write {
    const char *action; /* for the audit trail */
    enum err (*apply)(struct client_edit *edit, const json_t *body, enum client_desired desired);
    const json_t *body;          /* of PUT and PATCH */
    enum client_desired desired; /* of pause and resume */
    int64_t expected;            /* version; 0: any */
};

/* One write of `text` over the version in row. True: done, or answered; false: read it again. */
static bool api_client_write_row(struct http_request *request, struct store_client *row,
                                 const struct client_edit *edit, const struct client_write *write,
                                 struct http_response *response) {
    char *other_id = NULL;
    int64_t version = 0;
    enum err err =
        client_edit_write(edit, request->caller.name, write->action, &version, &other_id);
    bool again = false;
    if (err == ERR_OK) {
        char *text = strdup(edit->input.text);
        if (text) {
            free(row->config);
            row->config = text;
            row->config_len = strlen(text);
        }
        row->version = version;
        api_client_answer_written(request, row, response);
    } else if (err == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", request->parameter);
    } else if (err == ERR_EXISTS && !scope_gate_includes_id(request, other_id)) {
        http_problem(response, PROBLEM_IDENTITY,
                     "client_id %.128s is in use at this broker; use another one",
                     edit->input.config->client_id);
    } else if (err == ERR_EXISTS) {
        http_problem(response, PROBLEM_IDENTITY,
                     "client_id %.128s at this broker belongs to client %.256s",
                     edit->input.config->client_id, other_id ? other_id : "?");
    } else if (err == ERR_VERSION && write->expected != 0) {
        if_match_answer_changed(request, "client", response);
    } else if (err == ERR_VERSION) {
        again = true;
    } else {
        http_problem_store(response, err);
    }
    free(other_id);
    return !again;
}

/* Without If-Match, a conflict is not reported: the client is read and written again, in a new
 * handler task. Each conflict means that another write has succeeded. */
static void api_client_retry_write(struct http_request *request, struct http_response *response) {
    int64_t now_ms = clock_ms();
    request->give_up_at_ms =
        request->give_up_at_ms != 0 ? request->give_up_at_ms : now_ms + WRITE_RETRY_MS_MAX;
    if (now_ms < request->give_up_at_ms) {
        request->next_step =
            scope_gate_is_needed(request) ? scope_gate_run : request->route->handler;
        return;
    }
    http_problem(response, PROBLEM_OVERLOAD,
                 "other callers keep changing client %s; nothing was changed", request->parameter);
}

/* True: the edit has succeeded; false: answered. */
static bool api_client_answer_edit(const struct client_edit *edit, enum err err,
                                   struct http_response *response) {
    if (err == ERR_ARGUMENT) {
        http_problem_faults(response, &edit->faults);
    } else if (err == ERR_WRONG_STATE) {
        http_problem(response, PROBLEM_STATE, "the stored configuration of %s is invalid: %s",
                     edit->row->id, edit->faults.items[0].detail);
    } else if (err != ERR_OK) {
        http_problem_error(response, err);
    }
    return err == ERR_OK;
}

/* True: done, or answered; false: somebody wrote in between, and no version was expected. */
static bool api_client_try_write(struct http_request *request, const struct client_write *write,
                                 struct http_response *response) {
    struct store_client row;
    struct client_edit edit = {.api = request->api, .scope = &request->caller.scope, .row = &row};
    bool done = true;
    if (api_client_read_row(request, &row, response)) {
        if (write->expected != 0 && row.version != write->expected) {
            if_match_answer_changed(request, "client", response);
        } else if (api_client_answer_edit(&edit, write->apply(&edit, write->body, write->desired),
                                          response)) {
            done = api_client_write_row(request, &row, &edit, write, response);
        }
    }
    client_edit_fini(&edit);
    store_client_fini(&row);
    return done;
}

static void api_client_write(struct http_request *request, struct client_write *write,
                             struct http_response *response) {
    if (if_match_read(request, "client", &write->expected, response) &&
        !api_client_try_write(request, write, response)) {
        api_client_retry_write(request, response);
    }
}

static enum err api_client_apply_replace(struct client_edit *edit, const json_t *body,
                                         enum client_desired desired) {
    (void)desired;
    return client_edit_replace(edit, body);
}

static enum err api_client_apply_merge(struct client_edit *edit, const json_t *body,
                                       enum client_desired desired) {
    (void)desired;
    return client_edit_merge(edit, body);
}

static enum err api_client_apply_desired(struct client_edit *edit, const json_t *body,
                                         enum client_desired desired) {
    (void)body;
    return client_edit_set_desired(edit, desired);
}

void api_client_put(struct http_request *request, struct http_response *response) {
    json_t *body = NULL;
    if (http_body_object(request, response, &body)) {
        api_client_write(request,
                         &(struct client_write){
                             .action = "replace", .apply = api_client_apply_replace, .body = body},
                         response);
        json_decref(body);
    }
}

void api_client_patch(struct http_request *request, struct http_response *response) {
    json_t *body = NULL;
    if (http_body_object(request, response, &body)) {
        api_client_write(request,
                         &(struct client_write){
                             .action = "patch", .apply = api_client_apply_merge, .body = body},
                         response);
        json_decref(body);
    }
}

static void api_client_set_desired(struct http_request *request, enum client_desired desired,
                                   struct http_response *response) {
    api_client_write(
        request,
        &(struct client_write){.action = desired == DESIRED_PAUSED ? "pause" : "resume",
                               .apply = api_client_apply_desired,
                               .desired = desired},
        response);
}

void api_client_pause(struct http_request *request, struct http_response *response) {
    api_client_set_desired(request, DESIRED_PAUSED, response);
}

void api_client_resume(struct http_request *request, struct http_response *response) {
    api_client_set_desired(request, DESIRED_RUNNING, response);
}

enum err api_client_delete_stored(const struct http_request *request, const char *id,
                                  int64_t expected_version) {
    char *record =
        audit_record(&(struct audit_change){.by = request->caller.name, .action = "delete"});
    enum err err = record ? store_delete(request->api->context.store, id, expected_version, record)
                          : ERR_MEMORY;
    free(record);
    return err;
}

void api_client_delete(struct http_request *request, struct http_response *response) {
    int64_t expected;
    if (!if_match_read(request, "client", &expected, response)) {
        return;
    }
    int64_t seen = request->scope_version; /* with a scope, only this version is in the scope */
    enum err err = seen != 0 && expected != 0 && expected != seen
                       ? ERR_VERSION
                       : api_client_delete_stored(request, request->parameter,
                                                  expected != 0 ? expected : seen);
    if (err == ERR_OK) {
        http_answer_empty(response, 204);
    } else if (err == ERR_VERSION && expected == 0) {
        api_client_retry_write(request, response);
    } else if (err == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", request->parameter);
    } else if (err == ERR_VERSION) {
        if_match_answer_changed(request, "client", response);
    } else {
        http_problem_store(response, err);
    }
}

/* ---- actions of the owner ----------------------------------------------------------------------
 */

static void api_client_answer_accepted(const char *id, const char *action,
                                       struct http_response *response) {
    http_answer_json(response, 202,
                     json_pack("{s:o, s:s}", "id", http_json_string(id), "accepted", action));
}

/* A resumed client stays paused until its owner knows, and then always connects. */
static void api_client_answer_paused(const struct http_request *request, const char *action,
                                     struct http_response *response) {
    const char *id = request->parameter;
    struct store_client row;
    struct client_view view;
    if (api_client_read_row(request, &row, response)) {
        client_view_open(&view, request->api, &row);
        bool resumed = view.config && view.config->desired == DESIRED_RUNNING;
        client_view_close(&view);
        if (resumed && strcmp(action, "restart") == 0) {
            api_client_answer_accepted(id, action, response);
        } else {
            http_problem(response, PROBLEM_STATE,
                         resumed ? "client %s was just resumed and has not started yet; try again"
                                 : "client %s is paused; resume it first",
                         id);
            http_problem_member(response, "state", json_string("paused"));
        }
    }
    store_client_fini(&row);
}

static void api_client_answer_action(struct http_request *request, const char *action, enum err err,
                                     struct http_response *response) {
    const char *id = request->parameter;
    struct store_client row = {0};
    switch (err) {
    case ERR_OK:
        api_client_answer_accepted(id, action, response);
        break;
    case ERR_NOT_FOUND:
        if (peer_proxy_find_owner(request, id, &row, response)) {
            peer_proxy_forward(request, row.owner.node, "POST", id, action, NULL, 0, 0, response);
        }
        break;
    case ERR_WRONG_STATE:
        api_client_answer_paused(request, action, response);
        break;
    default:
        http_problem(response, PROBLEM_OVERLOAD, "the node is busy: %s", err_name(err));
        break;
    }
    store_client_fini(&row);
}

void api_client_restart(struct http_request *request, struct http_response *response) {
    struct workers *workers = request->api->context.workers;
    api_client_answer_action(request, "restart",
                             workers_restart(workers, request->parameter, "restarted on request"),
                             response);
}

void api_client_release(struct http_request *request, struct http_response *response) {
    struct agent *agent = request->api->context.agent;
    api_client_answer_action(request, "release", agent_hand_over(agent, request->parameter),
                             response);
}

/* node: of the changes without one. */
static json_t *api_client_events_json(const struct client_change *changes, size_t n,
                                      const char *node) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const char *where = changes[i].node[0] != '\0' ? changes[i].node : node;
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:s, s:o, s:o}", "at", http_json_time(changes[i].at_ms),
                            "from", client_state_shown(changes[i].from), "to",
                            client_state_shown(changes[i].to), "reason",
                            http_json_string(changes[i].reason), "node", http_json_string(where)));
    }
    return json_pack("{s:o}", "events", list);
}

/* Of a client that runs on no node now. */
static void api_client_answer_stored_events(const struct store_client *row,
                                            struct http_response *response) {
    struct client_history *history = row->history ? client_history_parse(row->history) : NULL;
    http_answer_json(
        response, 200,
        api_client_events_json(history ? history->changes : NULL, history ? history->n : 0, ""));
    free(history);
}

void api_client_events(struct http_request *request, struct http_response *response) {
    const char *id = request->parameter;
    const struct http_context *context = &request->api->context;
    struct client_change changes[CLIENT_CHANGES_MAX];
    size_t n = 0;
    if (workers_changes(context->workers, id, changes, &n) == ERR_OK) {
        http_answer_json(response, 200,
                         api_client_events_json(changes, n, context->conf->node_name));
        return;
    }
    struct store_client row;
    if (peer_proxy_find_owner(request, id, &row, response)) {
        peer_proxy_forward(request, row.owner.node, "GET", id, "events", NULL, 0, 0, response);
    } else if (row.id) { /* it exists, but runs on no node now */
        api_client_answer_stored_events(&row, response);
    }
    store_client_fini(&row);
}
