#include "message/sink_name.h"

#include <string.h>

bool sink_name_is_valid(const char *name) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t len = strlen(name);
    return len > 0 && len <= SINK_NAME_MAX && name[strspn(name, letters)] == '\0' &&
           name[0] != '_' && name[0] != '-';
}

bool sink_name_is_reserved(const char *name) {
    static const char *const reserved[] = {"default", "redis_stream", "file", "null"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (strcmp(reserved[i], name) == 0) {
            return true;
        }
    }
    return false;
}
