/* The Prometheus text format 0.0.4, written into a buffer. One thread at a time. */
#ifndef MQFLEET_TELEMETRY_EXPOSITION_H
#define MQFLEET_TELEMETRY_EXPOSITION_H

#include <stdint.h>
#include "base/buffer.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* # HELP and # TYPE of the samples that follow. type: "counter", "gauge", "histogram". */
void exposition_family(struct buffer *out, const char *name, const char *type, const char *help);
/* labels: `a="b",c="d"`, values escaped already (exposition_escape); "": none. */
void exposition_int(struct buffer *out, const char *name, const char *labels, int64_t value);
void exposition_double(struct buffer *out, const char *name, const char *labels, double value);
/* A label's value with \, " and newline escaped, cut to fit out[size]. */
const char *exposition_escape(const char *value, char *out, size_t size);

/* All counters and histograms of base/metrics.h. */
void exposition_metrics(struct buffer *out);

#endif
