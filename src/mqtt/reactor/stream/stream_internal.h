/* The TLS layer of a stream (stream->tls). Only stream.c and stream_tls.c include this. */
#ifndef MQFLEET_STREAM_STREAM_INTERNAL_H
#define MQFLEET_STREAM_STREAM_INTERNAL_H

#include "mqtt/reactor/stream/stream.h"

/* ERR_OK: done. ERR_TIMEOUT: wait for the descriptor. Otherwise see fault. */
enum err stream_tls_handshake(struct stream *stream, struct stream_fault *fault) MUST_CHECK;
/* > 0: bytes read; 0: nothing for now; -1: see fault. Updates has_more and wants_write. */
ssize_t stream_tls_receive(struct stream *stream, uint8_t *data, size_t size,
                           struct stream_fault *fault);
/* The same without consuming. */
ssize_t stream_tls_peek(struct stream *stream, uint8_t *data, size_t size,
                        struct stream_fault *fault);
/* Bytes accepted; -1: see fault. len 0: sends the bytes that a read had to write. */
ssize_t stream_tls_transmit(struct stream *stream, const uint8_t *data, size_t len,
                            struct stream_fault *fault);
/* Sends close_notify if this does not block; sends nothing before the handshake is done. */
void stream_tls_send_close(struct stream *stream);

#endif
