/* Private to transaction.c and request_reader.c: one request in the server. */
#ifndef MQFLEET_SERVER_TRANSACTION_INTERNAL_H
#define MQFLEET_SERVER_TRANSACTION_INTERNAL_H

#include "server_internal.h"

enum transaction_phase {
    TRANSACTION_HEADERS,
    TRANSACTION_BODY,
    TRANSACTION_HANDLED,
    TRANSACTION_ANSWERED,
    TRANSACTION_SENT,
    TRANSACTION_STREAMING /* sent, until its stream ends */
};

struct transaction {
    struct handler_task task; /* must be first: it is cast to the transaction */
    const struct http_frontend *frontend;
    struct http_server *server;
    struct MHD_Connection *connection;
    enum transaction_phase phase;
    struct http_request request;
    struct pending *ended_wait;    /* whose `then` is the next step; NULL: none */
    struct http_response response; /* a status before the body is complete: refused */
    char *target;                  /* as sent */
    bool close_after;              /* after the answer */
    size_t discarded_bytes;        /* bytes of the body that were not kept */
    size_t counted_bytes;          /* bytes of the body in server->body_bytes */
    int64_t begun_us;
    int64_t queued_ms;
    bool out_of_memory; /* memory ran out while it was handled */
};

#endif
