/* Owns which sinks a node has by its own settings. Main thread. */
#include "node_sinks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "app.h"
#include "default_sinks.h"
#include "sink/sink_types.h"

static const char *const node_sinks_types[] = {"redis_stream", "file", "null"};

#define NO_REDIS   "redis://127.0.0.1:1/0" /* for one that is not started yet */
#define TYPE_COUNT (sizeof node_sinks_types / sizeof node_sinks_types[0])

/* The fault of a type begins with the name of a field, which becomes that of the setting. fault:
 * FAULT_LEN. */
static void node_sinks_describe_default(const char *sink_fault, char *fault) {
    char field[SINK_FAULT_LEN];
    size_t len = strcspn(sink_fault, " ");
    snprintf(field, sizeof field, "%.*s", (int)len, sink_fault);
    const char *setting = default_sink_setting(field);
    snprintf(fault, FAULT_LEN, "%s%s", setting, sink_fault + (*setting ? len : 0));
}

/* ---- sinks.NAME ------------------------------------------------------------------------------ */

struct node_sinks_faults {
    const struct conf *conf;
    const char *name; /* of the sink */
    FILE *out;
    int count;
};

static void node_sinks_fault(void *context, const char *field, const char *fault) {
    struct node_sinks_faults *faults = context;
    char key[SINK_NAME_LEN + 128];
    snprintf(key, sizeof key, "%s.%s", faults->name, field);
    const json_t *origins = faults->conf->sink_origins;
    const char *origin = json_string_value(json_object_get(origins, key));
    origin = origin ? origin : json_string_value(json_object_get(origins, faults->name));
    fprintf(faults->out, "mqfleetd: %s: sinks.%s%s%s %s\n", origin ? origin : "settings",
            faults->name, *field ? "." : "", field, fault);
    faults->count++;
}

/* NULL: the sink has no type that this node knows; fault (SINK_FAULT_LEN) says why. */
static const struct sink_type *node_sinks_type(const json_t *texts, char *fault) {
    return sink_types_find(json_string_value(json_object_get(texts, "type")), fault);
}

/* The settings of the type; new. NULL: out of memory. */
static json_t *node_sinks_settings(const struct sink_type *type, const json_t *texts) {
    const struct sink_field *const tables[] = {sink_common_fields, type->fields, NULL};
    json_t *settings = sink_settings_from_texts(tables, texts);
    json_object_del(settings, "type");
    return settings;
}

/* Opens the target of a sink, which connects to nothing, and closes it again: what the type itself
 * finds wrong. False: fault (SINK_FAULT_LEN) begins with the name of a field. */
static bool node_sinks_try(const struct conf *conf, const char *name, const char *type,
                           const json_t *settings, char *fault) {
    const struct sink_environment environment = {
        .node = conf->node_name,
        .conf = conf,
        .redis_url = strstr(conf->redis_url, "://") ? conf->redis_url : NO_REDIS,
        .key_prefix = conf->key_prefix,
        .redis_timeout_ms = conf->redis_timeout_ms,
        .redis_replicas_timeout_ms = conf->min_replicas_timeout_ms};
    struct sink *sink = NULL;
    snprintf(fault, SINK_FAULT_LEN, "out of memory");
    enum err err = sink_create(
        &sink,
        &(struct sink_config){
            .name = name, .type = type, .environment = &environment, .settings = settings},
        fault);
    sink_destroy(err == ERR_OK ? sink : NULL);
    return err == ERR_OK;
}

/* Of TLS: what begins with a / is a path. */
static void node_sinks_check_files(struct node_sinks_faults *faults, const json_t *settings) {
    const char *field;
    json_t *value;
    json_object_foreach((json_t *)settings, field, value) {
        const char *path = json_string_value(value);
        if (path && *path == '/' && strncmp(field, "tls_", 4) == 0 && access(path, R_OK) != 0) {
            char fault[SINK_FAULT_LEN];
            snprintf(fault, sizeof fault, "%.150s cannot be read: %s", path, strerror(errno));
            node_sinks_fault(faults, field, fault);
        }
    }
}

