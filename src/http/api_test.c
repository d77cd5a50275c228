/* POST /api/v1/clients:test: tries a configuration and says which step fails, and what to change.
 * A job: its thread connects. Never touches a running client. */
#include "http/api.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "http/job.h"
#include "http/json.h"
#include "http/problem.h"
#include "mqtt/client_secrets.h"
#include "mqtt/probe.h"

#define TESTS_MAX        4
#define TIMEOUT_MS       10000
#define TIMEOUT_MS_MAX   30000
#define TIMEOUT_MS_LEAST 100

static bool names_itself(const json_t *document) {
    const char *client_id = json_string_value(json_object_get(document, "client_id"));
    return json_object_get(document, "id") != NULL || (client_id != NULL && client_id[0] != '\0');
}

/* A test needs no id: one is made up. False: answered. */
static bool check(const struct http_request *request, json_t *document, struct client_input *input,
                  struct http_response *response) {
    struct client_faults faults;
    char id[sizeof("mqfleet-test-") + TEXT_ID_LEN] = "mqfleet-test-";
    text_random_id(id + strlen(id));
    id[strlen("mqfleet-test-") + 8] = '\0'; /* brokers of MQTT 3.1 take 23 characters */
    enum err result = client_input_check(request->api, document, CLIENT_FROM_API,
                                         names_itself(document) ? NULL : id, false, input, &faults);
    if (result == ERR_ARGUMENT) {
        http_problem_faults(response, &faults);
    } else if (result != ERR_OK) {
        http_problem_error(response, result);
    }
    return result == ERR_OK;
}

/* Another connection under the identifier of a client of this fleet would take its place at the
 * broker. False: answered. */
static bool is_free(const struct http_request *request, const struct client_input *input,
                    struct http_response *response) {
    char *holder = NULL;
    enum err result = store_holder(request->api->context.store, input->identity, &holder);
    if (result == ERR_OK) {
        http_problem(response, PROBLEM_IDENTITY,
                     "client_id %.128s at this broker belongs to client %.256s, which the test "
                     "would disconnect: give the test a client_id of its own",
                     input->config->client_id, holder);
    } else if (result != ERR_NOT_FOUND) {
        http_problem_store(response, result);
    }
    free(holder);
    return result == ERR_NOT_FOUND;
}

/* Puts in what is encrypted, or to be read from files and variables of the node. False: answered.
 */
static void answer_secret_fault(struct http_response *response, const char *fault) {
    size_t pointer_len = strcspn(fault, ":");
    struct client_faults faults = {0};
    char pointer[sizeof(faults.items[0].pointer)];
    snprintf(pointer, sizeof(pointer), "%.*s", (int)pointer_len, fault);
    http_fault_add(&faults, pointer, "%s", fault + pointer_len + strspn(fault + pointer_len, ": "));
    http_problem_faults(response, &faults);
}

static bool read_secrets(const struct http_request *request, struct client_input *input,
                         struct http_response *response) {
    const struct http_context *context = &request->api->context;
    char fault[CLIENT_SECRETS_FAULT_LEN] = "out of memory";
    struct client_config *stored = NULL, *whole = NULL;
    struct client_faults faults;
    enum err result = client_config_parse_text(input->text, strlen(input->text), input->config->id,
                                               &stored, &faults);
    if (result == ERR_OK) {
        result = client_secrets_open(stored, context->secrets, fault);
    }
    if (result == ERR_OK && client_secrets_elsewhere(stored)) {
        result = client_secrets_read(stored, context->conf, &whole, fault);
        client_config_destroy(stored);
        stored = NULL;
    }
    if (result == ERR_OK) {
        client_config_destroy(input->config);
        input->config = whole != NULL ? whole : stored;
    } else {
        client_config_destroy(stored);
        if (result == ERR_MEMORY) {
            http_problem_memory(response);
        } else {
            answer_secret_fault(response, fault);
        }
    }
    return result == ERR_OK;
}

static json_t *addresses_json(const struct probe_report *report) {
    json_t *addresses = json_array();
    for (size_t i = 0; i < report->address_count; i++) {
        const struct probe_address *one = &report->addresses[i];
        json_array_append_new(addresses,
                              json_pack("{s:s, s:b, s:o}", "address", one->address, "ok", one->ok,
                                        "detail", http_json_string(one->detail)));
    }
    return addresses;
}

static json_t *report_json(const struct probe_report *report) {
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
        json_object_set_new(json, "addresses", addresses_json(report));
    }
    return json;
}

