/* Owns the settings table and the order of the sources: default, file, environment, --set. Main
 * thread, before any other. */
#include "base/config/conf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/telemetry/log.h"
#include "base/text.h"
#include "conf_loader.h"

#define ENVIRONMENT_PREFIX "MQFLEET_"
#define FAULT_SEPARATOR    "\n"
#define FAULT_ROOM         256 /* bytes that the next fault must have */
#define VALUE_SHOWN_MAX    80  /* bytes of an invalid value that a fault repeats */
#define INT_DIGITS_MAX     18

extern char **environ;

#define ROW(row_type, field, row_name, ...)                                                        \
    [CONF_##field] = {                                                                             \
        .name = row_name, .type = row_type, .offset = offsetof(struct conf, field), __VA_ARGS__},
#define ROW_INT(field, name, row_unit, row_standard, row_least, row_most, row_help)                \
    ROW(CONF_INT, field, name, .unit = row_unit, .default_text = #row_standard, .min = row_least,  \
        .max = row_most, .help = row_help)
#define ROW_STR(field, name, row_flags, row_standard, row_help)                                    \
    ROW(CONF_STR, field, name, .flags = row_flags, .default_text = row_standard, .help = row_help)
#define ROW_ENUM(field, name, row_choices, row_standard, row_help)                                 \
    ROW(CONF_ENUM, field, name, .choices = row_choices, .default_text = row_standard,              \
        .help = row_help)
#define ROW_BOOL(field, name, row_standard, row_help)                                              \
    ROW(CONF_BOOL, field, name, .default_text = (row_standard) ? "true" : "false", .help = row_help)
#define ROW_LIST(field, name, row_help)                                                            \
    ROW(CONF_LIST, field, name, .default_text = "", .help = row_help)

const struct conf_setting conf_settings[CONF_COUNT] = {
    CONF_TABLE(ROW_INT, ROW_STR, ROW_ENUM, ROW_BOOL, ROW_LIST)};

static void *conf_field_at(const struct conf *conf, const struct conf_setting *setting) {
    return (char *)conf + setting->offset;
}

int64_t *conf_int_field(const struct conf *conf, const struct conf_setting *setting) {
    return conf_field_at(conf, setting);
}

char **conf_text_field(const struct conf *conf, const struct conf_setting *setting) {
    return conf_field_at(conf, setting);
}

bool *conf_bool_field(const struct conf *conf, const struct conf_setting *setting) {
    return conf_field_at(conf, setting);
}

/* A value may contain any byte and may be cut within a character. The fault is nevertheless one
 * line of UTF-8. */
static void conf_sanitize_fault(char *text) {
    size_t len = strlen(text);
    for (size_t at = 0; at < len;) {
        size_t char_len = text_utf8_char_len(text + at, len - at);
        if (char_len == 0 || !conf_is_text(text + at, char_len)) {
            size_t bad_len = char_len == 0 ? 1 : char_len;
            memset(text + at, '?', bad_len);
            at += bad_len;
        } else {
            at += char_len;
        }
    }
}

enum err conf_fault(struct conf_loader *loader, const char *origin, const char *format, ...) {
    char *fault = loader->fault + loader->fault_len;
    size_t size = CONF_FAULT_LEN - loader->fault_len;
    int origin_len = 0;
    if (origin && origin[0] != '\0') {
        origin_len = snprintf(fault, size, "%.*s: ", CONF_ORIGIN_LEN, origin);
    }
    va_list arguments;
    va_start(arguments, format);
    if ((size_t)origin_len < size) {
        vsnprintf(fault + origin_len, size - (size_t)origin_len, format, arguments);
    }
    va_end(arguments);
    conf_sanitize_fault(fault);
    return ERR_ARGUMENT;
}

