/* The meaning of a response for the messages of its request: a table of status codes. Pure. */
#ifndef MQFLEET_SINK_HTTP_OUTCOME_H
#define MQFLEET_SINK_HTTP_OUTCOME_H

#include <stddef.h>
#include "sink/sink_type.h"

#define HTTP_TEXT_LEN 128 /* of a quotation from a response */

enum http_outcome {
    HTTP_ACCEPTED,
    HTTP_REFUSED,  /* the content of a message is wrong */
    HTTP_DOUBTFUL, /* a message may be the cause, or the target */
    HTTP_FAILED    /* the target, the way to it, or the settings */
};

struct http_response {
    long status;
    const char *body; /* NUL-terminated */
    size_t body_len;
};

/* The messages of one request: indices of the batch. */
struct http_range {
    struct sink_batch *batch;
    size_t *indices;
    size_t count;
};

enum http_outcome http_outcome_of_status(long status);
/* Advice to the operator about that status; "": none. Static. */
const char *http_outcome_advice(long status);
/* The first 100 printable characters of a text that a target sent. */
void http_outcome_quote(const char *text, size_t len, char out[HTTP_TEXT_LEN]);

#endif
