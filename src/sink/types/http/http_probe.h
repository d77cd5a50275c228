/* The test of the settings of an http sink: a request without a message. Any thread. */
#ifndef MQFLEET_SINK_HTTP_PROBE_H
#define MQFLEET_SINK_HTTP_PROBE_H

#include "sink/sink_type.h"

/* Sends OPTIONS with the credentials of the sink. Shows whether the server is reachable and
 * trusted, and accepts the credentials. Bounded by the timeout of a request. */
void http_probe_run(const struct sink_environment *environment, const json_t *settings,
                    const struct sink_test_report *report);

#endif
