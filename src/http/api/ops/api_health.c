/* /livez and /readyz. The MHD threads: must not block or call Redis. */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/thread_watchdog.h"
#include "http/server/json.h"
#include "sink/sink.h"

struct readiness {
    json_t *checks;
    json_t *notes;    /* further information that does not affect readiness */
    json_t *warnings; /* the notes that need attention */
    json_t *reason;   /* the text of the first failed check; NULL: none failed */
};

/* Adds a check: "ok", or the problem. */
static void health_add_check(struct readiness *readiness, const char *name, bool ok,
                             const char *wrong) {
    json_t *result = ok ? json_string("ok") : http_json_string(wrong);
    if (!ok && !readiness->reason) {
        readiness->reason = json_incref(result);
    }
    json_object_set_new(readiness->checks, name, result);
}

/* Adds the text to the notes or the warnings; takes it over. */
static void health_add_note(struct readiness *readiness, const char *name, bool warning,
                            const char *text) {
    json_object_set_new(warning ? readiness->warnings : readiness->notes, name,
                        http_json_string(text));
}

static void health_print_notes(struct buffer *text, json_t *notes, const char *form) {
    const char *name;
    json_t *said;
    json_object_foreach(notes, name, said) {
        const char *sentence = json_string_value(said);
        buffer_printf(text, form, name, sentence ? sentence : "out of memory");
    }
}

/* In the format of kubectl: a line per check, in order, and one for all. Takes over the checks. */
static void health_answer_verbose(struct http_response *response, const char *path,
                                  struct readiness *readiness) {
    const char *name;
    json_t *result;
    struct buffer text;
    bool ready = !readiness->reason;
    buffer_init(&text);
    json_object_foreach(readiness->checks, name, result) {
        const char *said = json_string_value(result);
        bool ok = said && strcmp(said, "ok") == 0;
        buffer_printf(&text, "[%c]%s %s%s\n", ok ? '+' : '-', name,
                      ok ? "" : "failed: ", said ? said : "out of memory");
    }
    health_print_notes(&text, readiness->notes, "[+]%s ok: %s\n");
    health_print_notes(&text, readiness->warnings, "[!]%s warning: %s\n");
    buffer_printf(&text, "%s check %s\n", path + 1, ready ? "passed" : "failed");
    size_t len = text.len;
    char *body = buffer_take(&text);
    if (body) {
        http_answer_bytes(response, ready ? 200 : 503, "text/plain; charset=utf-8", body, len);
    } else {
        http_answer_json(response, 500, NULL);
    }
    json_decref(readiness->reason);
    json_decref(readiness->checks);
    json_decref(readiness->notes);
    json_decref(readiness->warnings);
}

static bool health_is_verbose(const struct http_request *request) {
    return http_query_get(&request->query, "verbose") != NULL;
}

/* Whether all required threads make progress. */
static void health_check_threads(struct readiness *readiness) {
    int64_t still_ms = 0;
    const char *name = thread_watchdog_stalled(&still_ms);
    char wrong[96] = "";
    if (name) {
        snprintf(wrong, sizeof(wrong), "thread %s has made no progress for %lld ms", name,
                 (long long)still_ms);
    }
    health_add_check(readiness, "threads", !name, wrong);
}

void api_livez(struct http_request *request, struct http_response *response) {
    struct readiness readiness = {.checks = json_object()};
    health_check_threads(&readiness);
    if (health_is_verbose(request)) {
        health_answer_verbose(response, request->path, &readiness);
        return;
    }
    bool alive = !readiness.reason;
    json_t *reason = readiness.reason; /* omitted if all threads make progress */
    http_answer_json(
        response, alive ? 200 : 503,
        json_pack("{s:s, s:o*}", "status", alive ? "ok" : "hanging", "reason", reason));
    json_decref(readiness.checks);
}

static void health_check_membership(const struct http_context *context,
                                    struct readiness *readiness) {
    const char *fault = agent_fault(context->agent);
    enum node_membership membership = node_membership(context->node);
    char trouble[FLEET_FAULT_LEN];
    agent_fleet_fault(context->agent, trouble);
    health_add_check(readiness, "membership",
                     membership == NODE_MEMBER && !fault && trouble[0] == '\0',
                     trouble[0] != '\0' ? trouble
                     : fault            ? fault
                                        : node_membership_name(membership));
}

/* From the last heartbeat that Redis answered. */
static void health_check_redis(const struct http_context *context, struct readiness *readiness) {
    int64_t age_ms = node_heartbeat_age_ms(context->node);
    int64_t age_ms_max = context->conf->heartbeat_ms + context->conf->heartbeat_ttl_ms;
    char wrong[96 + STORE_ERROR_LEN], trouble[STORE_ERROR_LEN];
    int len =
        snprintf(wrong, sizeof(wrong), age_ms < 0 ? "never answered" : "last answered %lld ms ago",
                 (long long)age_ms);
    node_redis_error(context->node, trouble);
    if (trouble[0] != '\0') {
        snprintf(wrong + len, sizeof(wrong) - (size_t)len, "; %s", trouble);
    }
    health_add_check(readiness, "redis", age_ms >= 0 && age_ms <= age_ms_max, wrong);
}

/* After Redis, without which the lease lapses: the first check that fails is the reason. */
static void health_check_duties(const struct http_context *context, struct readiness *readiness) {
    health_add_check(readiness, "lease", node_lease_valid(context->node), "lapsed");
    health_add_check(readiness, "placement", !node_is_draining(context->node), "draining");
}

