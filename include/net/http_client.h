/* Requests to other nodes in parallel over libcurl's multi interface, with kept-alive connections.
 * The only module that includes libcurl. One http_client is used by one thread at a time. Ignores
 * proxies of the environment; follows no redirect. */
#ifndef MQFLEET_NET_HTTP_CLIENT_H
#define MQFLEET_NET_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/err.h"

struct http_client;

struct http_client_request {
    const char *method; /* "GET", "POST" ... */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
    const char *body;           /* NULL: none; JSON */
    size_t body_len;
    /* filled in: */
    enum err result; /* ERR_OK: an answer came, whatever its status; ERR_TIMEOUT ERR_UNAVAILABLE */
    bool unsent;     /* nothing of it went out, so that nothing was done there */
    long status;
    struct buffer response; /* caller: buffer_fini after every call */
    void *transfer;         /* the client's, of one that was begun; NULL: it is over */
};

/* Once, before other threads. */
enum err http_client_global_init(void) MUST_CHECK;
/* ca_file: what servers' certificates must be signed by; "" or NULL: the system's authorities.
 * Borrowed. */
struct http_client *http_client_create(int64_t timeout_ms, size_t answer_bytes_max,
                                       const char *ca_file);
void http_client_destroy(struct http_client *client);
/* From the next run on. More than 0. */
void http_client_set_timeout(struct http_client *client, int64_t timeout_ms);
/* Runs all n exchanges at once; returns when each has its result, within timeout_ms. */
void http_client_run(struct http_client *client, struct http_client_request *requests, size_t n);

/* ---- what is followed as it comes: a client that follows runs nothing --------------------------
 *
 * One thread, but for http_client_wake. */

/* The exchange has its result. On the thread that follows. */
typedef void http_client_request_done(struct http_client_request *request, void *context);

/* Begins an exchange, which stays the caller's and where it is until it is done, within timeout_ms.
 * What it points to is not needed after this, but for the body. ERR_MEMORY, ERR_UNAVAILABLE: not
 * begun. */
enum err http_client_start_request(struct http_client *client, struct http_client_request *request,
                                   int64_t timeout_ms, http_client_request_done *done,
                                   void *context) MUST_CHECK;
/* Gives it up: done is not called. One that is over is legal. */
void http_client_cancel_request(struct http_client *client, struct http_client_request *request);

/* ---- answers that go on ---- */

struct http_client_stream;

/* What has come of an answer with status 200. False: give it up. */
typedef bool http_client_stream_data(void *context, const char *data, size_t len);

/* Begins a GET. Given up when connecting takes longer than the client's timeout, or nothing comes
 * for silence_s. NULL: out of memory. */
struct http_client_stream *http_client_open_stream(struct http_client *client, const char *url,
                                                   const char *const *headers, long silence_s,
                                                   http_client_stream_data *take, void *context);
/* It has ended; *status: of the answer, 0 if there was none. */
bool http_client_stream_has_ended(const struct http_client_stream *stream, long *status);
void http_client_close_stream(struct http_client_stream *stream); /* NULL is legal */
/* Moves all on, waiting at most wait_ms for something to come. */
void http_client_poll(struct http_client *client, int64_t wait_ms);
/* Ends that wait. Any thread. */
void http_client_wake(struct http_client *client);

#endif