static void node_sinks_try_named(struct node_sinks_faults *faults, const struct sink_type *type,
                                 const json_t *settings) {
    const struct sink_field *const tables[] = {sink_common_fields, type->fields, NULL};
    char fault[SINK_FAULT_LEN], field[SINK_FAULT_LEN];
    if (node_sinks_try(faults->conf, faults->name, type->name, settings, fault)) {
        return;
    }
    size_t len = strcspn(fault, " :");
    snprintf(field, sizeof field, "%.*s", (int)len, fault);
    bool named = sink_settings_field(tables, field);
    len += named ? strspn(fault + len, " :") : 0;
    node_sinks_fault(faults, named ? field : "", named ? fault + len : fault);
}

static void node_sinks_check_one(struct node_sinks_faults *faults, const json_t *texts) {
    char fault[SINK_FAULT_LEN];
    if (!sink_name_is_valid(faults->name)) {
        node_sinks_fault(faults, "", "must have a name of " SINK_NAME_FORMAT);
    }
    if (sink_name_is_reserved(faults->name)) {
        node_sinks_fault(faults, "", "must have another name: this one belongs to sink.*");
    }
    const struct sink_type *type = node_sinks_type(texts, fault);
    if (!type) { /* its text begins with the name of the field */
        size_t len = strlen("type");
        node_sinks_fault(faults, "type", fault + (strncmp(fault, "type", len) == 0 ? len + 1 : 0));
        return;
    }
    const struct sink_field *const tables[] = {sink_common_fields, type->fields, NULL};
    json_t *settings = node_sinks_settings(type, texts);
    json_t *complete = sink_settings_complete(tables, settings, node_sinks_fault, faults);
    if (complete) {
        node_sinks_check_files(faults, settings);
        node_sinks_try_named(faults, type, settings);
    }
    json_decref(complete);
    json_decref(settings);
}

/* Whether a node has it, apart from the default: see node_sinks_add_defaults. */
static bool node_sinks_is_usable(const struct conf *conf, const char *type) {
    return strcmp(type, "file") != 0 || conf->sink_path[0] != '\0';
}

static void node_sinks_check_type(struct node_sinks_faults *faults, const char *type) {
    char fault[FAULT_LEN], sink_fault[SINK_FAULT_LEN];
    json_t *settings = default_sink_settings(faults->conf, type);
    if (settings && !node_sinks_try(faults->conf, type, type, settings, sink_fault)) {
        node_sinks_describe_default(sink_fault, fault);
        fprintf(faults->out, "mqfleetd: %s\n", fault);
        faults->count++;
    }
    json_decref(settings);
}

static void node_sinks_check_defaults(struct node_sinks_faults *faults) {
    const char *standard = faults->conf->sink_type;
    node_sinks_check_type(faults, standard);
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        const char *type = node_sinks_types[i];
        if (strcmp(type, standard) != 0 && node_sinks_is_usable(faults->conf, type)) {
            node_sinks_check_type(faults, type);
        }
    }
}

int node_sinks_check(const struct conf *conf, FILE *out) {
    struct node_sinks_faults faults = {.conf = conf, .out = out};
    json_t *texts;
    json_object_foreach(conf->sinks, faults.name, texts) {
        node_sinks_check_one(&faults, texts);
    }
    node_sinks_check_defaults(&faults);
    return faults.count;
}

static enum err node_sinks_add_named(struct sinks *sinks, const char *name, const json_t *texts,
                                     char *fault) {
    char sink_fault[SINK_FAULT_LEN] = "out of memory";
    const struct sink_type *type = node_sinks_type(texts, sink_fault);
    json_t *settings = type ? node_sinks_settings(type, texts) : NULL;
    enum err err = !type ? ERR_ARGUMENT : settings ? ERR_OK : ERR_MEMORY;
    if (err == ERR_OK) {
        err = sinks_add(
            sinks, &(struct sink_config){.name = name, .type = type->name, .settings = settings},
            sink_fault);
    }
    json_decref(settings);
    if (err != ERR_OK) {
        snprintf(fault, FAULT_LEN, "sinks.%s: %s", name, sink_fault);
    }
    return err;
}

