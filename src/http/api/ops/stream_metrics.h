/* The metrics of the Redis streams that sinks write, and of the consumer groups that read them. */
#ifndef MQFLEET_API_STREAM_METRICS_H
#define MQFLEET_API_STREAM_METRICS_H

#include "base/buffer.h"
#include "sink/sinks.h"

/* Any thread; waits for nobody. */
void stream_metrics_put(struct sinks *sinks, struct buffer *out);

#endif
