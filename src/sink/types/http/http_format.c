/* Owns the table of formats. Pure. */
#include "http_format.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/json_text.h"
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

/* The default document. */
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
        json_text_append(out, document->index, strlen(document->index));
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
    {.name = "json",
     .content_type = "application/json",
     .single = true,
     .append = http_format_append_json,
     .body = HTTP_BODY_JSON},
    {.name = "json_array",
     .content_type = "application/json",
     .begin = "[",
     .separator = ",",
     .end = "]",
     .append = http_format_append_json,
     .body = HTTP_BODY_JSON},
    {.name = "ndjson",
     .content_type = "application/x-ndjson",
     .append = http_format_append_line,
     .body = HTTP_BODY_JSON_LINE},
    {.name = "template",
     .content_type = "text/plain; charset=utf-8",
     .single = true,
     .body = HTTP_BODY_TEXT},
    {.name = "influx",
     .content_type = "text/plain; charset=utf-8",
     .append = http_format_append_influx},
    {.name = "clickhouse",
     .content_type = "application/x-ndjson",
     .append = http_format_append_line,
     .body = HTTP_BODY_OBJECT_LINE,
     .judge = http_clickhouse_judge},
    {.name = "elasticsearch",
     .content_type = "application/x-ndjson",
     .append = http_format_append_bulk,
     .body = HTTP_BODY_OBJECT_LINE,
     .append_action = http_format_append_action,
     .settle = http_elasticsearch_settle},
};

const struct http_format *http_format_find(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

/* ---- bodies by template ----------------------------------------------------------------------
 */

enum err http_format_check_body(const struct http_format *format, const struct template *body,
                                char *fault) {
    char why[MESSAGE_FAULT_LEN] = "is not possible with this format";
    enum err err = format->body == HTTP_BODY_NONE ? ERR_ARGUMENT : ERR_OK;
    if (!body) {
        snprintf(why, sizeof why, "is required with the format template");
        err = format->body == HTTP_BODY_TEXT ? ERR_ARGUMENT : ERR_OK;
    } else if (err == ERR_OK && format->body != HTTP_BODY_TEXT) {
        err = template_check_json(body, format->body == HTTP_BODY_OBJECT_LINE, why);
    }
    if (err == ERR_ARGUMENT) {
        snprintf(fault, SINK_FAULT_LEN, "body %.240s", why);
    }
    return err;
}

/* Between the values of a JSON document, a line end is as good as a space. In values there is none.
 */
static void http_format_join_lines(char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)(text[i] == '\n' || text[i] == '\r' ? ' ' : text[i]);
    }
}

static enum err http_format_append_body(const struct http_format *format, struct buffer *out,
                                        const struct message *message,
                                        const struct http_document *document, char *reason) {
    if (format->append_action) {
        format->append_action(out, message, document);
    }
    size_t begin = out->len;
    enum err err = sink_template_render(document->body, message, out, reason);
    bool line = format->body == HTTP_BODY_JSON_LINE || format->body == HTTP_BODY_OBJECT_LINE;
    if (err == ERR_OK && line) {
        http_format_join_lines(out->data + begin, out->len - begin);
        buffer_append(out, "\n", 1);
    }
    return err;
}

enum err http_format_append(const struct http_format *format, struct buffer *out,
                            const struct message *message, const struct http_document *document,
                            char *reason) {
    size_t before = out->len;
    if (!document->body) {
        format->append(out, message, document);
        return ERR_OK;
    }
    enum err err = http_format_append_body(format, out, message, document, reason);
    if (err == ERR_NOT_FOUND && !out->failed) {
        out->len = before;
    }
    return err;
}
