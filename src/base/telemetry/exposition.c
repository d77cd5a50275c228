/* Owns the form of the Prometheus text format. Pure, except that it reads the counters. */
#include "base/telemetry/exposition.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/telemetry/metrics.h"
#include "base/text.h"

void exposition_family(struct buffer *out, const char *name, const char *type, const char *help) {
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void exposition_put_name(struct buffer *out, const char *name, const char *suffix,
                                const char *labels) {
    bool bare = labels[0] == '\0';
    buffer_printf(out, "%s%s%s%s%s ", name, suffix, bare ? "" : "{", labels, bare ? "" : "}");
}

void exposition_int(struct buffer *out, const char *name, const char *labels, int64_t value) {
    exposition_put_name(out, name, "", labels);
    buffer_printf(out, "%lld\n", (long long)value);
}

void exposition_double(struct buffer *out, const char *name, const char *labels, double value) {
    exposition_put_name(out, name, "", labels);
    buffer_printf(out, "%.15g\n", value);
}

const char *exposition_escape(const char *value, char *out, size_t size) {
    size_t len = 0;
    for (size_t left = strlen(value), char_len; left > 0; value += char_len, left -= char_len) {
        char_len = text_utf8_char_len(value, left);
        bool bad = char_len == 0;
        char_len = bad ? 1 : char_len;
        if (len + char_len + 2 > size) {
            break;
        }
        if (bad) {
            out[len++] = '?';
        } else if (*value == '\\' || *value == '"' || *value == '\n') {
            out[len++] = '\\';
            out[len++] = *value == '\n' ? 'n' : *value;
        } else {
            memcpy(out + len, value, char_len);
            len += char_len;
        }
    }
    out[len] = '\0';
    return out;
}

/* ---- counters and histograms ----------------------------------------------------------------- */

void exposition_histogram(struct buffer *out, const char *name, const char *labels,
                          const struct histogram_values *values) {
    const char *comma = *labels != '\0' ? "," : "";
    int64_t count = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        char bucket[192], bound[32] = "+Inf";
        if (i < HISTOGRAM_BUCKETS - 1) {
            snprintf(bound, sizeof(bound), "%g", (double)histogram_bounds_us[i] / 1e6);
        }
        snprintf(bucket, sizeof(bucket), "%s%sle=\"%s\"", labels, comma, bound);
        count += values->counts[i];
        exposition_put_name(out, name, "_bucket", bucket);
        buffer_printf(out, "%lld\n", (long long)count);
    }
    exposition_put_name(out, name, "_sum", labels);
    buffer_printf(out, "%.6f\n", (double)values->sum_us / 1e6);
    exposition_put_name(out, name, "_count", labels);
    buffer_printf(out, "%lld\n", (long long)count);
}

void exposition_metrics(struct buffer *out) {
    for (enum metric metric = 0; metric < METRIC_COUNT; metric++) {
        const struct metric_description *description = metric_describe(metric);
        if (description->help[0] != '\0') {
            exposition_family(out, description->name, "counter", description->help);
        }
        exposition_int(out, description->name, description->labels, metric_get(metric));
    }
    for (enum histogram histogram = 0; histogram < HISTOGRAM_COUNT; histogram++) {
        const struct metric_description *description = histogram_describe(histogram);
        struct histogram_values values;
        histogram_get(histogram, &values);
        if (description->help[0] != '\0') {
            exposition_family(out, description->name, "histogram", description->help);
        }
        exposition_histogram(out, description->name, description->labels, &values);
    }
}
