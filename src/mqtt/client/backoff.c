/* Owns the arithmetic of retries. Pure; any thread. */
#include "mqtt/client/backoff.h"

#include "base/text.h"

int64_t backoff_ceiling_ms(unsigned n, int64_t min_ms, int64_t max_ms) {
    int64_t ceiling_ms = min_ms;
    for (unsigned i = 0; i < n && ceiling_ms < max_ms; i++) {
        ceiling_ms = ceiling_ms > max_ms / 2 ? max_ms : ceiling_ms * 2;
    }
    return ceiling_ms;
}

int64_t backoff_ms(unsigned n, int64_t min_ms, int64_t max_ms) {
    return text_random_between(min_ms, backoff_ceiling_ms(n, min_ms, max_ms));
}
