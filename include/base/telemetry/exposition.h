/* The Prometheus text format 0.0.4, written into a buffer. One thread at a time. */
#ifndef MQFLEET_TELEMETRY_EXPOSITION_H
#define MQFLEET_TELEMETRY_EXPOSITION_H

#include <stdint.h>
#include "base/buffer.h"
#include "base/telemetry/metrics.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Writes # HELP and # TYPE for the samples that follow. type: "counter", "gauge", "histogram". */
void exposition_family(struct buffer *out, const char *name, const char *type, const char *help);
/* labels: `a="b",c="d"` with escaped values (exposition_escape); "": none. */
void exposition_int(struct buffer *out, const char *name, const char *labels, int64_t value);
void exposition_double(struct buffer *out, const char *name, const char *labels, double value);
/* Values in seconds. */
void exposition_histogram(struct buffer *out, const char *name, const char *labels,
                          const struct histogram_values *values);
/* Escapes \, " and newline in a label value and truncates it to fit out[size]. */
const char *exposition_escape(const char *value, char *out, size_t size);

/* Writes all counters and histograms of base/telemetry/metrics.h. */
void exposition_metrics(struct buffer *out);

#endif