enum err conf_collect_fault(struct conf_loader *loader, enum err err) {
    size_t len = strlen(loader->fault);
    bool room = len + FAULT_ROOM + strlen(FAULT_SEPARATOR) < CONF_FAULT_LEN;
    if (err == ERR_ARGUMENT && loader->fault_count + 1 < CONF_FAULTS_MAX && room) {
        strcpy(loader->fault + len, FAULT_SEPARATOR);
        loader->fault_len = len + strlen(FAULT_SEPARATOR);
        loader->fault_count++;
        return ERR_OK;
    }
    return err;
}

enum err conf_collected_faults(struct conf_loader *loader, enum err err) {
    if (err == ERR_OK && loader->fault_count > 0) {
        loader->fault[loader->fault_len - strlen(FAULT_SEPARATOR)] = '\0';
        err = ERR_ARGUMENT;
    }
    return err;
}

enum err conf_no_memory(struct conf_loader *loader) {
    conf_fault(loader, NULL, "out of memory");
    return ERR_MEMORY;
}

static bool conf_is_line_break(const unsigned char *at, size_t char_len) {
    static const char *const BREAKS[] = {"\xE2\x80\xA8", "\xE2\x80\xA9", "\xEF\xBB\xBF",
                                         "\xEF\xBF\xBE", "\xEF\xBF\xBF"};
    for (size_t i = 0; char_len == 3 && i < sizeof(BREAKS) / sizeof(BREAKS[0]); i++) {
        if (memcmp(at, BREAKS[i], 3) == 0) {
            return true;
        }
    }
    return false;
}

bool conf_is_text(const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        const unsigned char *bytes = (const unsigned char *)text + at;
        size_t char_len = text_utf8_char_len(bytes, len - at);
        bool control = bytes[0] < 0x20 || bytes[0] == 0x7F || (bytes[0] == 0xC2 && bytes[1] < 0xA0);
        if (char_len == 0 || control || conf_is_line_break(bytes, char_len)) {
            return false;
        }
        at += char_len;
    }
    return true;
}

const struct conf_setting *conf_find(const char *key) {
    for (size_t i = 0; i < CONF_COUNT; i++) {
        if (strcmp(conf_settings[i].name, key) == 0) {
            return &conf_settings[i];
        }
    }
    return NULL;
}

bool conf_is_group(const char *key) {
    size_t len = strlen(key);
    for (size_t i = 0; i < CONF_COUNT; i++) {
        if (strncmp(conf_settings[i].name, key, len) == 0 && conf_settings[i].name[len] == '.') {
            return true;
        }
    }
    return false;
}

