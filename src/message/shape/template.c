/* Owns compiled templates:
 *
 *   text      a {topic.2:json|none} b
 *   pieces    "a "  topic.2, as JSON, default "none"  " b"     all borrow from one copy of the text
 */
#include "message/shape/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json_text.h"
#include "base/system/json_memory.h"
#include "base/text.h"

enum piece_form { FORM_RAW, FORM_JSON, FORM_BASE64, FORM_COUNT };

static const char *const forms[FORM_COUNT] = {
    [FORM_RAW] = "", [FORM_JSON] = ":json", [FORM_BASE64] = ":base64"};

/* Literal text, or a placeholder for a part of the message. */
struct piece {
    const char *text; /* the literal; NULL: a placeholder */
    size_t len;
    struct message_name name; /* the part of the message */
    enum piece_form form;
    const char *source;  /* the placeholder as it was written, for errors */
    const char *standby; /* replaces a missing value; NULL: the value is required */
};

struct template {
    char *text; /* NULs replace the braces and bars of placeholders */
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

/* Cuts off the form. */
static enum piece_form template_take_form(char *name) {
    char *colon = strrchr(name, ':');
    for (enum piece_form form = FORM_JSON; colon && form < FORM_COUNT; form++) {
        if (strcmp(colon, forms[form]) == 0) {
            *colon = '\0';
            return form;
        }
    }
    return FORM_RAW;
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
    piece->form = template_take_form(begin);
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

/* The value of any part but one at a JSON pointer. */
static enum err template_render_quoted(const struct piece *piece, struct message_view *view,
                                       struct buffer *out) {
    struct buffer value;
    buffer_init(&value);
    enum err err = message_view_append(view, &piece->name, &value);
    const char *text = value.data ? value.data : "";
    err = err == ERR_OK && value.failed ? ERR_MEMORY : err;
    err = err == ERR_OK && !text_is_utf8(text, value.len) ? ERR_NOT_FOUND : err;
    if (err == ERR_OK) {
        json_text_append(out, text, value.len);
    }
    buffer_fini(&value);
    return err;
}

static enum err template_render_json(const struct piece *piece, struct message_view *view,
                                     struct buffer *out) {
    if (piece->name.part != MESSAGE_JSON) {
        return template_render_quoted(piece, view, out);
    }
    const json_t *value = message_view_json(view, piece->name.argument);
    if (!value || json_is_null(value)) {
        return view->json_state == MESSAGE_JSON_NO_MEMORY ? ERR_MEMORY : ERR_NOT_FOUND;
    }
    char *text = json_to_text(value, JSON_COMPACT | JSON_ENCODE_ANY);
    buffer_append_str(out, text ? text : "");
    free(text);
    return text ? ERR_OK : ERR_MEMORY;
}

static enum err template_render_base64(const struct piece *piece, struct message_view *view,
                                       struct buffer *out) {
    size_t begin = out->len;
    enum err err = message_view_append(view, &piece->name, out);
    if (err != ERR_OK || out->failed) {
        return err;
    }
    char *text = text_base64_encode(out->len > begin ? out->data + begin : "", out->len - begin);
    out->len = begin;
    buffer_append_str(out, text ? text : "");
    free(text);
    return text ? ERR_OK : ERR_MEMORY;
}

static enum err template_render_value(const struct piece *piece, struct message_view *view,
                                      struct buffer *out) {
    switch (piece->form) {
    case FORM_JSON:
        return template_render_json(piece, view, out);
    case FORM_BASE64:
        return template_render_base64(piece, view, out);
    default:
        return message_view_append(view, &piece->name, out);
    }
}

static enum err template_render_part(const struct piece *piece, struct message_view *view,
                                     struct buffer *out, char *missing) {
    enum err err = template_render_value(piece, view, out);
    if (err == ERR_NOT_FOUND && piece->standby) {
        buffer_append_str(out, piece->standby);
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND) {
        snprintf(missing, MESSAGE_FAULT_LEN, "the message has no %.100s%s", piece->source,
                 piece->form == FORM_JSON ? " that can be JSON" : "");
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

/* ---- JSON ------------------------------------------------------------------------------------ */

enum sample { SAMPLE_STRINGS, SAMPLE_NUMBERS, SAMPLE_DEFAULTS, SAMPLE_COUNT };

/* A text that is JSON only in places where every value of that part is. NULL: the value may have
 * any characters. */
static const char *template_sample_part(const struct piece *piece, enum sample sample) {
    if (sample == SAMPLE_DEFAULTS && piece->standby) {
        return piece->standby;
    }
    if (piece->form == FORM_JSON) {
        return sample == SAMPLE_NUMBERS && piece->name.part == MESSAGE_JSON ? "0" : "\"\"";
    }
    switch (piece->name.part) {
    case MESSAGE_QOS:
    case MESSAGE_RETAIN:
    case MESSAGE_RECEIVED_AT_MS:
        return "0";
    case MESSAGE_RECEIVED_AT:
    case MESSAGE_NUMBER:
        return "x";
    default:
        return piece->form == FORM_BASE64 ? "x" : NULL;
    }
}

static enum err template_make_sample(const struct template *template, enum sample sample,
                                     struct buffer *out, char *fault) {
    for (size_t i = 0; i < template->piece_count; i++) {
        const struct piece *piece = &template->pieces[i];
        const char *text = piece->text ? NULL : template_sample_part(piece, sample);
        if (!piece->text && !text) {
            snprintf(fault, MESSAGE_FAULT_LEN,
                     "has {%.60s}, whose value may break the JSON; use {%.60s:json}", piece->source,
                     piece->source);
            return ERR_ARGUMENT;
        }
        buffer_append(out, piece->text ? piece->text : text,
                      piece->text ? piece->len : strlen(text));
    }
    return out->failed ? ERR_MEMORY : ERR_OK;
}

static enum err template_check_sample(const struct buffer *sample, bool object, char *fault) {
    json_t *json = NULL;
    json_error_t error;
    enum err err = json_parse(&json, sample->data ? sample->data : "", sample->len,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (err == ERR_ARGUMENT) {
        snprintf(fault, MESSAGE_FAULT_LEN,
                 "does not make JSON: %.90s (a part with :json is a whole value, with its quotes)",
                 error.text);
    } else if (err == ERR_OK && object && !json_is_object(json)) {
        snprintf(fault, MESSAGE_FAULT_LEN, "does not make a JSON object");
        err = ERR_ARGUMENT;
    }
    json_decref(json);
    return err;
}

enum err template_check_json(const struct template *template, bool object, char *fault) {
    enum err err = ERR_OK;
    for (enum sample sample = 0; err == ERR_OK && sample < SAMPLE_COUNT; sample++) {
        struct buffer text;
        buffer_init(&text);
        err = template_make_sample(template, sample, &text, fault);
        if (err == ERR_OK) {
            err = template_check_sample(&text, object, fault);
        }
        buffer_fini(&text);
    }
    return err;
}
