/* How messages become the body of a request. A table of formats; adding one is a row. Pure. */
#ifndef MQFLEET_SINK_HTTP_FORMAT_H
#define MQFLEET_SINK_HTTP_FORMAT_H

#include <stdbool.h>
#include "base/buffer.h"
#include "http_outcome.h"
#include "message/message.h"

/* Settings of the documents. Borrowed. */
struct http_document {
    const char *node;
    const char *index;      /* of Elasticsearch; "": the one in the URL */
    const char *line_start; /* of InfluxDB: measurement and fixed tags, escaped */
};

struct http_format {
    const char *name; /* value of the field `format` */
    const char *content_type;
    bool single;                         /* one message per request */
    const char *begin, *separator, *end; /* around and between the messages */
    void (*append)(struct buffer *out, const struct message *message,
                   const struct http_document *document);
    /* Of a response that is not 2xx. NULL: by its status alone. */
    enum http_outcome (*judge)(const struct http_response *response);
    /* Of a 2xx response: the outcome of each message. NULL: all are accepted. */
    enum http_outcome (*settle)(const struct http_response *response, struct http_range *range);
};

/* NULL: unknown. */
const struct http_format *http_format_find(const char *name);

/* The identifier of a message that a consumer can compare: the same for each attempt. */
void http_format_append_id(struct buffer *out, const struct message *message);

#endif
