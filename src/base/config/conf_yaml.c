/* Owns the reading of the configuration file; the only file that includes libyaml. Main thread,
 * before any other. Maps are flattened to dotted keys. Every scalar is taken as text. */
#include "conf_loader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "base/buffer.h"
#include "base/text.h"

#define FILE_LEN_MAX 1048576
#define DEPTH_MAX    4 /* maps within maps; settings have two levels */

struct reader {
    struct conf_loader *loader;
    const char *path;
    struct buffer text;
    yaml_parser_t parser;
    yaml_event_t event;       /* the last one read */
    size_t lines[CONF_COUNT]; /* line of each setting; 0: not given yet */
};

static const char *conf_yaml_format_origin(const struct reader *reader, size_t line,
                                           char out[CONF_ORIGIN_LEN]) {
    size_t len = strlen(reader->path);
    size_t room = CONF_ORIGIN_LEN - 32; /* the end of a long path is more informative */
    snprintf(out, CONF_ORIGIN_LEN, "%s%s:%zu", len > room ? "..." : "",
             reader->path + (len > room ? len - room : 0), line);
    return out;
}

static size_t conf_yaml_event_line(const struct reader *reader) {
    return reader->event.start_mark.line + 1;
}

static enum err conf_yaml_fault_here(const struct reader *reader, const char *text) {
    char origin[CONF_ORIGIN_LEN];
    return conf_fault(reader->loader,
                      conf_yaml_format_origin(reader, conf_yaml_event_line(reader), origin), "%s",
                      text);
}

/* Reports invalid YAML with line and column. For invalid characters libyaml gives no line, only an
 * offset. */
static enum err conf_yaml_syntax_fault(const struct reader *reader) {
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        return conf_no_memory(reader->loader);
    }
    size_t line = parser->problem_mark.line;
    size_t column = parser->problem_mark.column;
    if (parser->error == YAML_READER_ERROR) {
        line = 0;
        column = 0;
        for (size_t i = 0; i < parser->problem_offset && i < reader->text.len; i++) {
            bool line_end = reader->text.data[i] == '\n';
            line += line_end ? 1 : 0;
            column = line_end ? 0 : column + 1;
        }
    }
    char origin[CONF_ORIGIN_LEN];
    return conf_fault(reader->loader, conf_yaml_format_origin(reader, line + 1, origin),
                      "column %zu: invalid YAML: %s", column + 1,
                      parser->problem ? parser->problem : "unreadable");
}

static enum err conf_yaml_next_event(struct reader *reader) {
    yaml_event_delete(&reader->event);
    return yaml_parser_parse(&reader->parser, &reader->event) ? ERR_OK
                                                              : conf_yaml_syntax_fault(reader);
}

static enum err conf_yaml_unknown_key(const struct reader *reader, const char *key, size_t line) {
    char origin[CONF_ORIGIN_LEN];
    return conf_unknown_setting(reader->loader, conf_yaml_format_origin(reader, line, origin), key);
}

static enum err conf_yaml_assign(struct reader *reader, const char *key, size_t key_line,
                                 const char *text, size_t len) {
    const struct conf_setting *setting = conf_find(key);
    if (!setting) {
        return conf_yaml_unknown_key(reader, key, key_line);
    }
    char origin[CONF_ORIGIN_LEN];
    conf_yaml_format_origin(reader, key_line, origin);
    size_t *first_line = &reader->lines[setting - conf_settings];
    if (*first_line != 0) {
        return conf_fault(reader->loader, origin, "%s: set twice, first on line %zu", key,
                          *first_line);
    }
    *first_line = key_line;
    return conf_assign(reader->loader, setting, text, len, origin);
}

static enum err conf_yaml_read_scalar(struct reader *reader, const char *key, size_t key_line) {
    size_t len = reader->event.data.scalar.length;
    if (len == 0 && conf_is_group(key)) {
        return ERR_OK; /* a group whose settings are all commented out */
    }
    return conf_yaml_assign(reader, key, key_line, (const char *)reader->event.data.scalar.value,
                            len);
}

