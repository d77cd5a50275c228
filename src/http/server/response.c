/* Owns an answer until the server sends it. The thread that handles the request. */
#include "http/server/response.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/system/out_of_memory.h"
#include "base/text.h"
#include "http/streams/event_stream.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "http/server/request.h"

/* Bodies that need no memory. */
static const char RESPONSE_OUT_OF_MEMORY[] =
    "{\"type\":\"urn:mqfleet:problem:out-of-memory\",\"title\":\"The node is out of "
    "memory\",\"status\":503,\"detail\":\"not enough memory for the response; try "
    "again\"}";
static const char RESPONSE_FAILED[] =
    "{\"type\":\"urn:mqfleet:problem:internal\",\"title\":\"The node "
    "failed\",\"status\":500,\"detail\":\"the response could not be created\"}";

void http_response_fini(struct http_response *response) {
    json_decref(response->json);
    free(response->body);
    event_stream_detach(response->stream);
    for (size_t i = 0; i < response->header_count; i++) {
        free(response->headers[i].value);
    }
    *response = (struct http_response){0};
}

static void response_answer_without_body(struct http_response *response) {
    http_response_fini(response);
    response->status = out_of_memory_seen() ? 503 : 500;
    response->content_type = HTTP_PROBLEM_TYPE;
}

void http_answer_json(struct http_response *response, int status, json_t *json) {
    if (!json) {
        response_answer_without_body(response);
        return;
    }
    http_response_fini(response);
    response->status = status;
    response->json = json;
    response->content_type = "application/json";
}

void http_answer_bytes(struct http_response *response, int status, const char *content_type,
                       char *body, size_t body_len) {
    http_response_fini(response);
    response->status = status;
    response->content_type = content_type;
    response->body = body;
    response->body_len = body_len;
}

void http_answer_text(struct http_response *response, int status, const char *text) {
    char *copy = text_dup(text);
    if (!copy) {
        response_answer_without_body(response);
        return;
    }
    http_answer_bytes(response, status, "text/plain; charset=utf-8", copy, strlen(copy));
}

void http_answer_stream(struct http_response *response, struct event_stream *stream) {
    http_response_fini(response);
    response->status = 200;
    response->content_type = "text/event-stream";
    response->stream = stream;
    http_answer_header(response, "Cache-Control", "no-store");
}

void http_answer_empty(struct http_response *response, int status) {
    http_answer_bytes(response, status, NULL, NULL, 0);
}

void http_answer_header(struct http_response *response, const char *name, const char *format, ...) {
    assert(response->header_count < HTTP_HEADERS_MAX);
    char *value = NULL;
    va_list arguments;
    va_start(arguments, format);
    int len = vasprintf(&value, format, arguments);
    va_end(arguments);
    if (len >= 0) {
        response->headers[response->header_count++] = (struct http_header){name, value};
    }
}

bool http_response_is_problem(const struct http_response *response) {
    return response->content_type && strcmp(response->content_type, HTTP_PROBLEM_TYPE) == 0;
}

void http_response_finish(struct http_response *response, const struct http_request *request) {
    if (response->status == 0) {
        http_problem(response, PROBLEM_INTERNAL, "the handler returned no response");
    }
    if (response->json && http_response_is_problem(response)) {
        json_object_set_new(response->json, "instance", http_json_string(request->path));
        if (request->id[0] != '\0') {
            json_object_set_new(response->json, "request_id", json_string(request->id));
        }
    }
    if (response->json) {
        char *body =
            json_to_text(response->json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        json_decref(response->json);
        response->json = NULL;
        response->body = body;
        response->body_len = body ? strlen(body) : 0;
        if (!body) {
            response_answer_without_body(response);
        }
    }
    if (!response->body && http_response_is_problem(response)) {
        response->body_static = response->status == 503 ? RESPONSE_OUT_OF_MEMORY : RESPONSE_FAILED;
        response->body_len = strlen(response->body_static);
    }
}
