/* The response of Elasticsearch's bulk API: one item per document, in their order. Pure. */
#ifndef MQFLEET_SINK_HTTP_ELASTICSEARCH_H
#define MQFLEET_SINK_HTTP_ELASTICSEARCH_H

#include "http_outcome.h"

/* Sets the outcome of each message by the status of its item. HTTP_ACCEPTED: all have their
 * final one. HTTP_FAILED: some must be retried, and the error of the batch says why. */
enum http_outcome http_elasticsearch_settle(const struct http_response *response,
                                            struct http_range *range);

#endif
