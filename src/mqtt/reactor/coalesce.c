/* Owns the decision when sockets are looked at next. One thread. Knows neither sockets nor clocks.
 */
#include "coalesce.h"

#define WINDOW_INTERVALS 16
#define WORTH            2 /* messages in each interval */

void coalesce_init(struct coalesce *coalesce, int64_t interval_us) {
    *coalesce = (struct coalesce){.interval_us = interval_us};
}

/* A window that took twice its time ended in silence: what it counted came at once and is over. */
void coalesce_look(struct coalesce *coalesce, int64_t now_us) {
    int64_t window_us = WINDOW_INTERVALS * coalesce->interval_us;
    int64_t passed_us = now_us - coalesce->window_at_us;
    coalesce->looked_at_us = now_us;
    if (passed_us >= window_us) {
        coalesce->pays =
            coalesce->messages >= WORTH * WINDOW_INTERVALS && passed_us < 2 * window_us;
        coalesce->window_at_us = now_us;
        coalesce->messages = 0;
    }
}

int64_t coalesce_wait_us(const struct coalesce *coalesce, int64_t now_us) {
    if (!coalesce->pays) {
        return 0;
    }
    int64_t left_us = coalesce->looked_at_us + coalesce->interval_us - now_us;
    return left_us > 0 && left_us <= coalesce->interval_us ? left_us : 0;
}
