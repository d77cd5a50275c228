/* /api/v1/routes: the routes of the fleet, which decide where messages go. The handler threads. */
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "http/api/api.h"
#include "http/api/document_changes.h"
#include "http/api/if_match.h"
#include "http/api/sinks/api_routes.h"
#include "http/api/sinks/sink_view.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "message/routes/route_table.h"

/* ---- reading --------------------------------------------------------------------------------- */

/* The stored list, never NULL on ERR_OK. */
static enum err api_routes_read(const struct http_request *request, json_t **list,
                                int64_t *version) {
    char *text;
    enum err err = store_routes(request->api->context.store, &text, version);
    *list = NULL;
    if (err == ERR_OK) {
        *list = text ? json_from_text(text, strlen(text), 0) : json_array();
        err = *list ? ERR_OK : ERR_MEMORY;
    }
    free(text);
    return err;
}

static void api_routes_answer(struct http_response *response, json_t *list, int64_t version) {
    http_answer_json(response, 200,
                     json_pack("{s:o, s:I}", "routes", list, "version", (json_int_t)version));
    http_answer_header(response, "ETag", "\"%lld\"", (long long)version);
}

void api_routes_get(struct http_request *request, struct http_response *response) {
    json_t *list;
    int64_t version;
    enum err err = api_routes_read(request, &list, &version);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return;
    }
    api_routes_answer(response, list, version);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void api_routes_add_fault(void *context, const char *pointer, const char *detail) {
    char place[256];
    snprintf(place, sizeof place, "/routes%.200s", pointer);
    http_fault_add(context, place, "%s", detail);
}

void api_routes_each_use(const json_t *list,
                         void (*visit)(void *context, const struct api_routes_use *use),
                         void *context) {
    static const char *const fields[] = {"to", "also"};
    for (size_t i = 0; i < json_array_size(list); i++) {
        for (size_t k = 0; k < sizeof fields / sizeof fields[0]; k++) {
            const json_t *names = json_object_get(json_array_get(list, i), fields[k]);
            for (size_t n = 0; n < json_array_size(names); n++) {
                const char *name = json_string_value(json_array_get(names, n));
                if (name) {
                    visit(context, &(struct api_routes_use){name, fields[k], i, n});
                }
            }
        }
    }
}

struct api_routes_check {
    const struct http_api *api;
    struct client_faults *faults;
};

static void api_routes_check_use(void *context, const struct api_routes_use *use) {
    const struct api_routes_check *check = context;
    char pointer[64];
    if (!sink_view_exists(check->api, use->sink)) {
        snprintf(pointer, sizeof pointer, "/%zu/%s/%zu", use->route, use->field, use->index);
        api_routes_add_fault(check->faults, pointer, "there is no sink of this name");
    }
}

void api_routes_check_sinks(const struct http_api *api, const json_t *list,
                            struct client_faults *faults) {
    api_routes_each_use(list, api_routes_check_use, &(struct api_routes_check){api, faults});
}

struct route_table *api_routes_compile(const struct http_request *request, const json_t *body,
                                       struct http_response *response) {
    struct client_faults faults = {.count = 0};
    const json_t *list = json_object_get(body, "routes");
    struct route_table *table = route_table_create(list, api_routes_add_fault, &faults);
    if (table) {
        api_routes_check_sinks(request->api, list, &faults);
    }
    if (faults.count > 0) {
        http_problem_faults(response, &faults);
        route_table_release(table);
        return NULL;
    }
    return table;
}

static void api_routes_store(struct http_request *request, json_t *list, int64_t expected,
                             struct http_response *response) {
    int64_t version;
    char *text = json_to_text(list, JSON_COMPACT);
    if (!text) {
        http_problem_memory(response);
        return;
    }
    enum err err = store_put_routes(request->api->context.store, text, expected, &version);
    free(text);
    if (err == ERR_VERSION) {
        http_problem(response, PROBLEM_VERSION, "the routes have been changed; read them again");
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    } else {
        node_heartbeat_now(request->api->context.node); /* its answer makes this node apply them */
        api_routes_answer(response, json_incref(list), version);
    }
}

static void api_routes_compare(struct http_request *request, json_t *list,
                               struct http_response *response) {
    json_t *stored;
    int64_t version;
    enum err err = api_routes_read(request, &stored, &version);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return;
    }
    const json_t *before = version > 0 ? stored : NULL;
    document_changes_answer(response, (struct document_side){before, before},
                            (struct document_side){list, list});
    json_decref(stored);
}

void api_routes_put(struct http_request *request, struct http_response *response) {
    json_t *body = NULL;
    int64_t expected;
    bool dry_run;
    if (!http_read_flag(request, "dry_run", &dry_run, response) ||
        !if_match_read_single(request, "routes", &expected, response) ||
        !http_body_object(request, response, &body)) {
        return;
    }
    struct route_table *table = api_routes_compile(request, body, response);
    json_t *list = json_object_get(body, "routes");
    if (table && dry_run) {
        api_routes_compare(request, list, response);
    } else if (table) {
        api_routes_store(request, list, expected, response);
    }
    route_table_release(table);
    json_decref(body);
}