static void use_endpoint(struct client_config *config, const struct client_endpoint *endpoint) {
    config->scheme = endpoint->scheme;
    config->host = endpoint->host;
    config->port = endpoint->port;
    config->path = endpoint->path;
}

static json_t *broker_json(const struct client_endpoint *endpoint,
                           const struct probe_report *report) {
    const struct probe_result *last =
        report->count > 0 ? &report->results[report->count - 1] : NULL;
    return json_pack("{s:o, s:b, s:s, s:o}", "broker",
                     json_sprintf("%s:%u", endpoint->host, (unsigned)endpoint->port), "ok",
                     report->ok, "step", last != NULL ? probe_step_name(last->step) : "dns",
                     "detail", http_json_string(last != NULL ? last->detail : "not tried"));
}

/* One broker after the other, each with its share of the time. What is shown at length is the first
 * that works, else the first. */
static json_t *test_urls(const struct http_request *request, struct client_config *config,
                         int64_t timeout_ms, const struct probe_asker *asker,
                         struct probe_report *report) {
    const struct client_endpoint own = {config->scheme, config->port, config->host, config->path};
    json_t *brokers = json_array(), *shown = NULL;
    bool ok = false;
    for (size_t i = 0; i < config->url_count && !asker->is_gone(asker->context); i++) {
        use_endpoint(config, &config->urls[i]);
        hosts_probe(request->api->context.hosts, config, timeout_ms / (int64_t)config->url_count,
                    asker, report);
        json_array_append_new(brokers, broker_json(&config->urls[i], report));
        if (shown == NULL || (report->ok && !ok)) {
            json_decref(shown);
            shown = report_json(report);
            ok = report->ok;
        }
    }
    use_endpoint(config, &own);
    shown = shown != NULL ? shown : report_json(report);
    json_object_set_new(shown, "brokers", brokers);
    return shown;
}

/* ---- the job --------------------------------------------------------------------------------- */

struct test {
    struct client_input input;
    int64_t timeout_ms;
    json_t *report; /* NULL: out of memory */
};

static atomic_int tests; /* there are now, of this process */

static void test_free(void *data) {
    struct test *test = data;
    client_input_fini(&test->input);
    json_decref(test->report);
    free(test);
    atomic_fetch_sub(&tests, 1);
}

static void test_run(const struct http_request *request, void *data) {
    struct test *test = data;
    struct client_config *config = test->input.config;
    const struct probe_asker asker = {http_request_unwanted, (void *)request};
    struct probe_report *report = calloc(1, sizeof *report);
    if (!report) {
        return;
    }
    if (config->url_count > 1) {
        test->report = test_urls(request, config, test->timeout_ms, &asker, report);
    } else {
        hosts_probe(request->api->context.hosts, config, test->timeout_ms, &asker, report);
        test->report = report_json(report);
    }
    free(report);
}

static void test_answer(struct http_request *request, struct http_response *response, void *data) {
    struct test *test = data;
    (void)request;
    if (test->report) {
        http_answer_json(response, 200, test->report);
        test->report = NULL;
    } else {
        http_problem_memory(response);
    }
}

/* Takes over what is in the input. */
static void test_start(struct http_request *request, struct client_input *input, int64_t timeout_ms,
                       struct http_response *response) {
    struct test *test = calloc(1, sizeof *test);
    if (!test) {
        http_problem_memory(response);
        return;
    }
    *test = (struct test){.input = *input, .timeout_ms = timeout_ms};
    *input = (struct client_input){0};
    if (atomic_fetch_add(&tests, 1) >= TESTS_MAX) {
        test_free(test);
        http_problem(response, PROBLEM_OVERLOAD, "%d tests run already; try again", TESTS_MAX);
        return;
    }
    http_job_start(request, response,
                   &(struct http_job_plan){test_run, test_answer, test, test_free});
}

void api_clients_test(struct http_request *request, struct http_response *response) {
    struct client_input input = {0};
    json_t *document = NULL;
    int64_t timeout_ms;
    if (http_query_int(&request->query, "timeout_ms", TIMEOUT_MS_LEAST, TIMEOUT_MS_MAX, TIMEOUT_MS,
                       &timeout_ms) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "timeout_ms: must be a number from %d to %d",
                     TIMEOUT_MS_LEAST, TIMEOUT_MS_MAX);
        return;
    }
    if (!http_body_object(request, response, &document)) {
        return;
    }
    if (check(request, document, &input, response) && is_free(request, &input, response) &&
        read_secrets(request, &input, response)) {
        test_start(request, &input, timeout_ms, response);
    }
    client_input_fini(&input);
    json_decref(document);
}