/* ---- sink.* ---------------------------------------------------------------------------------- */

static enum err node_sinks_add_type(struct sinks *sinks, const struct conf *conf, const char *name,
                                    const char *type, char *fault) {
    char sink_fault[SINK_FAULT_LEN] = "out of memory";
    json_t *settings = default_sink_settings(conf, type);
    struct sink_config config = {.name = name,
                                 .label = type,
                                 .type = type,
                                 .settings = settings,
                                 .rarely_used = strcmp(name, SINK_DEFAULT) != 0};
    enum err err = settings ? sinks_add(sinks, &config, sink_fault) : ERR_MEMORY;
    json_decref(settings);
    if (err != ERR_OK) {
        node_sinks_describe_default(sink_fault, fault);
    }
    return err;
}

/* The default sink first, then the others that a client may name and that are available. */
static enum err node_sinks_add_defaults(struct sinks *sinks, const struct conf *conf, char *fault) {
    enum err err = node_sinks_add_type(sinks, conf, SINK_DEFAULT, conf->sink_type, fault);
    for (size_t i = 0; err == ERR_OK && i < TYPE_COUNT; i++) {
        const char *type = node_sinks_types[i];
        if (node_sinks_is_usable(conf, type) && strcmp(type, conf->sink_type) != 0) {
            err = node_sinks_add_type(sinks, conf, type, type, fault);
        }
    }
    return err;
}

/* Unless the settings describe another one of that name. */
static enum err node_sinks_add_dead_letter(struct sinks *sinks, const struct conf *conf,
                                           char *fault) {
    if (json_object_get(conf->sinks, SINK_DEAD_LETTER)) {
        return ERR_OK;
    }
    json_t *settings = dead_letter_sink_settings(conf);
    struct sink_config config = {
        .name = SINK_DEAD_LETTER, .type = "redis_stream", .settings = settings};
    enum err err = settings ? sinks_add(sinks, &config, fault) : ERR_MEMORY;
    json_decref(settings);
    return err;
}

enum err node_sinks_add(struct sinks *sinks, const struct conf *conf, char *fault) {
    const char *name;
    json_t *texts;
    enum err err = node_sinks_add_defaults(sinks, conf, fault);
    json_object_foreach(conf->sinks, name, texts) {
        err = err == ERR_OK ? node_sinks_add_named(sinks, name, texts, fault) : err;
    }
    if (err == ERR_OK) {
        err = node_sinks_add_dead_letter(sinks, conf, fault);
    }
    return err == ERR_OK ? sinks_connect_dead_letters(sinks, fault) : err;
}

/* ---- output ---------------------------------------------------------------------------------- */

/* JSON is YAML. */
static void node_sinks_print_one(const char *name, const json_t *texts, FILE *out) {
    char fault[SINK_FAULT_LEN];
    const struct sink_type *type = node_sinks_type(texts, fault);
    const struct sink_field *const tables[] = {sink_common_fields, type ? type->fields : NULL,
                                               NULL};
    json_t *masked = sink_settings_masked(tables, texts);
    const char *field;
    json_t *value;
    fprintf(out, "  %s:\n", name);
    json_object_foreach(masked, field, value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        fprintf(out, "    %s: %s\n", field, text ? text : "null");
        free(text);
    }
    json_decref(masked);
}

void node_sinks_print(const struct conf *conf, FILE *out) {
    const char *name;
    json_t *texts;
    if (json_object_size(conf->sinks) > 0) {
        fputs("sinks:\n", out);
    }
    json_object_foreach(conf->sinks, name, texts) {
        node_sinks_print_one(name, texts, out);
    }
}
