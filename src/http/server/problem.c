/* Owns the table of problems. Any thread. */
#include "http/server/problem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include "base/system/out_of_memory.h"
#include "http/server/json.h"

#define RETRY_AFTER_S 1

struct problem_row {
    int status;
    const char *type;
    const char *title;
};

static const struct problem_row problem_rows[] = {
#define HTTP_PROBLEM_ROW(symbol, status, name, title)                                              \
    [symbol] = {status, "urn:mqfleet:problem:" name, title},
    HTTP_PROBLEM_TABLE(HTTP_PROBLEM_ROW)
#undef HTTP_PROBLEM_ROW
};

int http_problem_status(enum http_problem problem) {
    return problem_rows[problem].status;
}

void http_problem(struct http_response *response, enum http_problem problem, const char *format,
                  ...) {
    const struct problem_row *row = &problem_rows[problem];
    char detail[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof(detail), format, arguments);
    va_end(arguments);
    http_answer_json(response, row->status,
                     json_pack("{s:s, s:s, s:i, s:o}", "type", row->type, "title", row->title,
                               "status", row->status, "detail", http_json_string(detail)));
    response->content_type = HTTP_PROBLEM_TYPE;
    if (response->status == 503) {
        http_answer_header(response, "Retry-After", "%d", RETRY_AFTER_S);
    }
}

void http_problem_memory(struct http_response *response) {
    if (!out_of_memory_seen()) { /* for example, it failed on another thread */
        out_of_memory_note(0);
    }
    http_problem(response, PROBLEM_MEMORY,
                 "memory ran out; the change was made completely or not at all: try again");
}

void http_problem_error(struct http_response *response, enum err err) {
    if (err == ERR_MEMORY) {
        http_problem_memory(response);
    } else {
        http_problem(response, PROBLEM_INTERNAL, "%s", err_name(err));
    }
}

void http_problem_member(struct http_response *response, const char *name, json_t *value) {
    assert(http_response_is_problem(response));
    if (response->json) {
        json_object_set_new(response->json, name, value);
    } else {
        json_decref(value);
    }
}

void http_problem_faults(struct http_response *response, const struct client_faults *faults) {
    assert(faults->count > 0);
    http_problem(response, PROBLEM_INVALID, "%s%s%s", faults->items[0].pointer,
                 faults->items[0].pointer[0] != '\0' ? ": " : "", faults->items[0].detail);
    http_problem_member(response, "errors", http_faults_json(faults, "", NULL));
}

enum http_problem http_problem_of_store(enum err err) {
    if (err == ERR_FULL || err == ERR_MEMORY) {
        return err == ERR_FULL ? PROBLEM_REDIS_FULL : PROBLEM_MEMORY;
    }
    return err == ERR_UNAVAILABLE || err == ERR_TIMEOUT ? PROBLEM_REDIS : PROBLEM_INTERNAL;
}

void http_problem_store(struct http_response *response, enum err err) {
    if (err == ERR_TIMEOUT) {
        http_problem(response, PROBLEM_REDIS,
                     "Redis did not answer in time; the outcome is unknown");
    } else if (err == ERR_FULL) {
        http_problem(response, PROBLEM_REDIS_FULL,
                     "nothing was changed; clients can still be deleted");
    } else if (err == ERR_UNAVAILABLE) {
        http_problem(response, PROBLEM_REDIS, "the node has no connection to Redis; try again");
    } else if (err == ERR_MEMORY) {
        http_problem_memory(response);
    } else {
        http_problem(response, PROBLEM_INTERNAL, "a call to Redis failed: %s", err_name(err));
    }
}
