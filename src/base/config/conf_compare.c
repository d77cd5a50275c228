/* Owns the comparison of two sets of settings. Main thread. Never shows a value. */
#include "conf_loader.h"

#include <string.h>

static bool conf_compare_is_equal(const struct conf *a, const struct conf *b,
                                  const struct conf_setting *setting) {
    switch (setting->type) {
    case CONF_INT:
        return *conf_int_field(a, setting) == *conf_int_field(b, setting);
    case CONF_BOOL:
        return *conf_bool_field(a, setting) == *conf_bool_field(b, setting);
    default:
        return strcmp(*conf_text_field(a, setting), *conf_text_field(b, setting)) == 0;
    }
}

size_t conf_differences(const struct conf *a, const struct conf *b, const char **names,
                        size_t names_max) {
    size_t n = 0;
    for (size_t i = 0; i < CONF_COUNT && n < names_max; i++) {
        if (!conf_compare_is_equal(a, b, &conf_settings[i])) {
            names[n++] = conf_settings[i].name;
        }
    }
    if (n < names_max && !json_equal(a->sinks, b->sinks) && (a->sinks || b->sinks)) {
        names[n++] = "sinks";
    }
    return n;
}
