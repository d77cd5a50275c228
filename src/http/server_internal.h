/* Inside of the HTTP server: what its connections and their exchanges share, and the only way to
 * libmicrohttpd. Only server.c, and what leads an exchange, include this. */
#ifndef MQFLEET_HTTP_SERVER_INTERNAL_H
#define MQFLEET_HTTP_SERVER_INTERNAL_H

#include <microhttpd.h>
#include <stdatomic.h>
#include "http/api.h"
#include "http/access.h"
#include "http/crowd.h"
#include "http/pending.h"
#include "http/workers.h"

struct http_server;

/* A listening socket and the threads of libmicrohttpd behind it. */
struct http_front {
    struct http_server *server;
    struct MHD_Daemon *daemon; /* NULL: not started */
    int listener;
    bool ops; /* for /metrics and /debug/pprof alone */
};

enum { FRONT_API, FRONT_OPS, FRONT_COUNT };

struct http_server {
    struct http_api api;
    struct http_front fronts[FRONT_COUNT];
    struct crowd *crowd;
    atomic_size_t exchanges;  /* between request line and last byte of the answer; no streams */
    atomic_size_t handling;   /* of them, those whose connection is suspended */
    atomic_size_t body_bytes; /* held for all of them */
};

/* exchange.c. context: a front. Called by MHD, with the request line as it came: before anything is
 * decoded. */
void *exchange_create(void *context, const char *target, struct MHD_Connection *connection);
/* Called by MHD: with the headers, then with each part of the body, then with none left, then after
 * each resume. */
enum MHD_Result exchange_access(void *context, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *len, void **slot);
/* Called by MHD once the answer is sent or the connection is gone. */
void exchange_completed(void *context, struct MHD_Connection *connection, void **slot,
                        enum MHD_RequestTerminationCode code);
/* The wait of an exchange has ended. Any thread. */
void exchange_go_on(struct http_request *request, struct pending *ended);

#endif
