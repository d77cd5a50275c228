/* /api/v1/operations: lists, shows and cancels operations; /fleet/act: the part of the owner.
 * Handler threads. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/telemetry/log.h"
#include "cluster/operations/operations.h"
#include "http/auth/scope.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "operation_view.h"

#define ACT_IDS_MAX 1000

/* A caller with a scope sees the operations of this scope. */
static bool api_operations_shows(const struct http_request *request,
                                 const struct store_operation *operation) {
    char scope[SCOPE_TEXT_LEN];
    scope_format(&request->caller.scope, scope);
    return scope[0] == '\0' || (operation->scope && strcmp(operation->scope, scope) == 0);
}

void api_operations_list(struct http_request *request, struct http_response *response) {
    struct store_operation *operations;
    size_t n;
    enum err err = store_operations(request->api->context.store, NULL, &operations, &n);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (api_operations_shows(request, &operations[i])) {
            json_array_append_new(list, operation_view(&operations[i]));
        }
    }
    http_answer_json(response, 200, json_pack("{s:o}", "operations", list));
    store_operations_free(operations, n);
}

/* The operation of that id. NULL: answered. store_operations_free(operation, 1). */
static struct store_operation *api_operations_read(const struct http_request *request,
                                                   const char *id, struct http_response *response) {
    struct store_operation *operation = NULL;
    size_t n = 0;
    enum err err = id[0] == '\0' || strcmp(id, "running") == 0 /* would mean several */
                       ? ERR_OK
                       : store_operations(request->api->context.store, id, &operation, &n);
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (n != 1 || !api_operations_shows(request, operation)) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no operation %.64s", id);
    } else {
        return operation;
    }
    store_operations_free(operation, n);
    return NULL;
}

void api_operation_get(struct http_request *request, struct http_response *response) {
    struct store_operation *operation = api_operations_read(request, request->parameter, response);
    if (operation) {
        http_answer_json(response, 200, operation_view(operation));
        store_operations_free(operation, 1);
    }
}

static void api_operations_log_cancel(const struct store_operation *operation) {
    log_event(LOG_AUDIT, "operation_cancelled", KS("operation", operation->id),
              KS("action", operation->action), KS("caller", operation->cancelled_by),
              KS("selector", operation->selector), KI("total", operation->total),
              KI("done", operation->done), KI("skipped", operation->skipped),
              KI("failed", operation->failed));
}

void api_operation_cancel(struct http_request *request, struct http_response *response) {
    const char *id = request->parameter;
    struct store_operation *operation = api_operations_read(request, id, response);
    if (!operation) {
        return;
    }
    bool running = operation->state == OPERATION_RUNNING;
    store_operations_free(operation, 1);
    enum err err = store_cancel_operation(request->api->context.store, id, request->caller.name);
    if (err == ERR_WRONG_STATE) {
        http_problem(response, PROBLEM_STATE, "operation %.64s is done", id);
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if ((operation = api_operations_read(request, id, response))) {
        if (running) {
            api_operations_log_cancel(operation);
        }
        http_answer_json(response, 200, operation_view(operation));
        store_operations_free(operation, 1);
    }
}

/* ---- the owner ------------------------------------------------------------------------------- */

void api_fleet_act(struct http_request *request, struct http_response *response) {
    json_t *body;
    enum operation_action action;
    if (!http_body_object(request, response, &body)) {
        return;
    }
    const json_t *ids = json_object_get(body, "ids");
    if (!operation_action_parse(json_string_value(json_object_get(body, "action")), &action) ||
        !operation_action_is_of_owner(action)) {
        http_problem(response, PROBLEM_INVALID, "/action: must be restart or release");
    } else if (!json_is_array(ids) || json_array_size(ids) > ACT_IDS_MAX) {
        http_problem(response, PROBLEM_INVALID, "/ids: must be an array of at most %d",
                     ACT_IDS_MAX);
    } else {
        const struct http_context *context = &request->api->context;
        json_t *results = json_object();
        for (size_t i = 0; i < json_array_size(ids); i++) {
            const char *id = json_string_value(json_array_get(ids, i));
            if (id) {
                json_object_set_new(
                    results, id,
                    json_string(operations_act_here(context->workers, context->agent, action, id)));
            }
        }
        http_answer_json(response, 200, json_pack("{s:o}", "results", results));
    }
    json_decref(body);
}
