/* The settings of a sink: a JSON object, described by a table of fields. Validation, defaults and
 * documentation follow from the table. Pure; any thread. */
#ifndef MQFLEET_SINK_SINK_SETTINGS_H
#define MQFLEET_SINK_SINK_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#define SINK_FAULT_LEN    256
#define SINK_SECRET_SHOWN "***"

enum sink_field_kind {
    SINK_FIELD_TEXT,
    SINK_FIELD_SECRET, /* text that is stored encrypted and never shown, or a reference to it
                          (sink_secrets.h), as in URL and in the values of a secret MAP */
    SINK_FIELD_URL,    /* text; its password is never shown. Its host must be allowed */
    SINK_FIELD_HOSTS,  /* text: HOST:PORT, several separated by commas. Each must be allowed */
    SINK_FIELD_FILE,   /* text: an absolute path that the sink writes. Its folder must be allowed */
    SINK_FIELD_CHOICE, /* one of `choices` */
    SINK_FIELD_INTEGER,
    SINK_FIELD_BOOLEAN,
    SINK_FIELD_LIST, /* of texts */
    SINK_FIELD_MAP   /* of texts by name */
};

struct sink_field {
    const char *name; /* snake_case */
    enum sink_field_kind kind;
    bool required;
    bool secret;              /* of MAP: its values are secrets */
    const char *text;         /* default of TEXT, SECRET, URL and CHOICE; NULL: "" */
    int64_t number, min, max; /* INTEGER: default and range. BOOLEAN: default 0 or 1 */
    const char *choices;      /* "a|b" */
    const char *unit;         /* of INTEGER, "ms"; NULL: none */
    const char *description;  /* one sentence without a full stop */
};

/* Called for each fault, with the field, the error and the expected value. */
typedef void sink_fault_report(void *context, const char *field, const char *fault);

/* A copy of `given` that has all fields, or NULL after a fault or without memory (reported with
 * field ""). A field that no table has is a fault. tables: several, ends with NULL. */
json_t *sink_settings_complete(const struct sink_field *const *tables, const json_t *given,
                               sink_fault_report *report, void *context);

/* Settings as a configuration file gives them: a text becomes a number, a boolean or a list where
 * the field is one. NULL: out of memory. */
json_t *sink_settings_from_texts(const struct sink_field *const *tables, const json_t *texts);
/* A copy with *** in place of secrets and of the credentials in URLs. NULL: out of memory. */
json_t *sink_settings_masked(const struct sink_field *const *tables, const json_t *settings);

/* Called for each text that holds a secret: a SECRET, a URL with credentials or a query, a value of
 * a secret MAP. pointer: JSON pointer of the field. Returns the text in its place; NULL: it stays.
 */
typedef json_t *sink_secret_visit(void *context, const char *pointer, const char *secret);
/* In place. */
void sink_settings_visit_secrets(const struct sink_field *const *tables, json_t *settings,
                                 sink_secret_visit *visit, void *context);

/* NULL: no table has it. */
const struct sink_field *sink_settings_field(const struct sink_field *const *tables,
                                             const char *name);

/* Of complete settings. Texts are borrowed, never NULL. */
const char *sink_settings_text(const json_t *settings, const char *name);
int64_t sink_settings_integer(const json_t *settings, const char *name);
bool sink_settings_boolean(const json_t *settings, const char *name);
const json_t *sink_settings_json(const json_t *settings, const char *name);

#endif
