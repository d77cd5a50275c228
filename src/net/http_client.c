/* Owns a libcurl multi handle with its connection cache and a pool of easy handles. One thread at a
 * time. The only file that includes libcurl. */
#include "net/http_client.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <curl/curl.h>
#include "base/system/clock.h"

#define POOL_MAX         256L /* easy handles and idle connections that are kept */
#define KEEPALIVE_S      30L
#define DNS_CACHE_S      10L
#define POLL_MS_MAX      1000
#define HEADER_BYTES_MAX 65536 /* of all header lines of a response */

struct http_client {
    CURLM *multi;
    CURL *pool[POOL_MAX];
    size_t pool_len;
    int64_t timeout_ms;
    struct http_client_options options;
};

/* Tags what libcurl returns; the first member of both structures. */
enum http_transfer { TRANSFER_REQUEST, TRANSFER_STREAM };

/* One request under way. */
struct running {
    enum http_transfer transfer;
    CURL *easy;                     /* NULL: not started, or over */
    http_client_request_done *done; /* NULL: of http_client_run */
    void *context;
    struct curl_slist *headers;
    struct http_client_request *request;
    const struct http_client_options *options;
    size_t header_bytes;
    bool cut;                    /* the response was longer than the limit */
    const char *denied;          /* why the last address was denied; NULL: it was not */
    char error[CURL_ERROR_SIZE]; /* written by libcurl */
};

enum err http_client_global_init(void) {
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? ERR_OK : ERR_UNAVAILABLE;
}

struct http_client *http_client_create(const struct http_client_options *options) {
    assert(options->timeout_ms > 0);
    struct http_client *client = calloc(1, sizeof *client);
    if (!client) {
        return NULL;
    }
    client->timeout_ms = options->timeout_ms;
    client->options = *options;
    client->multi = curl_multi_init();
    if (!client->multi) {
        free(client);
        return NULL;
    }
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, POOL_MAX);
    return client;
}

void http_client_destroy(struct http_client *client) {
    if (!client) {
        return;
    }
    for (size_t i = 0; i < client->pool_len; i++) {
        curl_easy_cleanup(client->pool[i]);
    }
    curl_multi_cleanup(client->multi);
    free(client);
}

/* --- one request --- */

/* A short count tells libcurl to abort the transfer. */
static size_t http_client_on_response(char *data, size_t size, size_t count, void *argument) {
    struct running *running = argument;
    struct buffer *answer = &running->request->response;
    size_t len = size * count;
    size_t room = running->options->response_bytes_max - answer->len;
    if (len > room) {
        running->cut = true;
        buffer_append(answer, data, running->options->cuts_responses ? room : 0);
        return 0;
    }
    buffer_append(answer, data, len);
    return answer->failed ? 0 : len;
}

static size_t http_client_on_header(char *data, size_t size, size_t count, void *argument) {
    struct running *running = argument;
    (void)data;
    running->header_bytes += size * count;
    return running->header_bytes <= HEADER_BYTES_MAX ? size * count : 0;
}

/* Not connected to: libcurl tries the next address, if there is one. */
static curl_socket_t http_client_on_socket(void *argument, curlsocktype purpose,
                                           struct curl_sockaddr *address) {
    struct running *running = argument;
    const struct http_client_options *options = running->options;
    (void)purpose;
    if (options->address_allowed &&
        !options->address_allowed(options->address_context, &address->addr, &running->denied)) {
        return CURL_SOCKET_BAD;
    }
    running->denied = NULL;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool http_client_add_header(struct running *running, const char *line) {
    struct curl_slist *longer = curl_slist_append(running->headers, line);
    running->headers = longer ? longer : running->headers;
    return longer;
}

static bool http_client_add_content_type(struct running *running) {
    const struct http_client_request *request = running->request;
    const char *type = request->content_type ? request->content_type : "application/json";
    char line[128];
    snprintf(line, sizeof line, "Content-Type: %s", type);
    return !request->body || http_client_add_header(running, line);
}

/* Our header lines first; no "Expect: 100-continue". */
static enum err http_client_build_headers(struct running *running) {
    const char *const *headers = running->request->headers;
    bool added =
        http_client_add_header(running, "Expect:") && http_client_add_content_type(running);
    for (size_t i = 0; added && headers && headers[i]; i++) {
        added = http_client_add_header(running, headers[i]);
    }
    if (!added) {
        curl_slist_free_all(running->headers);
        running->headers = NULL;
    }
    return added ? ERR_OK : ERR_MEMORY;
}

static bool http_client_has_body(const struct http_client_request *request) {
    return request->body || strcmp(request->method, "POST") == 0 ||
           strcmp(request->method, "PUT") == 0 || strcmp(request->method, "PATCH") == 0;
}

/* libcurl borrows the body until the request is over. */
static void http_client_set_request(CURL *easy, struct running *running) {
    const struct http_client_request *request = running->request;
    if (http_client_has_body(request)) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(request->body ? request->body_len : 0));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body ? request->body : "");
    } else if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, running->headers);
}

