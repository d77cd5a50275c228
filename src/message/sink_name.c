#include "message/sink_name.h"

#include <string.h>

bool sink_name_is_valid(const char *name) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t len = strlen(name);
    return len > 0 && len <= SINK_NAME_MAX && name[strspn(name, letters)] == '\0' &&
           name[0] != '_' && name[0] != '-';
}
