/* Processes a JSON object by a table of fields, and records faults. Pure; any thread. */
#include "client_config_fields.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"

#define SUGGEST_LEN_MAX 32 /* longer names are not typing errors */
#define NAME_SHOWN_LEN  64

/* Pointers */

/* Appends "/" and the escaped segment (RFC 6901 section 3). False: no room, nothing was appended; a
 * pointer is never cut within a segment. */
static bool config_walk_segment_append(char *pointer, size_t size, const char *segment) {
    size_t start = strlen(pointer);
    size_t at = start;
    pointer[at++] = '/';
    for (const char *c = segment; *c != '\0'; c++) {
        if (at + 3 > size) {
            pointer[start] = '\0';
            return false;
        }
        if (*c == '~' || *c == '/') {
            pointer[at++] = '~';
        }
        pointer[at++] = *c == '~' ? '0' : *c == '/' ? '1' : *c;
    }
    pointer[at] = '\0';
    return true;
}

/* Recurses as deep as tables nest: three levels. */
static bool config_walk_pointer_render(char *pointer, size_t size,
                                       const struct client_field_place *place) {
    char index[24];
    if (!place) {
        pointer[0] = '\0';
        return true;
    }
    if (!config_walk_pointer_render(pointer, size, place->up) || strlen(pointer) + 2 > size) {
        return false;
    }
    snprintf(index, sizeof(index), "%zu", place->index);
    return config_walk_segment_append(pointer, size, !place->name ? index : place->name);
}

/* Faults */

void client_field_add_fault(struct reader *reader, const struct client_field_place *place,
                            const char *format, ...) {
    struct client_faults *faults = reader->faults;
    if (faults->count >= CLIENT_FAULTS_MAX) {
        return;
    }
    struct client_fault *fault = &faults->items[faults->count++];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->detail, sizeof(fault->detail), format, arguments);
    va_end(arguments);
    (void)config_walk_pointer_render(fault->pointer, sizeof(fault->pointer), place);
}

static const char *config_walk_type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a number";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

void client_field_add_type_fault(struct reader *reader, const struct client_field_place *place,
                                 const char *wanted, const json_t *value) {
    client_field_add_fault(reader, place, "must be %s, not %s", wanted,
                           config_walk_type_name(value));
}

/* Unknown fields */

/* The known name that was probably meant; NULL: none is similar. */
static const char *config_walk_nearest_name(const struct client_field_table *table,
                                            const char *name) {
    size_t len = strlen(name);
    const char *nearest = NULL;
    size_t best = len < 4 ? 2 : len < 8 ? 3 : 4; /* only smaller distances count */
    if (len > SUGGEST_LEN_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct client_field *field = &table->rows[i];
        if (field->flags & CLIENT_FIELD_INTERNAL) {
            continue;
        }
        assert(strlen(field->name) <= SUGGEST_LEN_MAX);
        size_t distance = text_distance(name, field->name);
        if (len >= 4 && strncmp(name, field->name, len) == 0) {
            distance = 1; /* "keepalive", "user" */
        }
        if (distance < best) {
            nearest = field->name;
            best = distance;
        }
    }
    return nearest;
}

/* The start of an unknown name, not cut within a character. */
static void config_walk_name_shorten(char out[NAME_SHOWN_LEN + 4], const char *name) {
    size_t len = strnlen(name, NAME_SHOWN_LEN + 1);
    if (len > NAME_SHOWN_LEN) {
        len = NAME_SHOWN_LEN;
        while (len > 0 && !text_is_utf8(name, len)) {
            len--;
        }
        memcpy(out + len, "...", 3);
        out[len + 3] = '\0';
    } else {
        out[len] = '\0';
    }
    memcpy(out, name, len);
}

static void config_walk_fault_unknown(struct reader *reader, const struct client_field_table *table,
                                      const char *name, const struct client_field_place *place) {
    char shown[NAME_SHOWN_LEN + 4];
    if (reader->faults->count >= CLIENT_FAULTS_MAX) {
        return; /* a document may have a million of them */
    }
    const char *nearest = config_walk_nearest_name(table, name);
    config_walk_name_shorten(shown, name);
    if (nearest) {
        client_field_add_fault(reader, place, "unknown field \"%s\", did you mean %s?", shown,
                               nearest);
    } else {
        client_field_add_fault(reader, place, "unknown field \"%s\"; it must be omitted", shown);
    }
}

/* Walk */

const struct client_field *client_field_find(const struct client_field_table *table,
                                             const char *name) {
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->rows[i].name, name) == 0) {
            return &table->rows[i];
        }
    }
    return NULL;
}

/* Looks the version up in the document, because fields come in any order. */
static bool config_walk_version_allows(struct reader *reader, const struct client_field *field,
                                       const struct client_field_place *place) {
    if (!(field->flags & CLIENT_FIELD_MQTT5)) {
        return true;
    }
    if (json_integer_value(json_object_get(reader->document, "protocol_version")) == 4) {
        client_field_add_fault(reader, place,
                               "is a field of MQTT 5: omit it, or set protocol_version to 5");
        return false;
    }
    reader->has_mqtt5 = true;
    return true;
}

/* In an update, client_config_keep_secrets has already replaced masks by the stored secrets. */
static bool config_walk_mask_refused(struct reader *reader, const struct client_field *field,
                                     const json_t *value, const struct client_field_place *place) {
    bool is_secret = (field->flags & (CLIENT_FIELD_SECRET | CLIENT_FIELD_SECRET_PEM)) != 0;
    if (reader->source != CLIENT_FROM_API || !is_secret || !client_field_is_mask(value)) {
        return false;
    }
    client_field_add_fault(
        reader, place,
        "stands for a stored secret, but none is stored for this broker: send the secret "
        "itself");
    return true;
}

static void config_walk_read_one(struct reader *reader, const struct client_field_table *table,
                                 json_t *value, const struct client_field_place *place,
                                 void *into) {
    const struct client_field *field = client_field_find(table, place->name);
    bool hidden =
        field && (field->flags & CLIENT_FIELD_INTERNAL) && reader->source == CLIENT_FROM_API;
    if (!field || hidden) {
        if (reader->source == CLIENT_FROM_API) {
            config_walk_fault_unknown(reader, table, place->name, place);
        }
        return;
    }
    if (config_walk_mask_refused(reader, field, value, place)) {
        return;
    }
    if (!json_is_null(value) && config_walk_version_allows(reader, field, place)) {
        field->read(reader, field, value, place, into);
    }
}

/* An element of an array is complete: arrays are not merged. */
static bool config_walk_may_be_partial(const struct reader *reader,
                                       const struct client_field_place *place) {
    bool partial = reader->partial;
    for (; place; place = place->up) {
        partial = partial && place->name;
    }
    return partial;
}

bool client_fields_read(struct reader *reader, const struct client_field_table *table,
                        json_t *object, const struct client_field_place *place, void *into) {
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        client_field_add_type_fault(reader, place, "an object", object);
        return false;
    }
    json_object_foreach(object, name, value) {
        const struct client_field_place here = {.up = place, .name = name};
        config_walk_read_one(reader, table, value, &here, into);
    }
    for (size_t i = 0; !config_walk_may_be_partial(reader, place) && i < table->count; i++) {
        const struct client_field *field = &table->rows[i];
        const struct client_field_place missing = {.up = place, .name = field->name};
        value = json_object_get(object, field->name);
        if ((field->flags & CLIENT_FIELD_REQUIRED) && (!value || json_is_null(value))) {
            client_field_add_fault(reader, &missing, "is missing but required");
        }
    }
    return true;
}
