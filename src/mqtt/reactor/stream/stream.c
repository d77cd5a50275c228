/* Owns the descriptor of a connection and the layers over it: TCP, TLS (stream_tls.c), WebSocket.
 * Worker thread.
 *
 *   stream_read  <-- unwrap frames (in place) <-- receive: recv() or stream_tls_receive()
 *   stream_write --> wrap frames (websocket->out) --> transmit: send() or stream_tls_transmit() */
#include "mqtt/reactor/stream/stream.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "stream_fault.h"
#include "mqtt/reactor/tls/tls.h"
#include "mqtt/reactor/stream/websocket.h"
#include "stream_internal.h"

/* The kernel's keepalive: ends half-open connections without an MQTT keepalive (keepalive_s 0). */
#define TCP_IDLE_S     60
#define TCP_INTERVAL_S 20
#define TCP_PROBES     3
#define TCP_TAKEN_MS                                                                               \
    120000 /* the same for unacknowledged bytes, while the kernel does not probe                   \
            */

#define STREAM_READ_MIN    1024
#define ANSWER_CHUNK       1024
#define STREAM_FRAME_LEN   65536 /* bytes of MQTT wrapped at a time */
#define STREAM_DISCARD_MAX 16    /* times 1 MiB of unread data, at the close */

#define STREAM_CLOSE_STATUS_NORMAL 1000 /* RFC 6455 section 7.4.1 */

struct stream_websocket {
    struct websocket *frames;
    struct buffer out; /* to be sent, from out_sent on */
    size_t out_sent;
};

static bool stream_has_tls(const struct client_config *config) {
    return config->scheme == SCHEME_MQTTS || config->scheme == SCHEME_WSS;
}

static bool stream_has_websocket(const struct client_config *config) {
    return config->scheme == SCHEME_WS || config->scheme == SCHEME_WSS;
}

static enum err stream_memory_fault(struct stream_fault *fault) {
    stream_fault_format(fault, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for a connection");
    return ERR_MEMORY;
}

/* ---- TCP ---- */

static void stream_set_option(int fd, int level, int name, int value) {
    int failed = setsockopt(fd, level, name, &value, sizeof(value));
    (void)failed; /* optional: works without */
}

static void stream_set_options(int fd) {
    stream_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    stream_set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    stream_set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, TCP_IDLE_S);
    stream_set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, TCP_INTERVAL_S);
    stream_set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, TCP_PROBES);
    stream_set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, TCP_TAKEN_MS);
}

static enum err stream_socket_fault(int number, struct stream_fault *fault) {
    if (number == EMFILE || number == ENFILE) {
        stream_fault_set(fault, CLIENT_ERROR_OUT_OF_DESCRIPTORS);
        return ERR_UNAVAILABLE;
    }
    if (number == ENOMEM || number == ENOBUFS) {
        return stream_memory_fault(fault);
    }
    stream_fault_format(fault, CLIENT_ERROR_NETWORK_UNREACHABLE, "no socket: %s",
                        strerrordesc_np(number));
    return ERR_IO;
}

static enum err stream_connect_fault(int number, struct stream_fault *fault) {
    if (number == EADDRNOTAVAIL) {
        stream_fault_set(fault, CLIENT_ERROR_OUT_OF_PORTS);
        return ERR_UNAVAILABLE;
    }
    stream_fault_format(fault,
                        number == ETIMEDOUT      ? CLIENT_ERROR_TCP_TIMEOUT
                        : number == ECONNREFUSED ? CLIENT_ERROR_CONNECTION_REFUSED
                                                 : CLIENT_ERROR_NETWORK_UNREACHABLE,
                        "%s", strerrordesc_np(number));
    return ERR_IO;
}

static enum err stream_bind(int fd, const struct sockaddr_storage *source,
                            struct stream_fault *fault) {
    socklen_t len =
        source->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    /* Chooses the port at connect(2), when the other end is known: several brokers can then use the
     * same port. */
    stream_set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    if (bind(fd, (const struct sockaddr *)source, len) != 0) {
        stream_fault_format(fault, CLIENT_ERROR_SOURCE_ADDRESS_UNUSABLE, "%s: %s",
                            client_error_text(CLIENT_ERROR_SOURCE_ADDRESS_UNUSABLE),
                            strerrordesc_np(errno));
        return ERR_IO;
    }
    return ERR_OK;
}