static const char *conf_leaf_name(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* Returns the setting that was probably meant; NULL: no similar name. A correct name in the wrong
 * group is more likely than two typing errors. */
static const struct conf_setting *conf_nearest(const char *key) {
    const struct conf_setting *nearest = NULL;
    size_t least = strlen(key) / 2 + 2; /* only smaller distances count */
    for (size_t i = 0; i < CONF_COUNT; i++) {
        const char *name = conf_settings[i].name;
        size_t whole = text_distance(key, name);
        size_t leaf = text_distance(conf_leaf_name(key), conf_leaf_name(name)) * 2 + 2;
        size_t found = whole < leaf ? whole : leaf;
        if (found < least) {
            least = found;
            nearest = &conf_settings[i];
        }
    }
    return nearest;
}

enum err conf_unknown_setting(struct conf_loader *loader, const char *origin, const char *key) {
    const struct conf_setting *nearest = conf_nearest(key);
    return nearest ? conf_fault(loader, origin, "unknown setting %s; did you mean %s?", key,
                                nearest->name)
                   : conf_fault(loader, origin,
                                "unknown setting %s; mqfleetd --print-reference lists all settings",
                                key);
}

static enum err conf_refuse(struct conf_loader *loader, const struct conf_setting *setting,
                            const char *value, const char *origin, const char *must) {
    if ((setting->flags & CONF_SECRET) != 0) {
        return conf_fault(loader, origin, "%s: must be %s", setting->name, must);
    }
    bool cut = strlen(value) > VALUE_SHOWN_MAX;
    return conf_fault(loader, origin, "%s %.*s%s: must be %s", setting->name, VALUE_SHOWN_MAX,
                      value[0] != '\0' ? value : "\"\"", cut ? "..." : "", must);
}

/* Decimal digits with an optional minus and without leading zeros, because 010 means 8 to some
 * readers. */
static bool conf_parse_int(const char *text, int64_t *out) {
    const char *digits = text[0] == '-' ? text + 1 : text;
    size_t len = strspn(digits, "0123456789");
    if (len == 0 || len > INT_DIGITS_MAX || digits[len] != '\0' || (digits[0] == '0' && len > 1)) {
        return false;
    }
    *out = strtoll(text, NULL, 10);
    return true;
}

static enum err conf_assign_int(struct conf_loader *loader, const struct conf_setting *setting,
                                const char *text, const char *origin) {
    int64_t value;
    if (!conf_parse_int(text, &value) || value < setting->min || value > setting->max) {
        char must[128];
        snprintf(must, sizeof(must), "a whole number from %lld to %lld%s%s",
                 (long long)setting->min, (long long)setting->max,
                 setting->unit[0] != '\0' ? " " : "", setting->unit);
        return conf_refuse(loader, setting, text, origin, must);
    }
    *conf_int_field(loader->conf, setting) = value;
    return ERR_OK;
}

static enum err conf_assign_bool(struct conf_loader *loader, const struct conf_setting *setting,
                                 const char *text, const char *origin) {
    bool value = strcmp(text, "true") == 0;
    if (!value && strcmp(text, "false") != 0) {
        return conf_refuse(loader, setting, text, origin, "true or false");
    }
    *conf_bool_field(loader->conf, setting) = value;
    return ERR_OK;
}

static enum err conf_replace_text(struct conf_loader *loader, const struct conf_setting *setting,
                                  const char *text) {
    char *copy = text_dup(text);
    if (!copy) {
        return conf_no_memory(loader);
    }
    char **field = conf_text_field(loader->conf, setting);
    free(*field);
    *field = copy;
    return ERR_OK;
}

static bool conf_is_choice(const char *choices, const char *text) {
    size_t len = strlen(text);
    for (const char *at = choices; len > 0 && at; at = strchr(at, '|')) {
        at += *at == '|' ? 1 : 0;
        if (strncmp(at, text, len) == 0 && (at[len] == '|' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static enum err conf_assign_enum(struct conf_loader *loader, const struct conf_setting *setting,
                                 const char *text, const char *origin) {
    if (!strchr(text, '|') && conf_is_choice(setting->choices, text)) {
        return conf_replace_text(loader, setting, text);
    }
    char must[160] = "one of ";
    size_t len = strlen(must);
    for (const char *at = setting->choices; *at != '\0' && len + 3 < sizeof(must); at++) {
        if (*at == '|') {
            must[len++] = ',';
        }
        must[len++] = *at == '|' ? ' ' : *at;
    }
    must[len] = '\0';
    return conf_refuse(loader, setting, text, origin, must);
}

static enum err conf_assign_str(struct conf_loader *loader, const struct conf_setting *setting,
                                const char *text, const char *origin) {
    size_t len = strlen(text);
    if (len > CONF_TEXT_MAX || !conf_is_text(text, len)) {
        return conf_refuse(loader, setting, text, origin,
                           "UTF-8 without control characters, at most 4096 bytes");
    }
    return conf_replace_text(loader, setting, text);
}

/* Removes blanks around the entries, so that readers of the list need not. */
static enum err conf_assign_list(struct conf_loader *loader, const struct conf_setting *setting,
                                 const char *text, const char *origin) {
    static const char MUST[] = "a comma separated list without empty entries, at most 65536 bytes";
    size_t len = strlen(text);
    if (len > CONF_LIST_MAX || !conf_is_text(text, len)) {
        return conf_refuse(loader, setting, text, origin, MUST);
    }
    char *list = calloc(1, len + 1);
    if (!list) {
        return conf_no_memory(loader);
    }
    bool empty_entry = false;
    size_t end = 0;
    for (const char *at = text; at && len > 0;) {
        at += strspn(at, " ");
        const char *comma = strchr(at, ',');
        size_t entry_len = comma ? (size_t)(comma - at) : strlen(at);
        while (entry_len > 0 && at[entry_len - 1] == ' ') {
            entry_len--;
        }
        empty_entry = empty_entry || entry_len == 0;
        memcpy(list + end, at, entry_len);
        end += entry_len;
        if (comma) {
            list[end++] = ',';
        }
        at = comma ? comma + 1 : NULL;
    }
    enum err err = empty_entry ? conf_refuse(loader, setting, text, origin, MUST)
                               : conf_replace_text(loader, setting, list);
    free(list);
    return err;
}

static enum err (*const ASSIGN[])(struct conf_loader *, const struct conf_setting *, const char *,
                                  const char *) = {
    [CONF_INT] = conf_assign_int,   [CONF_STR] = conf_assign_str,   [CONF_ENUM] = conf_assign_enum,
    [CONF_BOOL] = conf_assign_bool, [CONF_LIST] = conf_assign_list,
};

enum err conf_assign(struct conf_loader *loader, const struct conf_setting *setting,
                     const char *text, size_t len, const char *origin) {
    if (strlen(text) != len) {
        return conf_fault(loader, origin, "%s: contains a NUL character", setting->name);
    }
    enum err err = ASSIGN[setting->type](loader, setting, text, origin);
    if (err == ERR_OK) {
        snprintf(loader->origins[setting - conf_settings], CONF_ORIGIN_LEN, "%s", origin);
    }
    return err;
}

static enum err conf_apply_defaults(struct conf_loader *loader) {
    for (size_t i = 0; i < CONF_COUNT; i++) {
        const char *standard = conf_settings[i].default_text;
        enum err err = conf_assign(loader, &conf_settings[i], standard, strlen(standard), "");
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* "redis_config.url" is MQFLEET_REDIS_CONFIG_URL. */
static void conf_variable_name(const struct conf_setting *setting, char out[CONF_KEY_LEN]) {
    snprintf(out, CONF_KEY_LEN, ENVIRONMENT_PREFIX "%s", setting->name);
    for (char *at = out; *at != '\0'; at++) {
        if (*at >= 'a' && *at <= 'z') {
            *at = (char)(*at - 'a' + 'A');
        } else if (*at == '.') {
            *at = '_';
        }
    }
}

static const struct conf_setting *conf_find_by_variable_name(const char *name) {
    char candidate[CONF_KEY_LEN];
    for (size_t i = 0; i < CONF_COUNT; i++) {
        conf_variable_name(&conf_settings[i], candidate);
        if (strcmp(candidate, name) == 0) {
            return &conf_settings[i];
        }
    }
    return NULL;
}

/* Not an error: Kubernetes, for example, sets MQFLEET_PORT for a service of that name. */
static enum err conf_warn_unknown_variable(const char *name) {
    char key[CONF_KEY_LEN];
    char nearest[CONF_KEY_LEN] = "none";
    snprintf(key, sizeof(key), "%s", name + strlen(ENVIRONMENT_PREFIX));
    for (char *at = key; *at != '\0'; at++) {
        *at = *at >= 'A' && *at <= 'Z' ? (char)(*at - 'A' + 'a') : *at;
    }
    const struct conf_setting *setting = conf_nearest(key);
    if (setting) {
        conf_variable_name(setting, nearest);
    }
    log_event(LOG_WARN, "unknown_environment_variable", KS("name", name), KS("nearest", nearest));
    return ERR_OK;
}

/* Variables of the command line tool, which may share an environment with a node. */
static bool conf_is_cli_variable(const char *name) {
    static const char *const NAMES[] = {"MQFLEET_URL", "MQFLEET_TOKEN", "MQFLEET_TOKEN_FILE",
                                        "MQFLEET_CA"};
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        if (strcmp(NAMES[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum err conf_apply_variable(struct conf_loader *loader, const char *variable) {
    const char *equals = strchr(variable, '=');
    size_t prefix_len = strlen(ENVIRONMENT_PREFIX);
    if (!equals || strncmp(variable, ENVIRONMENT_PREFIX, prefix_len) != 0) {
        return ERR_OK;
    }
    char name[CONF_KEY_LEN];
    size_t name_len = (size_t)(equals - variable);
    name_len = name_len < sizeof(name) ? name_len : sizeof(name) - 1;
    memcpy(name, variable, name_len);
    name[name_len] = '\0';
    const struct conf_setting *setting = conf_find_by_variable_name(name);
    if (!setting) {
        return conf_is_cli_variable(name) ? ERR_OK : conf_warn_unknown_variable(name);
    }
    return conf_assign(loader, setting, equals + 1, strlen(equals + 1), name);
}

static enum err conf_apply_environment(struct conf_loader *loader) {
    for (char **variable = environ; variable && *variable; variable++) {
        enum err err = conf_collect_fault(loader, conf_apply_variable(loader, *variable));
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err conf_apply_set(struct conf_loader *loader, const char *text) {
    const char *equals = strchr(text, '=');
    if (!equals) {
        return conf_fault(loader, "--set", "%.*s: must be key=value", VALUE_SHOWN_MAX, text);
    }
    char key[CONF_KEY_LEN];
    snprintf(key, sizeof(key), "%.*s", (int)(equals - text), text);
    if (conf_sinks_is_key(key)) {
        return conf_sinks_set_text(loader, key, equals + 1, "--set");
    }
    const struct conf_setting *setting = conf_find(key);
    if (!setting) {
        return conf_unknown_setting(loader, "--set", key);
    }
    return conf_assign(loader, setting, equals + 1, strlen(equals + 1), "--set");
}

static enum err conf_load_sources(struct conf_loader *loader, const char *path,
                                  const char *const *sets, size_t set_count) {
    enum err err = conf_apply_defaults(loader);
    if (err == ERR_OK && path) {
        err = conf_read_file(loader, path);
    }
    if (err == ERR_OK) {
        err = conf_apply_environment(loader);
    }
    for (size_t i = 0; i < set_count && err == ERR_OK; i++) {
        err = conf_collect_fault(loader, conf_apply_set(loader, sets[i]));
    }
    err = conf_collected_faults(loader, err);
    if (err == ERR_OK) {
        err = conf_check_rules(loader);
    }
    return err == ERR_OK ? conf_compute(loader) : err;
}

enum err conf_load(struct conf **out, const char *path, const char *const *sets, size_t set_count,
                   char fault[CONF_FAULT_LEN]) {
    *out = NULL;
    fault[0] = '\0';
    enum err err = ERR_MEMORY;
    struct conf_loader *loader = calloc(1, sizeof *loader);
    struct conf *conf = calloc(1, sizeof *conf);
    if (!loader || !conf) {
        snprintf(fault, CONF_FAULT_LEN, "out of memory");
        goto out;
    }
    loader->conf = conf;
    loader->fault = fault;
    err = conf_load_sources(loader, path, sets, set_count);
    if (err == ERR_OK) {
        *out = conf;
        conf = NULL;
    }
out:
    conf_destroy(conf);
    free(loader);
    return err;
}

void conf_destroy(struct conf *conf) {
    if (!conf) {
        return;
    }
    for (size_t i = 0; i < CONF_COUNT; i++) {
        const struct conf_setting *setting = &conf_settings[i];
        if (setting->type == CONF_INT || setting->type == CONF_BOOL) {
            continue;
        }
        char *text = *conf_text_field(conf, setting);
        if (text && (setting->flags & CONF_SECRET) != 0) {
            explicit_bzero(text, strlen(text));
        }
        free(text);
    }
    json_decref(conf->sinks);
    json_decref(conf->sink_origins);
    free(conf);
}
