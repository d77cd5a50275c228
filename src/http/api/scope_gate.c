/* Owns the time and the wording of the answer for a client outside the scope: both are those of a
 * client that does not exist. */
#include "http/api/scope_gate.h"

#include "base/system/clock.h"
#include "http/api/api.h"
#include "http/api/routes.h"
#include "http/server/pending.h"
#include "http/server/problem.h"

/* Time from the start of the check to its 404. Longer than it takes to read and compare a large
 * client. */
#define SCOPE_MISSING_MS 25

bool scope_gate_is_needed(const struct http_request *request) {
    return request->route && request->route->scope == SCOPE_CLIENT &&
           scope_is_set(&request->caller.scope);
}

bool scope_gate_includes(const struct http_request *request, const struct store_client *row) {
    return scope_includes_text(&request->caller.scope, row->id, row->config, row->config_len);
}

bool scope_gate_includes_id(const struct http_request *request, const char *id) {
    struct store_client row = {0};
    bool included = !scope_is_set(&request->caller.scope) ||
                    (id && store_get(request->api->context.store, id, &row) == ERR_OK &&
                     scope_gate_includes(request, &row));
    store_client_fini(&row);
    return included;
}

static void scope_gate_missing(struct http_request *request, struct http_response *response,
                               enum pending_end end, void *data) {
    (void)end;
    (void)data;
    http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", request->parameter);
}

/* Nothing but the time ends the wait. */
static void scope_gate_wait_for_missing(struct http_request *request,
                                        struct http_response *response, int64_t begun_ms) {
    int64_t left_ms = begun_ms + SCOPE_MISSING_MS - clock_ms();
    struct pending *pending =
        pending_begin(request, response,
                      &(struct pending_plan){.timeout_ms = left_ms > 0 ? left_ms : 0,
                                             .flags = PENDING_QUICK | PENDING_ENDS_AT_STOP,
                                             .then = scope_gate_missing});
    if (pending) {
        pending_drop(pending);
    }
}

void scope_gate_run(struct http_request *request, struct http_response *response) {
    int64_t begun_ms = clock_ms();
    struct store_client row = {0};
    enum err err = store_get(request->api->context.store, request->parameter, &row);
    bool found = err == ERR_OK && scope_gate_includes(request, &row);
    request->scope_version = row.version;
    store_client_fini(&row);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        http_problem_store(response, err);
    } else if (found) {
        request->route->handler(request, response);
    } else {
        scope_gate_wait_for_missing(request, response, begun_ms);
    }
}
