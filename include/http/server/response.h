/* The answer to a request. Filled by a handler, sent by the server. One thread at a time. */
#ifndef MQFLEET_SERVER_RESPONSE_H
#define MQFLEET_SERVER_RESPONSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define HTTP_HEADERS_MAX 8

struct event_stream;

struct http_header {
    const char *name; /* static */
    char *value;      /* owned */
};

struct http_response {
    int status;   /* 0: not answered yet */
    json_t *json; /* the body until http_response_finish; owned */
    char *body;   /* owned; NULL: none */
    size_t body_len;
    const char *body_static;     /* replaces a body that could not be allocated; NULL: none */
    struct event_stream *stream; /* replaces a body; held by the response; NULL: none */
    const char *content_type;    /* static; NULL: no body */
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t header_count;
};

/* Resets it to an empty answer. All http_answer_ functions except the header call it first. */
void http_response_fini(struct http_response *response);

/* Takes ownership of json; if it is NULL, the answer is 503 if memory ran out, otherwise 500. */
void http_answer_json(struct http_response *response, int status, json_t *json);
/* Takes ownership of body (malloc); content_type static. */
void http_answer_bytes(struct http_response *response, int status, const char *content_type,
                       char *body, size_t body_len);
void http_answer_text(struct http_response *response, int status, const char *text);
/* 200 and the events of the stream; takes over the reading side of the stream. */
void http_answer_stream(struct http_response *response, struct event_stream *stream);
void http_answer_empty(struct http_response *response, int status);
/* Call it after the answer itself is set. name: static. */
void http_answer_header(struct http_response *response, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct http_request;

bool http_response_is_problem(const struct http_response *response);
/* Encodes json as the body. Adds "instance" and "request_id" to a problem document. If the status
 * is 0, answers 500. */
void http_response_finish(struct http_response *response, const struct http_request *request);

#endif
