/* The errors of ClickHouse. Pure. */
#ifndef MQFLEET_SINK_HTTP_CLICKHOUSE_H
#define MQFLEET_SINK_HTTP_CLICKHOUSE_H

#include "http_outcome.h"

/* By the code at the beginning of the body ("Code: 27. DB::Exception: ..."), which is more exact
 * than the status: 400 can also mean a wrong query, and 500 a row that violates a constraint. */
enum http_outcome http_clickhouse_judge(const struct http_response *response);

#endif
