/* No state. */
#include "http/api/selection/select_query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "http/api/api.h"
#include "http/api/routes.h"
#include "http/server/problem.h"

/* False: answered. *n: how many of the parameters are keys of a selector. */
static bool select_query_sort_out(const struct http_request *request,
                                  struct http_response *response,
                                  struct client_pair pairs[HTTP_QUERY_MAX], size_t *n) {
    const struct http_query *query = &request->query;
    *n = 0;
    for (size_t i = 0; i < query->count; i++) {
        const struct http_pair *item = &query->items[i];
        if (client_selector_is_key(item->name)) {
            pairs[(*n)++] = (struct client_pair){item->name, item->value};
        } else if (!http_route_knows_parameter(request->route, item->name)) {
            http_problem(response, PROBLEM_INVALID, "%.64s: unknown parameter; allowed: %s",
                         item->name, request->route->query);
            return false;
        } else if (http_query_is_repeated(query, i)) {
            http_problem(response, PROBLEM_INVALID, "%.64s: is given twice", item->name);
            return false;
        }
    }
    return true;
}

enum err select_query_scope(const struct scope *scope, struct client_selector **out) {
    char name[sizeof(SCOPE_PREFIX) + CLIENT_LABEL_NAME_MAX], fault[CLIENT_SELECTOR_FAULT_LEN];
    *out = NULL;
    if (!scope_is_set(scope)) {
        return ERR_OK;
    }
    snprintf(name, sizeof(name), "%s%s", SCOPE_PREFIX, scope->label);
    struct client_pair pair = {.name = name, .value = client_selector_escape(scope->value)};
    enum err err = pair.value ? client_selector_parse(&pair, 1, out, fault) : ERR_MEMORY;
    free(pair.value);
    return err;
}

bool select_query_parse(const struct http_request *request, struct http_response *response,
                        struct selection_query *out) {
    struct client_pair pairs[HTTP_QUERY_MAX];
    char fault[CLIENT_SELECTOR_FAULT_LEN];
    size_t n;
    *out = (struct selection_query){0};
    if (!select_query_sort_out(request, response, pairs, &n)) {
        return false;
    }
    enum err err = client_selector_parse(pairs, n, &out->selector, fault);
    if (err == ERR_ARGUMENT) {
        http_problem(response, PROBLEM_INVALID, "%s", fault);
        return false;
    }
    if (err == ERR_OK) {
        err = select_query_scope(&request->caller.scope, &out->scope);
    }
    if (err != ERR_OK) {
        http_problem_error(response, err);
    }
    return err == ERR_OK;
}

bool select_query_read(struct http_request *request, struct http_response *response,
                       struct selection_query *out) {
    json_t *body;
    char fault[CLIENT_SELECTOR_FAULT_LEN];
    *out = (struct selection_query){0};
    if (!http_body_object(request, response, &body)) {
        return false;
    }
    enum err err = selection_query_from_json(body, out, fault);
    json_decref(body);
    if (err == ERR_ARGUMENT) {
        http_problem(response, PROBLEM_INVALID, "%s", fault);
    } else if (err != ERR_OK) {
        http_problem_error(response, err);
    }
    return err == ERR_OK;
}
