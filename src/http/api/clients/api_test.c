/* POST /api/v1/clients:test: tests a configuration, and reports which step fails and what to
 * change. A job, whose thread connects. Never affects a running client. */
#include "http/api/api.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "http/api/job.h"
#include "http/api/scope_gate.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "mqtt/config/client_secrets.h"
#include "mqtt/probe/probe.h"

#define TESTS_RUNNING_MAX   4
#define TIMEOUT_MS          10000
#define TIMEOUT_MS_MAX      30000
#define TEST_TIMEOUT_MS_MIN 100

static bool api_test_has_own_id(const json_t *document) {
    const char *client_id = json_string_value(json_object_get(document, "client_id"));
    return json_object_get(document, "id") || (client_id && client_id[0] != '\0');
}

/* Generates an id if the document has none. False: answered. */
static bool api_test_check_input(const struct http_request *request, json_t *document,
                                 struct client_input *input, struct http_response *response) {
    struct client_faults faults;
    char id[sizeof("mqfleet-test-") + TEXT_ID_LEN] = "mqfleet-test-";
    text_random_id(id + strlen(id));
    id[strlen("mqfleet-test-") + 8] = '\0'; /* brokers of MQTT 3.1 take 23 characters */
    enum err err =
        client_input_check(request->api, &request->caller.scope, document, CLIENT_FROM_API,
                           api_test_has_own_id(document) ? NULL : id, false, input, &faults);
    if (err == ERR_ARGUMENT) {
        http_problem_faults(response, &faults);
    } else if (err != ERR_OK) {
        http_problem_error(response, err);
    }
    return err == ERR_OK;
}

/* A second connection with the client identifier of a client of this fleet would disconnect that
 * client. False: answered. */
static bool api_test_identity_is_free(const struct http_request *request,
                                      const struct client_input *input,
                                      struct http_response *response) {
    char *holder = NULL;
    enum err err = store_identity_owner(request->api->context.store, input->identity, &holder);
    if (err == ERR_OK && !scope_gate_includes_id(request, holder)) {
        http_problem(response, PROBLEM_IDENTITY,
                     "client_id %.128s is in use at this broker: use another one for the test",
                     input->config->client_id);
    } else if (err == ERR_OK) {
        http_problem(
            response, PROBLEM_IDENTITY,
            "client_id %.128s at this broker belongs to client %.256s, which the test would "
            "disconnect: use another client_id for the test",
            input->config->client_id, holder);
    } else if (err != ERR_NOT_FOUND) {
        http_problem_store(response, err);
    }
    free(holder);
    return err == ERR_NOT_FOUND;
}

/* Decrypts secrets, and reads those in files and variables of the node. False: answered. */
static void api_test_answer_secret_fault(struct http_response *response, const char *fault) {
    size_t pointer_len = strcspn(fault, ":");
    struct client_faults faults = {0};
    char pointer[sizeof(faults.items[0].pointer)];
    snprintf(pointer, sizeof(pointer), "%.*s", (int)pointer_len, fault);
    http_fault_add(&faults, pointer, "%s", fault + pointer_len + strspn(fault + pointer_len, ": "));
    http_problem_faults(response, &faults);
}

static bool api_test_read_secrets(const struct http_request *request, struct client_input *input,
                                  struct http_response *response) {
    const struct http_context *context = &request->api->context;
    char fault[CLIENT_SECRETS_FAULT_LEN] = "out of memory";
    struct client_config *stored = NULL, *whole = NULL;
    struct client_faults faults;
    enum err err = client_config_parse_text(input->text, strlen(input->text), input->config->id,
                                            &stored, &faults);
    if (err == ERR_OK) {
        err = client_secrets_open(stored, context->secrets, fault);
    }
    if (err == ERR_OK && client_secrets_on_other_node(stored)) {
        err = client_secrets_read(stored, context->conf, &whole, fault);
        client_config_destroy(stored);
        stored = NULL;
    }
    if (err == ERR_OK) {
        client_config_destroy(input->config);
        input->config = whole ? whole : stored;
    } else {
        client_config_destroy(stored);
        if (err == ERR_MEMORY) {
            http_problem_memory(response);
        } else {
            api_test_answer_secret_fault(response, fault);
        }
    }
    return err == ERR_OK;
}

static json_t *api_test_addresses_json(const struct probe_report *report) {
    json_t *addresses = json_array();
    for (size_t i = 0; i < report->address_count; i++) {
        const struct probe_address *one = &report->addresses[i];
        json_array_append_new(addresses,
                              json_pack("{s:s, s:b, s:o}", "address", one->address, "ok", one->ok,
                                        "detail", http_json_string(one->detail)));
    }
    return addresses;
}

static json_t *api_test_report_json(const struct probe_report *report) {
    json_t *steps = json_array();
    for (size_t i = 0; i < report->count; i++) {
        const struct probe_result *result = &report->results[i];
        json_array_append_new(steps, json_pack("{s:s, s:b, s:f, s:o, s:s?}", "step",
                                               probe_step_name(result->step), "ok", result->ok,
                                               "ms", (double)result->us / 1000.0, "detail",
                                               http_json_string(result->detail), "advice",
                                               client_error_advice(result->error)));
    }
    json_t *json = json_pack("{s:b, s:o}", "ok", report->ok, "steps", steps);
    if (report->address_count > 0) {
        json_object_set_new(json, "addresses", api_test_addresses_json(report));
    }
    return json;
}

