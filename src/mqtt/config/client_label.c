/* No state. */
#include "mqtt/config/client_label.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

const char *client_label_name_fault(const char *name, size_t len) {
    bool right = len >= 1 && len <= CLIENT_LABEL_NAME_MAX;
    for (size_t i = 0; right && i < len; i++) {
        right = isalnum((unsigned char)name[i]) || strchr("_.-", name[i]);
    }
    return right ? NULL : "must have a name of 1 to 63 letters, digits, \"_\", \".\" and \"-\"";
}
