/* /livez and /readyz. Run on the MHD threads: nothing here may block or call Redis. */
#include "http/api.h"

#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/pulse.h"
#include "http/json.h"
#include "sink/sink.h"

void api_openapi(struct http_request *request, struct http_response *response) {
    (void)request;
    http_answer_text(response, 200, openapi_json);
    if (response->status == 200) {
        response->content_type = "application/json";
    }
}

struct readiness {
    json_t *checks;
    json_t *notes;    /* what is shown besides: good to know, no reason to be not ready */
    json_t *warnings; /* of them, what somebody should look at */
    json_t *reason;   /* what the first failed check says; NULL: none failed */
};

/* Notes one check: "ok", or what is wrong. */
static void check(struct readiness *readiness, const char *name, bool ok, const char *wrong) {
    json_t *result = ok ? json_string("ok") : http_json_string(wrong);
    if (!ok && readiness->reason == NULL) {
        readiness->reason = json_incref(result);
    }
    json_object_set_new(readiness->checks, name, result);
}

/* Takes the sentence over: as one of the warnings, or as a note. */
static void note(struct readiness *readiness, const char *name, bool warning, const char *text) {
    json_object_set_new(warning ? readiness->warnings : readiness->notes, name,
                        http_json_string(text));
}

static void print_notes(struct buffer *text, json_t *notes, const char *form) {
    const char *name;
    json_t *said;
    json_object_foreach(notes, name, said) {
        const char *sentence = json_string_value(said);
        buffer_printf(text, form, name, sentence != NULL ? sentence : "out of memory");
    }
}

/* As kubectl shows them: a line for each check, in order, and one for all. Takes the checks. */
static void answer_verbose(struct http_response *response, const char *path,
                           struct readiness *readiness) {
    const char *name;
    json_t *result;
    struct buffer text;
    bool ready = readiness->reason == NULL;
    buffer_init(&text);
    json_object_foreach(readiness->checks, name, result) {
        const char *said = json_string_value(result);
        bool ok = said != NULL && strcmp(said, "ok") == 0;
        buffer_printf(&text, "[%c]%s %s%s\n", ok ? '+' : '-', name,
                      ok ? "" : "failed: ", said != NULL ? said : "out of memory");
    }
    print_notes(&text, readiness->notes, "[+]%s ok: %s\n");
    print_notes(&text, readiness->warnings, "[!]%s warning: %s\n");
    buffer_printf(&text, "%s check %s\n", path + 1, ready ? "passed" : "failed");
    size_t len = text.len;
    char *body = buffer_take(&text);
    if (body != NULL) {
        http_answer_bytes(response, ready ? 200 : 503, "text/plain; charset=utf-8", body, len);
    } else {
        http_answer_json(response, 500, NULL);
    }
    json_decref(readiness->reason);
    json_decref(readiness->checks);
    json_decref(readiness->notes);
    json_decref(readiness->warnings);
}

static bool is_verbose(const struct http_request *request) {
    return http_query_get(&request->query, "verbose") != NULL;
}

/* Does every thread that the node cannot do without make progress? */
static void check_threads(struct readiness *readiness) {
    int64_t still_ms = 0;
    const char *name = pulse_stalled(&still_ms);
    char wrong[96] = "";
    if (name != NULL) {
        snprintf(wrong, sizeof(wrong), "thread %s has stood still for %lld ms", name,
                 (long long)still_ms);
    }
    check(readiness, "threads", name == NULL, wrong);
}

void api_livez(struct http_request *request, struct http_response *response) {
    struct readiness readiness = {.checks = json_object()};
    check_threads(&readiness);
    if (is_verbose(request)) {
        answer_verbose(response, request->path, &readiness);
        return;
    }
    bool alive = readiness.reason == NULL;
    json_t *reason = readiness.reason; /* left out while all is well */
    http_answer_json(
        response, alive ? 200 : 503,
        json_pack("{s:s, s:o*}", "status", alive ? "ok" : "hanging", "reason", reason));
    json_decref(readiness.checks);
}

static void check_membership(const struct http_context *context, struct readiness *readiness) {
    const char *fault = agent_fault(context->agent);
    enum node_membership membership = node_membership(context->node);
    char trouble[FLEET_TROUBLE_LEN];
    agent_fleet_trouble(context->agent, trouble);
    check(readiness, "membership", membership == NODE_MEMBER && fault == NULL && trouble[0] == '\0',
          trouble[0] != '\0' ? trouble
          : fault != NULL    ? fault
                             : node_membership_name(membership));
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

static void note_server(const struct redis_facts *facts, struct readiness *readiness) {
    char text[160];
    snprintf(text, sizeof(text), "%s %s, %s with %lld replica%s", facts->server, facts->version,
             facts->role, (long long)facts->replicas, facts->replicas == 1 ? "" : "s");
    note(readiness, "redis.server", false, text);
    snprintf(text, sizeof(text), "the append-only file is %s", facts->append_only ? "on" : "off");
    note(readiness, "redis.persistence", false, text);
    note(readiness, "redis.eviction", false, facts->policy);
    redis_facts_memory(facts->used_bytes, facts->max_bytes, text, sizeof(text));
    note(readiness, "redis.memory", false, text);
}

/* A warning takes the place of the note about the same. */
static void note_redis(const struct http_context *context, struct readiness *readiness) {
    static const char *const NAMES[REDIS_WARNING_COUNT] = {
        [REDIS_EVICTS] = "redis.eviction",
        [REDIS_NEARLY_FULL] = "redis.memory",
        [REDIS_SAVE_FAILED] = "redis.persistence",
    };
    struct redis_facts facts;
    if (!agent_redis_facts(context->agent, &facts)) {
        note(readiness, "redis.server", false, "not known: INFO was not answered (docs/redis.md)");
        return;
    }
    note_server(&facts, readiness);
    for (enum redis_warning i = 0; i < REDIS_WARNING_COUNT; i++) {
        char text[REDIS_WARNING_LEN];
        if (redis_facts_warn(&facts, i, text)) {
            json_object_del(readiness->notes, NAMES[i]);
            note(readiness, NAMES[i], true, text);
        }
    }
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
    struct readiness readiness = {
        .checks = json_object(), .notes = json_object(), .warnings = json_object()};
    check(&readiness, "running", atomic_load(&request->api->stop) == HTTP_RUNNING, "stopping");
    check_threads(&readiness);
    check_membership(context, &readiness);
    check_redis(context, &readiness);
    check_sinks(context, &readiness);
    note_redis(context, &readiness);
    if (is_verbose(request)) {
        answer_verbose(response, request->path, &readiness);
        return;
    }
    bool ready = readiness.reason == NULL;
    json_decref(readiness.notes);
    http_answer_json(response, ready ? 200 : 503,
                     json_pack("{s:s, s:o, s:o, s:o}", "status", ready ? "ok" : "not ready",
                               "reason", ready ? json_null() : readiness.reason, "checks",
                               readiness.checks, "warnings", readiness.warnings));
}
