/* Owns the test of settings. Any thread. */
#include "http_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include "http_target.h"
#include "net/http_client.h"

/* A server may not know OPTIONS, which says nothing about POST: only redirects and refused
 * credentials are faults. */
static void http_probe_judge(const struct http_client_request *request,
                             const struct sink_test_report *report) {
    char quoted[HTTP_TEXT_LEN] = "", detail[HTTP_TEXT_LEN + 64];
    bool redirect = request->status >= 300 && request->status < 400;
    bool refused = request->status == 401 || request->status == 403;
    if (request->response.len > 0) {
        http_outcome_quote(request->response.data, request->response.len, quoted);
    }
    snprintf(detail, sizeof detail, "status %ld to OPTIONS%s%s", request->status,
             *quoted ? ": " : "", quoted);
    report->step(report->context, "connect", true, "the server answers", NULL);
    report->step(report->context, "authenticate", !redirect && !refused, detail,
                 redirect || refused ? http_outcome_advice(request->status) : NULL);
}

static void http_probe_send(const struct http_target *target, const json_t *settings,
                            const struct sink_test_report *report) {
    struct http_client *client = http_target_create_client(target, settings);
    const char **headers = calloc(target->header_count + 1, sizeof *headers);
    struct http_client_request request = {
        .method = "OPTIONS", .url = target->url, .headers = headers};
    for (size_t i = 0; headers && i < target->header_count; i++) {
        headers[i] = target->headers[i];
    }
    if (client && headers) {
        http_client_run(client, &request, 1);
    } else {
        snprintf(request.fault, sizeof request.fault, "out of memory");
        request.result = ERR_MEMORY;
    }
    if (request.result == ERR_OK) {
        http_probe_judge(&request, report);
    } else {
        report->step(report->context, "connect", false, request.fault,
                     "check url, the tls_ fields, and whether this node can reach the server");
    }
    buffer_fini(&request.response);
    free(headers);
    http_client_destroy(client);
}

void http_probe_run(const struct sink_environment *environment, const json_t *settings,
                    const struct sink_test_report *report) {
    char fault[SINK_FAULT_LEN] = "out of memory";
    struct http_target target;
    if (http_target_init(&target, environment, settings, fault) == ERR_OK) {
        http_probe_send(&target, settings, report);
    } else {
        report->step(report->context, "open", false, fault, "correct this field");
    }
    http_target_fini(&target);
}
