/* Private to the HTTP server: what its connections and transactions share, and the callbacks for
 * libmicrohttpd. */
#ifndef MQFLEET_SERVER_SERVER_INTERNAL_H
#define MQFLEET_SERVER_SERVER_INTERNAL_H

#include <microhttpd.h>
#include <stdatomic.h>
#include "http/api/api.h"
#include "http/auth/access.h"
#include "http/server/connection_limit.h"
#include "http/server/pending.h"
#include "http/server/handler_pool.h"

struct http_server;

enum http_frontend_kind {
    FRONTEND_API,
    FRONTEND_OPS, /* serves /metrics and /debug/pprof only */
    FRONTEND_COUNT
};

/* A listening socket and the threads of libmicrohttpd behind it. */
struct http_frontend {
    struct http_server *server;
    struct MHD_Daemon *daemon; /* NULL: not started */
    int listener;
    enum http_frontend_kind kind;
};

struct http_server {
    struct http_api api;
    struct http_frontend frontends[FRONTEND_COUNT];
    struct connection_limit *connection_limit;
    atomic_size_t transactions; /* from the request line to the last byte; without streams */
    atomic_size_t suspended;    /* transactions whose connection is suspended */
    atomic_size_t body_bytes;   /* of all held bodies */
};

/* transaction.c. context: a frontend. Called by MHD with the request line, before it is decoded. */
void *transaction_create(void *context, const char *target, struct MHD_Connection *connection);
/* Called by MHD with the headers, then with each part of the body, then once without data, then
 * after each resume. */
enum MHD_Result transaction_handle(void *context, struct MHD_Connection *connection,
                                   const char *url, const char *method, const char *version,
                                   const char *data, size_t *len, void **slot);
/* Called by MHD when the answer is sent or the connection is closed. */
void transaction_completed(void *context, struct MHD_Connection *connection, void **slot,
                           enum MHD_RequestTerminationCode code);
/* The wait of a transaction has ended. Any thread. */
void transaction_continue(struct http_request *request, struct pending *ended);

#endif
