/* One request on its way through the server, as exchange.c leads it and intake.c fills it. */
#ifndef MQFLEET_SERVER_TRANSACTION_INTERNAL_H
#define MQFLEET_SERVER_TRANSACTION_INTERNAL_H

#include "server_internal.h"

enum transaction_phase {
    TRANSACTION_HEADERS,
    TRANSACTION_BODY,
    TRANSACTION_HANDLED,
    TRANSACTION_ANSWERED,
    TRANSACTION_SENT
};

struct transaction {
    struct handler_task task; /* first: found by it */
    const struct http_frontend *frontend;
    struct http_server *server;
    struct MHD_Connection *connection;
    enum transaction_phase phase;
    struct http_request request;
    struct pending *ended_wait;    /* the wait it goes on from; NULL: none */
    struct http_response response; /* status set while the body still comes: refused */
    char *target;                  /* as sent */
    bool close_after;              /* after the answer */
    size_t discarded_bytes;        /* bytes of the body not kept */
    size_t counted_bytes;          /* bytes of the body in server->body_bytes */
    int64_t begun_us;
    int64_t queued_ms;
    bool out_of_memory; /* memory ran out while it was handled */
    bool is_stream;     /* SENT, and goes on until its stream ends */
};

#endif
