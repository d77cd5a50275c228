/* Rows one by one in one transaction: each with a savepoint, so that a bad one costs the others
 * nothing. All are sent without waiting for answers between them. */
#ifndef MQFLEET_SINK_POSTGRES_INSERT_H
#define MQFLEET_SINK_POSTGRES_INSERT_H

#include "postgres_rows.h"
#include "sink/sink_type.h"

#define POSTGRES_INSERT_MAX 100 /* rows in one transaction */

/* indices: of the messages, in order. On POSTGRES_OK each is accepted or rejected; on
 * POSTGRES_FAILED none is, and the connection must be closed. */
enum postgres_outcome postgres_insert(struct postgres_connection *connection,
                                      struct postgres_rows *rows, struct sink_batch *batch,
                                      const size_t *indices, size_t count);

#endif