static void api_test_use_endpoint(struct client_config *config,
                                  const struct client_endpoint *endpoint) {
    config->scheme = endpoint->scheme & 0xF;
    config->host = endpoint->host;
    config->port = endpoint->port;
    config->path = endpoint->path;
}

static json_t *api_test_broker_json(const struct client_endpoint *endpoint,
                                    const struct probe_report *report) {
    const struct probe_result *last =
        report->count > 0 ? &report->results[report->count - 1] : NULL;
    return json_pack("{s:o, s:b, s:s, s:o}", "broker",
                     json_sprintf("%s:%u", endpoint->host, (unsigned)endpoint->port), "ok",
                     report->ok, "step", last ? probe_step_name(last->step) : "dns", "detail",
                     http_json_string(last ? last->detail : "not tried"));
}

/* Tests one broker after the other, each with its share of the time. The report has the details of
 * the first one that works, or else of the first one. */
static json_t *api_test_try_urls(const struct http_request *request, struct client_config *config,
                                 int64_t timeout_ms, const struct probe_caller *caller,
                                 struct probe_report *report) {
    const struct client_endpoint own = {config->scheme, config->port, config->host, config->path};
    json_t *brokers = json_array(), *shown = NULL;
    bool ok = false;
    for (size_t i = 0; i < config->url_count && !caller->is_gone(caller->context); i++) {
        api_test_use_endpoint(config, &config->urls[i]);
        workers_probe(request->api->context.workers, config,
                      timeout_ms / (int64_t)config->url_count, caller, report);
        json_array_append_new(brokers, api_test_broker_json(&config->urls[i], report));
        if (!shown || (report->ok && !ok)) {
            json_decref(shown);
            shown = api_test_report_json(report);
            ok = report->ok;
        }
    }
    api_test_use_endpoint(config, &own);
    shown = shown ? shown : api_test_report_json(report);
    json_object_set_new(shown, "brokers", brokers);
    return shown;
}

/* ---- the job --------------------------------------------------------------------------------- */

struct test_job {
    struct client_input input;
    int64_t timeout_ms;
    json_t *report; /* NULL: out of memory */
};

static atomic_int tests_running; /* there are now, of this process */

static void api_test_job_free(void *data) {
    struct test_job *test_job = data;
    client_input_fini(&test_job->input);
    json_decref(test_job->report);
    free(test_job);
    atomic_fetch_sub(&tests_running, 1);
}

static void api_test_job_run(const struct http_request *request, void *data) {
    struct test_job *test_job = data;
    struct client_config *config = test_job->input.config;
    const struct probe_caller caller = {http_request_is_cancelled, (void *)request};
    struct probe_report *report = calloc(1, sizeof *report);
    if (!report) {
        return;
    }
    if (config->url_count > 1) {
        test_job->report =
            api_test_try_urls(request, config, test_job->timeout_ms, &caller, report);
    } else {
        workers_probe(request->api->context.workers, config, test_job->timeout_ms, &caller, report);
        test_job->report = api_test_report_json(report);
    }
    free(report);
}

static void api_test_job_answer(struct http_request *request, struct http_response *response,
                                void *data) {
    struct test_job *test_job = data;
    (void)request;
    if (test_job->report) {
        http_answer_json(response, 200, test_job->report);
        test_job->report = NULL;
    } else {
        http_problem_memory(response);
    }
}

/* Takes over the content of the input. */
static void api_test_job_start(struct http_request *request, struct client_input *input,
                               int64_t timeout_ms, struct http_response *response) {
    struct test_job *test_job = calloc(1, sizeof *test_job);
    if (!test_job) {
        http_problem_memory(response);
        return;
    }
    *test_job = (struct test_job){.input = *input, .timeout_ms = timeout_ms};
    *input = (struct client_input){0};
    if (atomic_fetch_add(&tests_running, 1) >= TESTS_RUNNING_MAX) {
        api_test_job_free(test_job);
        http_problem(response, PROBLEM_OVERLOAD, "%d tests are running; try again later",
                     TESTS_RUNNING_MAX);
        return;
    }
    http_job_start(request, response,
                   &(struct http_job_plan){api_test_job_run, api_test_job_answer, test_job,
                                           api_test_job_free});
}

void api_clients_test(struct http_request *request, struct http_response *response) {
    struct client_input input = {0};
    json_t *document = NULL;
    int64_t timeout_ms;
    if (http_query_int(&request->query, "timeout_ms", TEST_TIMEOUT_MS_MIN, TIMEOUT_MS_MAX,
                       TIMEOUT_MS, &timeout_ms) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "timeout_ms: must be a number from %d to %d",
                     TEST_TIMEOUT_MS_MIN, TIMEOUT_MS_MAX);
        return;
    }
    if (!http_body_object(request, response, &document)) {
        return;
    }
    if (api_test_check_input(request, document, &input, response) &&
        api_test_identity_is_free(request, &input, response) &&
        api_test_read_secrets(request, &input, response)) {
        api_test_job_start(request, &input, timeout_ms, response);
    }
    client_input_fini(&input);
    json_decref(document);
}