static enum err stream_open_layers(struct stream *stream, struct tls_contexts *contexts,
                                   const struct client_config *config, struct stream_fault *fault) {
    if (stream_has_websocket(config)) {
        stream->websocket = calloc(1, sizeof *stream->websocket);
        if (!stream->websocket) {
            return stream_memory_fault(fault);
        }
        stream->websocket->frames = websocket_create();
        if (!stream->websocket->frames) {
            return stream_memory_fault(fault);
        }
    }
    return stream_has_tls(config) ? tls_open(contexts, config, stream->fd, &stream->tls, fault)
                                  : ERR_OK;
}

enum err stream_prepare(struct stream *stream, struct tls_contexts *contexts,
                        const struct client_config *config, struct stream_fault *fault) {
    *stream = (struct stream){.fd = -1, .step = STREAM_CONNECTING, .wants_write = true};
    enum err err = stream_open_layers(stream, contexts, config, fault);
    if (err != ERR_OK) {
        stream_close(stream, true);
    }
    return err;
}

enum err stream_connect(int *fd, const struct sockaddr *address, socklen_t address_len,
                        const struct sockaddr_storage *source, struct stream_fault *fault) {
    *fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0) {
        return stream_socket_fault(errno, fault);
    }
    stream_set_options(*fd);
    enum err err = source ? stream_bind(*fd, source, fault) : ERR_OK;
    if (err == ERR_OK && connect(*fd, address, address_len) != 0 && errno != EINPROGRESS) {
        err = stream_connect_fault(errno, fault);
    }
    if (err != ERR_OK) {
        close(*fd);
        *fd = -1;
    }
    return err;
}

void stream_set_fd(struct stream *stream, int fd) {
    assert(stream->step == STREAM_CONNECTING && stream->fd < 0);
    stream->fd = fd;
    if (stream->tls) {
        tls_set_fd(stream->tls, fd);
    }
}

enum err stream_open(struct stream *stream, struct tls_contexts *contexts,
                     const struct client_config *config, const struct sockaddr *address,
                     socklen_t address_len, const struct sockaddr_storage *source,
                     struct stream_fault *fault) {
    int fd = -1;
    enum err err = stream_prepare(stream, contexts, config, fault);
    if (err != ERR_OK) {
        return err;
    }
    err = stream_connect(&fd, address, address_len, source, fault);
    if (err == ERR_OK) {
        stream_set_fd(stream, fd);
    } else {
        stream_close(stream, true);
    }
    return err;
}

/* ---- bytes below WebSocket ---- */

static ssize_t stream_lost(struct stream_fault *fault, int number) {
    stream_fault_format(fault, CLIENT_ERROR_CONNECTION_LOST, "%s",
                        number == 0 ? "the broker closed the connection" : strerrordesc_np(number));
    return -1;
}

static bool stream_is_temporary(int number) {
    return number == EAGAIN || number == EWOULDBLOCK || number == EINTR;
}

static ssize_t stream_tcp_receive(struct stream *stream, uint8_t *data, size_t size, int flags,
                                  struct stream_fault *fault) {
    ssize_t n = recv(stream->fd, data, size, flags);
    if (n > 0) {
        stream->has_more = (size_t)n == size;
        return n;
    }
    stream->has_more = false;
    if (n < 0 && stream_is_temporary(errno)) {
        return 0;
    }
    return stream_lost(fault, n == 0 ? 0 : errno);
}

static ssize_t stream_tcp_transmit(struct stream *stream, const uint8_t *data, size_t len,
                                   struct stream_fault *fault) {
    ssize_t n = len > 0 ? send(stream->fd, data, len, MSG_NOSIGNAL) : 0;
    if (n < 0 && !stream_is_temporary(errno)) {
        return stream_lost(fault, errno);
    }
    n = n < 0 ? 0 : n;
    stream->wants_write = (size_t)n < len;
    return n;
}

static ssize_t stream_receive(struct stream *stream, uint8_t *data, size_t size,
                              struct stream_fault *fault) {
    return stream->tls ? stream_tls_receive(stream, data, size, fault)
                       : stream_tcp_receive(stream, data, size, 0, fault);
}

static ssize_t stream_transmit(struct stream *stream, const uint8_t *data, size_t len,
                               struct stream_fault *fault) {
    return stream->tls ? stream_tls_transmit(stream, data, len, fault)
                       : stream_tcp_transmit(stream, data, len, fault);
}

/* Reads without consuming. */
static ssize_t stream_peek(struct stream *stream, uint8_t *data, size_t size,
                           struct stream_fault *fault) {
    return stream->tls ? stream_tls_peek(stream, data, size, fault)
                       : stream_tcp_receive(stream, data, size, MSG_PEEK, fault);
}

