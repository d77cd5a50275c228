/* A growable byte buffer that is always NUL-terminated after its length. Owned by one thread.
 * Out of memory sets `failed`, makes every later append a no-op, and is looked at once at the end.
 */
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
void buffer_fini(struct buffer *buffer);  /* frees; may be used again after init */
void buffer_clear(struct buffer *buffer); /* length 0, memory kept */
void buffer_append(struct buffer *buffer, const void *data, size_t len);
void buffer_append_str(struct buffer *buffer, const char *text);
void buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Hands the memory to the caller (to free()), NULL if failed; the buffer is empty after. */
char *buffer_take(struct buffer *buffer);

#endif
