/* The WebSocket protocol (RFC 6455) of a client that carries MQTT (sub-protocol "mqtt", binary
 * frames; MQTT 5.0 section 6): handshake and frames, bytes to bytes. Pure but for random masks; one
 * thread. Knows no socket. A packet may lie across frames and a frame hold several packets. */
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
/* Reads the answer out of `data`; *used bytes belong to it. ERR_OK: accepted, what follows are
 * frames. ERR_TIMEOUT: not whole yet, all is used. ERR_REFUSED: another status or a wrong answer;
 * see fault. */
enum err websocket_read_answer(struct websocket *websocket, const uint8_t *data, size_t len,
                               size_t *used, struct websocket_fault *fault) MUST_CHECK;
/* Unwraps frames in place: the payload of binary frames is moved to the front of `data`, *len
 * becomes its length. Pongs (and the answer to a close) are appended to `out`. ERR_CANCELED: the
 * server closed, after what is in `data`; ERR_PROTOCOL: `message` (256 bytes) says why, what is in
 * `data` came before it, and the close that tells the server is appended. Both are said again by
 * every later call, which takes nothing. */
enum err websocket_unwrap(struct websocket *websocket, uint8_t *data, size_t *len,
                          struct buffer *out, char *message) MUST_CHECK;
/* Appends one masked binary frame. */
void websocket_wrap(struct websocket *websocket, const uint8_t *data, size_t len,
                    struct buffer *out);
void websocket_write_close(struct websocket *websocket, uint16_t status, struct buffer *out);

#endif
