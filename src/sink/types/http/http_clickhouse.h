/* The errors of ClickHouse. Pure. */
#ifndef MQFLEET_SINK_HTTP_CLICKHOUSE_H
#define MQFLEET_SINK_HTTP_CLICKHOUSE_H

#include "http_outcome.h"

/* By the code at the beginning of the body ("Code: 27. DB::Exception: ..."), which says more than
 * the status: 400 is also a query that is wrong, and 500 also a row that a constraint refuses. */
enum http_outcome http_clickhouse_judge(const struct http_response *response);

#endif
