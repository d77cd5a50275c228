/* Non-blocking bytes to and from a broker over any combination of TCP, TLS and WebSocket. A stream
 * is embedded in its connection; plain TCP costs a descriptor and three pointers. Runs on the
 * worker thread. The owner waits for reading, and for writing while wants_write is set
 * (level-triggered: unread bytes in the socket make it readable again). The process must ignore
 * SIGPIPE, because OpenSSL uses write(2).
 *
 *   stream_open --> [connect] --> [TLS handshake] --> [WebSocket handshake] --> ready
 *                   stream_advance, each time the descriptor is ready           stream_read,
 *                                                                               stream_write */
#ifndef MQFLEET_STREAM_STREAM_H
#define MQFLEET_STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"

struct ssl_st;
struct tls_contexts;     /* mqtt/reactor/tls/tls.h */
struct stream_websocket; /* frame codec (mqtt/reactor/stream/websocket.h) and its unsent bytes */

/* Why a stream failed or ended. */
struct stream_fault {
    enum client_error error;
    char message[256];
};

/* A zeroed stream is closed. */
enum stream_step { STREAM_CLOSED, STREAM_CONNECTING, STREAM_TLS, STREAM_WEBSOCKET, STREAM_READY };

struct stream {
    int fd; /* -1: none */
    uint8_t step;
    bool wants_write : 1; /* wait for EPOLLOUT as well: bytes are unsent, or TLS needs it */
    bool has_more : 1;    /* more can be read now, although the descriptor may not become ready */
    bool write_needs_read : 1; /* internal: a write continues after the next read (TLS) */
    bool established : 1; /* set by the owner: from now on, an end of TLS is an ordinary loss */
    struct ssl_st *tls;
    struct stream_websocket *websocket;
};

/* Starts to connect to `address`. source: the local address to bind to; NULL: the system chooses.
 * Sets TCP_NODELAY. With TLS, the certificate must be valid and match tls.server_name (by default
 * config->host), unless tls.insecure is set. `config` is borrowed until stream_close. ERR_IO,
 * ERR_UNAVAILABLE (descriptors, local ports), ERR_MEMORY, ERR_ARGUMENT (unusable TLS material): see
 * fault; nothing is left open. */
enum err stream_open(struct stream *stream, struct tls_contexts *contexts,
                     const struct client_config *config, const struct sockaddr *address,
                     socklen_t address_len, const struct sockaddr_storage *source,
                     struct stream_fault *fault) MUST_CHECK;
/* The same in several steps, for callers that choose between several sockets. A prepared stream has
 * its layers but no socket. It is closed like any other. */
enum err stream_prepare(struct stream *stream, struct tls_contexts *contexts,
                        const struct client_config *config, struct stream_fault *fault) MUST_CHECK;
/* Creates a socket of the stream's kind and starts to connect it. */
enum err stream_connect(int *fd, const struct sockaddr *address, socklen_t address_len,
                        const struct sockaddr_storage *source,
                        struct stream_fault *fault) MUST_CHECK;
/* ERR_OK: connected. ERR_TIMEOUT: not yet. Otherwise see fault; the caller closes. */
enum err stream_connected(int fd, struct stream_fault *fault) MUST_CHECK;
/* Gives a prepared stream its socket. */
void stream_set_fd(struct stream *stream, int fd);
/* Continues the step in progress. ERR_OK: ready (check has_more). ERR_TIMEOUT: wait for reading,
 * and for writing if wants_write is set. Otherwise it failed: see fault. */
enum err stream_advance(struct stream *stream, const struct client_config *config,
                        struct stream_fault *fault) MUST_CHECK;
/* Reads at most `size` bytes (at least 1024). > 0: bytes of MQTT. 0: nothing for now (check
 * has_more). -1: ended or failed, see fault (an orderly end is CLIENT_ERROR_CONNECTION_LOST). */
ssize_t stream_read(struct stream *stream, uint8_t *data, size_t size, struct stream_fault *fault);
/* Accepts up to len bytes and returns how many. Accepted bytes must not be passed again. Less than
 * len: wants_write is set, and the next write must start with the first byte that was not accepted.
 * -1: failed (if the stream is readable too, read first: the read reports the more precise reason).
 * len 0 sends the bytes that the layers below still hold. */
ssize_t stream_write(struct stream *stream, const uint8_t *data, size_t len,
                     struct stream_fault *fault);
/* Bytes of memory that hold accepted data that is not sent yet. */
size_t stream_buffered_bytes(const struct stream *stream);
/* When the peer certificate expires, in seconds since 1970; 0: no TLS. */
int64_t stream_certificate_expires_at_s(const struct stream *stream);
/* Closes at once. TLS and WebSocket close messages are sent only if this does not block. reset: the
 * peer sees a reset, as if the process had died. Closing a closed stream is legal. */
void stream_close(struct stream *stream, bool reset);

#endif