/* ---- WebSocket ---- */

/* Sends wrapped frames and frees an empty buffer. -1: failed. */
static int stream_flush(struct stream *stream, struct stream_fault *fault) {
    struct stream_websocket *websocket = stream->websocket;
    struct buffer *out = &websocket->out;
    if (out->failed) {
        stream_memory_fault(fault);
        return -1;
    }
    size_t left = out->len - websocket->out_sent;
    const uint8_t *data = left > 0 ? (const uint8_t *)out->data + websocket->out_sent : NULL;
    ssize_t n = stream_transmit(stream, data, left, fault);
    if (n < 0) {
        return -1;
    }
    websocket->out_sent += (size_t)n;
    if (websocket->out_sent == out->len) {
        buffer_fini(out);
        websocket->out_sent = 0;
    }
    return 0;
}

static ssize_t stream_websocket_receive(struct stream *stream, uint8_t *data, size_t size,
                                        struct stream_fault *fault) {
    struct stream_websocket *websocket = stream->websocket;
    char message[sizeof(fault->message)];
    size_t len = 0;
    enum err err = websocket_unwrap(websocket->frames, data, &len, &websocket->out, message);
    if (err == ERR_OK) { /* otherwise an earlier read already returned the end */
        ssize_t n = stream_receive(stream, data, size, fault);
        if (n <= 0) {
            return n;
        }
        len = (size_t)n;
        err = websocket_unwrap(websocket->frames, data, &len, &websocket->out, message);
    }
    bool wanted_write = stream->wants_write; /* because a write was not completely accepted */
    if (websocket->out.len > 0 && stream_flush(stream, fault) < 0 && len == 0) {
        return -1;
    }
    stream->wants_write |= wanted_write;
    if (err == ERR_OK || len > 0) {
        stream->has_more |= err != ERR_OK;
        return (ssize_t)len;
    }
    stream_fault_format(
        fault, err == ERR_CANCELED ? CLIENT_ERROR_CONNECTION_LOST : CLIENT_ERROR_WEBSOCKET_FRAMES,
        "%s", message);
    return -1;
}

static ssize_t stream_websocket_transmit(struct stream *stream, const uint8_t *data, size_t len,
                                         struct stream_fault *fault) {
    struct stream_websocket *websocket = stream->websocket;
    size_t taken = 0;
    if (stream_flush(stream, fault) < 0) {
        return -1;
    }
    while (taken < len && websocket->out.len == 0) {
        size_t n = len - taken < STREAM_FRAME_LEN ? len - taken : STREAM_FRAME_LEN;
        websocket_wrap(websocket->frames, data + taken, n, &websocket->out);
        if (stream_flush(stream, fault) < 0) {
            return -1;
        }
        taken += n;
    }
    return (ssize_t)taken;
}

/* ---- steps to readiness ---- */

enum err stream_connected(int fd, struct stream_fault *fault) {
    int number = 0;
    socklen_t len = sizeof(number);
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0) {
        return ERR_OK;
    }
    if (poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 0) == 0) {
        return ERR_TIMEOUT; /* nothing has happened yet */
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &len) != 0) {
        number = errno;
    }
    return stream_connect_fault(number != 0 ? number : ECONNREFUSED, fault);
}

/* A broker that just closes has most likely no WebSocket on this port. */
static enum err stream_upgrade_fault(struct stream_fault *fault) {
    if (fault->error == CLIENT_ERROR_CONNECTION_LOST) {
        stream_fault_set(fault, CLIENT_ERROR_WEBSOCKET_CLOSED);
    }
    return ERR_IO;
}

/* Reads the answer and none of the frames behind it. */
static enum err stream_read_answer(struct stream *stream, struct stream_fault *fault) {
    uint8_t data[ANSWER_CHUNK];
    struct websocket_fault refusal;
    enum err err = ERR_TIMEOUT;
    while (err == ERR_TIMEOUT) {
        size_t used = 0;
        ssize_t n = stream_peek(stream, data, sizeof(data), fault);
        if (n <= 0) {
            return n < 0 ? stream_upgrade_fault(fault) : ERR_TIMEOUT;
        }
        err = websocket_read_answer(stream->websocket->frames, data, (size_t)n, &used, &refusal);
        if (used > 0 && stream_receive(stream, data, used, fault) != (ssize_t)used) {
            return stream_upgrade_fault(fault);
        }
    }
    if (err != ERR_OK) {
        stream_fault_format(fault, refusal.error, "%s", refusal.message);
        return err;
    }
    stream->has_more = true; /* possibly */
    return ERR_OK;
}