static void http_client_set_callbacks(CURL *easy, struct running *running) {
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_client_on_response);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, running);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, http_client_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, running);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, http_client_on_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, running);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, running->error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, running);
}

static void http_client_set_limits(CURL *easy, const struct http_client *client,
                                   int64_t timeout_ms) {
    curl_easy_setopt(
        easy, CURLOPT_HTTP_VERSION,
        (long)(client->options.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
}

/* text: a path, or the PEM itself. */
static void http_client_set_pem(CURL *easy, const char *text, CURLoption path, CURLoption blob) {
    if (text && strncmp(text, "-----BEGIN", 10) == 0) {
        struct curl_blob pem = {(void *)(uintptr_t)text, strlen(text), CURL_BLOB_COPY};
        curl_easy_setopt(easy, blob, &pem);
    } else if (text && *text) {
        curl_easy_setopt(easy, path, text);
    }
}

static void http_client_set_trust(CURL *easy, const struct http_client *client) {
    const struct http_client_options *options = &client->options;
    if (options->ca && *options->ca) {
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        http_client_set_pem(easy, options->ca, CURLOPT_CAINFO, CURLOPT_CAINFO_BLOB);
    }
    http_client_set_pem(easy, options->cert, CURLOPT_SSLCERT, CURLOPT_SSLCERT_BLOB);
    http_client_set_pem(easy, options->key, CURLOPT_SSLKEY, CURLOPT_SSLKEY_BLOB);
    if (options->unverified) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

static CURL *http_client_pool_get(struct http_client *client) {
    if (client->pool_len == 0) {
        return curl_easy_init();
    }
    return client->pool[--client->pool_len];
}

static void http_client_pool_put(struct http_client *client, CURL *easy) {
    if (client->pool_len < POOL_MAX) {
        curl_easy_reset(easy); /* it borrows nothing from a request that is over */
        client->pool[client->pool_len++] = easy;
    } else {
        curl_easy_cleanup(easy);
    }
}

/* Sets the result and releases the resources of the request. */
static void http_client_finish(struct http_client *client, struct running *running, enum err err) {
    long sent_bytes = 0;
    running->request->result = err;
    if (running->easy) {
        curl_off_t retry_after_s = 0;
        curl_easy_getinfo(running->easy, CURLINFO_RESPONSE_CODE, &running->request->status);
        curl_easy_getinfo(running->easy, CURLINFO_REQUEST_SIZE, &sent_bytes);
        curl_easy_getinfo(running->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
        running->request->retry_after_s = retry_after_s;
        curl_multi_remove_handle(client->multi, running->easy);
        http_client_pool_put(client, running->easy);
    }
    running->request->unsent = sent_bytes == 0;
    curl_slist_free_all(running->headers);
    running->easy = NULL;
    running->headers = NULL;
}

static void http_client_begin(struct http_client *client, struct running *running,
                              int64_t timeout_ms) {
    running->request->status = 0;
    running->request->result = ERR_OK;
    running->request->retry_after_s = 0;
    *running->request->fault = '\0';
    running->options = &client->options;
    buffer_init(&running->request->response);
    running->easy =
        http_client_build_headers(running) == ERR_OK ? http_client_pool_get(client) : NULL;
    if (!running->easy) {
        http_client_finish(client, running, ERR_MEMORY);
        return;
    }
    http_client_set_request(running->easy, running);
    http_client_set_callbacks(running->easy, running);
    http_client_set_limits(running->easy, client, timeout_ms);
    http_client_set_trust(running->easy, client);
    if (curl_multi_add_handle(client->multi, running->easy) != CURLM_OK) {
        http_client_finish(client, running, ERR_UNAVAILABLE);
    }
}

/* --- all of them --- */

static enum err http_client_result_of(CURLcode code, struct running *running) {
    struct http_client_request *request = running->request;
    if (code == CURLE_OK || (running->cut && running->options->cuts_responses)) {
        return ERR_OK;
    }
    snprintf(request->fault, sizeof request->fault, "%s",
             running->denied   ? running->denied
             : *running->error ? running->error
                               : curl_easy_strerror(code));
    if (code == CURLE_OUT_OF_MEMORY || request->response.failed) {
        return ERR_MEMORY;
    }
    return code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE;
}

static void http_client_reap_done(struct http_client *client) {
    int queued = 0;
    const CURLMsg *done = curl_multi_info_read(client->multi, &queued);
    while (done) { /* bounded by the number of requests */
        struct running *running = NULL;
        CURLcode code = done->data.result;
        curl_easy_getinfo(done->easy_handle, CURLINFO_PRIVATE, &running);
        http_client_finish(client, running, http_client_result_of(code, running));
        done = curl_multi_info_read(client->multi, &queued);
    }
}

static void http_client_drive(struct http_client *client, int64_t deadline_ms) {
    int under_way = 1;
    int64_t left_ms = client->timeout_ms;
    while (under_way > 0 && left_ms > 0) { /* bounded by the deadline */
        if (curl_multi_perform(client->multi, &under_way) != CURLM_OK) {
            return;
        }
        http_client_reap_done(client);
        left_ms = deadline_ms - clock_ms();
        if (under_way > 0 && left_ms > 0) {
            int wait_ms = left_ms < POLL_MS_MAX ? (int)left_ms : POLL_MS_MAX;
            curl_multi_poll(client->multi, NULL, 0, wait_ms, NULL);
        }
    }
}

void http_client_set_timeout(struct http_client *client, int64_t timeout_ms) {
    assert(timeout_ms > 0);
    client->timeout_ms = timeout_ms;
}

void http_client_run(struct http_client *client, struct http_client_request *requests, size_t n) {
    int64_t deadline_ms = clock_ms() + client->timeout_ms;
    struct running *running = calloc(n ? n : 1, sizeof *running);
    for (size_t i = 0; i < n; i++) {
        if (!running) {
            requests[i].result = ERR_MEMORY;
            buffer_init(&requests[i].response);
            continue;
        }
        running[i].request = &requests[i];
        http_client_begin(client, &running[i], client->timeout_ms);
    }
    if (!running) {
        return;
    }
    http_client_drive(client, deadline_ms);
    for (size_t i = 0; i < n; i++) {
        if (running[i].easy) {
            http_client_finish(client, &running[i], ERR_TIMEOUT);
        }
    }
    free(running);
}

/* --- asynchronous requests --- */

enum err http_client_start_request(struct http_client *client, struct http_client_request *request,
                                   int64_t timeout_ms, http_client_request_done *done,
                                   void *context) {
    struct running *running = calloc(1, sizeof *running);
    buffer_init(&request->response);
    request->transfer = NULL;
    if (!running) {
        return ERR_MEMORY;
    }
    *running = (struct running){.request = request, .done = done, .context = context};
    http_client_begin(client, running, timeout_ms > 0 ? timeout_ms : 1);
    if (!running->easy) {
        free(running);
        return request->result;
    }
    request->transfer = running;
    return ERR_OK;
}

void http_client_cancel_request(struct http_client *client, struct http_client_request *request) {
    struct running *running = request->transfer;
    if (running) {
        request->transfer = NULL;
        http_client_finish(client, running, ERR_CANCELED);
        free(running);
    }
}

static void http_client_request_completed(struct http_client *client, struct running *running,
                                          CURLcode code) {
    struct http_client_request *request = running->request;
    http_client_request_done *done = running->done;
    void *context = running->context;
    http_client_finish(client, running, http_client_result_of(code, running));
    free(running);
    request->transfer = NULL;
    done(request, context);
}

/* --- streams --- */

struct http_client_stream {
    enum http_transfer transfer;
    struct http_client *client;
    CURL *easy;
    struct curl_slist *headers;
    http_client_stream_data *on_data;
    void *context;
    bool ended;
    long status;
};

static size_t http_client_on_stream_data(char *data, size_t size, size_t count, void *argument) {
    struct http_client_stream *stream = argument;
    long status = 0;
    curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        return size * count;
    }
    return stream->on_data(stream->context, data, size * count) ? size * count : 0;
}

struct http_client_stream *http_client_open_stream(struct http_client *client, const char *url,
                                                   const char *const *headers, long silence_s,
                                                   http_client_stream_data *take, void *context) {
    struct http_client_stream *stream = calloc(1, sizeof *stream);
    struct http_client_request request = {.method = "GET", .url = url, .headers = headers};
    struct running running = {.request = &request};
    if (!stream || http_client_build_headers(&running) != ERR_OK) {
        free(stream);
        return NULL;
    }
    *stream = (struct http_client_stream){.transfer = TRANSFER_STREAM,
                                          .client = client,
                                          .headers = running.headers,
                                          .on_data = take,
                                          .context = context};
    stream->easy = http_client_pool_get(client);
    if (!stream->easy) {
        http_client_close_stream(stream);
        return NULL;
    }
    http_client_set_request(stream->easy, &running);
    http_client_set_limits(stream->easy, client, client->timeout_ms);
    http_client_set_trust(stream->easy, client);
    curl_easy_setopt(stream->easy, CURLOPT_TIMEOUT_MS, 0L);
    curl_easy_setopt(stream->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(stream->easy, CURLOPT_LOW_SPEED_TIME, silence_s);
    curl_easy_setopt(stream->easy, CURLOPT_WRITEFUNCTION, http_client_on_stream_data);
    curl_easy_setopt(stream->easy, CURLOPT_WRITEDATA, stream);
    curl_easy_setopt(stream->easy, CURLOPT_PRIVATE, stream);
    stream->ended = curl_multi_add_handle(client->multi, stream->easy) != CURLM_OK;
    return stream;
}

bool http_client_stream_has_ended(const struct http_client_stream *stream, long *status) {
    *status = stream->status;
    return stream->ended;
}

void http_client_close_stream(struct http_client_stream *stream) {
    if (!stream) {
        return;
    }
    if (stream->easy) { /* the connection of a truncated answer cannot be reused */
        curl_multi_remove_handle(stream->client->multi, stream->easy);
        curl_easy_cleanup(stream->easy);
    }
    curl_slist_free_all(stream->headers);
    free(stream);
}

static void http_client_transfer_completed(struct http_client *client, CURL *easy, CURLcode code) {
    char *private = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    if (*(enum http_transfer *)(void *)private == TRANSFER_REQUEST) {
        http_client_request_completed(client, (struct running *)(void *)private, code);
        return;
    }
    struct http_client_stream *stream = (struct http_client_stream *)(void *)private;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &stream->status);
    stream->ended = true;
}

void http_client_poll(struct http_client *client, int64_t wait_ms) {
    int under_way = 0, queued = 0;
    curl_multi_poll(client->multi, NULL, 0, (int)wait_ms, NULL);
    (void)curl_multi_perform(client->multi, &under_way);
    const CURLMsg *done = curl_multi_info_read(client->multi, &queued);
    while (done) { /* bounded by the number of transfers */
        http_client_transfer_completed(client, done->easy_handle, done->data.result);
        done = curl_multi_info_read(client->multi, &queued);
    }
}

void http_client_wake(struct http_client *client) {
    curl_multi_wakeup(client->multi);
}
