/* Writes what sinks measured of their streams: a row of a table is one metric. Unknown values are
 * left out. Every node that writes a stream shows the same values. */
#include "stream_metrics.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "base/telemetry/exposition.h"

#define LABELS_LEN 160

static const struct {
    const char *name, *help;
    size_t offset;
} stream_gauges[] = {
    {"mqfleet_sink_stream_streams",
     "Streams of the sink that are measured and trimmed: several with sink.redis_shards or a "
     "template as sink.key. The other metrics of streams are sums over them.",
     offsetof(struct stream_status, streams)},
    {"mqfleet_sink_stream_largest_entries", "Entries of the longest stream of the sink.",
     offsetof(struct stream_status, entries_most)},
    {"mqfleet_sink_stream_largest_bytes",
     "Memory used by the entries of the largest stream of the sink.",
     offsetof(struct stream_status, bytes_most)},
    {"mqfleet_sink_stream_limit_entries",
     "Length to which each stream is trimmed, or at which the sink pauses: sink.maxlen; 0: none.",
     offsetof(struct stream_status, entries_max)},
    {"mqfleet_sink_stream_bytes", "Memory used by the entries of the stream, estimated every 5 s.",
     offsetof(struct stream_status, bytes)},
    {"mqfleet_sink_stream_limit_bytes",
     "Size to which each stream is trimmed, or at which the sink pauses: "
     "sink.redis_stream_bytes_max; 0: none.",
     offsetof(struct stream_status, bytes_max)},
    {"mqfleet_sink_stream_trims_unread",
     "1 if entries are trimmed whether they were read or not; 0: sink.redis_trim consumed.",
     offsetof(struct stream_status, trims_unread)},
    {"mqfleet_sink_stream_groups",
     "Consumer groups of the stream; those that are the furthest behind are measured, 16 at most.",
     offsetof(struct stream_status, group_total)},
};

static const struct {
    const char *name, *type, *help;
    size_t offset;
    double scale;
} group_metrics[] = {
    {"mqfleet_sink_stream_lag_entries", "gauge",
     "Entries not yet delivered to the consumer group. Left out where Redis cannot tell.",
     offsetof(struct stream_group, lag), 1},
    {"mqfleet_sink_stream_pending_entries", "gauge",
     "Entries delivered to the consumer group and not acknowledged.",
     offsetof(struct stream_group, pending), 1},
    {"mqfleet_sink_stream_oldest_unread_seconds", "gauge",
     "Age of the oldest entry that the consumer group has not read and acknowledged. Left out if "
     "there is none.",
     offsetof(struct stream_group, oldest_unread_ms), 0.001},
    {"mqfleet_sink_stream_trimmed_unread_total", "counter",
     "Entries trimmed by the nodes before the consumer group had read and acknowledged them.",
     offsetof(struct stream_group, trimmed_unread), 1},
};

static int64_t stream_metrics_read(const void *from, size_t offset) {
    int64_t value;
    memcpy(&value, (const char *)from + offset, sizeof value);
    return value;
}

static void stream_metrics_put_stream(const struct sink_status *status, size_t row,
                                      struct buffer *out) {
    char labels[LABELS_LEN];
    int64_t value = stream_metrics_read(&status->stream, stream_gauges[row].offset);
    if (status->stream.measured && value >= 0) {
        snprintf(labels, sizeof labels, "sink=\"%s\"", status->label);
        exposition_int(out, stream_gauges[row].name, labels, value);
    }
}

static void stream_metrics_put_groups(const struct sink_status *status, size_t row,
                                      struct buffer *out) {
    char labels[LABELS_LEN];
    for (size_t i = 0; status->stream.measured && i < status->stream.group_count; i++) {
        const struct stream_group *group = &status->stream.groups[i];
        int64_t value = stream_metrics_read(group, group_metrics[row].offset);
        snprintf(labels, sizeof labels, "sink=\"%s\",group=\"%s\"", status->label, group->name);
        if (value >= 0 && group_metrics[row].scale != 1) {
            exposition_double(out, group_metrics[row].name, labels,
                              (double)value * group_metrics[row].scale);
        } else if (value >= 0) {
            exposition_int(out, group_metrics[row].name, labels, value);
        }
    }
}

void stream_metrics_put(struct sinks *sinks, struct buffer *out) {
    struct sink_status status;
    for (size_t row = 0; row < sizeof stream_gauges / sizeof stream_gauges[0]; row++) {
        exposition_family(out, stream_gauges[row].name, "gauge", stream_gauges[row].help);
        size_t cursor = 0;
        while (sinks_next(sinks, &cursor, &status)) {
            stream_metrics_put_stream(&status, row, out);
        }
    }
    for (size_t row = 0; row < sizeof group_metrics / sizeof group_metrics[0]; row++) {
        exposition_family(out, group_metrics[row].name, group_metrics[row].type,
                          group_metrics[row].help);
        size_t cursor = 0;
        while (sinks_next(sinks, &cursor, &status)) {
            stream_metrics_put_groups(&status, row, out);
        }
    }
}
