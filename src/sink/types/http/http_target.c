/* Owns the translation of settings into the constant part of requests. */
#include "http_target.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/text.h"
#include "http_influx.h"

#define HEADERS_MAX         64
#define URL_MAX             4096
#define RESPONSE_BYTES      65536 /* enough for an error text */
#define RESPONSE_ITEM_BYTES 4096  /* of an item of a bulk response */

static enum err http_target_fault(char *fault, const char *text) {
    snprintf(fault, SINK_FAULT_LEN, "%s", text);
    return ERR_ARGUMENT;
}

/* ---- url --------------------------------------------------------------------------------------
 */

/* Printable ASCII; no backslash, which programs read in different ways. */
static bool http_target_is_url_text(const char *url) {
    size_t len = strlen(url);
    for (size_t i = 0; i < len; i++) {
        if (url[i] <= ' ' || url[i] >= 0x7f || url[i] == '\\') {
            return false;
        }
    }
    return len <= URL_MAX;
}

/* NULL: neither https nor http. */
static const char *http_target_after_scheme(const char *url) {
    if (strncasecmp(url, "https://", 8) == 0) {
        return url + 8;
    }
    return strncasecmp(url, "http://", 7) == 0 ? url + 7 : NULL;
}

/* The host of "user:password@[::1]:8086/path". False: there is none. */
static bool http_target_take_host(struct http_target *target, const char *authority) {
    size_t len = strcspn(authority, "/?#");
    const char *at = memrchr(authority, '@', len);
    const char *host = at ? at + 1 : authority;
    size_t rest = len - (size_t)(host - authority);
    bool literal = *host == '[';
    const char *end = memchr(host, literal ? ']' : ':', rest);
    size_t host_len = end ? (size_t)(end - host) : rest;
    host += literal ? 1 : 0;
    host_len -= literal && host_len > 0 ? 1 : 0;
    if (host_len == 0 || host_len >= sizeof target->host || (literal && !end)) {
        return false;
    }
    memcpy(target->host, host, host_len);
    target->host[host_len] = '\0';
    return true;
}

