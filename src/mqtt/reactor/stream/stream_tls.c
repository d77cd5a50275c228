/* Owns the bytes of a stream over TLS: handshake, read, write, close. Worker thread. tls/ decides
 * which certificates are trusted. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "mqtt/reactor/tls/tls.h"
#include "base/telemetry/metrics.h"
#include "stream_internal.h"

static enum tls_phase stream_tls_phase_of(const struct stream *stream) {
    enum tls_phase ready = stream->established ? TLS_ESTABLISHED : TLS_READY;
    return stream->step == STREAM_TLS ? TLS_HANDSHAKING : ready;
}

/* Why an SSL call did not continue. 0: it waits; -1: it failed for good. */
static ssize_t stream_tls_check_result(struct stream *stream, int result, bool writing,
                                       struct stream_fault *fault) {
    int number = errno;
    int error = SSL_get_error(stream->tls, result);
    if (error == SSL_ERROR_WANT_READ) {
        stream->write_needs_read |= writing;
        stream->wants_write = writing ? false : stream->wants_write;
        return 0;
    }
    if (error == SSL_ERROR_WANT_WRITE) {
        stream->wants_write = true;
        return 0;
    }
    tls_explain(stream->tls, error, number, stream_tls_phase_of(stream), fault);
    SSL_set_quiet_shutdown(stream->tls, 1); /* there is no peer for close_notify */
    return -1;
}

/* Idle connections hold no buffer. OpenSSL's own mode keeps the read buffer until a read returns
 * nothing. */
static void stream_tls_release_buffers(struct stream *stream) {
    if (!SSL_has_pending(stream->tls)) {
        SSL_free_buffers(stream->tls);
    }
}

/* Reads until nothing is available or `size` is full. Buffered records are read without a system
 * call, so a short read with nothing buffered means the end. */
static ssize_t stream_tls_read(struct stream *stream, uint8_t *data, size_t size,
                               struct stream_fault *fault) {
    size_t total = 0;
    stream->has_more = false;
    do {
        size_t n = 0;
        ERR_clear_error();
        int result = SSL_read_ex(stream->tls, data + total, size - total, &n);
        if (result != 1) {
            ssize_t verdict = stream_tls_check_result(stream, result, false, fault);
            stream->has_more = verdict < 0 && total > 0; /* then the next read fails */
            return total > 0 ? (ssize_t)total : verdict;
        }
        total += n;
    } while (total < size && SSL_has_pending(stream->tls));
    stream->has_more = total == size;
    stream_tls_release_buffers(stream);
    return (ssize_t)total;
}

ssize_t stream_tls_receive(struct stream *stream, uint8_t *data, size_t size,
                           struct stream_fault *fault) {
    ssize_t n = stream_tls_read(stream, data, size, fault);
    if (n >= 0 && stream->write_needs_read && !SSL_in_init(stream->tls)) {
        stream->write_needs_read = false;
        stream->wants_write = true;
    }
    return n;
}

ssize_t stream_tls_peek(struct stream *stream, uint8_t *data, size_t size,
                        struct stream_fault *fault) {
    size_t n = 0;
    ERR_clear_error();
    int result = SSL_peek_ex(stream->tls, data, size, &n);
    return result == 1 ? (ssize_t)n : stream_tls_check_result(stream, result, false, fault);
}

/* A broker that refuses the client's certificate says so after the handshake and closes. That
 * reason is more useful than the failed write. */
static ssize_t stream_tls_write_failed(struct stream *stream, struct stream_fault *fault) {
    uint8_t byte;
    size_t n;
    struct stream_fault said;
    ERR_clear_error();
    int result = SSL_peek_ex(stream->tls, &byte, 1, &n);
    if (result != 1 && SSL_get_error(stream->tls, result) == SSL_ERROR_SSL) {
        tls_explain(stream->tls, SSL_ERROR_SSL, 0, stream_tls_phase_of(stream), &said);
        *fault = said;
    }
    ERR_clear_error();
    return -1;
}

ssize_t stream_tls_transmit(struct stream *stream, const uint8_t *data, size_t len,
                            struct stream_fault *fault) {
    size_t total = 0, n = 0;
    stream->wants_write = false;
    stream->write_needs_read = false;
    ERR_clear_error();
    if (len == 0) { /* the bytes that a read had to write */
        int result = SSL_in_init(stream->tls) ? SSL_do_handshake(stream->tls) : 1;
        return result == 1 ? 0 : stream_tls_check_result(stream, result, false, fault);
    }
    while (total < len) {
        int result = SSL_write_ex(stream->tls, data + total, len - total, &n);
        if (result != 1) {
            ssize_t verdict = stream_tls_check_result(stream, result, true, fault);
            return verdict < 0 ? stream_tls_write_failed(stream, fault) : (ssize_t)total;
        }
        total += n;
    }
    return (ssize_t)total;
}

enum err stream_tls_handshake(struct stream *stream, struct stream_fault *fault) {
    ERR_clear_error();
    stream->wants_write = false;
    int result = SSL_do_handshake(stream->tls);
    if (result == 1) {
        stream->has_more = SSL_has_pending(stream->tls) == 1;
        metric_add(SSL_session_reused(stream->tls) ? METRIC_TLS_RESUMED : METRIC_TLS_FULL, 1);
        return ERR_OK;
    }
    return stream_tls_check_result(stream, result, false, fault) == 0 ? ERR_TIMEOUT : ERR_IO;
}

void stream_tls_send_close(struct stream *stream) {
    if (SSL_is_init_finished(stream->tls)) {
        int done = SSL_shutdown(stream->tls);
        (void)done; /* success or failure does not matter */
        ERR_clear_error();
    }
}
