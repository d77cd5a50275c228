/* Owns the text form of a scope and the comparison with the labels of a client. */
#include "http/auth/scope.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/percent.h"

bool scope_is_set(const struct scope *scope) {
    return scope->label[0] != '\0';
}

/* ---- text ------------------------------------------------------------------------------------ */

static bool scope_read_name(const char *text, size_t len, struct scope *out) {
    bool right = !client_label_name_fault(text, len);
    if (right) {
        memcpy(out->label, text, len);
        out->label[len] = '\0';
    }
    return right;
}

static bool scope_read_value(const char *text, struct scope *out) {
    char *value = NULL;
    bool right = percent_decode(text, strlen(text), false, &value) == ERR_OK && value[0] != '\0' &&
                 strlen(value) < sizeof out->value;
    if (right) {
        strcpy(out->value, value);
    }
    free(value);
    return right;
}

bool scope_parse(const char *text, struct scope *out) {
    size_t prefix_len = strlen(SCOPE_PREFIX);
    const char *equals = strchr(text, '=');
    *out = (struct scope){0};
    bool right = equals && strncmp(text, SCOPE_PREFIX, prefix_len) == 0 &&
                 scope_read_name(text + prefix_len, (size_t)(equals - text) - prefix_len, out) &&
                 scope_read_value(equals + 1, out);
    if (!right) {
        *out = (struct scope){0};
    }
    return right;
}

static bool scope_is_unreserved(char byte) { /* RFC 3986 section 2.3 */
    return isalnum((unsigned char)byte) || strchr("-._~", byte);
}

void scope_format(const struct scope *scope, char out[SCOPE_TEXT_LEN]) {
    out[0] = '\0';
    if (!scope_is_set(scope)) {
        return;
    }
    int len = snprintf(out, SCOPE_TEXT_LEN, SCOPE_PREFIX "%s=", scope->label);
    for (const char *at = scope->value; *at != '\0'; at++) {
        len += snprintf(out + len, SCOPE_TEXT_LEN - (size_t)len,
                        scope_is_unreserved(*at) ? "%c" : "%%%02X", (unsigned char)*at);
    }
}

/* ---- clients --------------------------------------------------------------------------------- */

bool scope_includes(const struct scope *scope, const struct client_config *config) {
    bool included = !scope_is_set(scope);
    for (size_t i = 0; !included && config && i < config->label_count; i++) {
        included = strcmp(config->labels[i].name, scope->label) == 0 &&
                   strcmp(config->labels[i].value, scope->value) == 0;
    }
    return included;
}

bool scope_includes_text(const struct scope *scope, const char *id, const char *text, size_t len) {
    struct client_config *config = NULL;
    struct client_faults faults;
    if (scope_is_set(scope) &&
        client_config_parse_text(text, len, id, &config, &faults) != ERR_OK) {
        return false;
    }
    bool included = scope_includes(scope, config);
    client_config_destroy(config);
    return included;
}

bool scope_includes_labels(const struct scope *scope, const json_t *labels) {
    const char *value = json_string_value(json_object_get(labels, scope->label));
    return !scope_is_set(scope) || (value && strcmp(value, scope->value) == 0);
}

bool scope_force_label(const struct scope *scope, json_t *document) {
    json_t *labels = json_object_get(document, "labels");
    if (!scope_is_set(scope)) {
        return true;
    }
    if (!labels) {
        json_object_set_new(document, "labels", json_object());
        labels = json_object_get(document, "labels");
    }
    const json_t *given = json_object_get(labels, scope->label);
    if (given) {
        return json_is_string(given) && strcmp(json_string_value(given), scope->value) == 0;
    }
    json_object_set_new(labels, scope->label, json_string(scope->value));
    return true;
}
