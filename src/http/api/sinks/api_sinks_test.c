/* POST /api/v1/sinks:test: tests the document of a sink, or a sink of the fleet, and reports which
 * step fails and what to change. A job, whose thread connects. Writes nothing. */
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "cluster/resources/sink_document.h"
#include "http/api/job.h"
#include "http/api/sinks/sink_view.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "sink/sink_secrets.h"

struct sinks_test {
    json_t *document;
    struct sink_environment environment;
    json_t *steps;
    bool ok;
    int64_t step_began_us;
};

static void api_sinks_test_free(void *data) {
    struct sinks_test *test = data;
    json_decref(test->document);
    json_decref(test->steps);
    free(test);
}

static void api_sinks_test_step(void *context, const char *step, bool ok, const char *detail,
                                const char *advice) {
    struct sinks_test *test = context;
    int64_t now_us = clock_us();
    json_array_append_new(test->steps,
                          json_pack("{s:s, s:b, s:f, s:o, s:s?}", "step", step, "ok", ok, "ms",
                                    (double)(now_us - test->step_began_us) / 1000.0, "detail",
                                    http_json_string(detail), "advice", ok ? NULL : advice));
    test->ok = test->ok && ok;
    test->step_began_us = now_us;
}

static void api_sinks_test_fault(void *context, const char *pointer, const char *detail) {
    char text[SINK_DOCUMENT_FAULT_LEN + 256];
    snprintf(text, sizeof text, "%s%s%s", pointer, *pointer ? ": " : "", detail);
    api_sinks_test_step(context, "settings", false, text, "correct this field");
}

static void api_sinks_test_type(struct sinks_test *test, const struct sink_type *type) {
    char fault[SINK_FAULT_LEN] = "";
    const struct sink_field *const tables[] = {sink_common_fields, type->fields, NULL};
    json_t *given = sink_document_settings(test->document);
    json_t *settings = sink_settings_complete(tables, given, api_sinks_test_fault, test);
    if (settings && !sink_secrets_resolve(tables, settings, test->environment.conf, fault)) {
        api_sinks_test_step(test, "secrets", false, fault, "let this node read it, or correct it");
    } else if (settings && type->test) {
        type->test(&test->environment, settings,
                   &(struct sink_test_report){.context = test, .step = api_sinks_test_step});
    } else if (settings) {
        void *state = NULL;
        bool opened = type->open(&state, &test->environment, settings, fault) == ERR_OK;
        if (opened) {
            type->close(state);
        }
        api_sinks_test_step(test, "open", opened,
                            opened ? "this type has no further test: the target was not contacted"
                                   : fault,
                            "correct this field");
    }
    json_decref(settings);
    json_decref(given);
}

static void api_sinks_test_run(const struct http_request *request, void *data) {
    struct sinks_test *test = data;
    struct sink_document_rules rules = {request->api->context.conf, request->api->address_policy};
    test->step_began_us = clock_us();
    const struct sink_type *type =
        sink_document_check(test->document, &rules, api_sinks_test_fault, test);
    if (type) {
        api_sinks_test_step(test, "settings", true, "valid", NULL);
        api_sinks_test_type(test, type);
    }
}

static void api_sinks_test_answer(struct http_request *request, struct http_response *response,
                                  void *data) {
    struct sinks_test *test = data;
    http_answer_json(response, 200,
                     json_pack("{s:b, s:o, s:O}", "ok", test->ok, "node",
                               http_json_string(node_name(request->api->context.node)), "steps",
                               test->steps));
}

static void api_sinks_test_add_fault(void *context, const char *pointer, const char *detail) {
    http_fault_add(context, pointer, "%s", detail);
}

/* False: answered with all faults. */
static bool api_sinks_test_is_valid(const struct http_request *request, const json_t *document,
                                    struct http_response *response) {
    struct client_faults faults = {.count = 0};
    struct sink_document_rules rules = {request->api->context.conf, request->api->address_policy};
    (void)sink_document_check(document, &rules, api_sinks_test_add_fault, &faults);
    if (faults.count > 0) {
        http_problem_faults(response, &faults);
    }
    return faults.count == 0;
}

/* The document of the sink that the query names, or the body. NULL: answered. */
static json_t *api_sinks_test_document(const struct http_request *request,
                                       struct http_response *response) {
    const char *name = http_query_get(&request->query, "name");
    char fault[SINK_DOCUMENT_FAULT_LEN] = "";
    json_t *document = NULL;
    struct store_resource *rows = NULL;
    size_t n = 0;
    if (!name) {
        bool read = http_body_object(request, response, &document) &&
                    api_sinks_test_is_valid(request, document, response);
        if (!read) {
            json_decref(document);
        }
        return read ? document : NULL;
    }
    enum err err = store_resources(request->api->context.store, STORE_SINKS, name, &rows, &n, NULL);
    document = n > 0 ? sink_view_open(request->api, &rows[0], fault) : NULL;
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else if (n == 0) {
        http_problem(response, PROBLEM_NOT_FOUND, "the fleet has no sink %s", name);
    } else if (!document) {
        http_problem(response, PROBLEM_STATE, "%s", fault);
    }
    store_resources_free(rows, n);
    return document;
}

void api_sinks_test(struct http_request *request, struct http_response *response) {
    struct sinks_test *test = calloc(1, sizeof *test);
    json_t *document = test ? api_sinks_test_document(request, response) : NULL;
    if (!test) {
        http_problem_memory(response);
        return;
    }
    if (!document) {
        free(test);
        return;
    }
    sinks_environment(request->api->context.sinks, &test->environment);
    test->environment.sink = "test";
    test->document = document;
    test->steps = json_array();
    test->ok = true;
    http_job_start(request, response,
                   &(struct http_job_plan){api_sinks_test_run, api_sinks_test_answer, test,
                                           api_sinks_test_free});
}