static enum err stream_upgrade(struct stream *stream, struct stream_fault *fault) {
    if (stream_flush(stream, fault) < 0) {
        return stream_upgrade_fault(fault);
    }
    return stream_read_answer(stream, fault);
}

static enum err stream_begin_upgrade(struct stream *stream, const struct client_config *config,
                                     struct stream_fault *fault) {
    websocket_write_request(stream->websocket->frames, config, &stream->websocket->out);
    return stream->websocket->out.failed ? stream_memory_fault(fault) : ERR_OK;
}

static enum err stream_begin_step(struct stream *stream, const struct client_config *config,
                                  struct stream_fault *fault) {
    stream->wants_write = false;
    if (stream->step == STREAM_CONNECTING && stream->tls) {
        stream->step = STREAM_TLS;
    } else if (stream->step <= STREAM_TLS && stream->websocket) {
        stream->step = STREAM_WEBSOCKET;
        return stream_begin_upgrade(stream, config, fault);
    } else {
        stream->step = STREAM_READY;
    }
    return ERR_OK;
}

enum err stream_advance(struct stream *stream, const struct client_config *config,
                        struct stream_fault *fault) {
    assert(stream->step != STREAM_CLOSED);
    enum err err = ERR_OK;
    while (err == ERR_OK && stream->step != STREAM_READY) {
        switch (stream->step) {
        case STREAM_CONNECTING:
            err = stream_connected(stream->fd, fault);
            break;
        case STREAM_TLS:
            err = stream_tls_handshake(stream, fault);
            break;
        default:
            err = stream_upgrade(stream, fault);
            break;
        }
        if (err == ERR_OK) {
            err = stream_begin_step(stream, config, fault);
        }
    }
    return err;
}

ssize_t stream_read(struct stream *stream, uint8_t *data, size_t size, struct stream_fault *fault) {
    assert(stream->step == STREAM_READY && size >= STREAM_READ_MIN);
    return stream->websocket ? stream_websocket_receive(stream, data, size, fault)
                             : stream_receive(stream, data, size, fault);
}

ssize_t stream_write(struct stream *stream, const uint8_t *data, size_t len,
                     struct stream_fault *fault) {
    assert(stream->step == STREAM_READY);
    return stream->websocket ? stream_websocket_transmit(stream, data, len, fault)
                             : stream_transmit(stream, data, len, fault);
}

size_t stream_buffered_bytes(const struct stream *stream) {
    return stream->websocket ? stream->websocket->out.capacity : 0;
}

int64_t stream_certificate_expires_at_s(const struct stream *stream) {
    return stream->tls ? tls_certificate_expires_at_s(stream->tls) : 0;
}

/* ---- end ---- */

static void stream_send_close(struct stream *stream) {
    struct stream_fault ignored;
    struct stream_websocket *websocket = stream->websocket;
    if (websocket && stream->step == STREAM_READY) {
        websocket_write_close(websocket->frames, STREAM_CLOSE_STATUS_NORMAL, &websocket->out);
        if (websocket->out.len > 0 && stream_flush(stream, &ignored) < 0) {
            return;
        }
    }
    if (stream->tls) {
        stream_tls_send_close(stream);
    }
}

/* A close with unread bytes sends a reset, on which the broker may discard our DISCONNECT. */
static void stream_discard_unread(int fd) {
    for (int i = 0; i < STREAM_DISCARD_MAX; i++) {
        if (recv(fd, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT) <= 0) {
            return;
        }
    }
}

static void stream_websocket_free(struct stream_websocket *websocket) {
    if (!websocket) {
        return;
    }
    websocket_destroy(websocket->frames);
    buffer_fini(&websocket->out);
    free(websocket);
}

void stream_close(struct stream *stream, bool reset) {
    if (stream->step == STREAM_CLOSED) {
        return;
    }
    if (stream->fd < 0) {
        /* only prepared */
    } else if (reset) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        int failed = setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        (void)failed; /* then it is an orderly end */
    } else {
        stream_send_close(stream);
        stream_discard_unread(stream->fd);
    }
    tls_close(stream->tls);
    stream_websocket_free(stream->websocket);
    if (stream->fd >= 0) {
        close(stream->fd);
    }
    *stream = (struct stream){.fd = -1, .step = STREAM_CLOSED};
}
