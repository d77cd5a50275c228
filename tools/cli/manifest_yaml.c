/* Reads and writes YAML with libyaml. */
#include "manifest_yaml.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "cli.h"

/* ---- scalars --------------------------------------------------------------------------------- */

static bool manifest_yaml_is_one_of(const char *text, const char *const *words) {
    while (*words && strcmp(*words, text) != 0) {
        words++;
    }
    return *words != NULL;
}

/* [-+]?[0-9]+ that fits; other bases stay texts. */
static json_t *manifest_yaml_integer(const char *text) {
    const char *digits = text + (*text == '-' || *text == '+');
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    bool is_integer = *digits && digits[strspn(digits, "0123456789")] == '\0' && errno == 0;
    return is_integer ? json_integer(value) : NULL;
}

/* Decimal, with a fraction or an exponent; infinities and NaN have no JSON. */
static json_t *manifest_yaml_real(const char *text) {
    char *end;
    bool decimal = text[strspn(text, "0123456789+-.eE")] == '\0' && strpbrk(text, "0123456789");
    double value = decimal ? strtod(text, &end) : 0;
    return decimal && *end == '\0' && isfinite(value) ? json_real(value) : NULL;
}

static json_t *manifest_yaml_plain(const char *text, size_t len) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    if (manifest_yaml_is_one_of(text, nulls)) {
        return json_null();
    }
    if (manifest_yaml_is_one_of(text, trues)) {
        return json_true();
    }
    if (manifest_yaml_is_one_of(text, falses)) {
        return json_false();
    }
    json_t *number = manifest_yaml_integer(text);
    number = number ? number : manifest_yaml_real(text);
    return number ? number : json_stringn(text, len);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct yaml_reader {
    const char *name;
    yaml_parser_t parser;
    yaml_event_t event; /* the last one read */
};

static bool manifest_yaml_fault(const struct yaml_reader *reader, const char *why) {
    const yaml_mark_t *mark = &reader->event.start_mark;
    cli_error("%s: line %zu, column %zu: %s", reader->name, mark->line + 1, mark->column + 1, why);
    return false;
}

static bool manifest_yaml_next(struct yaml_reader *reader) {
    yaml_event_delete(&reader->event);
    if (yaml_parser_parse(&reader->parser, &reader->event)) {
        return true;
    }
    const yaml_mark_t *mark = &reader->parser.problem_mark;
    cli_error("%s: line %zu, column %zu: invalid YAML: %s", reader->name, mark->line + 1,
              mark->column + 1, reader->parser.problem ? reader->parser.problem : "unreadable");
    return false;
}

static bool manifest_yaml_check_plain_event(const struct yaml_reader *reader) {
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default:
        return manifest_yaml_fault(reader, "aliases are not supported");
    }
    return (!anchor && !tag) || manifest_yaml_fault(reader, "anchors and tags are not supported");
}

static json_t *manifest_yaml_scalar(const struct yaml_reader *reader) {
    const char *text = (const char *)reader->event.data.scalar.value;
    size_t len = reader->event.data.scalar.length;
    json_t *value = reader->event.data.scalar.plain_implicit ? manifest_yaml_plain(text, len)
                                                             : json_stringn(text, len);
    if (!value) {
        (void)manifest_yaml_fault(reader, "must be UTF-8");
    }
    return value;
}

static json_t *manifest_yaml_value(struct yaml_reader *reader, unsigned depth);

static bool manifest_yaml_add_items(struct yaml_reader *reader, json_t *list, unsigned depth) {
    while (manifest_yaml_next(reader)) {
        if (reader->event.type == YAML_SEQUENCE_END_EVENT) {
            return true;
        }
        json_t *value = manifest_yaml_value(reader, depth + 1);
        if (!value || json_array_append_new(list, value) != 0) {
            return false;
        }
    }
    return false;
}

/* The member whose key was just read. */
static bool manifest_yaml_add_member(struct yaml_reader *reader, json_t *object, unsigned depth) {
    if (reader->event.type != YAML_SCALAR_EVENT) {
        return manifest_yaml_fault(reader, "a key must be a text");
    }
    const yaml_event_t *event = &reader->event;
    char *key = strndup((const char *)event->data.scalar.value, event->data.scalar.length);
    bool good =
        key && (!json_object_get(object, key) || manifest_yaml_fault(reader, "duplicate key"));
    json_t *value =
        good && manifest_yaml_next(reader) ? manifest_yaml_value(reader, depth + 1) : NULL;
    good = value && json_object_set_new(object, key, value) == 0;
    free(key);
    return good;
}

static bool manifest_yaml_add_members(struct yaml_reader *reader, json_t *object, unsigned depth) {
    while (manifest_yaml_next(reader)) {
        if (reader->event.type == YAML_MAPPING_END_EVENT) {
            return true;
        }
        if (!manifest_yaml_add_member(reader, object, depth)) {
            return false;
        }
    }
    return false;
}

/* The value whose first event was read. NULL: the error was printed. */
static json_t *manifest_yaml_value(struct yaml_reader *reader, unsigned depth) {
    bool good = manifest_yaml_check_plain_event(reader);
    if (good && depth > MANIFEST_YAML_DEPTH_MAX) {
        good = manifest_yaml_fault(reader, "nested too deeply");
    }
    if (good && reader->event.type == YAML_SCALAR_EVENT) {
        return manifest_yaml_scalar(reader);
    }
    bool is_list = reader->event.type == YAML_SEQUENCE_START_EVENT;
    json_t *value = !good ? NULL : is_list ? json_array() : json_object();
    good = value && (is_list ? manifest_yaml_add_items(reader, value, depth)
                             : manifest_yaml_add_members(reader, value, depth));
    if (!good) {
        json_decref(value);
    }
    return good ? value : NULL;
}

