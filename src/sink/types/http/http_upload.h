/* One request: its body, the headers that only it has, and its way through the HTTP client. Made
 * once per connection and used again and again. The sink's thread. */
#ifndef MQFLEET_SINK_HTTP_UPLOAD_H
#define MQFLEET_SINK_HTTP_UPLOAD_H

#include "http_signature.h"
#include "http_target.h"
#include "net/http_client.h"

struct http_upload {
    const struct http_target *target;
    struct buffer body;
    const char **headers; /* those of the target, then these, then NULL */
    char id_header[96], timestamp_header[HTTP_HEADER_NAME_LEN + 32];
    char signature_header[HTTP_HEADER_NAME_LEN + 16 + HTTP_SIGNATURE_LEN];
    struct http_client_request request;
};

/* target: borrowed. False: out of memory. */
bool http_upload_init(struct http_upload *upload, const struct http_target *target);
void http_upload_fini(struct http_upload *upload);

/* Makes the body of the first messages of the range: as many as the limits of a request allow, one
 * at least. Rejects those that have no body. The range becomes those in the body, which may be
 * none; *taken: how many of the range were put in the body or rejected. ERR_MEMORY. */
enum err http_upload_fill(struct http_upload *upload, struct http_range *range,
                          size_t *taken) MUST_CHECK;
/* Starts it, signed if the target has a key. done is called with context from
 * http_client_poll. */
enum err http_upload_start(struct http_upload *upload, struct http_client *client,
                           http_client_request_done *done, void *context) MUST_CHECK;

#endif
