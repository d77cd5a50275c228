/* Owns the list of engines. Pure. */
#include "mqtt/engine.h"

#include <string.h>

static const struct engine_ops *const engine_table[] = {
    &engine_reactor,
    &engine_paho,
};

const struct engine_ops *engine_find(const char *name) {
    for (size_t i = 0; i < sizeof(engine_table) / sizeof(engine_table[0]); i++) {
        if (strcmp(engine_table[i]->name, name) == 0) {
            return engine_table[i];
        }
    }
    return NULL;
}