static enum err conf_yaml_read_list(struct reader *reader, const char *key, size_t key_line) {
    const struct conf_setting *setting = conf_find(key);
    if (!setting) {
        return conf_yaml_unknown_key(reader, key, key_line);
    }
    if (setting->type != CONF_LIST) {
        char origin[CONF_ORIGIN_LEN];
        return conf_fault(reader->loader, conf_yaml_format_origin(reader, key_line, origin),
                          "%s: must be one value, not a list", key);
    }
    struct buffer list;
    buffer_init(&list);
    enum err err = conf_yaml_next_event(reader);
    for (size_t i = 0; err == ERR_OK && reader->event.type == YAML_SCALAR_EVENT; i++) {
        buffer_append_str(&list, i > 0 ? "," : "");
        buffer_append(&list, reader->event.data.scalar.value, reader->event.data.scalar.length);
        err = conf_yaml_next_event(reader);
    }
    if (err == ERR_OK && reader->event.type != YAML_SEQUENCE_END_EVENT) {
        err = conf_yaml_fault_here(reader, "a list may contain only plain values");
    }
    if (err == ERR_OK && list.failed) {
        err = conf_no_memory(reader->loader);
    }
    if (err == ERR_OK) {
        err = conf_yaml_assign(reader, key, key_line, list.data ? list.data : "", list.len);
    }
    buffer_fini(&list);
    return err;
}

/* ---- sinks: a tree of texts ------------------------------------------------------------------ */

static enum err conf_yaml_read_key(struct reader *reader, const char *prefix,
                                   char out[CONF_KEY_LEN]);

static enum err conf_yaml_read_texts(struct reader *reader, json_t **out) {
    *out = json_array();
    enum err err = conf_yaml_next_event(reader);
    while (err == ERR_OK && reader->event.type == YAML_SCALAR_EVENT) {
        if (json_array_append_new(*out, json_stringn((char *)reader->event.data.scalar.value,
                                                     reader->event.data.scalar.length)) != 0) {
            return conf_no_memory(reader->loader);
        }
        err = conf_yaml_next_event(reader);
    }
    bool ended = err != ERR_OK || reader->event.type == YAML_SEQUENCE_END_EVENT;
    return ended ? err : conf_yaml_fault_here(reader, "a list may contain only plain values");
}

static enum err conf_yaml_read_named_texts(struct reader *reader, json_t **out) {
    char key[CONF_KEY_LEN];
    *out = json_object();
    enum err err = conf_yaml_next_event(reader);
    while (err == ERR_OK && reader->event.type != YAML_MAPPING_END_EVENT) {
        err = conf_yaml_read_key(reader, "", key);
        if (err == ERR_OK && json_object_get(*out, key)) {
            err = conf_yaml_fault_here(reader, "the same key twice");
        }
        err = err == ERR_OK ? conf_yaml_next_event(reader) : err;
        if (err == ERR_OK && reader->event.type != YAML_SCALAR_EVENT) {
            err = conf_yaml_fault_here(reader, "a map of a sink may hold plain values only");
        }
        if (err == ERR_OK &&
            json_object_set_new(*out, key,
                                json_stringn((char *)reader->event.data.scalar.value,
                                             reader->event.data.scalar.length)) != 0) {
            err = conf_no_memory(reader->loader);
        }
        err = err == ERR_OK ? conf_yaml_next_event(reader) : err;
    }
    return err;
}

/* The value of a field, whose first event has been read. */
static enum err conf_yaml_read_tree(struct reader *reader, json_t **out) {
    const yaml_event_t *event = &reader->event;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        *out = event->data.scalar.length == 0 && event->data.scalar.plain_implicit
                   ? json_null()
                   : json_stringn((char *)event->data.scalar.value, event->data.scalar.length);
        return *out ? ERR_OK : conf_no_memory(reader->loader);
    case YAML_SEQUENCE_START_EVENT:
        return conf_yaml_read_texts(reader, out);
    case YAML_MAPPING_START_EVENT:
        return conf_yaml_read_named_texts(reader, out);
    default:
        return conf_yaml_fault_here(reader, "aliases are not supported");
    }
}

