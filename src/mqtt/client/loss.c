/* Owns the order in which a loss is explained, and the evidence of other losses. Pure. */
#include "mqtt/client/loss.h"
#include "mqtt/reason_codes.h"

#include <assert.h>
#include <stdlib.h>

#define LOSS_WINDOW_MS    1000
#define LOSS_WINDOWS_KEPT 64
#define LOSS_MASS_MIN     2
#define LOSS_MASS_SHARE   10 /* one in this many */

#define LOSS_AGES_MIN       4   /* similar ages */
#define LOSS_AGES_APART_MS  250 /* at most this far apart, or a tenth, to be similar */
#define LOSS_AGES_APART     10
#define LOSS_AGES_CLIENTS   4 /* this many with one loss each count as several */
#define LOSS_AGES_ODD_SHARE 4 /* one in this many may be different */

enum loss_verdict loss_judge(const struct loss_facts *facts) {
    const bool holds[] = {
        [LOSS_BY_BROKER] = facts->broker_unreachable,
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

static bool loss_code_is_one_of(int reason_code, const int *codes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (codes[i] == reason_code) {
            return true;
        }
    }
    return false;
}

enum loss_verdict loss_judge_disconnect(const struct loss_facts *facts, int reason_code) {
    /* Brokers have no more specific code for a SUBSCRIBE of many filters. */
    static const int of_subscription[] = {
        REASON_UNSPECIFIED,           REASON_MALFORMED_PACKET,
        REASON_PROTOCOL_ERROR,        REASON_IMPLEMENTATION_ERROR,
        REASON_NOT_AUTHORIZED,        REASON_TOPIC_FILTER_INVALID,
        REASON_PACKET_TOO_LARGE,      REASON_QUOTA_EXCEEDED,
        REASON_ADMINISTRATIVE_ACTION, REASON_QOS_NOT_SUPPORTED,
        REASON_SHARED_NOT_SUPPORTED,  REASON_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
        REASON_WILDCARD_NOT_SUPPORTED};
    if (facts->subscribing &&
        loss_code_is_one_of(reason_code, of_subscription,
                            sizeof of_subscription / sizeof *of_subscription)) {
        return LOSS_BY_SUBSCRIPTIONS;
    }
    return facts->publications_by_reason_code ? LOSS_BY_PUBLICATIONS : LOSS_UNEXPLAINED;
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

/* ---- other clients that were lost ---- */

static void loss_next_window(struct loss_watch *watch, int64_t now_ms, size_t online_before) {
    watch->window++;
    watch->mass_windows <<= 1;
    watch->window_at_ms = now_ms;
    watch->losses = 0;
    watch->online_before = online_before;
}

uint64_t loss_watch_note(struct loss_watch *watch, uint64_t client, int64_t now_ms,
                         size_t online_before) {
    if (watch->window == 0 || now_ms - watch->window_at_ms >= LOSS_WINDOW_MS) {
        loss_next_window(watch, now_ms, online_before);
    }
    watch->losses += watch->losses == 0 || watch->client != client;
    watch->client = client;
    if (watch->losses >= LOSS_MASS_MIN && watch->losses * LOSS_MASS_SHARE >= watch->online_before) {
        watch->mass_windows |= 1;
    }
    return watch->window;
}

bool loss_watch_was_mass(const struct loss_watch *watch, uint64_t window) {
    uint64_t age = watch->window - window;
    return age >= LOSS_WINDOWS_KEPT || ((watch->mass_windows >> age) & 1);
}

/* ---- ages ---- */

void loss_ages_note(struct loss_ages *ages, uint64_t client, int64_t age_ms, int64_t at_ms) {
    ages->rows[ages->next] = (struct loss_age){client, age_ms, at_ms};
    ages->next = (ages->next + 1) % LOSS_AGES_MAX;
    ages->count += ages->count < LOSS_AGES_MAX;
}

static bool loss_ages_alike(int64_t a_ms, int64_t b_ms) {
    int64_t apart_ms = b_ms / LOSS_AGES_APART;
    apart_ms = apart_ms > LOSS_AGES_APART_MS ? apart_ms : LOSS_AGES_APART_MS;
    return llabs(a_ms - b_ms) <= apart_ms;
}

/* How many rows up to and including this one are of the same client and similar. */
static size_t loss_ages_of_client(const struct loss_ages *ages, size_t row, int64_t age_ms) {
    size_t n = 0;
    for (size_t i = 0; i <= row; i++) {
        n += ages->rows[i].client == ages->rows[row].client &&
             loss_ages_alike(ages->rows[i].age_ms, age_ms);
    }
    return n;
}

bool loss_ages_steady(const struct loss_ages *ages, int64_t age_ms) {
    size_t alike = 0, clients = 0, clients_twice = 0;
    int64_t first_ms = INT64_MAX, last_ms = INT64_MIN;
    for (size_t i = 0; i < ages->count; i++) {
        if (!loss_ages_alike(ages->rows[i].age_ms, age_ms)) {
            continue;
        }
        size_t nth = loss_ages_of_client(ages, i, age_ms);
        int64_t at_ms = ages->rows[i].at_ms;
        first_ms = at_ms < first_ms ? at_ms : first_ms;
        last_ms = at_ms > last_ms ? at_ms : last_ms;
        alike++;
        clients += nth == 1;
        clients_twice += nth == 2;
    }
    if (alike < LOSS_AGES_MIN || last_ms - first_ms < LOSS_WINDOW_MS) {
        return false;
    }
    return (ages->count - alike) * LOSS_AGES_ODD_SHARE <= ages->count &&
           (clients_twice >= 2 || clients >= LOSS_AGES_CLIENTS);
}
