/* Owns the growth of byte buffers. Runs on the thread that owns the buffer. */
#include "base/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 64

void buffer_init(struct buffer *buffer) {
    *buffer = (struct buffer){0};
}

void buffer_fini(struct buffer *buffer) {
    if (!buffer) {
        return;
    }
    free(buffer->data);
    buffer_init(buffer);
}

void buffer_clear(struct buffer *buffer) {
    buffer->len = 0;
    buffer->failed = false;
    if (buffer->data) {
        buffer->data[0] = '\0';
    }
}

/* Makes room for `more` bytes and the NUL. False: failed is set permanently. */
static bool buffer_reserve(struct buffer *buffer, size_t more) {
    if (buffer->failed) {
        return false;
    }
    size_t need;
    if (__builtin_add_overflow(buffer->len, more, &need) ||
        __builtin_add_overflow(need, (size_t)1, &need)) {
        buffer->failed = true;
        return false;
    }
    if (need <= buffer->capacity) {
        return true;
    }
    size_t capacity = buffer->capacity < CAPACITY_MIN ? CAPACITY_MIN : buffer->capacity;
    if (__builtin_mul_overflow(capacity, (size_t)2, &capacity) || capacity < need) {
        capacity = need;
    }
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void buffer_append(struct buffer *buffer, const void *data, size_t len) {
    assert(data || len == 0);
    if (!buffer_reserve(buffer, len)) {
        return;
    }
    if (len > 0) {
        memcpy(buffer->data + buffer->len, data, len);
    }
    buffer->len += len;
    buffer->data[buffer->len] = '\0';
}

void buffer_append_str(struct buffer *buffer, const char *text) {
    buffer_append(buffer, text, strlen(text));
}

void buffer_printf(struct buffer *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (len < 0) {
        buffer->failed = true;
        return;
    }
    if (!buffer_reserve(buffer, (size_t)len)) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->len, (size_t)len + 1, format, arguments);
    va_end(arguments);
    buffer->len += (size_t)len;
}

char *buffer_take(struct buffer *buffer) {
    buffer_append(buffer, NULL, 0); /* an empty buffer is returned as an empty string */
    char *data = buffer->failed ? NULL : buffer->data;
    if (!data) {
        free(buffer->data);
    } else if (buffer->capacity > buffer->len + 1) {
        char *fitting = realloc(data, buffer->len + 1); /* the text may be kept for a long time */
        data = fitting ? fitting : data;
    }
    buffer_init(buffer);
    return data;
}
