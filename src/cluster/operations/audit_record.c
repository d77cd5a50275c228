/* Compares two configurations and writes a record. No state. */
#include "cluster/operations/audit_record.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include "base/system/json_memory.h"

#define NAME_LEN_MAX 64 /* of a field; longer ones are hand-written */

/* Kept by the API itself, see client_config_retire. */
static bool audit_record_hides(const char *name) {
    return strcmp(name, "retired_filters") == 0 || strlen(name) > NAME_LEN_MAX;
}

/* Adds the names of the members of `a` that differ in `b`; missing: only those that `b` lacks. */
static void audit_record_add_names(json_t *fields, json_t *a, const json_t *b, bool missing) {
    const char *name;
    json_t *value;
    json_object_foreach(a, name, value) {
        const json_t *other = json_object_get(b, name);
        bool differs = missing ? !other : !json_equal(value, other);
        if (differs && !audit_record_hides(name) && json_array_size(fields) < AUDIT_FIELDS_MAX) {
            json_array_append_new(fields, json_string(name));
        }
    }
}

static json_t *audit_record_fields(const struct audit_change *change) {
    json_t *fields = json_array();
    if (fields && change->before && change->after) {
        json_t *before = json_from_text(change->before, change->before_len, 0);
        json_t *after = json_from_text(change->after, strlen(change->after), 0);
        audit_record_add_names(fields, after, before, false);
        audit_record_add_names(fields, before, after, true);
        json_decref(before);
        json_decref(after);
    }
    return fields;
}

char *audit_record(const struct audit_change *change) {
    json_t *record = json_pack("{s:s, s:s, s:o}", "by", change->by, "action", change->action,
                               "fields", audit_record_fields(change));
    bool whole =
        record && (!change->operation ||
                   json_object_set_new(record, "operation", json_string(change->operation)) == 0);
    char *text = whole ? json_to_text(record, JSON_COMPACT) : NULL;
    json_decref(record);
    return text;
}
