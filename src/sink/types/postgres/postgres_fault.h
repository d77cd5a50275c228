/* What an error of PostgreSQL means for a message. Pure, but for PQresult*. */
#ifndef MQFLEET_SINK_POSTGRES_FAULT_H
#define MQFLEET_SINK_POSTGRES_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <libpq-fe.h>

#define POSTGRES_FAULT_LEN 160

enum postgres_outcome {
    POSTGRES_OK,
    POSTGRES_BAD_ROW, /* the content of a row is the cause */
    POSTGRES_FAILED   /* anything else: to be tried again */
};

struct postgres_fault {
    char text[POSTGRES_FAULT_LEN]; /* one line, without values of the row */
    size_t line;                   /* of COPY, from 1, as far as the server tells; 0: not known */
    size_t parameter;              /* of INSERT, from 1; 0: not known */
};

/* Of a result that is an error. */
enum postgres_outcome postgres_fault_read(struct postgres_fault *fault, const PGresult *result);
/* Of the connection, when there is no result: what libpq says of the last host. */
void postgres_fault_read_connection(struct postgres_fault *fault, const PGconn *connection);
/* The message of the server without the values that it quotes, and its SQLSTATE. */
void postgres_fault_describe(char out[POSTGRES_FAULT_LEN], const PGresult *result);

#endif
