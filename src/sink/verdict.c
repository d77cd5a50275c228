/* Owns the judgement of rejections. */
#include "verdict.h"

static size_t verdict_count(const struct sink_batch *batch, enum sink_outcome outcome) {
    size_t count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        count += batch->outcomes[i] == outcome;
    }
    return count;
}

static bool verdict_believes(const struct verdict *verdict, bool accepts_others) {
    return accepts_others || (verdict->works && verdict->rejections < VERDICT_REJECTIONS_MAX);
}

size_t verdict_judge(struct verdict *verdict, struct sink_batch *batch, bool may_reject) {
    bool accepts_others = verdict_count(batch, SINK_ACCEPTED) > 0;
    verdict->doubts = false;
    bool fails = *batch->error != '\0';
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outcomes[i] == SINK_ACCEPTED) {
            verdict->works = true;
            verdict->rejections = 0;
        } else if (batch->outcomes[i] == SINK_REJECTED && may_reject &&
                   verdict_believes(verdict, accepts_others)) {
            verdict->rejections++;
        } else if (batch->outcomes[i] == SINK_REJECTED) {
            batch->outcomes[i] = SINK_RETRY;
            verdict->doubts = may_reject;
            (void)sink_batch_fail(batch, ERR_REFUSED, "%s", batch->reasons[i]);
        }
    }
    verdict->works = verdict->works && !fails;
    return verdict_count(batch, SINK_REJECTED);
}
