/* The sink that sends messages to an HTTP server: webhooks, InfluxDB, ClickHouse, Elasticsearch.
 * Owns the HTTP client of one sink; the sink's thread.
 *
 *   http_target    url, headers, credentials: the constant part of each request
 *   http_format    a table of formats        http_outcome   a table of status codes
 *   http_upload    one request               http_lanes     the requests of a batch
 *   http_probe     the test of the settings */
#include "sink/sink_type.h"

#include <stdlib.h>
#include "http_lanes.h"
#include "http_probe.h"
#include "http_target.h"
#include "net/http_client.h"

static const struct sink_field http_sink_fields[] = {
    {.name = "url",
     .kind = SINK_FIELD_URL,
     .required = true,
     .description = "address that requests are sent to, beginning with https:// or http://"},
    {.name = "method",
     .kind = SINK_FIELD_CHOICE,
     .text = "POST",
     .choices = "POST|PUT",
     .description = "method of the requests"},
    {.name = "format",
     .kind = SINK_FIELD_CHOICE,
     .text = "json",
     .choices = "json|json_array|ndjson|template|influx|clickhouse|elasticsearch",
     .description = "format of a request: one message (json, template) or many"},
    {.name = "body",
     .kind = SINK_FIELD_TEXT,
     .description = "template of a message, in place of the default document (not influx)"},
    {.name = "headers",
     .kind = SINK_FIELD_MAP,
     .secret = true,
     .description = "headers of each request"},
    {.name = "bearer_token",
     .kind = SINK_FIELD_SECRET,
     .description = "token for Authorization: Bearer"},
    {.name = "username", .kind = SINK_FIELD_TEXT, .description = "name for Authorization: Basic"},
    {.name = "password",
     .kind = SINK_FIELD_SECRET,
     .description = "password for Authorization: Basic"},
    {.name = "auth_header",
     .kind = SINK_FIELD_TEXT,
     .text = "Authorization",
     .description = "header that has auth_value"},
    {.name = "auth_value",
     .kind = SINK_FIELD_SECRET,
     .description = "whole value of auth_header, for example ApiKey or Token and the token"},
    {.name = "hmac_secret",
     .kind = SINK_FIELD_SECRET,
     .description = "key of an HMAC-SHA256 signature of each request; empty: not signed"},
    {.name = "hmac_header",
     .kind = SINK_FIELD_TEXT,
     .text = "X-Signature-256",
     .description = "header that has the signature"},
    {.name = "hmac_timestamp_header",
     .kind = SINK_FIELD_TEXT,
     .text = "X-Signature-Timestamp",
     .description = "header that has the time of the signature, in seconds"},
    {.name = "timeout_ms",
     .kind = SINK_FIELD_INTEGER,
     .number = 10000,
     .min = 100,
     .max = 60000,
     .unit = "ms",
     .description = "limit for one request, including connecting and the whole response"},
    {.name = "connections",
     .kind = SINK_FIELD_INTEGER,
     .number = 4,
     .min = 1,
     .max = 64,
     .unit = "connections",
     .description = "maximum number of parallel requests; 1 keeps the order of all messages"},
    {.name = "messages_per_request",
     .kind = SINK_FIELD_INTEGER,
     .number = 500,
     .min = 1,
     .max = 10000,
     .unit = "messages",
     .description = "maximum number of messages in one request (not json, template)"},
    {.name = "body_bytes_max",
     .kind = SINK_FIELD_INTEGER,
     .number = 1048576,
     .min = 1024,
     .max = 67108864,
     .unit = "bytes",
     .description = "maximum length of a body; a larger message is sent alone"},
    {.name = "tls_ca",
     .kind = SINK_FIELD_TEXT,
     .description = "CA certificates for the server, path or PEM; empty: the system's"},
    {.name = "tls_cert", .kind = SINK_FIELD_TEXT, .description = "client certificate, path or PEM"},
    {.name = "tls_key",
     .kind = SINK_FIELD_SECRET,
     .description = "key of the client certificate, path or PEM"},
    {.name = "tls_verify",
     .kind = SINK_FIELD_BOOLEAN,
     .number = 1,
     .description = "whether the certificate of the server is verified"},
    {.name = "elasticsearch_index",
     .kind = SINK_FIELD_TEXT,
     .description = "index or data stream (elasticsearch); empty: the one in url"},
    {.name = "influx_measurement",
     .kind = SINK_FIELD_TEXT,
     .text = "mqtt",
     .description = "measurement (influx)"},
    {.name = "influx_tags", .kind = SINK_FIELD_MAP, .description = "tags of each point (influx)"},
    {.name = "clickhouse_table",
     .kind = SINK_FIELD_TEXT,
     .description = "table (clickhouse); empty: the query in url"},
    {0}};

struct http_sink {
    struct http_target target;
    struct http_client *client;
    struct http_lanes lanes;
};

static void http_sink_close(void *state) {
    struct http_sink *sink = state;
    http_lanes_fini(&sink->lanes);
    http_client_destroy(sink->client);
    http_target_fini(&sink->target);
    free(sink);
}

static enum err http_sink_open(void **state, const struct sink_environment *environment,
                               const json_t *settings, char *fault) {
    struct http_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        return ERR_MEMORY;
    }
    enum err err = http_target_init(&sink->target, environment, settings, fault);
    if (err == ERR_OK) {
        sink->client = http_target_create_client(&sink->target, settings);
        size_t count = (size_t)sink_settings_integer(settings, "connections");
        err = sink->client && http_lanes_init(&sink->lanes, &sink->target, sink->client, count)
                  ? ERR_OK
                  : ERR_MEMORY;
    }
    if (err != ERR_OK) {
        http_sink_close(sink);
        return err;
    }
    *state = sink;
    return ERR_OK;
}

static enum err http_sink_write(void *state, struct sink_batch *batch) {
    struct http_sink *sink = state;
    return http_lanes_write(&sink->lanes, batch);
}

const struct sink_type sink_type_http = {.version = MQFLEET_VERSION,
                                         .name = "http",
                                         .fields = http_sink_fields,
                                         .open = http_sink_open,
                                         .write = http_sink_write,
                                         .close = http_sink_close,
                                         .test = http_probe_run};
