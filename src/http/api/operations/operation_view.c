/* Renders operations. No state. */
#include "operation_view.h"

#include <string.h>
#include "base/system/json_memory.h"
#include "http/server/json.h"

static json_t *operation_view_reasons(const struct store_operation *operation) {
    json_t *reasons = json_object();
    for (size_t i = 0; i < operation->reason_count; i++) {
        json_object_set_new(reasons, operation->reasons[i].reason,
                            json_integer(operation->reasons[i].count));
    }
    return reasons;
}

/* The other client of a taken identity may be outside the scope of the caller. */
static json_t *operation_view_failure(const struct store_operation *operation, json_t *failure) {
    const char *reason = json_string_value(json_object_get(failure, "reason"));
    const char *detail = json_string_value(json_object_get(failure, "detail"));
    bool hides = operation->scope && reason && strcmp(reason, "identity_taken") == 0;
    return json_pack("{s:o, s:o, s:o}", "id",
                     http_json_string(json_string_value(json_object_get(failure, "id"))), "reason",
                     http_json_string(reason), "detail",
                     detail && *detail && !hides ? http_json_string(detail) : json_null());
}

/* One JSON object in each line; what is not was written by hand. */
static json_t *operation_view_failures(const struct store_operation *operation) {
    json_t *failures = json_array();
    for (const char *line = operation->failures; line && *line;) {
        size_t len = strcspn(line, "\n");
        json_t *failure = json_from_text(line, len, 0);
        if (json_is_object(failure)) {
            json_array_append_new(failures, operation_view_failure(operation, failure));
        }
        json_decref(failure);
        line += len + (line[len] == '\n');
    }
    return failures;
}

static json_t *operation_view_fields(const struct store_operation *operation) {
    json_t *fields = json_array();
    for (const char *name = operation->fields; name && *name;) {
        size_t len = strcspn(name, " ");
        json_array_append_new(fields, http_json_stringn(name, len));
        name += len + (name[len] == ' ');
    }
    return fields;
}

/* Clients per second until now. */
static double operation_view_speed(const struct store_operation *operation) {
    int64_t end_ms = operation->ended_ms > 0 ? operation->ended_ms : operation->redis_ms;
    int64_t took_ms = end_ms - operation->started_ms;
    int64_t clients = operation->done + operation->skipped + operation->failed;
    return (double)clients * 1000.0 / (double)(took_ms > 0 ? took_ms : 1);
}

json_t *operation_view(const struct store_operation *operation) {
    json_t *view = json_pack(
        "{s:o, s:o, s:o, s:o, s:s, s:I, s:I, s:I, s:I}", "id", http_json_string(operation->id),
        "action", http_json_string(operation->action), "selector",
        http_json_string(operation->selector), "by", http_json_string(operation->by), "state",
        store_operation_state_name(operation->state), "total", (json_int_t)operation->total, "done",
        (json_int_t)operation->done, "skipped", (json_int_t)operation->skipped, "failed",
        (json_int_t)operation->failed);
    json_t *more = json_pack(
        "{s:o, s:o, s:o, s:I, s:f, s:o, s:o, s:o, s:o}", "reasons",
        operation_view_reasons(operation), "failures", operation_view_failures(operation), "fields",
        operation_view_fields(operation), "rate", (json_int_t)operation->rate, "speed",
        operation_view_speed(operation), "started_at", http_json_time(operation->started_ms),
        "ended_at", http_json_time(operation->ended_ms), "cancelled_by",
        http_json_string(operation->cancelled_by), "executor",
        http_json_string(operation->executor));
    if (!view || !more || json_object_update(view, more) != 0) {
        json_decref(view);
        view = NULL;
    }
    json_decref(more);
    return view;
}
