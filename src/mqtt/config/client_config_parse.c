/* Owns the ways from a document or text to a checked configuration, with the fields of the profile
 * that it names. Any thread. */
#include "client_config_fields.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/text.h"
#include "mqtt/config/client_profiles.h"

static void config_parse_fault_broker(struct client_faults *faults) {
    struct reader reader = {.faults = faults};
    const struct client_field_place place = {.name = "profile"};
    client_field_add_fault(&reader, &place,
                           "has a password or WebSocket headers for other brokers than the "
                           "client's: give the client its own");
}

/* The client's own fields are checked by themselves first, so that a fault is at their place. */
static enum err config_parse_merged(json_t *document, struct client_profile *profile,
                                    enum client_source source, const char *id_hint,
                                    struct client_config **out, struct client_faults *faults) {
    *out = NULL;
    faults->count = 0;
    if (source == CLIENT_FROM_API) {
        client_config_check_members(document, faults);
    }
    if (faults->count == 0 && client_profile_sends_elsewhere(profile->fields, document)) {
        config_parse_fault_broker(faults);
    }
    if (faults->count > 0) {
        return ERR_ARGUMENT;
    }
    json_t *merged = client_profile_merge(profile->fields, document);
    if (!merged) {
        return ERR_MEMORY;
    }
    if (source == CLIENT_FROM_API) { /* those of the profile are of no concern to the caller */
        (void)json_object_del(merged, "retired_filters");
    }
    enum err err = client_config_read(merged, source, id_hint, out, faults);
    if (err == ERR_OK) {
        (*out)->profile = client_profile_hold(profile);
    }
    json_decref(merged);
    return err;
}

enum err client_config_parse_with(json_t *document, struct client_profile *profile,
                                  enum client_source source, const char *id_hint,
                                  struct client_config **out, struct client_faults *faults) {
    return profile && json_is_object(document)
               ? config_parse_merged(document, profile, source, id_hint, out, faults)
               : client_config_read(document, source, id_hint, out, faults);
}

static void config_parse_fault_profile(struct client_faults *faults, const char *name) {
    struct reader reader = {.faults = faults};
    const struct client_field_place place = {.name = "profile"};
    client_field_add_fault(&reader, &place, "there is no client profile %.64s", name);
}

enum err client_config_parse(json_t *document, enum client_source source, const char *id_hint,
                             struct client_config **out, struct client_faults *faults) {
    assert(document && out && faults);
    const char *name = client_profile_of(document);
    struct client_profile *profile = name ? client_profiles_find(name) : NULL;
    if (name && !profile) {
        *out = NULL;
        faults->count = 0;
        config_parse_fault_profile(faults, name);
        return ERR_ARGUMENT;
    }
    enum err err = client_config_parse_with(document, profile, source, id_hint, out, faults);
    client_profile_release(profile);
    return err;
}

/* jansson's text without its quotation from the document (" near '...'"), which may be a secret. */
static void config_parse_fault_json(struct client_faults *faults, const json_error_t *error) {
    struct reader reader = {.faults = faults};
    const char *quote = strstr(error->text, " near ");
    int len = !quote ? (int)strlen(error->text) : (int)(quote - error->text);
    client_field_add_fault(&reader, NULL, "line %d, column %d: %.*s", error->line, error->column,
                           len, error->text);
}

static enum err config_parse_text(const char *text, size_t len, json_t **document,
                                  struct client_faults *faults) {
    json_error_t error;
    faults->count = 0;
    enum err err = json_parse(document, text, len, JSON_REJECT_DUPLICATES, &error);
    if (err == ERR_OK && !json_is_object(*document)) {
        error = (json_error_t){.line = 1, .column = 1, .text = "must be an object"};
        err = ERR_ARGUMENT;
    }
    if (err == ERR_ARGUMENT) {
        config_parse_fault_json(faults, &error);
    }
    return err;
}

static enum err config_parse_keep_source(struct client_config **config, const char *text,
                                         size_t len) {
    (*config)->source = text_copy(text, len);
    if ((*config)->source) {
        return ERR_OK;
    }
    client_config_destroy(*config);
    *config = NULL;
    return ERR_MEMORY;
}

enum err client_config_parse_text(const char *text, size_t len, const char *id_hint,
                                  struct client_config **out, struct client_faults *faults) {
    json_t *document = NULL;
    *out = NULL;
    enum err err = config_parse_text(text, len, &document, faults);
    if (err == ERR_OK) {
        err = client_config_parse(document, CLIENT_FROM_STORE, id_hint, out, faults);
    }
    json_decref(document);
    return err == ERR_OK ? config_parse_keep_source(out, text, len) : err;
}

enum err client_config_parse_text_with(const char *text, size_t len, const char *id_hint,
                                       struct client_profile *profile, struct client_config **out,
                                       struct client_faults *faults) {
    json_t *document = NULL;
    *out = NULL;
    enum err err = config_parse_text(text, len, &document, faults);
    if (err == ERR_OK) {
        err = client_config_parse_with(document, profile, CLIENT_FROM_STORE, id_hint, out, faults);
    }
    json_decref(document);
    return err == ERR_OK ? config_parse_keep_source(out, text, len) : err;
}
