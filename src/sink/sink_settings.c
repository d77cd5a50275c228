/* Owns the fields of every sink, and the validation of settings against tables of fields. */
#include "sink/sink_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "base/secrets/secret_box.h"
#include "base/secrets/secret_source.h"
#include "sink/sink.h"

const struct sink_field sink_common_fields[] = {
    {.name = "queue_messages",
     .kind = SINK_FIELD_INTEGER,
     .number = 10000,
     .min = 1,
     .max = 10000000,
     .unit = "messages",
     .description = "maximum number of messages waiting for the sink"},
    {.name = "queue_bytes",
     .kind = SINK_FIELD_INTEGER,
     .number = 67108864,
     .min = 65536,
     .max = 17179869184,
     .unit = "bytes",
     .description = "maximum number of bytes waiting for the sink"},
    {.name = "batch_messages",
     .kind = SINK_FIELD_INTEGER,
     .number = 500,
     .min = 1,
     .max = 10000,
     .unit = "messages",
     .description = "maximum number of messages in one write"},
    {.name = "retry_ms",
     .kind = SINK_FIELD_INTEGER,
     .max = 31536000000,
     .unit = "ms",
     .description = "time after which a message that the sink does not accept becomes a dead "
                    "letter; 0: never"},
    {.name = "dead_letter",
     .kind = SINK_FIELD_TEXT,
     .text = SINK_DEAD_LETTER,
     .description = "sink for the messages that this one rejects; empty: none, they are retried"},
    {0}};

struct settings_check {
    json_t *complete;
    sink_fault_report *report;
    void *context;
    bool failed;
};

static void settings_fault(struct settings_check *check, const char *field, const char *fault) {
    check->failed = true;
    check->report(check->context, field, fault);
}

static bool settings_is_choice(const char *choices, const char *value) {
    size_t len = strlen(value);
    const char *at = choices;
    while (at && len > 0) {
        const char *end = strchrnul(at, '|');
        if ((size_t)(end - at) == len && memcmp(at, value, len) == 0) {
            return true;
        }
        at = *end ? end + 1 : NULL;
    }
    return false;
}

/* ---- one rule per kind: NULL, or what would be right --------------------------------------- */

static const char *settings_check_text(const struct sink_field *field, const json_t *value) {
    (void)field;
    if (!json_is_string(value)) {
        return "must be a string";
    }
    return strlen(json_string_value(value)) == json_string_length(value)
               ? NULL
               : "must not contain the character U+0000";
}

/* NULL: it is a reference of the right form. */
static const char *settings_check_reference(const json_t *value) {
    const char *why = NULL;
    free(secret_source_parse(value, &why));
    return why;
}

static const char *settings_check_secret(const struct sink_field *field, const json_t *value) {
    return json_is_object(value) ? settings_check_reference(value)
                                 : settings_check_text(field, value);
}

static const char *settings_check_choice(const struct sink_field *field, const json_t *value) {
    bool known =
        json_is_string(value) && settings_is_choice(field->choices, json_string_value(value));
    return known ? NULL : "must be one of the allowed values";
}

static const char *settings_check_integer(const struct sink_field *field, const json_t *value) {
    bool fits = json_is_integer(value) && json_integer_value(value) >= field->min &&
                json_integer_value(value) <= field->max;
    return fits ? NULL : "must be an integer within the range";
}

static const char *settings_check_boolean(const struct sink_field *field, const json_t *value) {
    (void)field;
    return json_is_boolean(value) ? NULL : "must be true or false";
}

static const char *settings_check_list(const struct sink_field *field, const json_t *value) {
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        if (settings_check_text(field, json_array_get(value, i))) {
            return "must be an array of strings";
        }
    }
    return json_is_array(value) ? NULL : "must be an array of strings";
}

static const char *settings_check_map(const struct sink_field *field, const json_t *value) {
    const char *name;
    json_t *text;
    json_object_foreach((json_t *)value, name, text) {
        if (field->secret && json_is_object(text)) {
            const char *why = settings_check_reference(text);
            if (why) {
                return why;
            }
        } else if (settings_check_text(field, text)) {
            return "must be an object of strings";
        }
    }
    return json_is_object(value) ? NULL : "must be an object of strings";
}

static json_t *settings_default_text(const struct sink_field *field) {
    return json_string(field->text ? field->text : "");
}

static json_t *settings_default_integer(const struct sink_field *field) {
    return json_integer(field->number);
}

static json_t *settings_default_boolean(const struct sink_field *field) {
    return json_boolean(field->number != 0);
}

static json_t *settings_default_list(const struct sink_field *field) {
    (void)field;
    return json_array();
}