static void health_add_server_notes(const struct redis_info *info, struct readiness *readiness) {
    char text[160];
    snprintf(text, sizeof(text), "%s %s, %s with %lld replica%s", info->server, info->version,
             info->role, (long long)info->replicas, info->replicas == 1 ? "" : "s");
    health_add_note(readiness, "redis.server", false, text);
    snprintf(text, sizeof(text), "the append-only file is %s", info->append_only ? "on" : "off");
    health_add_note(readiness, "redis.persistence", false, text);
    health_add_note(readiness, "redis.eviction", false, info->policy);
    redis_info_format_memory(info->used_bytes, info->max_bytes, text, sizeof(text));
    health_add_note(readiness, "redis.memory", false, text);
}

/* A warning replaces the note about the same subject. */
static void health_add_redis_notes(const struct http_context *context,
                                   struct readiness *readiness) {
    static const char *const NAMES[REDIS_WARNING_COUNT] = {
        [REDIS_WARNING_EVICTION] = "redis.eviction",
        [REDIS_WARNING_NEARLY_FULL] = "redis.memory",
        [REDIS_WARNING_SAVE_FAILED] = "redis.persistence",
    };
    struct redis_info info;
    if (!agent_redis_facts(context->agent, &info)) {
        health_add_note(readiness, "redis.server", false,
                        "not known: Redis did not answer INFO (docs/redis.md)");
        return;
    }
    health_add_server_notes(&info, readiness);
    for (enum redis_warning i = 0; i < REDIS_WARNING_COUNT; i++) {
        char text[REDIS_WARNING_LEN];
        if (redis_info_warn(&info, i, text)) {
            json_object_del(readiness->notes, NAMES[i]);
            health_add_note(readiness, NAMES[i], true, text);
        }
    }
}

/* "ops: 12 not delivered, 3 pending, oldest unread 4 s, 0 trimmed unread". */
static void health_print_group(const struct stream_group *group, struct buffer *text) {
    buffer_printf(text, "%s: ", group->name);
    if (group->lag >= 0) {
        buffer_printf(text, "%lld not delivered, ", (long long)group->lag);
    }
    buffer_printf(text, "%lld pending, ", (long long)group->pending);
    if (group->oldest_unread_ms >= 0) {
        buffer_printf(text, "oldest unread %lld s, ", (long long)group->oldest_unread_ms / 1000);
    }
    buffer_printf(text, "%lld trimmed unread", (long long)group->trimmed_unread);
}

static void health_add_stream_notes(const struct sink_status *status, struct readiness *readiness) {
    const struct stream_status *stream = &status->stream;
    struct buffer text;
    char warning[200], name[96];
    if (!stream->measured) {
        return;
    }
    buffer_init(&text);
    buffer_printf(&text, "%lld entries, ", (long long)stream->entries);
    if (stream->bytes >= 0) { /* it was measured */
        buffer_printf(&text, "%lld bytes, ", (long long)stream->bytes);
    }
    buffer_printf(&text, "%lld consumer groups", (long long)stream->group_total);
    for (size_t i = 0; i < stream->group_count; i++) {
        buffer_printf(&text, "; ");
        health_print_group(&stream->groups[i], &text);
    }
    char *all = buffer_take(&text);
    snprintf(name, sizeof(name), "sink.%s.stream", status->label);
    health_add_note(readiness, name, false, all ? all : "out of memory");
    free(all);
    if (stream_status_warn(stream, warning, sizeof(warning))) {
        snprintf(name, sizeof(name), "sink.%s.groups", status->label);
        health_add_note(readiness, name, true, warning);
    }
}

/* A warning only: one wrong document must not make every node of the fleet unready. */
static void health_add_fleet_sink(const struct sink_status *status, const char *name,
                                  struct readiness *readiness) {
    bool warns = status->failing || *status->fault;
    health_add_note(readiness, name, warns,
                    *status->fault    ? status->fault
                    : status->failing ? status->error
                                      : "working");
}

static void health_check_sinks(const struct http_context *context, struct readiness *readiness) {
    struct sink_status status;
    char name[96];
    size_t cursor = 0;
    while (sinks_next(context->sinks, &cursor, &status)) {
        snprintf(name, sizeof(name), "sink.%s", status.label);
        if (status.of_fleet) {
            health_add_fleet_sink(&status, name, readiness);
        } else {
            health_add_check(readiness, name, !status.failing, status.error);
        }
        health_add_stream_notes(&status, readiness);
    }
}

static void health_check_all(const struct http_api *api, struct readiness *readiness) {
    const struct http_context *context = &api->context;
    *readiness = (struct readiness){
        .checks = json_object(), .notes = json_object(), .warnings = json_object()};
    health_add_check(readiness, "running", atomic_load(&api->stop_stage) == HTTP_RUNNING,
                     "stopping");
    health_check_threads(readiness);
    health_check_membership(context, readiness);
    health_check_redis(context, readiness);
    health_check_duties(context, readiness);
    health_check_sinks(context, readiness);
    health_add_redis_notes(context, readiness);
}

json_t *api_readiness_json(const struct http_api *api) {
    struct readiness readiness;
    health_check_all(api, &readiness);
    json_decref(readiness.notes);
    json_decref(readiness.reason);
    return json_pack("{s:o, s:o}", "checks", readiness.checks, "warnings", readiness.warnings);
}

void api_readyz(struct http_request *request, struct http_response *response) {
    struct readiness readiness;
    health_check_all(request->api, &readiness);
    if (health_is_verbose(request)) {
        health_answer_verbose(response, request->path, &readiness);
        return;
    }
    bool ready = !readiness.reason;
    json_decref(readiness.notes);
    http_answer_json(response, ready ? 200 : 503,
                     json_pack("{s:s, s:o, s:o, s:o}", "status", ready ? "ok" : "not ready",
                               "reason", ready ? json_null() : readiness.reason, "checks",
                               readiness.checks, "warnings", readiness.warnings));
}
