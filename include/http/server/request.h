/* One HTTP request as handlers see it, and the parsing of its target. One thread at a time. */
#ifndef MQFLEET_SERVER_REQUEST_H
#define MQFLEET_SERVER_REQUEST_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/err.h"
#include "http/auth/access.h"

struct http_api;
struct http_response;
struct http_route;
struct pending;
struct publish_share; /* mqtt/publish_quota.h */

#define HTTP_QUERY_MAX      32
#define HTTP_WAIT_MS_MAX    60000
#define HTTP_REQUEST_ID_LEN 65

struct http_pair {
    char *name;
    char *value;
};

struct http_query {
    struct http_pair items[HTTP_QUERY_MAX];
    size_t count;
};

struct http_request {
    const struct http_api *api;
    const struct http_route *route; /* NULL: none fits */
    char method[16];
    char *path;      /* as sent, without the query */
    char *parameter; /* the {name} of the route's pattern, decoded; NULL: the pattern has none */
    struct http_query query;
    int64_t wait_ms;     /* how long the answer may wait for the outcome; 0: not at all */
    char *if_match;      /* NULL: not sent */
    char *last_event_id; /* NULL: not sent */
    char *if_none_match; /* NULL: not sent */
    bool forwarded;      /* sent by another node on behalf of a caller */
    struct caller caller;
    int64_t scope_version;          /* of the client that the scope gate has read; 0: none */
    char id[HTTP_REQUEST_ID_LEN];   /* from the caller, or generated; in log lines and the answer */
    char address[INET6_ADDRSTRLEN]; /* of the caller */
    int socket;                     /* the caller's connection, for inspection only; -1: none */
    char audit_subject[128]; /* the subject of the change, for the log; a handler may set it */
    struct buffer body;      /* empty once the request has waited */
    /* Set by a handler that does not answer: */
    struct pending *pending; /* the event for which the request waits (pending.h) */
    /* The next step, on a handler thread, where it may block on Redis. */
    void (*next_step)(struct http_request *request, struct http_response *response);
    int64_t give_up_at_ms;               /* end of the retries of a step; 0: not set */
    struct publish_share *publish_share; /* of a publication through another node; NULL: none */
    /* Changes the answer before it is sent. NULL: no change. */
    void (*reshape_response)(const struct http_request *request, struct http_response *response);
};

void http_request_init(struct http_request *request, const struct http_api *api);
void http_request_fini(struct http_request *request);
/* The caller has closed its connection, so nobody reads the answer. For long work. */
bool http_request_is_abandoned(const struct http_request *request);
/* The request is abandoned, or the node stops: long work must end. context: the request. */
bool http_request_is_cancelled(void *context);

/* Uses the caller's X-Request-Id if it consists of 1 to 64 letters, digits and - _ . :. Otherwise
 * generates an id. */
void http_request_set_id(struct http_request *request, const char *sent);

/* "a=1&b=2" decoded. ERR_ARGUMENT: also if there are more than HTTP_QUERY_MAX. */
enum err http_query_parse(const char *text, struct http_query *out) MUST_CHECK;
void http_query_fini(struct http_query *query);
/* Whether an item before the one at `index` has the same name. */
bool http_query_is_repeated(const struct http_query *query, size_t index);
/* The first value of the parameter; NULL: it is not given. Borrowed. */
const char *http_query_get(const struct http_query *query, const char *name);
/* A decimal number; `standard` if the parameter is not given. ERR_ARGUMENT: no number, or out of
 * bounds. */
enum err http_query_int(const struct http_query *query, const char *name, int64_t least,
                        int64_t most, int64_t standard, int64_t *out) MUST_CHECK;
/* "true" or "false"; false if the parameter is not given. ERR_ARGUMENT: anything else. */
enum err http_query_flag(const struct http_query *query, const char *name, bool *out) MUST_CHECK;
bool http_int_parse(const char *text, int64_t least, int64_t most, int64_t *out);

/* The version in an If-Match (RFC 9110 section 13.1.1) with one entity tag: "3", with or without
 * quotes or W/. "*" gives 0, any version. ERR_ARGUMENT: anything else. */
enum err http_etag_parse(const char *text, int64_t *version) MUST_CHECK;

#endif
