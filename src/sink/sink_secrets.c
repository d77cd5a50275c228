/* Owns how references to secrets become the secrets. */
#include "sink/sink_secrets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/secrets/secret_source.h"
#include "sink/sink.h"

bool sink_secrets_may_refer(const struct sink_field *field) {
    return field->kind == SINK_FIELD_SECRET || field->kind == SINK_FIELD_URL || field->secret;
}

/* NULL: fault says why. */
static json_t *sink_secrets_read(const json_t *reference, const char *name, const struct conf *conf,
                                 char *fault) {
    char why[SECRET_BOX_FAULT_LEN] = "out of memory";
    const char *form = why;
    char *source = secret_source_parse(reference, &form), *secret = NULL;
    json_t *text = NULL;
    if (source && conf && secret_source_read(conf, source, &secret, why) == ERR_OK) {
        text = json_string(secret);
        explicit_bzero(secret, strlen(secret));
    }
    if (!text) {
        snprintf(fault, SINK_FAULT_LEN, "%.60s %.180s", name, form);
    }
    free(secret);
    free(source);
    return text;
}

static bool sink_secrets_take(json_t *object, const char *name, const json_t *reference,
                              const struct conf *conf, char *fault) {
    json_t *text = sink_secrets_read(reference, name, conf, fault);
    return text && json_object_set_new(object, name, text) == 0;
}

static bool sink_secrets_take_map(json_t *settings, const char *name, const json_t *map,
                                  const struct conf *conf, char *fault) {
    json_t *copy = json_copy((json_t *)map), *value;
    const char *key;
    void *next;
    bool taken = copy != NULL;
    json_object_foreach_safe(copy, next, key, value) {
        taken =
            taken && (!json_is_object(value) || sink_secrets_take(copy, key, value, conf, fault));
    }
    return json_object_set_new(settings, name, copy) == 0 && taken;
}

bool sink_secrets_resolve(const struct sink_field *const *tables, json_t *settings,
                          const struct conf *conf, char *fault) {
    const char *name;
    json_t *value;
    void *next;
    bool resolved = true;
    json_object_foreach_safe(settings, next, name, value) {
        const struct sink_field *field = sink_settings_field(tables, name);
        if (!resolved || !field || !sink_secrets_may_refer(field) || !json_is_object(value)) {
            continue;
        }
        resolved = field->kind == SINK_FIELD_MAP
                       ? sink_secrets_take_map(settings, name, value, conf, fault)
                       : sink_secrets_take(settings, name, value, conf, fault);
    }
    return resolved;
}

static bool sink_secrets_has_object(const json_t *map) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)map, name, value) {
        if (json_is_object(value)) {
            return true;
        }
    }
    return false;
}

bool sink_secrets_has_reference(const struct sink_field *const *tables, const json_t *settings) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)settings, name, value) {
        const struct sink_field *field = sink_settings_field(tables, name);
        if (field && sink_secrets_may_refer(field) && json_is_object(value) &&
            (field->kind != SINK_FIELD_MAP || sink_secrets_has_object(value))) {
            return true;
        }
    }
    return false;
}

static void sink_secrets_keep_first_fault(void *context, const char *field, const char *text) {
    char *fault = context;
    if (*fault == '\0') {
        snprintf(fault, SINK_FAULT_LEN, "%.60s%s%.180s", field, *field ? " " : "", text);
    }
}

json_t *sink_secrets_complete(const struct sink_field *fields, const json_t *settings,
                              const struct conf *conf, char *fault) {
    const struct sink_field *const tables[] = {sink_common_fields, fields, NULL};
    *fault = '\0';
    json_t *complete =
        sink_settings_complete(tables, settings, sink_secrets_keep_first_fault, fault);
    if (complete && !sink_secrets_resolve(tables, complete, conf, fault)) {
        json_decref(complete);
        return NULL;
    }
    return complete;
}
