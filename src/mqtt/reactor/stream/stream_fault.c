/* Owns the formatting of fault messages. Any thread. Arguments must not contain secrets. */
#include "stream_fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"

/* The message goes into JSON: an incomplete character would invalidate the whole document. */
static void stream_fault_drop_cut_character(char *text) {
    size_t len = strlen(text);
    for (int i = 0; i < 3 && len > 0 && !text_is_utf8(text, len); i++) {
        text[--len] = '\0';
    }
}

void stream_fault_set(struct stream_fault *fault, enum client_error error) {
    stream_fault_format(fault, error, "%s", client_error_text(error));
}

void stream_fault_format(struct stream_fault *fault, enum client_error error, const char *format,
                         ...) {
    va_list arguments;
    va_start(arguments, format);
    fault->error = error;
    vsnprintf(fault->message, sizeof(fault->message), format, arguments);
    va_end(arguments);
    stream_fault_drop_cut_character(fault->message);
}
