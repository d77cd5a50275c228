/* Owns the characters that a subject may have. */
#include "nats_subject.h"

#include <stdbool.h>
#include <string.h>

static char nats_subject_character(char c) {
    bool plain = (unsigned char)c > ' ' && c != 0x7f && c != '*' && c != '>';
    return c == '/' ? '.' : plain ? c : '_';
}

/* Every empty token takes a byte more. */
static void nats_subject_fill_tokens(struct buffer *text) {
    struct buffer filled;
    buffer_init(&filled);
    for (size_t i = 0; i <= text->len; i++) {
        bool begins = i == 0 || text->data[i - 1] == '.';
        bool ends = i == text->len || text->data[i] == '.';
        if (begins && ends) {
            buffer_append(&filled, "_", 1);
        }
        if (i < text->len) {
            buffer_append(&filled, &text->data[i], 1);
        }
    }
    buffer_fini(text);
    *text = filled;
}

void nats_subject_clean(struct buffer *text) {
    bool empty_token =
        text->len == 0 || text->data[text->len - 1] == '/' || text->data[text->len - 1] == '.';
    for (size_t i = 0; i < text->len; i++) {
        text->data[i] = nats_subject_character(text->data[i]);
        empty_token = empty_token || (text->data[i] == '.' && (i == 0 || text->data[i - 1] == '.'));
    }
    if (empty_token && !text->failed) {
        nats_subject_fill_tokens(text);
    }
}
