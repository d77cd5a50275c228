/* Owns the names of the parts of a message, and how each is read. */
#include "message/shape/message_view.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/system/json_memory.h"
#include "base/text.h"

#define LEVELS_MAX  128
#define POINTER_LEN 1024 /* of a token of a JSON pointer */

/* ---- names ----------------------------------------------------------------------------------- */

/* A name that ends with "." or "/" has an argument behind it. */
static const struct {
    const char *name;
    enum message_part part;
} parts[] = {
    {"id", MESSAGE_ID},
    {"client_id", MESSAGE_CLIENT_ID},
    {"topic", MESSAGE_TOPIC},
    {"topic.", MESSAGE_TOPIC_LEVEL},
    {"payload", MESSAGE_PAYLOAD},
    {"json", MESSAGE_JSON},
    {"json.", MESSAGE_JSON},
    {"qos", MESSAGE_QOS},
    {"retain", MESSAGE_RETAIN},
    {"received_at", MESSAGE_RECEIVED_AT},
    {"received_at_ms", MESSAGE_RECEIVED_AT_MS},
    {"message_id", MESSAGE_NUMBER},
    {"node", MESSAGE_NODE},
    {"broker", MESSAGE_BROKER},
    {"label.", MESSAGE_LABEL},
    {"user.", MESSAGE_USER},
    {"property.", MESSAGE_PROPERTY},
};

static bool message_name_matches(size_t row, const char *text) {
    size_t len = strlen(parts[row].name);
    if (parts[row].name[len - 1] != '.') {
        return strcmp(parts[row].name, text) == 0;
    }
    return strncmp(parts[row].name, text, len) == 0 && text[len] != '\0';
}

/* A tilde in a pointer is followed by 0 or 1 (RFC 6901 section 3). */
bool message_pointer_is_valid(const char *pointer) {
    if (*pointer != '\0' && *pointer != '/') {
        return false;
    }
    for (const char *at = strchr(pointer, '~'); at; at = strchr(at + 1, '~')) {
        if (at[1] != '0' && at[1] != '1') {
            return false;
        }
    }
    return true;
}

static enum err message_name_check(const char *text, struct message_name *out, char *fault) {
    if (out->part == MESSAGE_JSON && !message_pointer_is_valid(out->argument)) {
        snprintf(fault, MESSAGE_FAULT_LEN,
                 "%.60s: json. is followed by a JSON pointer, as in json./a/b", text);
        return ERR_ARGUMENT;
    }
    if (out->part == MESSAGE_TOPIC_LEVEL) {
        char *end = NULL;
        unsigned long level = strtoul(out->argument, &end, 10);
        bool digits = strspn(out->argument, "0123456789") == strlen(out->argument);
        if (!digits || *end != '\0' || level < 1 || level > LEVELS_MAX) {
            snprintf(fault, MESSAGE_FAULT_LEN,
                     "%.60s: topic. is followed by a level from 1, the first, to %d", text,
                     LEVELS_MAX);
            return ERR_ARGUMENT;
        }
        out->level = (unsigned)level;
    }
    return ERR_OK;
}

enum err message_name_parse(const char *text, struct message_name *out, char *fault) {
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (message_name_matches(i, text)) {
            size_t len = strlen(parts[i].name);
            bool argument = parts[i].name[len - 1] == '.';
            *out = (struct message_name){.part = parts[i].part, .argument = text + len};
            assert(argument || *out->argument == '\0');
            return message_name_check(text, out, fault);
        }
    }
    snprintf(fault, MESSAGE_FAULT_LEN,
             "{%.40s} is unknown; there are id, client_id, topic, topic.N, payload, "
             "json./POINTER, qos, retain, received_at, received_at_ms, message_id, node, broker, "
             "label.NAME, user.NAME, property.NAME",
             text);
    return ERR_ARGUMENT;
}

/* ---- values ---------------------------------------------------------------------------------- */

void message_view_init(struct message_view *view, const struct message *message, const char *node) {
    *view = (struct message_view){.message = message, .node = node};
}

void message_view_fini(struct message_view *view) {
    json_decref(view->json);
    view->json = NULL;
}

static enum err message_view_append_level(const struct message *message, unsigned level,
                                          struct buffer *out) {
    const char *begin = message->topic;
    for (unsigned i = 1; i < level; i++) {
        const char *slash = strchr(begin, '/');
        if (!slash) {
            return ERR_NOT_FOUND;
        }
        begin = slash + 1;
    }
    buffer_append(out, begin, strcspn(begin, "/"));
    return ERR_OK;
}

static void message_view_append_time(int64_t at_ms, struct buffer *out) {
    struct tm parts_of_time;
    char text[32];
    time_t seconds = (time_t)(at_ms / 1000);
    gmtime_r(&seconds, &parts_of_time);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts_of_time);
    buffer_append(out, text, len);
    buffer_printf(out, ".%03dZ", (int)(at_ms % 1000));
}

static enum err message_view_append_property(const struct message *message, const char *name,
                                             bool user, struct buffer *out) {
    for (size_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        const char *have = user ? property->key : property->key ? NULL : property->name;
        if (have && strcmp(have, name) == 0) {
            buffer_append(out, property->value, property->value_len);
            return ERR_OK;
        }
    }
    return ERR_NOT_FOUND;
}

