/* JSON strings, written directly into a buffer. Pure functions; any thread. */
#ifndef MQFLEET_BASE_JSON_TEXT_H
#define MQFLEET_BASE_JSON_TEXT_H

#include <stddef.h>
#include "base/buffer.h"

/* Appends a JSON string with its quotes. In text that is not UTF-8, each byte that is not ASCII
 * becomes '?'. */
void json_text_append(struct buffer *out, const char *text, size_t len);
/* Appends its contents without the quotes. text: UTF-8. */
void json_text_append_contents(struct buffer *out, const char *text, size_t len);

#endif
