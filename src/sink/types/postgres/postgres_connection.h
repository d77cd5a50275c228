/* A connection to PostgreSQL by the asynchronous interface of libpq: nothing waits beyond its
 * deadline. After POSTGRES_FAILED the connection must be closed. One thread. */
#ifndef MQFLEET_SINK_POSTGRES_CONNECTION_H
#define MQFLEET_SINK_POSTGRES_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <libpq-fe.h>
#include "postgres_fault.h"
#include "postgres_target.h"
#include "sink/sink_type.h"

struct postgres_connection {
    PGconn *pg; /* NULL: closed */
    int64_t timeout_ms;
    const struct sink_batch *batch; /* of the write, whose end is that of each wait; NULL: none */
    struct postgres_fault fault;    /* of the last statement that did not succeed */
    int64_t notices_since_ms;
    int notices;
};

/* The parameters of a statement; NULL is a null. */
struct postgres_values {
    int count;
    const char *const *values;
};

/* Resolves and connects within target->connect_timeout_ms. After a timeout the next address is
 * tried first. */
enum postgres_outcome postgres_connection_open(struct postgres_connection *connection,
                                               struct postgres_target *target);
void postgres_connection_close(struct postgres_connection *connection);
bool postgres_connection_is_open(const struct postgres_connection *connection);
/* Reads pending messages of the server, and closes a connection that has ended. */
void postgres_connection_check(struct postgres_connection *connection);

/* One statement. *out, unless it is NULL: its result, which the caller clears; set on POSTGRES_OK.
 */
enum postgres_outcome postgres_connection_run(struct postgres_connection *connection,
                                              const char *sql, const struct postgres_values *values,
                                              PGresult **out);
/* sql: COPY FROM STDIN. Writes the data, and waits until the server has stored them. */
enum postgres_outcome postgres_connection_copy(struct postgres_connection *connection,
                                               const char *sql, const char *data, size_t len);

/* ---- for pipelines ---- */

/* Waits, while sending what is queued, until there is a result. */
enum postgres_outcome postgres_connection_await(struct postgres_connection *connection,
                                                int64_t deadline_ms);
/* Sets the fault; returns POSTGRES_FAILED. text NULL: that of libpq. */
enum postgres_outcome postgres_connection_fail(struct postgres_connection *connection,
                                               const char *text);

#endif
