/* Owns the table of formats. Pure. */
#include "http_format.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "http_clickhouse.h"
#include "http_elasticsearch.h"
#include "http_influx.h"
#include "sink/message_json.h"

void http_format_append_id(struct buffer *out, const struct message *message) {
    char number[24];
    snprintf(number, sizeof number, "-%llu", (unsigned long long)message->number);
    buffer_append_str(out, message_process_id());
    buffer_append_str(out, number);
}

/* The default document. Templates for other ones would begin here. */
static void http_format_append_fields(struct buffer *out, const struct message *message,
                                      const struct http_document *document) {
    buffer_append_str(out, "\"message_id\":\"");
    http_format_append_id(out, message);
    buffer_append_str(out, "\",");
    message_json_append_fields(out, message, document->node);
    buffer_append(out, "}", 1);
}

static void http_format_append_json(struct buffer *out, const struct message *message,
                                    const struct http_document *document) {
    buffer_append(out, "{", 1);
    http_format_append_fields(out, message, document);
}

static void http_format_append_line(struct buffer *out, const struct message *message,
                                    const struct http_document *document) {
    http_format_append_json(out, message, document);
    buffer_append(out, "\n", 1);
}

/* A message that was written before, but whose answer was lost, is already in the index: the
 * action `create` does not write the same _id again. */
static void http_format_append_action(struct buffer *out, const struct message *message,
                                      const struct http_document *document) {
    buffer_append_str(out, "{\"create\":{");
    if (*document->index) {
        buffer_append_str(out, "\"_index\":");
        message_json_append_text(out, document->index, strlen(document->index));
        buffer_append(out, ",", 1);
    }
    buffer_append_str(out, "\"_id\":\"");
    http_format_append_id(out, message);
    buffer_append_str(out, "\"}}\n");
}

static void http_format_append_bulk(struct buffer *out, const struct message *message,
                                    const struct http_document *document) {
    char time[64];
    struct tm at;
    time_t seconds = (time_t)(message->received_at_ms / 1000);
    gmtime_r(&seconds, &at);
    size_t len = strftime(time, sizeof time, "{\"@timestamp\":\"%Y-%m-%dT%H:%M:%S", &at);
    snprintf(time + len, sizeof time - len, ".%03dZ\",", (int)(message->received_at_ms % 1000));
    http_format_append_action(out, message, document);
    buffer_append_str(out, time);
    http_format_append_fields(out, message, document);
    buffer_append(out, "\n", 1);
}

static void http_format_append_influx(struct buffer *out, const struct message *message,
                                      const struct http_document *document) {
    http_influx_append(out, message, document->line_start);
}

static const struct http_format formats[] = {
    {"json", "application/json", true, "", "", "", http_format_append_json, NULL, NULL},
    {"json_array", "application/json", false, "[", ",", "]", http_format_append_json, NULL, NULL},
    {"ndjson", "application/x-ndjson", false, "", "", "", http_format_append_line, NULL, NULL},
    {"influx", "text/plain; charset=utf-8", false, "", "", "", http_format_append_influx, NULL,
     NULL},
    {"clickhouse", "application/x-ndjson", false, "", "", "", http_format_append_line,
     http_clickhouse_judge, NULL},
    {"elasticsearch", "application/x-ndjson", false, "", "", "", http_format_append_bulk, NULL,
     http_elasticsearch_settle},
};

const struct http_format *http_format_find(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}
