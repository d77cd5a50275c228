/* Owns the order in which a loss is explained. Pure; any thread. */
#include "mqtt/loss.h"

#include <assert.h>

enum loss_verdict loss_judge(const struct loss_facts *facts) {
    const bool holds[] = {
        [LOSS_BY_BROKER] = facts->broker_away,
        [LOSS_BY_SUBSCRIPTIONS] = facts->subscribing,
        [LOSS_BY_PUBLICATIONS] = facts->publications_pending,
        [LOSS_BY_AGE] = facts->steady_age,
        [LOSS_BY_RIVAL] = facts->early,
        [LOSS_UNEXPLAINED] = true,
    };
    enum loss_verdict verdict = 0;
    while (!holds[verdict]) {
        verdict++;
    }
    return verdict;
}

static bool loss_is_one_of(int reason_code, const int *codes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (codes[i] == reason_code) {
            return true;
        }
    }
    return false;
}

enum loss_verdict loss_judge_told(const struct loss_facts *facts, int reason_code) {
    /* Not authorized, packet too large, payload format invalid, retain and QoS not supported. */
    static const int of_publication[] = {0x87, 0x95, 0x99, 0x9A, 0x9B};
    /* Not authorized, filter invalid, quota exceeded, subscription identifiers, wildcard and shared
     * subscriptions not supported. */
    static const int of_subscription[] = {0x87, 0x8F, 0x97, 0xA1, 0xA2, 0x9E};
    if (facts->subscribing && loss_is_one_of(reason_code, of_subscription,
                                             sizeof of_subscription / sizeof *of_subscription)) {
        return LOSS_BY_SUBSCRIPTIONS;
    }
    if (facts->publications_pending &&
        loss_is_one_of(reason_code, of_publication,
                       sizeof of_publication / sizeof *of_publication)) {
        return LOSS_BY_PUBLICATIONS;
    }
    return LOSS_UNEXPLAINED;
}

const char *loss_verdict_name(enum loss_verdict verdict) {
    static const char *const names[] = {
#define LOSS_VERDICT_NAME(symbol, name) name,
        LOSS_VERDICT_TABLE(LOSS_VERDICT_NAME)
#undef LOSS_VERDICT_NAME
    };
    assert((size_t)verdict < LOSS_VERDICT_COUNT);
    return names[verdict];
}
