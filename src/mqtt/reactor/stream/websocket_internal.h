/* Internals of the WebSocket module, shared by its files. No other file includes this. */
#ifndef MQFLEET_STREAM_WEBSOCKET_INTERNAL_H
#define MQFLEET_STREAM_WEBSOCKET_INTERNAL_H

#include "mqtt/reactor/stream/websocket.h"

#define WEBSOCKET_CONTROL_MAX 125 /* bytes of a control frame's payload, RFC 6455 section 5.5 */
#define WEBSOCKET_MESSAGE_LEN 256

struct websocket_handshake; /* NULL before the request and after the answer */

struct websocket {
    struct websocket_handshake *handshake;
    enum err ended; /* ERR_OK: not ended; ERR_CANCELED, ERR_PROTOCOL: as in websocket_unwrap */
    char *ended_message;
    bool close_sent;

    bool in_message; /* the last data frame was not the final one of its message */
    bool in_payload;
    uint8_t opcode; /* of the frame of in_payload */
    uint32_t payload_left;
    uint8_t header_len, control_len;
    uint8_t header[10]; /* of a frame: the part that has arrived */
    uint8_t control[WEBSOCKET_CONTROL_MAX];
};

void websocket_handshake_destroy(struct websocket_handshake *handshake);

#endif