static enum err conf_yaml_read_sink_field(struct reader *reader, const char *name) {
    char field[CONF_KEY_LEN];
    char origin[CONF_ORIGIN_LEN];
    json_t *value = NULL;
    enum err err = conf_yaml_read_key(reader, "", field);
    if (err != ERR_OK) {
        return err;
    }
    conf_yaml_format_origin(reader, conf_yaml_event_line(reader), origin);
    if (json_object_get(json_object_get(reader->loader->conf->sinks, name), field)) {
        return conf_fault(reader->loader, origin, "sinks.%s.%s: given twice", name, field);
    }
    err = conf_yaml_next_event(reader);
    err = err == ERR_OK ? conf_yaml_read_tree(reader, &value) : err;
    if (err != ERR_OK) {
        json_decref(value);
        return err;
    }
    return conf_sinks_set(reader->loader, name, field, value, origin);
}

static enum err conf_yaml_read_sink(struct reader *reader) {
    char name[CONF_KEY_LEN];
    char origin[CONF_ORIGIN_LEN];
    enum err err = conf_yaml_read_key(reader, "", name);
    conf_yaml_format_origin(reader, conf_yaml_event_line(reader), origin);
    err = err == ERR_OK ? conf_sinks_add(reader->loader, name, origin) : err;
    err = err == ERR_OK ? conf_yaml_next_event(reader) : err;
    if (err == ERR_OK && reader->event.type != YAML_MAPPING_START_EVENT) {
        err = conf_fault(reader->loader, origin, "sinks.%s: must be a map of fields", name);
    }
    err = err == ERR_OK ? conf_yaml_next_event(reader) : err;
    while (err == ERR_OK && reader->event.type != YAML_MAPPING_END_EVENT) {
        err = conf_yaml_read_sink_field(reader, name);
        err = err == ERR_OK ? conf_yaml_next_event(reader) : err;
    }
    return err;
}

/* The value of `sinks`, whose first event has been read. */
static enum err conf_yaml_read_sinks(struct reader *reader) {
    if (reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.length == 0) {
        return ERR_OK;
    }
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        return conf_yaml_fault_here(reader, "sinks: must be a map of sinks by name");
    }
    enum err err = conf_yaml_next_event(reader);
    while (err == ERR_OK && reader->event.type != YAML_MAPPING_END_EVENT) {
        err = conf_yaml_read_sink(reader);
        err = err == ERR_OK ? conf_yaml_next_event(reader) : err;
    }
    return err;
}

/* ---- settings: one per dotted key ------------------------------------------------------------ */

static enum err conf_yaml_read_map(struct reader *reader, const char *prefix, int depth);

/* The value of key, whose first event has been read. */
static enum err conf_yaml_read_value(struct reader *reader, const char *key, size_t key_line,
                                     int depth) {
    if (strcmp(key, "sinks") == 0) {
        return conf_yaml_read_sinks(reader);
    }
    switch (reader->event.type) {
    case YAML_SCALAR_EVENT:
        return conf_collect_fault(reader->loader, conf_yaml_read_scalar(reader, key, key_line));
    case YAML_SEQUENCE_START_EVENT:
        return conf_yaml_read_list(reader, key, key_line);
    case YAML_MAPPING_START_EVENT:
        if (!conf_is_group(key) && conf_find(key)) {
            return conf_yaml_fault_here(reader, "this setting must be a value, not a map");
        }
        return conf_yaml_read_map(reader, key, depth + 1);
    default:
        return conf_yaml_fault_here(reader, "aliases are not supported");
    }
}

