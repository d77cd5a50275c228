/* Bytes to and from a broker over TCP, TLS and WebSocket in any combination, never blocking. A
 * stream is embedded in its connection and costs a descriptor and three pointers while it is plain
 * TCP. One thread: its host's. Knows neither MQTT packets nor epoll: its owner waits for reading,
 * and for writing while wants_write (level-triggered: what was left in the socket announces itself
 * again). SIGPIPE must be ignored by the process: OpenSSL writes with write(2).
 *
 *   stream_open --> [connect] --> [TLS handshake] --> [WebSocket handshake] --> ready
 *                   stream_advance, each time the descriptor is ready           stream_read,
 *                                                                               stream_write
 */
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
struct tls_contexts;     /* mqtt/reactor/tls.h */
struct stream_websocket; /* its frames (mqtt/reactor/websocket.h) and what is unsent of them */

/* Why a stream failed or ended. */
struct stream_fault {
    enum client_error error;
    char message[256];
};

/* A stream of zeros is a closed one. */
enum stream_step { STREAM_CLOSED, STREAM_CONNECTING, STREAM_TLS, STREAM_WEBSOCKET, STREAM_READY };

struct stream {
    int fd; /* -1: none */
    uint8_t step;
    bool wants_write : 1;      /* wait for EPOLLOUT as well: something is unsent, or TLS needs it */
    bool has_more : 1;         /* more may be read at once, without the descriptor becoming ready */
    bool write_needs_read : 1; /* internal: a write goes on after the next read (TLS) */
    bool established : 1;      /* set by the owner: whatever ends TLS from now on is a plain loss */
    struct ssl_st *tls;
    struct stream_websocket *websocket;
};

/* Begins to connect to `address`; source: local address to bind to, NULL: the system's choice.
 * TCP_NODELAY is set. With TLS the certificate must be valid and name tls.server_name, else
 * config->host, unless tls.insecure. `config` is borrowed until stream_close. ERR_IO,
 * ERR_UNAVAILABLE (descriptors, local ports), ERR_MEMORY, ERR_ARGUMENT (TLS material that cannot be
 * used): see fault; nothing is left open. */
enum err stream_open(struct stream *stream, struct tls_contexts *contexts,
                     const struct client_config *config, const struct sockaddr *address,
                     socklen_t address_len, const struct sockaddr_storage *source,
                     struct stream_fault *fault) MUST_CHECK;
/* The same in parts, for whoever chooses between several sockets. Prepared: the layers are there,
 * the socket is not; closed like any other. */
enum err stream_prepare(struct stream *stream, struct tls_contexts *contexts,
                        const struct client_config *config, struct stream_fault *fault) MUST_CHECK;
/* A socket that begins to connect, of the stream's kind. */
enum err stream_connect(int *fd, const struct sockaddr *address, socklen_t address_len,
                        const struct sockaddr_storage *source,
                        struct stream_fault *fault) MUST_CHECK;
/* ERR_OK: it is connected. ERR_TIMEOUT: not yet. Else see fault; the caller closes. */
enum err stream_connected(int fd, struct stream_fault *fault) MUST_CHECK;
/* The socket becomes that of a prepared stream. */
void stream_set_fd(struct stream *stream, int fd);
/* Goes on with what is under way. ERR_OK: ready (look at has_more). ERR_TIMEOUT: wait (for reading,
 * and for writing if wants_write). Else failed: see fault. */
enum err stream_advance(struct stream *stream, const struct client_config *config,
                        struct stream_fault *fault) MUST_CHECK;
/* Reads what is there, `size` bytes at most (at least 1024). > 0: bytes of MQTT; 0: nothing for now
 * (look at has_more); -1: ended or failed, see fault (an orderly end is
 * CLIENT_ERROR_CONNECTION_LOST).
 */
ssize_t stream_read(struct stream *stream, uint8_t *data, size_t size, struct stream_fault *fault);
/* Takes up to len bytes; what was taken is not to be offered again. Less than len: wants_write is
 * set, and the next write must begin with what was not taken. -1: failed (when reading is due as
 * well, read first: it knows the better reason). len 0 sends what the layers below still hold. */
ssize_t stream_write(struct stream *stream, const uint8_t *data, size_t len,
                     struct stream_fault *fault);
/* Bytes of memory that hold what is taken and not sent yet. */
size_t stream_buffered_bytes(const struct stream *stream);
/* The end of the peer certificate's validity, seconds since 1970; 0: no TLS. */
int64_t stream_certificate_expires_at_s(const struct stream *stream);
/* At once: sends TLS and WebSocket farewells only as far as that does not block. reset: let the
 * peer see a reset (as if the process had died). Closing a closed stream is legal. */
void stream_close(struct stream *stream, bool reset);

#endif
