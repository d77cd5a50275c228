/* The layer TLS of a stream that has one (stream->tls). Only stream.c and stream_tls.c include
 * this. */
#ifndef MQFLEET_STREAM_STREAM_INTERNAL_H
#define MQFLEET_STREAM_STREAM_INTERNAL_H

#include "mqtt/reactor/stream/stream.h"

/* ERR_OK: done. ERR_TIMEOUT: wait for the descriptor. Else see fault. */
enum err stream_tls_handshake(struct stream *stream, struct stream_fault *fault) MUST_CHECK;
/* > 0: so many bytes; 0: nothing for now; -1: see fault. has_more and wants_write are kept. */
ssize_t stream_tls_receive(struct stream *stream, uint8_t *data, size_t size,
                           struct stream_fault *fault);
/* The same without taking them. */
ssize_t stream_tls_peek(struct stream *stream, uint8_t *data, size_t size,
                        struct stream_fault *fault);
/* How many were taken; -1: see fault. len 0: what a read had to write. */
ssize_t stream_tls_transmit(struct stream *stream, const uint8_t *data, size_t len,
                            struct stream_fault *fault);
/* As far as it does not block; nothing before the handshake is done. */
void stream_tls_send_close(struct stream *stream);

#endif