/* Copies the key just read, with its prefix, to out. */
static enum err conf_yaml_read_key(struct reader *reader, const char *prefix,
                                   char out[CONF_KEY_LEN]) {
    if (reader->event.type != YAML_SCALAR_EVENT) {
        return conf_yaml_fault_here(reader, "a key must be plain text");
    }
    const char *name = (const char *)reader->event.data.scalar.value;
    size_t len = reader->event.data.scalar.length;
    if (len == 0 || strlen(name) != len || strlen(prefix) + 1 + len >= CONF_KEY_LEN) {
        return conf_yaml_fault_here(reader, "a key must be 1 to 100 bytes of text");
    }
    snprintf(out, CONF_KEY_LEN, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
    return ERR_OK;
}

static enum err conf_yaml_read_map(struct reader *reader, const char *prefix, int depth) {
    if (depth > DEPTH_MAX) {
        return conf_yaml_fault_here(reader, "maps are nested too deeply");
    }
    size_t map_line = conf_yaml_event_line(reader);
    size_t entries = 0;
    for (;; entries++) { /* ends with the file, whose length is bounded */
        enum err err = conf_yaml_next_event(reader);
        if (err != ERR_OK || reader->event.type == YAML_MAPPING_END_EVENT) {
            bool unknown = err == ERR_OK && entries == 0 && depth > 0 && !conf_is_group(prefix);
            return unknown ? conf_yaml_unknown_key(reader, prefix, map_line) : err;
        }
        char key[CONF_KEY_LEN];
        size_t key_line = conf_yaml_event_line(reader);
        err = conf_yaml_read_key(reader, prefix, key);
        if (err == ERR_OK) {
            err = conf_yaml_next_event(reader);
        }
        if (err == ERR_OK) {
            err = conf_yaml_read_value(reader, key, key_line, depth);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
}

/* An empty document is a configuration of defaults. */
static enum err conf_yaml_read_root(struct reader *reader) {
    if (reader->event.type == YAML_MAPPING_START_EVENT) {
        return conf_yaml_read_map(reader, "", 0);
    }
    if (reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.length == 0) {
        return ERR_OK;
    }
    return conf_yaml_fault_here(reader, "the file must contain a map of settings");
}

static enum err conf_yaml_read_stream(struct reader *reader) {
    size_t documents = 0;
    for (;;) { /* two documents at most */
        enum err err = conf_yaml_next_event(reader);
        if (err != ERR_OK || reader->event.type == YAML_STREAM_END_EVENT) {
            return err;
        }
        if (reader->event.type != YAML_DOCUMENT_START_EVENT) {
            continue; /* the start of the stream, the end of the document */
        }
        if (documents++ > 0) {
            return conf_yaml_fault_here(reader, "the file must contain one document");
        }
        err = conf_yaml_next_event(reader);
        if (err == ERR_OK) {
            err = conf_yaml_read_root(reader);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
}

static enum err conf_yaml_read_file(struct reader *reader) {
    FILE *file = fopen(reader->path, "re");
    if (!file) {
        return conf_fault(reader->loader, reader->path, "cannot be opened: %s", strerror(errno));
    }
    char chunk[4096];
    size_t got;
    while (reader->text.len <= FILE_LEN_MAX && (got = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        buffer_append(&reader->text, chunk, got);
    }
    enum err err = ERR_OK;
    if (ferror(file)) {
        err = conf_fault(reader->loader, reader->path, "cannot be read: %s", strerror(errno));
    } else if (reader->text.failed) {
        err = conf_no_memory(reader->loader);
    } else if (reader->text.len > FILE_LEN_MAX) {
        err = conf_fault(reader->loader, reader->path, "is longer than 1 MiB");
    }
    fclose(file);
    return err;
}

/* Parses the whole file first: an unclosed bracket makes everything after it meaningless. */
static enum err conf_yaml_check_syntax(struct reader *reader) {
    enum err err;
    do { /* ends with the file */
        err = conf_yaml_next_event(reader);
    } while (err == ERR_OK && reader->event.type != YAML_STREAM_END_EVENT);
    return err;
}

static enum err conf_yaml_parse(struct reader *reader, enum err (*read)(struct reader *reader)) {
    const char *text = reader->text.data ? reader->text.data : "";
    if (!yaml_parser_initialize(&reader->parser)) {
        return conf_no_memory(reader->loader);
    }
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, reader->text.len);
    enum err err = read(reader);
    yaml_event_delete(&reader->event);
    yaml_parser_delete(&reader->parser);
    return err;
}

enum err conf_read_file(struct conf_loader *loader, const char *path) {
    struct reader reader = {.loader = loader, .path = path};
    buffer_init(&reader.text);
    enum err err = conf_yaml_read_file(&reader);
    if (err == ERR_OK) {
        err = conf_yaml_parse(&reader, conf_yaml_check_syntax);
    }
    if (err == ERR_OK) {
        err = conf_yaml_parse(&reader, conf_yaml_read_stream);
    }
    buffer_fini(&reader.text);
    return err;
}
