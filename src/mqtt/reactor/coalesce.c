/* Owns the decision when sockets are read next. One thread. */
#include "coalesce.h"

#define COALESCE_WINDOW_INTERVALS 16
#define COALESCE_MESSAGES_MIN     2  /* messages in each interval */
#define COALESCE_ROUND_WINDOWS    32 /* a second by default */
#define US_PER_S                  1000000

void coalesce_init(struct coalesce *coalesce, int64_t interval_us) {
    *coalesce = (struct coalesce){.interval_us = interval_us};
}

static void coalesce_set(struct coalesce *coalesce, bool pausing, int windows) {
    coalesce->pausing = pausing;
    coalesce->windows_left = windows;
}

/* Fewer messages than chance explains, in the first window with pauses. */
static bool coalesce_is_slower(const struct coalesce *coalesce, int64_t rate) {
    return coalesce->windows_left == COALESCE_ROUND_WINDOWS && rate * 3 < coalesce->free_rate * 2;
}

/* At the end of a window. fast: enough messages for pauses. The last window of a round with pauses
 * has none, so that the two can be compared. */
static void coalesce_decide(struct coalesce *coalesce, int64_t rate, bool fast) {
    if (!coalesce->pausing && coalesce->windows_left == 0 && fast) {
        coalesce->free_rate = rate;
        coalesce_set(coalesce, true, COALESCE_ROUND_WINDOWS);
    } else if (coalesce->pausing && coalesce_is_slower(coalesce, rate)) {
        coalesce_set(coalesce, false, COALESCE_ROUND_WINDOWS);
    } else if (coalesce->pausing && !fast) {
        coalesce_set(coalesce, false, 0);
    } else if (coalesce->windows_left > 0) {
        coalesce->windows_left--;
    } else {
        coalesce->pausing = false;
    }
}

/* A window that took twice its time ended in silence: its messages came in one burst, which is
 * over. */
void coalesce_note_poll(struct coalesce *coalesce, int64_t now_us) {
    int64_t window_us = COALESCE_WINDOW_INTERVALS * coalesce->interval_us;
    int64_t passed_us = now_us - coalesce->window_at_us;
    coalesce->polled_at_us = now_us;
    if (window_us > 0 && passed_us >= window_us) {
        coalesce_decide(coalesce, coalesce->messages * US_PER_S / passed_us,
                        coalesce->messages >= COALESCE_MESSAGES_MIN * COALESCE_WINDOW_INTERVALS &&
                            passed_us < 2 * window_us);
        coalesce->window_at_us = now_us;
        coalesce->messages = 0;
    }
}

int64_t coalesce_wait_us(const struct coalesce *coalesce, int64_t now_us) {
    if (!coalesce->pausing) {
        return 0;
    }
    int64_t left_us = coalesce->polled_at_us + coalesce->interval_us - now_us;
    return left_us > 0 && left_us <= coalesce->interval_us ? left_us : 0;
}
