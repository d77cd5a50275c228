/* Owns the encoding of fields. Pure; any thread. */
#include "profile/proto.h"

enum { WIRE_VARINT = 0, WIRE_LEN = 2 };

static void proto_put_varint(struct buffer *out, uint64_t value) {
    unsigned char bytes[10];
    size_t len = 0;
    while (value >= 0x80) {
        bytes[len++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    bytes[len++] = (unsigned char)value;
    buffer_append(out, bytes, len);
}

void proto_int(struct buffer *out, unsigned field, int64_t value) {
    if (value != 0) {
        proto_put_varint(out, field << 3 | WIRE_VARINT);
        proto_put_varint(out, (uint64_t)value);
    }
}

void proto_bytes(struct buffer *out, unsigned field, const void *data, size_t len) {
    proto_put_varint(out, field << 3 | WIRE_LEN);
    proto_put_varint(out, len);
    if (len > 0) {
        buffer_append(out, data, len);
    }
}

void proto_packed(struct buffer *out, unsigned field, const int64_t *values, size_t count) {
    struct buffer packed;
    buffer_init(&packed);
    for (size_t i = 0; i < count; i++) {
        proto_put_varint(&packed, (uint64_t)values[i]);
    }
    if (packed.failed) {
        out->failed = true;
    } else {
        proto_bytes(out, field, packed.data, packed.len);
    }
    buffer_fini(&packed);
}
