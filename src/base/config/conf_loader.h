/* Shared by the parts of the configuration: the settings as rows, and the loader that fills them.
 * Private to src/base/config. Runs on the main thread, before any other. */
#ifndef MQFLEET_CONFIG_CONF_LOADER_H
#define MQFLEET_CONFIG_CONF_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"

#define CONF_KEY_LEN    128 /* with the NUL; longer than the name of any setting */
#define CONF_ORIGIN_LEN 192 /* with the NUL */
#define CONF_TEXT_MAX   4096
#define CONF_LIST_MAX   65536
#define CONF_NAME_MAX   128 /* bytes of node_info.name and key_prefix */

enum conf_index {
#define CONF_INDEX(field, ...) CONF_##field,
    CONF_TABLE(CONF_INDEX, CONF_INDEX, CONF_INDEX, CONF_INDEX, CONF_INDEX)
#undef CONF_INDEX
        CONF_COUNT
};

enum conf_type { CONF_INT, CONF_STR, CONF_ENUM, CONF_BOOL, CONF_LIST };

struct conf_setting {
    const char *name;
    enum conf_type type;
    size_t offset; /* of the field in struct conf: int64_t, char * or bool by type */
    int flags;
    const char *unit;
    const char *choices;      /* CONF_ENUM: "a|b|c" */
    const char *default_text; /* the default as text */
    int64_t min;
    int64_t max;
    const char *help;
};

extern const struct conf_setting conf_settings[CONF_COUNT];

struct conf_loader {
    struct conf *conf;
    char *fault;        /* CONF_FAULT_LEN bytes, owned by the caller */
    size_t fault_len;   /* of the faults that were collected, each followed by a separator */
    size_t fault_count; /* collected */
    char origins[CONF_COUNT][CONF_ORIGIN_LEN]; /* origin of each value; "": the default */
};

int64_t *conf_int_field(const struct conf *conf, const struct conf_setting *setting);
char **conf_text_field(const struct conf *conf, const struct conf_setting *setting);
bool *conf_bool_field(const struct conf *conf, const struct conf_setting *setting);

/* Writes "origin: text" as one line to the fault ("" or NULL: no origin). Returns ERR_ARGUMENT. */
enum err conf_fault(struct conf_loader *loader, const char *origin, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum err conf_no_memory(struct conf_loader *loader);
/* Keeps a fault of one value (ERR_ARGUMENT) and returns ERR_OK, so that the faults of the next
 * values are told as well. Returns any other error as it is. */
enum err conf_collect_fault(struct conf_loader *loader, enum err err) MUST_CHECK;
/* ERR_ARGUMENT if faults were collected; `err` if it is another error. */
enum err conf_collected_faults(struct conf_loader *loader, enum err err) MUST_CHECK;

/* NULL: no such setting. */
const struct conf_setting *conf_find(const char *key);
/* Returns ERR_ARGUMENT with a fault that suggests the most similar setting. */
enum err conf_unknown_setting(struct conf_loader *loader, const char *origin, const char *key);
/* Does the name of any setting begin with "key."? */
bool conf_is_group(const char *key);

/* Parses one value, checks its bounds and stores it. text is NUL-terminated; len reveals a NUL
 * within. */
enum err conf_assign(struct conf_loader *loader, const struct conf_setting *setting,
                     const char *text, size_t len, const char *origin) MUST_CHECK;

/* True for UTF-8 without control characters and without characters that YAML would change. */
bool conf_is_text(const char *text, size_t len);

/* conf_yaml.c */
enum err conf_read_file(struct conf_loader *loader, const char *path) MUST_CHECK;

/* conf_sinks.c. A sink is added before its fields are set, unless conf_sinks_set_text adds it. */
enum err conf_sinks_add(struct conf_loader *loader, const char *name,
                        const char *origin) MUST_CHECK;
/* Takes ownership of value. */
enum err conf_sinks_set(struct conf_loader *loader, const char *name, const char *field,
                        json_t *value, const char *origin) MUST_CHECK;
/* Whether the key of --set begins with "sinks.". */
bool conf_sinks_is_key(const char *key);
enum err conf_sinks_set_text(struct conf_loader *loader, const char *key, const char *text,
                             const char *origin) MUST_CHECK;

/* conf_rules.c */
enum err conf_check_rules(struct conf_loader *loader) MUST_CHECK;
enum err conf_compute(struct conf_loader *loader) MUST_CHECK;

#endif
