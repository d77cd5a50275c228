/* A growable byte buffer that is always NUL-terminated after its length. One thread owns it. When
 * memory runs out, `failed` is set and later appends have no effect; callers check it once at the
 * end. */
#ifndef MQFLEET_BASE_BUFFER_H
#define MQFLEET_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data; /* NULL while empty */
    size_t len;
    size_t capacity;
    bool failed;
};

void buffer_init(struct buffer *buffer);
void buffer_fini(
    struct buffer *buffer); /* frees the memory; the buffer may be used again after buffer_init */
void buffer_clear(struct buffer *buffer); /* sets the length to 0 and keeps the memory */
void buffer_append(struct buffer *buffer, const void *data, size_t len);
void buffer_append_str(struct buffer *buffer, const char *text);
void buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Returns the memory (the caller frees it), or NULL if failed. The buffer is empty afterwards. */
char *buffer_take(struct buffer *buffer);

#endif
