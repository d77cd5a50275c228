/* The constant part of requests: url, headers, limits. Immutable after http_target_init. */
#ifndef MQFLEET_SINK_HTTP_TARGET_H
#define MQFLEET_SINK_HTTP_TARGET_H

#include <jansson.h>
#include "http_format.h"
#include "net/http_client.h"
#include "sink/sink_type.h"

#define HTTP_HEADER_NAME_LEN 65
#define HTTP_HOST_LEN        256

struct http_target {
    const struct sink_environment *environment;
    char *url;
    char host[HTTP_HOST_LEN];
    const char *method;
    const struct http_format *format;
    struct http_document document;
    struct sink_template body;
    struct buffer line_start;
    const char *content_type;
    char **headers; /* "Name: value" */
    size_t header_count;
    const char *hmac_secret; /* "": requests are not signed */
    const char *hmac_header, *hmac_timestamp_header;
    int64_t timeout_ms;
    size_t messages_max, body_bytes_max; /* of one request */
};

/* environment and settings are borrowed until http_target_fini. ERR_ARGUMENT: fault names the
 * field. After an error, too, http_target_fini must be called. */
enum err http_target_init(struct http_target *target, const struct sink_environment *environment,
                          const json_t *settings, char *fault) MUST_CHECK;
void http_target_fini(struct http_target *target);

/* With the same settings. NULL: out of memory. */
struct http_client *http_target_create_client(const struct http_target *target,
                                              const json_t *settings);

#endif
