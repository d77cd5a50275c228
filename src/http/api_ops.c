/* /livez and /readyz. Run on the MHD threads: nothing here may block or call Redis. */
#include "http/api.h"

#include <stdio.h>
#include "http/json.h"
#include "sink/sink.h"

void api_livez(struct http_request *request, struct http_response *response) {
    (void)request;
    http_answer_json(response, 200, json_pack("{s:s}", "status", "ok"));
}

void api_openapi(struct http_request *request, struct http_response *response) {
    (void)request;
    http_answer_text(response, 200, openapi_json);
    if (response->status == 200) {
        response->content_type = "application/json";
    }
}

struct readiness {
    json_t *checks;
    json_t *reason; /* what the first failed check says; NULL: none failed */
};

/* Notes one check: "ok", or what is wrong. */
static void check(struct readiness *readiness, const char *name, bool ok, const char *wrong) {
    json_t *result = ok ? json_string("ok") : http_json_string(wrong);
    if (!ok && readiness->reason == NULL) {
        readiness->reason = json_incref(result);
    }
    json_object_set_new(readiness->checks, name, result);
}

static void check_membership(const struct http_context *context, struct readiness *readiness) {
    const char *fault = agent_fault(context->agent);
    enum node_membership membership = node_membership(context->node);
    check(readiness, "membership", membership == NODE_MEMBER && fault == NULL,
          fault != NULL ? fault : node_membership_name(membership));
    check(readiness, "lease", node_lease_valid(context->node), "lapsed");
    check(readiness, "placement", !node_draining(context->node), "draining");
}

/* By the last beat that Redis answered. */
static void check_redis(const struct http_context *context, struct readiness *readiness) {
    int64_t age_ms = node_beat_age_ms(context->node);
    int64_t age_ms_max = context->conf->heartbeat_ms + context->conf->heartbeat_ttl_ms;
    char wrong[96 + STORE_TROUBLE_LEN], trouble[STORE_TROUBLE_LEN];
    int len =
        snprintf(wrong, sizeof(wrong), age_ms < 0 ? "never answered" : "last answered %lld ms ago",
                 (long long)age_ms);
    node_redis_trouble(context->node, trouble);
    if (trouble[0] != '\0') {
        snprintf(wrong + len, sizeof(wrong) - (size_t)len, "; %s", trouble);
    }
    check(readiness, "redis", age_ms >= 0 && age_ms <= age_ms_max, wrong);
}

static void check_sinks(const struct http_context *context, struct readiness *readiness) {
    for (size_t i = 0; context->sinks[i] != NULL; i++) {
        struct sink_status status;
        char name[64];
        sink_status(context->sinks[i], &status);
        snprintf(name, sizeof(name), "sink.%s", status.type);
        check(readiness, name, !status.failing, status.error);
    }
}

void api_readyz(struct http_request *request, struct http_response *response) {
    const struct http_context *context = &request->api->context;
    struct readiness readiness = {.checks = json_object()};
    check(&readiness, "running", atomic_load(&request->api->stop) == HTTP_RUNNING, "stopping");
    check_membership(context, &readiness);
    check_redis(context, &readiness);
    check_sinks(context, &readiness);
    bool ready = readiness.reason == NULL;
    http_answer_json(response, ready ? 200 : 503,
                     json_pack("{s:s, s:o, s:o}", "status", ready ? "ok" : "not ready", "reason",
                               ready ? json_null() : readiness.reason, "checks", readiness.checks));
}