static json_t *settings_default_map(const struct sink_field *field) {
    (void)field;
    return json_object();
}

static const struct {
    const char *(*check)(const struct sink_field *field, const json_t *value);
    json_t *(*make_default)(const struct sink_field *field);
} kinds[] = {
    [SINK_FIELD_TEXT] = {settings_check_text, settings_default_text},
    [SINK_FIELD_SECRET] = {settings_check_secret, settings_default_text},
    [SINK_FIELD_URL] = {settings_check_secret, settings_default_text},
    [SINK_FIELD_HOSTS] = {settings_check_text, settings_default_text},
    [SINK_FIELD_FILE] = {settings_check_text, settings_default_text},
    [SINK_FIELD_CHOICE] = {settings_check_choice, settings_default_text},
    [SINK_FIELD_INTEGER] = {settings_check_integer, settings_default_integer},
    [SINK_FIELD_BOOLEAN] = {settings_check_boolean, settings_default_boolean},
    [SINK_FIELD_LIST] = {settings_check_list, settings_default_list},
    [SINK_FIELD_MAP] = {settings_check_map, settings_default_map},
};

/* ---- an object ------------------------------------------------------------------------------- */

static void settings_explain(struct settings_check *check, const struct sink_field *field,
                             const char *fault) {
    char text[SINK_FAULT_LEN];
    if (field->kind == SINK_FIELD_CHOICE) {
        snprintf(text, sizeof text, "must be one of %s", field->choices);
    } else if (field->kind == SINK_FIELD_INTEGER) {
        snprintf(text, sizeof text, "must be an integer from %lld to %lld%s%s",
                 (long long)field->min, (long long)field->max, field->unit ? " " : "",
                 field->unit ? field->unit : "");
    } else {
        snprintf(text, sizeof text, "%s", fault);
    }
    settings_fault(check, field->name, text);
}

static void settings_take_field(struct settings_check *check, const struct sink_field *field,
                                const json_t *given) {
    json_t *value = json_object_get(given, field->name);
    if (value && !json_is_null(value)) {
        const char *fault = kinds[field->kind].check(field, value);
        if (fault) {
            settings_explain(check, field, fault);
            return;
        }
    }
    bool empty =
        !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
    if (field->required && empty) {
        char text[SINK_FAULT_LEN];
        snprintf(text, sizeof text, "is missing: %s", field->description);
        settings_fault(check, field->name, text);
        return;
    }
    json_t *taken =
        value && !json_is_null(value) ? json_incref(value) : kinds[field->kind].make_default(field);
    if (json_object_set_new(check->complete, field->name, taken) != 0) {
        settings_fault(check, "", "out of memory");
    }
}

const struct sink_field *sink_settings_field(const struct sink_field *const *tables,
                                             const char *name) {
    for (; *tables; tables++) {
        for (const struct sink_field *field = *tables; field->name; field++) {
            if (strcmp(field->name, name) == 0) {
                return field;
            }
        }
    }
    return NULL;
}

json_t *sink_settings_complete(const struct sink_field *const *tables, const json_t *given,
                               sink_fault_report *report, void *context) {
    struct settings_check check = {json_object(), report, context, false};
    const char *name;
    json_t *value;
    if (!check.complete) {
        settings_fault(&check, "", "out of memory");
        return NULL;
    }
    json_object_foreach((json_t *)given, name, value) {
        if (!sink_settings_field(tables, name)) {
            settings_fault(&check, name, "this type of sink has no such field");
        }
    }
    for (size_t i = 0; tables[i]; i++) {
        for (const struct sink_field *field = tables[i]; field->name; field++) {
            settings_take_field(&check, field, given);
        }
    }
    if (check.failed) {
        json_decref(check.complete);
        return NULL;
    }
    return check.complete;
}

/* ---- as texts -------------------------------------------------------------------------------- */

static json_t *settings_split(const char *text) {
    json_t *list = json_array();
    while (*text) {
        text += strspn(text, " ,");
        size_t len = strcspn(text, ",");
        size_t end = len;
        while (end > 0 && text[end - 1] == ' ') {
            end--;
        }
        if (end > 0) {
            json_array_append_new(list, json_stringn(text, end));
        }
        text += len;
    }
    return list;
}

