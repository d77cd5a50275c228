/* Owns the sinks in the settings. The type of the sink defines the values of a field, so values are
 * kept as text. Main thread, before any other. */
#include "conf_loader.h"

#include <string.h>

#define SINKS_PREFIX "sinks."

static json_t *conf_sinks_member(json_t **object) {
    *object = *object ? *object : json_object();
    return *object;
}

/* The object of that sink; NULL: out of memory. */
static json_t *conf_sinks_find(struct conf *conf, const char *name) {
    json_t *all = conf_sinks_member(&conf->sinks);
    json_t *sink = json_object_get(all, name);
    if (!sink && json_object_set_new(all, name, json_object()) == 0) {
        sink = json_object_get(all, name);
    }
    return sink;
}

static int conf_sinks_set_origin(struct conf *conf, const char *key, const char *origin) {
    return json_object_set_new(conf_sinks_member(&conf->sink_origins), key, json_string(origin));
}

enum err conf_sinks_add(struct conf_loader *loader, const char *name, const char *origin) {
    if (json_object_get(loader->conf->sinks, name)) {
        return conf_fault(loader, origin, "sinks.%s: given twice, first at %s", name,
                          json_string_value(json_object_get(loader->conf->sink_origins, name)));
    }
    return conf_sinks_find(loader->conf, name) &&
                   conf_sinks_set_origin(loader->conf, name, origin) == 0
               ? ERR_OK
               : conf_no_memory(loader);
}

enum err conf_sinks_set(struct conf_loader *loader, const char *name, const char *field,
                        json_t *value, const char *origin) {
    char key[CONF_KEY_LEN * 2];
    snprintf(key, sizeof key, "%s.%s", name, field);
    json_t *sink = conf_sinks_find(loader->conf, name);
    int failed = json_object_set_new(sink, field, value);
    failed |= conf_sinks_set_origin(loader->conf, key, origin);
    return failed == 0 ? ERR_OK : conf_no_memory(loader);
}

bool conf_sinks_is_key(const char *key) {
    return strncmp(key, SINKS_PREFIX, strlen(SINKS_PREFIX)) == 0;
}

enum err conf_sinks_set_text(struct conf_loader *loader, const char *key, const char *text,
                             const char *origin) {
    const char *name = key + strlen(SINKS_PREFIX);
    const char *dot = strchr(name, '.');
    char sink[CONF_KEY_LEN];
    if (!dot || dot == name || dot[1] == '\0') {
        return conf_fault(loader, origin, "%s: must be sinks.NAME.FIELD", key);
    }
    snprintf(sink, sizeof sink, "%.*s", (int)(dot - name), name);
    json_t *value = json_string(text);
    if (!value) {
        return conf_fault(loader, origin, "%s: must be UTF-8", key);
    }
    if (!json_object_get(loader->conf->sinks, sink)) {
        enum err err = conf_sinks_add(loader, sink, origin);
        if (err != ERR_OK) {
            json_decref(value);
            return err;
        }
    }
    return conf_sinks_set(loader, sink, dot + 1, value, origin);
}
