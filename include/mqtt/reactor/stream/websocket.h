/* The client side of the WebSocket protocol (RFC 6455) as a carrier of MQTT (sub-protocol "mqtt",
 * binary frames; MQTT 5.0 section 6): handshake and frames, bytes to bytes. Pure except for random
 * masks; one thread. A packet may span frames, and a frame may hold several packets. */
#ifndef MQFLEET_STREAM_WEBSOCKET_H
#define MQFLEET_STREAM_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"

#define WEBSOCKET_ANSWER_MAX 8192 /* bytes of the server's answer to the handshake */

struct websocket;

struct websocket_fault { /* why the handshake failed */
    enum client_error error;
    char message[256];
};

/* NULL: out of memory. */
struct websocket *websocket_create(void);
void websocket_destroy(struct websocket *websocket);

/* Appends the request for config->path at config->host:port. */
void websocket_write_request(struct websocket *websocket, const struct client_config *config,
                             struct buffer *out);
/* Reads the server's answer from `data`; *used bytes belong to it. ERR_OK: accepted, frames follow.
 * ERR_TIMEOUT: incomplete, all bytes are used. ERR_REFUSED: another status or an invalid answer;
 * see fault. */
enum err websocket_read_answer(struct websocket *websocket, const uint8_t *data, size_t len,
                               size_t *used, struct websocket_fault *fault) MUST_CHECK;
/* Unwraps frames in place: moves the payload of binary frames to the front of `data` and sets *len
 * to its length. Appends pongs, and the answer to a close, to `out`. ERR_CANCELED: the server
 * closed after the returned data. ERR_PROTOCOL: `message` (256 bytes) says why; the returned data
 * came before the fault, and a close frame is appended. Every later call returns the same error and
 * reads nothing. */
enum err websocket_unwrap(struct websocket *websocket, uint8_t *data, size_t *len,
                          struct buffer *out, char *message) MUST_CHECK;
/* Appends one masked binary frame. */
void websocket_wrap(struct websocket *websocket, const uint8_t *data, size_t len,
                    struct buffer *out);
void websocket_write_close(struct websocket *websocket, uint16_t status, struct buffer *out);

#endif