/* A text that is none of the kind remains a text, which is a fault of the field. */
static json_t *settings_from_text(const struct sink_field *field, json_t *text) {
    const char *value = json_string_value(text);
    size_t digits = value ? strspn(value + (*value == '-'), "0123456789") : 0;
    bool is_number = digits > 0 && digits <= 18 && value[digits + (*value == '-')] == '\0';
    if (value && field->kind == SINK_FIELD_INTEGER && is_number) {
        return json_integer(strtoll(value, NULL, 10));
    }
    if (value && field->kind == SINK_FIELD_BOOLEAN &&
        (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)) {
        return json_boolean(*value == 't');
    }
    if (value && field->kind == SINK_FIELD_LIST) {
        return settings_split(value);
    }
    return json_incref(text);
}

json_t *sink_settings_from_texts(const struct sink_field *const *tables, const json_t *texts) {
    json_t *settings = json_object();
    const char *name;
    json_t *text;
    int failed = settings ? 0 : -1;
    json_object_foreach((json_t *)texts, name, text) {
        const struct sink_field *field = sink_settings_field(tables, name);
        json_t *value = field ? settings_from_text(field, text) : json_incref(text);
        failed |= json_object_set_new(settings, name, value);
    }
    if (failed != 0) {
        json_decref(settings);
        return NULL;
    }
    return settings;
}

/* ---- secrets --------------------------------------------------------------------------------- */

/* The secret parts of a URL: the part before the host, and the query. */
static json_t *settings_mask_url(const char *url) {
    const char *scheme = strstr(url, "://");
    const char *begin = scheme ? scheme + 3 : url;
    const char *at = strrchr(begin, '@'); /* a password may have a ? */
    const char *host = at ? at + 1 : begin;
    const char *end = host + strcspn(host, "?");
    return json_sprintf("%.*s%s%.*s%s", (int)(begin - url), url,
                        host > begin ? SINK_SECRET_SHOWN ":" SINK_SECRET_SHOWN "@" : "",
                        (int)(end - host), host, *end ? "?" SINK_SECRET_SHOWN : "");
}

static bool settings_has_credentials(const char *url) {
    const char *authority = strstr(url, "://");
    return strchr(authority ? authority : url, '@') || strchr(url, '?');
}

static bool settings_is_secret(const struct sink_field *field, const char *text) {
    return *text && (field->kind == SINK_FIELD_SECRET || field->secret ||
                     (field->kind == SINK_FIELD_URL &&
                      (settings_has_credentials(text) || secret_is_sealed(text))));
}

static json_t *settings_visit_text(const struct sink_field *field, const char *text,
                                   sink_secret_visit *visit, void *context) {
    char pointer[SINK_FAULT_LEN];
    snprintf(pointer, sizeof pointer, "/%s", field->name);
    return settings_is_secret(field, text) ? visit(context, pointer, text) : NULL;
}

static void settings_visit_map(const struct sink_field *field, json_t *map,
                               sink_secret_visit *visit, void *context) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const char *text = json_string_value(value);
        json_t *other = text ? settings_visit_text(field, text, visit, context) : NULL;
        if (other) {
            json_object_set_new(map, name, other);
        }
    }
}

void sink_settings_visit_secrets(const struct sink_field *const *tables, json_t *settings,
                                 sink_secret_visit *visit, void *context) {
    const char *name;
    json_t *value;
    json_object_foreach(settings, name, value) {
        const struct sink_field *field = sink_settings_field(tables, name);
        const char *text = json_string_value(value);
        json_t *other = field && text ? settings_visit_text(field, text, visit, context) : NULL;
        if (other) {
            json_object_set_new(settings, name, other);
        } else if (field && field->secret && json_is_object(value)) {
            settings_visit_map(field, value, visit, context);
        }
    }
}

static json_t *settings_mask(void *context, const char *pointer, const char *secret) {
    const struct sink_field *const *tables = context;
    const struct sink_field *field = sink_settings_field(tables, pointer + 1);
    return field->kind == SINK_FIELD_URL ? settings_mask_url(secret)
                                         : json_string(SINK_SECRET_SHOWN);
}

json_t *sink_settings_masked(const struct sink_field *const *tables, const json_t *settings) {
    json_t *masked = json_deep_copy(settings);
    sink_settings_visit_secrets(tables, masked, settings_mask, (void *)tables);
    return masked;
}

/* ---- values ---------------------------------------------------------------------------------- */

const char *sink_settings_text(const json_t *settings, const char *name) {
    const char *text = json_string_value(json_object_get(settings, name));
    return text ? text : "";
}

int64_t sink_settings_integer(const json_t *settings, const char *name) {
    return json_integer_value(json_object_get(settings, name));
}

bool sink_settings_boolean(const json_t *settings, const char *name) {
    return json_is_true(json_object_get(settings, name));
}

const json_t *sink_settings_json(const json_t *settings, const char *name) {
    return json_object_get(settings, name);
}
