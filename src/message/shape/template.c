/* Owns compiled templates:
 *
 *   text      a {topic.2|none} b
 *   pieces    "a "  topic.2, default "none"  " b"     all borrow from one copy of the text
 */
#include "message/shape/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

struct piece {
    const char *text; /* of a literal; NULL: a part of the message */
    size_t len;
    struct message_name name; /* of a part */
    const char *source;       /* of a part, as it was written, for errors */
    const char *standby;      /* for a missing value; NULL: it must be there */
};

struct template {
    char *text; /* in parts, braces and bars became NULs */
    size_t piece_count;
    struct piece pieces[TEMPLATE_PIECES_MAX];
};

/* ---- compile --------------------------------------------------------------------------------- */

static enum err template_fault(const struct template *template, char *fault, const char *what,
                               const char *at) {
    snprintf(fault, MESSAGE_FAULT_LEN, "%s, at character %zu", what,
             (size_t)(at - template->text) + 1);
    return ERR_ARGUMENT;
}

static struct piece *template_add_piece(struct template *template, char *fault) {
    if (template->piece_count == TEMPLATE_PIECES_MAX) {
        snprintf(fault, MESSAGE_FAULT_LEN, "has more than %d parts", TEMPLATE_PIECES_MAX);
        return NULL;
    }
    return &template->pieces[template->piece_count++];
}

static bool template_begins_part(const char *at) {
    return at[0] == '{' && at[1] != '{';
}

/* From *from to the next part or the end. Pairs of braces become one, in place. */
static enum err template_take_literal(struct template *template, char **from, char *fault) {
    char *at = *from, *to = *from;
    while (*at && !template_begins_part(at)) {
        if (at[0] == '}' && at[1] != '}') {
            return template_fault(template, fault, "has a } without a { (}} is a brace)", at);
        }
        bool pair = *at == '{' || *at == '}';
        *to++ = *at;
        at += pair ? 2 : 1;
    }
    struct piece *piece = template_add_piece(template, fault);
    if (!piece) {
        return ERR_ARGUMENT;
    }
    piece->text = *from;
    piece->len = (size_t)(to - *from);
    *from = at;
    if (!*at) {
        *to = '\0';
    }
    return ERR_OK;
}

/* *from: at the opening brace. */
static enum err template_take_part(struct template *template, char **from, char *fault) {
    char *begin = *from + 1;
    char *end = strpbrk(begin, "{}");
    struct piece *piece = template_add_piece(template, fault);
    if (!piece) {
        return ERR_ARGUMENT;
    }
    if (!end || *end == '{') {
        return template_fault(template, fault, "has a { without a } ({{ is a brace)", *from);
    }
    *end = '\0';
    *from = end + 1;
    char *bar = strchr(begin, '|');
    if (bar) {
        *bar = '\0';
        piece->standby = bar + 1;
    }
    piece->source = begin;
    return message_name_parse(begin, &piece->name, fault);
}

static enum err template_parse(struct template *template, char *fault) {
    char *at = template->text;
    enum err err = ERR_OK;
    while (err == ERR_OK && *at) { /* each turn moves on */
        err = template_begins_part(at) ? template_take_part(template, &at, fault)
                                       : template_take_literal(template, &at, fault);
    }
    return err;
}

enum err template_compile(struct template **out, const char *text, char *fault) {
    struct template *template = calloc(1, sizeof *template);
    if (!template) {
        return ERR_MEMORY;
    }
    template->text = text_dup(text);
    enum err err = template->text ? template_parse(template, fault) : ERR_MEMORY;
    if (err != ERR_OK) {
        template_destroy(template);
        return err;
    }
    *out = template;
    return ERR_OK;
}

void template_destroy(struct template *template) {
    if (!template) {
        return;
    }
    free(template->text);
    free(template);
}

const char *template_constant(const struct template *template) {
    if (template->piece_count == 0) {
        return "";
    }
    return template->piece_count == 1 ? template->pieces[0].text : NULL;
}

/* ---- render ---------------------------------------------------------------------------------- */

static enum err template_render_part(const struct piece *piece, struct message_view *view,
                                     struct buffer *out, char *missing) {
    enum err err = message_view_append(view, &piece->name, out);
    if (err == ERR_NOT_FOUND && piece->standby) {
        buffer_append_str(out, piece->standby);
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND) {
        snprintf(missing, MESSAGE_FAULT_LEN, "the message has no %.100s", piece->source);
    }
    return err;
}

enum err template_render(const struct template *template, struct message_view *view,
                         struct buffer *out, char *missing) {
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < template->piece_count; i++) {
        const struct piece *piece = &template->pieces[i];
        if (piece->text) {
            buffer_append(out, piece->text, piece->len);
        } else {
            err = template_render_part(piece, view, out, missing);
        }
    }
    return err == ERR_OK && out->failed ? ERR_MEMORY : err;
}
