/* InfluxDB line protocol. One line per message, with a timestamp in nanoseconds:
 *
 *   measurement,fixed=tags,id=client,topic=a/b value=21.5 1700000000123000001
 *
 * The default mapping of a payload to fields: a JSON number is `value`; of a JSON object, each
 * number, boolean and text of the first level is a field of its name; anything else is `payload`,
 * or `payload_base64` if it is not UTF-8. Numbers are always floating point, so that 20 and 20.5
 * have one type. The timestamp is the time of receipt in milliseconds; its last six digits tell
 * points of one millisecond apart, and are the same for each attempt. Pure. */
#ifndef MQFLEET_SINK_HTTP_INFLUX_H
#define MQFLEET_SINK_HTTP_INFLUX_H

#include "base/buffer.h"
#include "message/message.h"

/* line_start: measurement and fixed tags, escaped. Appends the line with its end. */
void http_influx_append(struct buffer *out, const struct message *message, const char *line_start);

/* The parts of line_start. */
void http_influx_append_measurement(struct buffer *out, const char *name);
void http_influx_append_tag(struct buffer *out, const char *name, const char *value);

#endif