static bool http_target_is_table(const char *table) {
    size_t len = strspn(table, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");
    return table[len] == '\0';
}

static enum err http_target_take_url(struct http_target *target, const json_t *settings,
                                     char *fault) {
    const char *url = sink_settings_text(settings, "url");
    const char *table = sink_settings_text(settings, "clickhouse_table");
    const char *authority = http_target_after_scheme(url);
    if (!authority || !http_target_is_url_text(url) || strchr(url, '#') ||
        !http_target_take_host(target, authority)) {
        return http_target_fault(fault, "url must begin with https:// or http:// and a host; "
                                        "other characters than printable ASCII must be "
                                        "percent-encoded");
    }
    if (!http_target_is_table(table)) {
        return http_target_fault(fault, "clickhouse_table must be a name, or database.name, of "
                                        "letters, digits and underscores");
    }
    int len = *table ? asprintf(&target->url,
                                "%s%cquery=INSERT%%20INTO%%20%s%%20FORMAT%%20"
                                "JSONEachRow",
                                url, strchr(url, '?') ? '&' : '?', table)
                     : asprintf(&target->url, "%s", url);
    target->url = len < 0 ? NULL : target->url;
    return target->url ? ERR_OK : ERR_MEMORY;
}

/* ---- headers ----------------------------------------------------------------------------------
 */

/* RFC 9110 section 5.6.2. */
static bool http_target_is_header_name(const char *name) {
    size_t len = 0;
    while (isalnum((unsigned char)name[len]) ||
           (name[len] && strchr("!#$%&'*+-.^_`|~", name[len]))) {
        len++;
    }
    return len > 0 && len < HTTP_HEADER_NAME_LEN && name[len] == '\0';
}

static bool http_target_is_header_value(const char *value) {
    size_t len = 0;
    while ((unsigned char)value[len] >= ' ' && value[len] != 0x7f) {
        len++;
    }
    return value[len] == '\0';
}

static bool http_target_is_reserved(const char *name) {
    static const char *const reserved[] = {"content-length", "transfer-encoding", "connection",
                                           "expect", "host"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (strcasecmp(reserved[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* An empty value is sent as "Name;", as libcurl wants it. */
static enum err http_target_add_header(struct http_target *target, const char *name,
                                       const char *prefix, const char *value) {
    char *line;
    int len = *prefix || *value ? asprintf(&line, "%s: %s%s", name, prefix, value)
                                : asprintf(&line, "%s;", name);
    assert(target->header_count < HEADERS_MAX);
    if (len < 0) {
        return ERR_MEMORY;
    }
    target->headers[target->header_count++] = line;
    return ERR_OK;
}

static enum err http_target_take_header(struct http_target *target, const char *name,
                                        const char *value, char *fault) {
    if (!http_target_is_header_name(name) || !http_target_is_header_value(value)) {
        return http_target_fault(fault, "headers must be names of letters, digits and dashes, with "
                                        "values without control characters");
    }
    if (http_target_is_reserved(name)) {
        snprintf(fault, SINK_FAULT_LEN, "headers must not contain %.40s: it is set automatically",
                 name);
        return ERR_ARGUMENT;
    }
    if (strcasecmp(name, "authorization") == 0) {
        return http_target_fault(fault,
                                 "headers must not contain Authorization, which is a secret: "
                                 "use bearer_token, username and password, or auth_value");
    }
    if (strcasecmp(name, "content-type") == 0 && *value) {
        target->content_type = value;
        return ERR_OK;
    }
    return http_target_add_header(target, name, "", value);
}

static enum err http_target_take_headers(struct http_target *target, const json_t *settings,
                                         char *fault) {
    const json_t *headers = sink_settings_json(settings, "headers");
    const char *name;
    json_t *value;
    enum err err = ERR_OK;
    if (json_object_size(headers) > HEADERS_MAX - 2) { /* and those of the credentials */
        return http_target_fault(fault, "headers must be 62 at most");
    }
    json_object_foreach((json_t *)(uintptr_t)headers, name, value) {
        if (err == ERR_OK) {
            err = http_target_take_header(target, name, json_string_value(value), fault);
        }
    }
    return err;
}

static enum err http_target_add_basic(struct http_target *target, const char *username,
                                      const char *password) {
    char *pair;
    if (asprintf(&pair, "%s:%s", username, password) < 0) {
        return ERR_MEMORY;
    }
    char *encoded = text_base64_encode(pair, strlen(pair));
    free(pair);
    enum err err =
        encoded ? http_target_add_header(target, "Authorization", "Basic ", encoded) : ERR_MEMORY;
    free(encoded);
    return err;
}

static enum err http_target_take_credentials(struct http_target *target, const json_t *settings,
                                             char *fault) {
    const char *bearer = sink_settings_text(settings, "bearer_token");
    const char *username = sink_settings_text(settings, "username");
    const char *auth_header = sink_settings_text(settings, "auth_header");
    const char *auth_value = sink_settings_text(settings, "auth_value");
    if ((*bearer != '\0') + (*username != '\0') + (*auth_value != '\0') > 1) {
        return http_target_fault(fault, "auth_value, bearer_token and username exclude each other");
    }
    if (strchr(username, ':')) {
        return http_target_fault(fault, "username must not contain a colon (RFC 7617)");
    }
    if (!http_target_is_header_value(bearer) || !http_target_is_header_value(auth_value) ||
        !http_target_is_header_name(auth_header)) {
        return http_target_fault(fault, "auth_header must be the name of a header; auth_value and "
                                        "bearer_token must not contain control characters");
    }
    if (*username) {
        return http_target_add_basic(target, username, sink_settings_text(settings, "password"));
    }
    if (*bearer) {
        return http_target_add_header(target, "Authorization", "Bearer ", bearer);
    }
    return *auth_value ? http_target_add_header(target, auth_header, "", auth_value) : ERR_OK;
}

static enum err http_target_take_signature(struct http_target *target, const json_t *settings,
                                           char *fault) {
    target->hmac_secret = sink_settings_text(settings, "hmac_secret");
    target->hmac_header = sink_settings_text(settings, "hmac_header");
    target->hmac_timestamp_header = sink_settings_text(settings, "hmac_timestamp_header");
    return http_target_is_header_name(target->hmac_header) &&
                   http_target_is_header_name(target->hmac_timestamp_header)
               ? ERR_OK
               : http_target_fault(fault, "hmac_header and hmac_timestamp_header must be names of "
                                          "headers");
}

/* ---- certificates ------------------------------------------------------------------------------
 */

/* A path that is not absolute would depend on the folder in which the node was started. */
static enum err http_target_check_certificates(struct http_target *target, const json_t *settings,
                                               char *fault) {
    static const char *const names[] = {"tls_ca", "tls_cert", "tls_key"};
    (void)target;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = sink_settings_text(settings, names[i]);
        if (*text && *text != '/' && strncmp(text, "-----BEGIN", 10) != 0) {
            snprintf(fault, SINK_FAULT_LEN, "%s must be an absolute path, or PEM text", names[i]);
            return ERR_ARGUMENT;
        }
    }
    return ERR_OK;
}

/* ---- documents --------------------------------------------------------------------------------
 */

static enum err http_target_take_document(struct http_target *target, const json_t *settings,
                                          char *fault) {
    const char *measurement = sink_settings_text(settings, "influx_measurement");
    const char *name;
    json_t *value;
    if (*measurement == '\0') {
        return http_target_fault(fault, "influx_measurement must not be empty");
    }
    http_influx_append_measurement(&target->line_start, measurement);
    json_object_foreach((json_t *)(uintptr_t)sink_settings_json(settings, "influx_tags"), name,
                        value) {
        http_influx_append_tag(&target->line_start, name, json_string_value(value));
    }
    target->document =
        (struct http_document){.node = target->environment->node,
                               .index = sink_settings_text(settings, "elasticsearch_index"),
                               .line_start = target->line_start.data};
    return target->line_start.failed || !target->line_start.data ? ERR_MEMORY : ERR_OK;
}

/* An empty body is the default document. */
static enum err http_target_take_body(struct http_target *target, const json_t *settings,
                                      char *fault) {
    enum err err = ERR_OK;
    if (*sink_settings_text(settings, "body")) {
        err = sink_template_init(&target->body, target->environment, settings, "body", fault);
        target->document.body = &target->body;
    }
    return err == ERR_OK ? http_format_check_body(target->format, target->body.template, fault)
                         : err;
}

enum err http_target_init(struct http_target *target, const struct sink_environment *environment,
                          const json_t *settings, char *fault) {
    static enum err (*const steps[])(struct http_target *, const json_t *, char *) = {
        http_target_take_url,       http_target_take_headers,       http_target_take_credentials,
        http_target_take_signature, http_target_check_certificates, http_target_take_document,
        http_target_take_body};
    *target = (struct http_target){
        .environment = environment,
        .method = sink_settings_text(settings, "method"),
        .format = http_format_find(sink_settings_text(settings, "format")),
        .headers = calloc(HEADERS_MAX, sizeof *target->headers),
        .timeout_ms = sink_settings_integer(settings, "timeout_ms"),
        .messages_max = (size_t)sink_settings_integer(settings, "messages_per_request"),
        .body_bytes_max = (size_t)sink_settings_integer(settings, "body_bytes_max")};
    assert(target->format);
    buffer_init(&target->line_start);
    target->content_type = target->format->content_type;
    target->messages_max = target->format->single ? 1 : target->messages_max;
    enum err err = target->headers ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < sizeof steps / sizeof steps[0]; i++) {
        err = steps[i](target, settings, fault);
    }
    return err;
}

void http_target_fini(struct http_target *target) {
    for (size_t i = 0; i < target->header_count; i++) {
        free(target->headers[i]);
    }
    free(target->headers);
    free(target->url);
    buffer_fini(&target->line_start);
    sink_template_fini(&target->body);
}

/* ---- client -----------------------------------------------------------------------------------
 */

static bool http_target_address_allowed(const void *context, const struct sockaddr *address,
                                        const char **why) {
    const struct http_target *target = context;
    const struct sink_environment *environment = target->environment;
    return !environment->address_allowed ||
           environment->address_allowed(environment->address_context, target->host, address, why);
}

struct http_client *http_target_create_client(const struct http_target *target,
                                              const json_t *settings) {
    size_t items = target->format->settle ? target->messages_max : 0;
    return http_client_create(&(struct http_client_options){
        .timeout_ms = target->timeout_ms,
        .response_bytes_max = RESPONSE_BYTES + items * RESPONSE_ITEM_BYTES,
        .cuts_responses = true,
        .http2 = true,
        .unverified = !sink_settings_boolean(settings, "tls_verify"),
        .ca = sink_settings_text(settings, "tls_ca"),
        .cert = sink_settings_text(settings, "tls_cert"),
        .key = sink_settings_text(settings, "tls_key"),
        .address_allowed = http_target_address_allowed,
        .address_context = target});
}
