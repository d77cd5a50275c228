/* Owns the translation from sink.* to the fields of types of sinks. */
#include "default_sinks.h"

#include <stddef.h>
#include <string.h>
#include "store/dead_letters.h"

enum setting_kind { SETTING_TEXT, SETTING_INTEGER, SETTING_NAMES };

struct setting {
    const char *field, *name;
    enum setting_kind kind;
    size_t offset; /* in struct conf */
};

static const struct setting common_settings[] = {
    {"queue_messages", "sink.queue_messages", SETTING_INTEGER,
     offsetof(struct conf, sink_queue_messages)},
    {"queue_bytes", "sink.queue_bytes", SETTING_INTEGER, offsetof(struct conf, sink_queue_bytes)},
    {"batch_messages", "sink.batch", SETTING_INTEGER, offsetof(struct conf, sink_batch)},
    {"retry_ms", "sink.retry_ms", SETTING_INTEGER, offsetof(struct conf, sink_retry_ms)},
    {"dead_letter", "sink.dead_letter", SETTING_TEXT, offsetof(struct conf, sink_dead_letter)},
    {0}};

static const struct setting stream_settings[] = {
    {"url", "sink.url", SETTING_TEXT, offsetof(struct conf, sink_url)},
    {"key", "sink.key", SETTING_TEXT, offsetof(struct conf, sink_key)},
    {"shards", "sink.redis_shards", SETTING_INTEGER, offsetof(struct conf, sink_redis_shards)},
    {"maxlen", "sink.maxlen", SETTING_INTEGER, offsetof(struct conf, sink_maxlen)},
    {"trim", "sink.redis_trim", SETTING_TEXT, offsetof(struct conf, sink_redis_trim)},
    {"bytes_max", "sink.redis_stream_bytes_max", SETTING_INTEGER,
     offsetof(struct conf, sink_redis_stream_bytes_max)},
    {"ignore_groups", "sink.redis_ignore_groups", SETTING_NAMES,
     offsetof(struct conf, sink_redis_ignore_groups)},
    {"redis_bytes_max", "sink.redis_bytes_max", SETTING_INTEGER,
     offsetof(struct conf, sink_redis_bytes_max)},
    {"min_replicas", "sink.redis_min_replicas", SETTING_INTEGER,
     offsetof(struct conf, sink_redis_min_replicas)},
    {0}};

static const struct setting file_settings[] = {
    {"path", "sink.path", SETTING_TEXT, offsetof(struct conf, sink_path)}, {0}};

static const struct setting null_settings[] = {{0}};

static const struct {
    const char *type;
    const struct setting *settings;
} types[] = {{"redis_stream", stream_settings}, {"file", file_settings}, {"null", null_settings}};

/* Separated by spaces or commas. */
static json_t *default_sink_names(const char *text) {
    static const char separators[] = " ,";
    json_t *names = json_array();
    const char *at = text + strspn(text, separators);
    while (*at) {
        size_t len = strcspn(at, separators);
        json_array_append_new(names, json_stringn(at, len));
        at += len;
        at += strspn(at, separators);
    }
    return names;
}

static json_t *default_sink_value(const struct conf *conf, const struct setting *setting) {
    const char *at = (const char *)conf + setting->offset;
    int64_t number;
    switch (setting->kind) {
    case SETTING_INTEGER:
        memcpy(&number, at, sizeof number);
        return json_integer(number);
    case SETTING_NAMES:
        return default_sink_names(*(const char *const *)(const void *)at);
    default:
        return json_string(*(const char *const *)(const void *)at);
    }
}

static int default_sink_add(json_t *to, const struct conf *conf, const struct setting *settings) {
    int failed = 0;
    for (const struct setting *setting = settings; setting->field; setting++) {
        failed |= json_object_set_new(to, setting->field, default_sink_value(conf, setting));
    }
    return failed;
}

json_t *default_sink_settings(const struct conf *conf, const char *type) {
    json_t *settings = json_object();
    int failed = default_sink_add(settings, conf, common_settings);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].type, type) == 0) {
            failed |= default_sink_add(settings, conf, types[i].settings);
        }
    }
    /* Its Redis may not even permit it: only if messages go there by default. */
    bool is_default = strcmp(conf->sink_type, type) == 0;
    if (strcmp(type, "redis_stream") == 0) {
        failed |= json_object_set_new(settings, "measure_idle", json_boolean(is_default));
    }
    if (failed != 0) {
        json_decref(settings);
        return NULL;
    }
    return settings;
}

json_t *dead_letter_sink_settings(const struct conf *conf) {
    json_t *settings = json_object();
    int failed = default_sink_add(settings, conf, common_settings);
    failed |= json_object_set_new(settings, "retry_ms", json_integer(0));
    failed |= json_object_set_new(settings, "dead_letter", json_string(""));
    failed |= json_object_set_new(settings, "key", json_string(DEAD_LETTERS_KEY));
    failed |= json_object_set_new(settings, "maxlen", json_integer(DEAD_LETTERS_MAX));
    failed |= json_object_set_new(settings, "min_replicas", json_integer(conf->min_replicas));
    failed |= json_object_set_new(settings, "measure_idle", json_false());
    if (failed != 0) {
        json_decref(settings);
        return NULL;
    }
    return settings;
}

const char *default_sink_setting(const char *field) {
    const struct setting *const tables[] = {common_settings, stream_settings, file_settings};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (const struct setting *setting = tables[i]; setting->field; setting++) {
            if (strcmp(setting->field, field) == 0) {
                return setting->name;
            }
        }
    }
    return "";
}