static enum err message_view_append_label(const struct message *message, const char *name,
                                          struct buffer *out) {
    const char *value = message_origin_label(message->origin, name);
    buffer_append_str(out, value ? value : "");
    return value ? ERR_OK : ERR_NOT_FOUND;
}

static enum err message_view_append_broker(const struct message *message, struct buffer *out) {
    if (!message->origin) {
        return ERR_NOT_FOUND;
    }
    buffer_append_str(out, message->origin->broker);
    return ERR_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void message_view_read_json(struct message_view *view) {
    const struct message *message = view->message;
    enum err err = ERR_ARGUMENT;
    if (message->payload_len <= MESSAGE_JSON_BYTES_MAX) {
        err = json_parse(&view->json, (const char *)message->payload, message->payload_len,
                         JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    }
    view->json_state = err == ERR_OK       ? MESSAGE_JSON_READ
                       : err == ERR_MEMORY ? MESSAGE_JSON_NO_MEMORY
                                           : MESSAGE_JSON_INVALID;
}

/* Writes the token at *pointer without its escapes; moves *pointer behind it. False: too long. */
static bool message_pointer_next(const char **pointer, char token[POINTER_LEN]) {
    const char *at = *pointer + 1;
    size_t len = 0;
    while (*at && *at != '/' && len < POINTER_LEN - 1) {
        bool escape = *at == '~';
        token[len++] = (char)(!escape ? *at : at[1] == '0' ? '~' : '/');
        at += escape ? 2 : 1;
    }
    token[len] = '\0';
    *pointer = at;
    return *at == '\0' || *at == '/';
}

static const json_t *message_json_index(const json_t *array, const char *token) {
    size_t len = strlen(token);
    bool number =
        len > 0 && len < 10 && strspn(token, "0123456789") == len && (token[0] != '0' || len == 1);
    return number ? json_array_get(array, (size_t)strtoul(token, NULL, 10)) : NULL;
}

const json_t *message_view_json(struct message_view *view, const char *pointer) {
    if (view->json_state == MESSAGE_JSON_UNREAD) {
        message_view_read_json(view);
    }
    const json_t *value = view->json;
    char token[POINTER_LEN];
    while (value && *pointer) { /* each turn takes a token */
        if (!message_pointer_next(&pointer, token)) {
            return NULL;
        }
        value =
            json_is_array(value) ? message_json_index(value, token) : json_object_get(value, token);
    }
    return value;
}

static enum err message_view_append_json(struct message_view *view, const char *pointer,
                                         struct buffer *out) {
    const json_t *value = message_view_json(view, pointer);
    if (!value || json_is_null(value)) {
        return view->json_state == MESSAGE_JSON_NO_MEMORY ? ERR_MEMORY : ERR_NOT_FOUND;
    }
    if (json_is_string(value)) {
        buffer_append(out, json_string_value(value), json_string_length(value));
        return ERR_OK;
    }
    char *text = json_to_text(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text) {
        buffer_append_str(out, text);
    }
    free(text);
    return text ? ERR_OK : ERR_MEMORY;
}

enum err message_view_append(struct message_view *view, const struct message_name *name,
                             struct buffer *out) {
    const struct message *message = view->message;
    switch (name->part) {
    case MESSAGE_ID:
        buffer_append_str(out, message->id);
        return ERR_OK;
    case MESSAGE_CLIENT_ID:
        buffer_append_str(out, message->client_id);
        return ERR_OK;
    case MESSAGE_TOPIC:
        buffer_append_str(out, message->topic);
        return ERR_OK;
    case MESSAGE_TOPIC_LEVEL:
        return message_view_append_level(message, name->level, out);
    case MESSAGE_PAYLOAD:
        buffer_append(out, message->payload, message->payload_len);
        return ERR_OK;
    case MESSAGE_JSON:
        return message_view_append_json(view, name->argument, out);
    case MESSAGE_QOS:
        buffer_printf(out, "%d", message->qos);
        return ERR_OK;
    case MESSAGE_RETAIN:
        buffer_append_str(out, message->retain ? "1" : "0");
        return ERR_OK;
    case MESSAGE_RECEIVED_AT:
        message_view_append_time(message->received_at_ms, out);
        return ERR_OK;
    case MESSAGE_RECEIVED_AT_MS:
        buffer_printf(out, "%lld", (long long)message->received_at_ms);
        return ERR_OK;
    case MESSAGE_NUMBER:
        buffer_printf(out, "%s-%llu", message_process_id(), (unsigned long long)message->number);
        return ERR_OK;
    case MESSAGE_NODE:
        buffer_append_str(out, view->node);
        return ERR_OK;
    case MESSAGE_BROKER:
        return message_view_append_broker(message, out);
    case MESSAGE_LABEL:
        return message_view_append_label(message, name->argument, out);
    case MESSAGE_USER:
        return message_view_append_property(message, name->argument, true, out);
    case MESSAGE_PROPERTY:
        return message_view_append_property(message, name->argument, false, out);
    }
    return ERR_NOT_FOUND;
}