/* One document, whose begin was read. */
static bool manifest_yaml_document(struct yaml_reader *reader, manifest_yaml_take *take,
                                   void *context) {
    if (!manifest_yaml_next(reader)) {
        return false;
    }
    size_t line = reader->event.start_mark.line + 1;
    json_t *document = manifest_yaml_value(reader, 0);
    return document && take(context, document, line) && manifest_yaml_next(reader);
}

bool manifest_yaml_read(const char *name, const char *text, size_t len, manifest_yaml_take *take,
                        void *context) {
    struct yaml_reader reader = {.name = name};
    if (!yaml_parser_initialize(&reader.parser)) {
        cli_error("%s: out of memory", name);
        return false;
    }
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, len);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    bool good = manifest_yaml_next(&reader); /* the begin of the stream */
    while (good && (good = manifest_yaml_next(&reader)) &&
           reader.event.type != YAML_STREAM_END_EVENT) {
        good = manifest_yaml_document(&reader, take, context);
    }
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    return good;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int manifest_yaml_write_bytes(void *file, unsigned char *data, size_t len) {
    return fwrite(data, 1, len, file) == len;
}

static bool manifest_yaml_emit_text(yaml_emitter_t *emitter, const char *text, size_t len,
                                    bool quoted) {
    yaml_event_t event;
    bool lines = quoted && memchr(text, '\n', len);
    yaml_scalar_style_t style = lines    ? YAML_LITERAL_SCALAR_STYLE
                                : quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE
                                         : YAML_PLAIN_SCALAR_STYLE;
    return yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)len, 1,
                                        1, style) &&
           yaml_emitter_emit(emitter, &event);
}

/* A text is plain only if it would be read as the same text; libyaml quotes it where the syntax
 * requires that. */
static bool manifest_yaml_emit_string(yaml_emitter_t *emitter, const char *text, size_t len) {
    static const char *const words[] = {"y",  "Y",  "yes", "Yes", "YES", "n",   "N",   "no", "No",
                                        "NO", "on", "On",  "ON",  "off", "Off", "OFF", NULL};
    json_t *read = strlen(text) == len ? manifest_yaml_plain(text, len) : NULL;
    bool same = json_is_string(read) && !manifest_yaml_is_one_of(text, words) &&
                !isdigit((unsigned char)*text) && !strchr("+-.", *text);
    json_decref(read);
    return manifest_yaml_emit_text(emitter, text, len, !same || memchr(text, '\n', len) != NULL);
}

static bool manifest_yaml_emit(yaml_emitter_t *emitter, const json_t *value);

static bool manifest_yaml_emit_list(yaml_emitter_t *emitter, const json_t *list) {
    yaml_event_t event;
    size_t i;
    const json_t *item;
    yaml_sequence_style_t style =
        json_array_size(list) == 0 ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE;
    bool good = yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, style) &&
                yaml_emitter_emit(emitter, &event);
    json_array_foreach(list, i, item) {
        good = good && manifest_yaml_emit(emitter, item);
    }
    return good && yaml_sequence_end_event_initialize(&event) && yaml_emitter_emit(emitter, &event);
}

static bool manifest_yaml_emit_object(yaml_emitter_t *emitter, const json_t *object) {
    yaml_event_t event;
    const char *key;
    json_t *value;
    yaml_mapping_style_t style =
        json_object_size(object) == 0 ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE;
    bool good = yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, style) &&
                yaml_emitter_emit(emitter, &event);
    json_object_foreach((json_t *)object, key, value) {
        good = good && manifest_yaml_emit_string(emitter, key, strlen(key)) &&
               manifest_yaml_emit(emitter, value);
    }
    return good && yaml_mapping_end_event_initialize(&event) && yaml_emitter_emit(emitter, &event);
}

static bool manifest_yaml_emit(yaml_emitter_t *emitter, const json_t *value) {
    if (json_is_object(value)) {
        return manifest_yaml_emit_object(emitter, value);
    }
    if (json_is_array(value)) {
        return manifest_yaml_emit_list(emitter, value);
    }
    if (json_is_string(value)) {
        return manifest_yaml_emit_string(emitter, json_string_value(value),
                                         json_string_length(value));
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    bool good = text && manifest_yaml_emit_text(emitter, text, strlen(text), false);
    free(text);
    return good;
}

bool manifest_yaml_write(FILE *file, const json_t *document) {
    yaml_emitter_t emitter;
    yaml_event_t event;
    if (!yaml_emitter_initialize(&emitter)) {
        return false;
    }
    yaml_emitter_set_output(&emitter, manifest_yaml_write_bytes, file);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    bool good = yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) &&
                yaml_emitter_emit(&emitter, &event) &&
                yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 0) &&
                yaml_emitter_emit(&emitter, &event) && manifest_yaml_emit(&emitter, document) &&
                yaml_document_end_event_initialize(&event, 1) &&
                yaml_emitter_emit(&emitter, &event) && yaml_stream_end_event_initialize(&event) &&
                yaml_emitter_emit(&emitter, &event);
    yaml_emitter_delete(&emitter);
    return good;
}
