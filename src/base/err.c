/* Owns the names of the error codes. Any thread. */
#include "base/err.h"

#include <stddef.h>

static const char *const NAMES[] = {
#define ERR_NAME(symbol, name) [symbol] = name,
    ERR_TABLE(ERR_NAME)
#undef ERR_NAME
};

const char *err_name(enum err err) {
    size_t index = (size_t)err;
    return index < sizeof(NAMES) / sizeof(NAMES[0]) ? NAMES[index] : "unknown";
}
