/* How messages become the body of a request. A table of formats; adding one is a row. Pure. */
#ifndef MQFLEET_SINK_HTTP_FORMAT_H
#define MQFLEET_SINK_HTTP_FORMAT_H

#include <stdbool.h>
#include "base/buffer.h"
#include "http_outcome.h"
#include "message/message.h"
#include "sink/sink_template.h"

/* Settings of the documents. Borrowed. */
struct http_document {
    const char *node;
    const char *index;                /* of Elasticsearch; "": the one in the URL */
    const char *line_start;           /* of InfluxDB: measurement and fixed tags, escaped */
    const struct sink_template *body; /* in place of the default document; NULL: that one */
};

/* What the template `body` must produce. */
enum http_body {
    HTTP_BODY_NONE, /* no template is allowed */
    HTTP_BODY_JSON,
    HTTP_BODY_JSON_LINE,
    HTTP_BODY_OBJECT_LINE,
    HTTP_BODY_TEXT /* anything; there is no default document */
};

struct http_format {
    const char *name; /* value of the field `format` */
    const char *content_type;
    bool single;                         /* one message per request */
    const char *begin, *separator, *end; /* around and between the messages; NULL: nothing */
    void (*append)(struct buffer *out, const struct message *message,
                   const struct http_document *document);
    enum http_body body;
    /* Before the body of each message. NULL: nothing. */
    void (*append_action)(struct buffer *out, const struct message *message,
                          const struct http_document *document);
    /* Of a response that is not 2xx. NULL: by its status alone. */
    enum http_outcome (*judge)(const struct http_response *response);
    /* Of a 2xx response: the outcome of each message. NULL: all are accepted. */
    enum http_outcome (*settle)(const struct http_response *response, struct http_range *range);
};

/* NULL: unknown. */
const struct http_format *http_format_find(const char *name);
/* Checks the template of the body; NULL: none. ERR_ARGUMENT: fault (SINK_FAULT_LEN) says why it
 * does not fit the format. */
enum err http_format_check_body(const struct http_format *format, const struct template *body,
                                char *fault) MUST_CHECK;
/* Appends a message to the body of a request. ERR_NOT_FOUND: the message must be rejected, and out
 * is unchanged; reason (SINK_REASON_LEN) says why. Out of memory: ERR_MEMORY, or out->failed. */
enum err http_format_append(const struct http_format *format, struct buffer *out,
                            const struct message *message, const struct http_document *document,
                            char *reason) MUST_CHECK;

/* The identifier of a message that a consumer can compare: the same for each attempt. */
void http_format_append_id(struct buffer *out, const struct message *message);

#endif
