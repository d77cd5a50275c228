/* One request on its way through the server, as exchange.c leads it and intake.c fills it. */
#ifndef MQFLEET_HTTP_EXCHANGE_INTERNAL_H
#define MQFLEET_HTTP_EXCHANGE_INTERNAL_H

#include "server_internal.h"

enum phase { PHASE_HEADERS, PHASE_BODY, PHASE_HANDLED, PHASE_ANSWERED, PHASE_SENT };

struct exchange {
    struct http_task task; /* first: found by it */
    const struct http_front *front;
    struct http_server *server;
    struct MHD_Connection *connection;
    enum phase phase;
    struct http_request request;
    struct pending *ended;         /* the wait it goes on from; NULL: none */
    struct http_response response; /* status set while the body still comes: refused */
    char *target;                  /* as sent */
    bool closes;                   /* after the answer */
    size_t discarded;              /* bytes of the body not kept */
    size_t counted;                /* bytes of the body in server->body_bytes */
    int64_t begun_us;
    int64_t queued_ms;
    bool starved; /* memory ran out while it was handled */
    bool streams; /* SENT, and goes on until its stream ends */
};

#endif
