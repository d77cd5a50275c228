/* Owns the times of a client's silence. Pure; any thread. */
#include "mqtt/client/silence.h"

#include "mqtt/client/backoff.h"

#define SILENCE_MS_PER_S INT64_C(1000)

static int64_t silence_begins_ms(const struct silence *silence) {
    return silence->since_ms + silence->expect_s * SILENCE_MS_PER_S;
}

/* The first action comes with the beginning of the silence. */
static int64_t silence_action_ms(const struct silence *silence) {
    int64_t begins_ms = silence_begins_ms(silence);
    if (silence->actions == 0) {
        return begins_ms;
    }
    int64_t expect_ms = silence->expect_s * SILENCE_MS_PER_S;
    int64_t wait_ms =
        backoff_ceiling_ms(silence->actions, expect_ms, SILENCE_INTERVAL_S_MAX * SILENCE_MS_PER_S);
    int64_t at_ms = silence->acted_at_s * SILENCE_MS_PER_S + wait_ms;
    return at_ms > begins_ms ? at_ms : begins_ms;
}

int64_t silence_due_ms(const struct silence *silence) {
    if (silence->silent) {
        return silence->acts ? silence_action_ms(silence) : 0;
    }
    return silence_begins_ms(silence);
}

bool silence_action_is_due(const struct silence *silence, int64_t now_ms) {
    return silence->silent && silence->acts && silence_action_ms(silence) <= now_ms;
}

bool silence_is_over(const struct silence *silence, int64_t now_ms) {
    int64_t acted_at_ms = silence->acted_at_s * SILENCE_MS_PER_S;
    return !silence->silent && silence_begins_ms(silence) > now_ms &&
           now_ms - acted_at_ms > silence->expect_s * SILENCE_MS_PER_S;
}
