/* Facts of a node and their JSON form. No state of its own; any thread. */
#include "cluster/membership/facts.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "base/system/json_memory.h"

char *facts_text(const struct facts *facts) {
    json_t *sinks = json_array(), *keys = json_array();
    for (size_t i = 0; i < facts->sink_count; i++) {
        json_array_append_new(sinks,
                              json_pack("{s:s, s:I}", "name", facts->sinks[i].name, "failing_ms",
                                        (json_int_t)facts->sinks[i].failing_ms));
    }
    for (size_t i = 0; i < facts->key_count; i++) {
        json_array_append_new(keys, json_string(facts->keys[i]));
    }
    json_t *all = json_pack(
        "{s:I, s:o, s:o, s:b, s:I, s:I, s:s}", "lag_ms", (json_int_t)facts->lag_ms, "sinks", sinks,
        "keys", keys, "profiles", facts->profiles, "incidents", (json_int_t)facts->incidents,
        "incident_clients", (json_int_t)facts->incident_clients, "drain_wait", facts->drain_wait);
    char *text = all ? json_to_text(all, JSON_COMPACT) : NULL;
    json_decref(all);
    return text;
}

/* An older version does not say how many clients they concern: all of them, perhaps. */
static void facts_read_incidents(struct facts *facts, const json_t *all) {
    const json_t *clients = json_object_get(all, "incident_clients");
    facts->incidents = json_integer_value(json_object_get(all, "incidents"));
    facts->incident_clients = clients                ? json_integer_value(clients)
                              : facts->incidents > 0 ? INT64_MAX
                                                     : 0;
}

void facts_read(struct facts *facts, const char *text) {
    *facts = (struct facts){0};
    json_t *all = text ? json_from_text(text, strlen(text), 0) : NULL;
    json_t *sinks = json_object_get(all, "sinks"), *keys = json_object_get(all, "keys"), *item;
    size_t index;
    facts->known = json_is_array(sinks) && json_is_array(keys);
    facts->profiles = json_is_true(json_object_get(all, "profiles"));
    facts->lag_ms = json_integer_value(json_object_get(all, "lag_ms"));
    facts_read_incidents(facts, all);
    const char *drain_wait = json_string_value(json_object_get(all, "drain_wait"));
    snprintf(facts->drain_wait, sizeof facts->drain_wait, "%s", drain_wait ? drain_wait : "");
    json_array_foreach(sinks, index, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && facts->sink_count < FACTS_SINKS_MAX) {
            struct facts_sink *sink = &facts->sinks[facts->sink_count++];
            snprintf(sink->name, sizeof(sink->name), "%s", name);
            sink->failing_ms = json_integer_value(json_object_get(item, "failing_ms"));
        }
    }
    json_array_foreach(keys, index, item) {
        if (json_is_string(item) && facts->key_count < SECRET_KEYS_MAX) {
            snprintf(facts->keys[facts->key_count++], SECRET_KEY_ID_LEN, "%s",
                     json_string_value(item));
        }
    }
    json_decref(all);
}

const struct facts_sink *facts_sink(const struct facts *facts, const char *sink) {
    for (size_t i = 0; i < facts->sink_count; i++) {
        if (!sink || strcmp(facts->sinks[i].name, sink) == 0) {
            return &facts->sinks[i];
        }
    }
    return NULL;
}

bool facts_has_key(const struct facts *facts, const char *key) {
    for (size_t i = 0; i < facts->key_count; i++) {
        if (strcmp(facts->keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}
