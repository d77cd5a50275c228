/* Parallel HTTP requests with libcurl's multi interface and persistent connections. One http_client
 * is used by one thread at a time. Speaks http and https only, ignores proxy variables of the
 * environment and follows no redirects. */
#ifndef MQFLEET_NET_HTTP_CLIENT_H
#define MQFLEET_NET_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/buffer.h"
#include "base/err.h"

#define HTTP_CLIENT_FAULT_LEN 256

struct http_client;

/* Checks an address before it is connected to. False: denied; *why is a static text. */
typedef bool http_client_address_allowed(const void *context, const struct sockaddr *address,
                                         const char **why);

/* Texts are borrowed for the client's life; NULL or "": none. */
struct http_client_options {
    int64_t timeout_ms; /* more than 0 */
    size_t response_bytes_max;
    bool cuts_responses; /* a longer response is cut off; otherwise it is an error */
    bool http2;          /* offered to https servers */
    bool unverified;     /* accepts any certificate */
    const char *ca;      /* CA certificates for the servers, path or PEM; none: the system's */
    const char *cert;    /* of the client, path or PEM */
    const char *key;     /* of that certificate */
    http_client_address_allowed *address_allowed; /* NULL: all are */
    const void *address_context;
};

struct http_client_request {
    const char *method; /* "GET", "POST" ... */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
    const char *body;           /* NULL: none */
    size_t body_len;
    const char *content_type; /* of the body; NULL: JSON */
    /* results: */
    enum err result; /* ERR_OK: a response with any status; ERR_TIMEOUT ERR_UNAVAILABLE */
    bool unsent;     /* nothing was sent, so the other node did nothing */
    long status;
    int64_t retry_after_s;             /* that the server asks to wait; 0: none */
    struct buffer response;            /* the caller calls buffer_fini after every call */
    char fault[HTTP_CLIENT_FAULT_LEN]; /* why there was no answer, one line */
    void *transfer;                    /* private, of a request under way; NULL: it is over */
};

/* Once, before other threads. */
enum err http_client_global_init(void) MUST_CHECK;
/* NULL: out of memory. */
struct http_client *http_client_create(const struct http_client_options *options);
void http_client_destroy(struct http_client *client);
/* Applies from the next run. More than 0. */
void http_client_set_timeout(struct http_client *client, int64_t timeout_ms);
/* Runs all n requests in parallel. Returns within timeout_ms, when each exchange has its result. */
void http_client_run(struct http_client *client, struct http_client_request *requests, size_t n);

/* ---- asynchronous use: such a client does not call http_client_run ----------------------------
 *
 * One thread, except http_client_wake.
 */

/* Called on the client's thread when the request has its result. */
typedef void http_client_request_done(struct http_client_request *request, void *context);

/* Starts an request, which must stay valid in place until it is done, within timeout_ms. Of the
 * memory that it points to, only the body must stay valid. ERR_MEMORY, ERR_UNAVAILABLE: not
 * started. */
enum err http_client_start_request(struct http_client *client, struct http_client_request *request,
                                   int64_t timeout_ms, http_client_request_done *done,
                                   void *context) MUST_CHECK;
/* Cancels it: done is not called. An request that is over is legal. */
void http_client_cancel_request(struct http_client *client, struct http_client_request *request);

/* ---- streamed answers ---- */

struct http_client_stream;

/* Receives data of an answer with status 200. False: close the stream. */
typedef bool http_client_stream_data(void *context, const char *data, size_t len);

/* Starts a GET. It ends when connecting takes longer than the client's timeout, or nothing arrives
 * for silence_s. NULL: out of memory. */
struct http_client_stream *http_client_open_stream(struct http_client *client, const char *url,
                                                   const char *const *headers, long silence_s,
                                                   http_client_stream_data *take, void *context);
/* The stream has ended; *status: of the answer, 0 if there was none. */
bool http_client_stream_has_ended(const struct http_client_stream *stream, long *status);
void http_client_close_stream(struct http_client_stream *stream); /* NULL is legal */
/* Processes all transfers; waits at most wait_ms for data. */
void http_client_poll(struct http_client *client, int64_t wait_ms);
/* Ends that wait. Any thread. */
void http_client_wake(struct http_client *client);

#endif
