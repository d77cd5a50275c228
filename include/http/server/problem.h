/* Problem documents (RFC 9457): one row per kind of problem. Any thread. */
#ifndef MQFLEET_SERVER_PROBLEM_H
#define MQFLEET_SERVER_PROBLEM_H

#include "base/err.h"
#include "http/server/response.h"
#include "mqtt/config/client_config.h"

#define HTTP_PROBLEM_TYPE "application/problem+json"

/* X(symbol, status, name, title): the type is "urn:mqfleet:problem:" and the name. */
#define HTTP_PROBLEM_TABLE(X)                                                                      \
    X(PROBLEM_BAD_REQUEST, 400, "bad-request", "The request is malformed")                         \
    X(PROBLEM_BAD_JSON, 400, "bad-json", "The body is not JSON")                                   \
    X(PROBLEM_UNAUTHORIZED, 401, "unauthorized", "A valid token is required")                      \
    X(PROBLEM_FORBIDDEN, 403, "forbidden", "The token's role does not permit this request")        \
    X(PROBLEM_SCOPE, 403, "scope", "The token's scope does not permit this request")               \
    X(PROBLEM_QUOTA, 403, "quota", "A quota of the scope is used up")                              \
    X(PROBLEM_ORIGIN, 403, "foreign-origin", "Pages of other origins may not use this API")        \
    X(PROBLEM_NOT_FOUND, 404, "not-found", "Not found")                                            \
    X(PROBLEM_METHOD, 405, "method-not-allowed", "Method not allowed for this path")               \
    X(PROBLEM_EXISTS, 409, "exists", "The id has another configuration")                           \
    X(PROBLEM_IDENTITY, 409, "identity-taken", "The MQTT client identifier is in use")             \
    X(PROBLEM_STATE, 409, "wrong-state", "The state of the client does not permit this")           \
    X(PROBLEM_IN_USE, 409, "in-use", "It is still used")                                           \
    X(PROBLEM_BUSY, 409, "busy", "Another one is already running")                                 \
    X(PROBLEM_VERSION, 412, "version-mismatch", "The version does not match If-Match")             \
    X(PROBLEM_TOO_LARGE, 413, "too-large", "The request is too large")                             \
    X(PROBLEM_CODING, 415, "unsupported-encoding", "The encoding of the body is not supported")    \
    X(PROBLEM_MISDIRECTED, 421, "misdirected", "The request is for another node")                  \
    X(PROBLEM_INVALID, 422, "invalid", "The document is not valid")                                \
    X(PROBLEM_RATE, 429, "too-many-attempts", "Too many wrong tokens came from this address")      \
    X(PROBLEM_THROTTLED, 429, "publication-throttled",                                             \
      "Similar publications ended the connection")                                                 \
    X(PROBLEM_RATE_QUOTA, 429, "rate-quota", "A quota per second of the scope is used up")         \
    X(PROBLEM_INTERNAL, 500, "internal", "Internal error of the node")                             \
    X(PROBLEM_UNSUPPORTED, 501, "unsupported", "Not supported by this node")                       \
    X(PROBLEM_BROKER, 502, "broker", "The broker refused the message")                             \
    X(PROBLEM_PUBLICATION, 502, "publication-refused", "The broker rejects the publication")       \
    X(PROBLEM_REDIS, 503, "redis-unavailable", "Redis cannot be reached")                          \
    X(PROBLEM_REDIS_FULL, 503, "redis-out-of-memory", "Redis is out of memory")                    \
    X(PROBLEM_MEMORY, 503, "out-of-memory", "The node is out of memory")                           \
    X(PROBLEM_PEER, 503, "node-unavailable", "Another node does not answer")                       \
    X(PROBLEM_OVERLOAD, 503, "overload", "The node is overloaded")                                 \
    X(PROBLEM_BROKER_BUSY, 503, "broker-busy", "Too many publications wait for the broker")        \
    X(PROBLEM_STOPPING, 503, "stopping", "The node is stopping")                                   \
    X(PROBLEM_SINK_FULL, 504, "sink-full", "The client's sink accepts no messages")                \
    X(PROBLEM_UNKNOWN, 504, "outcome-unknown", "It is unknown whether the broker has the message") \
    X(PROBLEM_TIMEOUT, 504, "timeout", "The response did not arrive in time")

enum http_problem {
#define HTTP_PROBLEM_SYMBOL(symbol, status, name, title) symbol,
    HTTP_PROBLEM_TABLE(HTTP_PROBLEM_SYMBOL)
#undef HTTP_PROBLEM_SYMBOL
};

int http_problem_status(enum http_problem problem);

/* Answers with a problem; 503 has a Retry-After header. Never put a secret into the detail. */
void http_problem(struct http_response *response, enum http_problem problem, const char *format,
                  ...) __attribute__((format(printf, 3, 4)));
/* Adds a member; takes ownership of value. Only after http_problem. */
void http_problem_member(struct http_response *response, const char *name, json_t *value);
/* 422 with "errors". */
void http_problem_faults(struct http_response *response, const struct client_faults *faults);

/* 503: the node ran out of memory. Reports it, unless the allocator already has
 * (base/system/out_of_memory.h). */
void http_problem_memory(struct http_response *response);
/* For an error that the caller did not cause: 503 for ERR_MEMORY, otherwise 500. */
void http_problem_error(struct http_response *response, enum err err);

/* The problem for an error of the store: Redis does not answer, or the node failed. */
enum http_problem http_problem_of_store(enum err err);
void http_problem_store(struct http_response *response, enum err err);

#endif
