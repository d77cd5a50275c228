/* Fields of a protocol buffer, appended to a buffer
 * (https://protobuf.dev/programming-guides/encoding/). */
#ifndef MQFLEET_PROFILE_PROTO_H
#define MQFLEET_PROFILE_PROTO_H

#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"

/* A varint; 0 is omitted, as in proto3. Negative numbers take ten bytes. */
void proto_int(struct buffer *out, unsigned field, int64_t value);
/* Bytes, text, or an embedded message. */
void proto_bytes(struct buffer *out, unsigned field, const void *data, size_t len);
/* repeated, packed; zeros in it are written. */
void proto_packed(struct buffer *out, unsigned field, const int64_t *values, size_t count);

#endif
