/* Owns the nodes whose heartbeat is missing, and decides which of them are dead. Leader thread. */
#include "cluster/membership/failure_detector.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/telemetry/log.h"
#include "base/text.h"

/* A node whose heartbeat was missing in all snapshots since `since_ms`. */
struct suspect {
    char *name;
    char *incarnation;
    int64_t since_ms;
    unsigned checks;
    bool seen_now; /* in the present snapshot */
    UT_hash_handle hh;
};

struct failure_detector {
    struct failure_detector_rules rules;
    struct suspect *suspects;
    int64_t checked_ms;
    bool on_hold; /* as last logged */
};

struct failure_detector *failure_detector_create(const struct failure_detector_rules *rules) {
    struct failure_detector *failure_detector = calloc(1, sizeof *failure_detector);
    if (failure_detector) {
        failure_detector->rules = *rules;
    }
    return failure_detector;
}

static void failure_detector_suspect_free(struct failure_detector *failure_detector,
                                          struct suspect *suspect) {
    HASH_DEL(failure_detector->suspects, suspect);
    free(suspect->name);
    free(suspect->incarnation);
    free(suspect);
}

void failure_detector_reset(struct failure_detector *failure_detector) {
    struct suspect *suspect, *next;
    HASH_ITER(hh, failure_detector->suspects, suspect, next) {
        failure_detector_suspect_free(failure_detector, suspect);
    }
}

void failure_detector_destroy(struct failure_detector *failure_detector) {
    if (failure_detector) {
        failure_detector_reset(failure_detector);
        free(failure_detector);
    }
}

/* Out of memory: this snapshot does not count for the node. */
static void failure_detector_suspect_add(struct failure_detector *failure_detector,
                                         const struct store_missing *node, int64_t now_ms) {
    struct suspect *suspect;
    HASH_FIND_STR(failure_detector->suspects, node->name, suspect);
    if (suspect && strcmp(suspect->incarnation, node->incarnation) != 0) {
        failure_detector_suspect_free(failure_detector, suspect);
        suspect = NULL;
    }
    if (!suspect) {
        suspect = calloc(1, sizeof *suspect);
        if (!suspect) {
            return;
        }
        suspect->name = text_dup(node->name);
        suspect->incarnation = text_dup(node->incarnation);
        if (!suspect->name || !suspect->incarnation) {
            free(suspect->name);
            free(suspect->incarnation);
            free(suspect);
            return;
        }
        suspect->since_ms = now_ms;
        HASH_ADD_KEYPTR(hh, failure_detector->suspects, suspect->name, strlen(suspect->name),
                        suspect);
        log_event(LOG_WARN, "beat_missing", KS("node", node->name));
    }
    suspect->checks++;
    suspect->seen_now = true;
}

static bool failure_detector_is_eligible(const struct store_missing *node) {
    return node->state != STORE_NODE_DEAD && node->incarnation[0] != '\0';
}

static void failure_detector_drop_recovered(struct failure_detector *failure_detector) {
    struct suspect *suspect, *next;
    HASH_ITER(hh, failure_detector->suspects, suspect, next) {
        if (!suspect->seen_now) {
            failure_detector_suspect_free(failure_detector, suspect);
        } else {
            suspect->seen_now = false;
        }
    }
}

static void failure_detector_log_hold(struct failure_detector *failure_detector, bool on_hold,
                                      size_t missing, size_t all) {
    if (on_hold != failure_detector->on_hold) {
        failure_detector->on_hold = on_hold;
        log_event(LOG_WARN, on_hold ? "reaping_waits" : "reaping_goes_on", KI("missing", missing),
                  KI("nodes", all));
    }
}

/* Counts nodes with a heartbeat and nodes that may be fenced; only the latter go into *missing. */
static size_t failure_detector_count_eligible(const struct failure_detector_snapshot *snapshot,
                                              size_t *missing) {
    size_t others = 0;
    for (size_t i = 0; i < snapshot->missing_count; i++) {
        others += !failure_detector_is_eligible(&snapshot->missing[i]);
    }
    *missing = snapshot->missing_count - others;
    return snapshot->registered_count > others ? snapshot->registered_count - others : 0;
}

/* How long a heartbeat must be missing. */
static int64_t failure_detector_grace_ms(struct failure_detector *failure_detector,
                                         const struct failure_detector_snapshot *snapshot,
                                         bool *on_hold) {
    const struct failure_detector_rules *rules = &failure_detector->rules;
    size_t missing, all = failure_detector_count_eligible(snapshot, &missing);
    bool mass = missing >= 2 && missing * 3 > all;
    bool redis_new = snapshot->redis_recovered_ms != 0 &&
                     snapshot->now_ms - snapshot->redis_recovered_ms < rules->mass_death_wait_ms;
    *on_hold = missing > 0 && (mass || redis_new);
    failure_detector_log_hold(failure_detector, *on_hold, missing, all);
    return *on_hold && rules->reclaim_grace_ms < rules->mass_death_wait_ms
               ? rules->mass_death_wait_ms
               : rules->reclaim_grace_ms;
}

void failure_detector_check(struct failure_detector *failure_detector,
                            const struct failure_detector_snapshot *snapshot, bool *verdicts,
                            bool *on_hold) {
    bool holds = false;
    if (snapshot->missing_count > 0) {
        memset(verdicts, 0, snapshot->missing_count * sizeof *verdicts);
    }
    if (!snapshot->own_is_fresh || snapshot->now_ms - failure_detector->checked_ms >
                                       failure_detector->rules.check_gap_ms_max) {
        failure_detector_reset(failure_detector);
    }
    failure_detector->checked_ms = snapshot->now_ms;
    if (snapshot->own_is_fresh) {
        for (size_t i = 0; i < snapshot->missing_count; i++) {
            if (failure_detector_is_eligible(&snapshot->missing[i])) {
                failure_detector_suspect_add(failure_detector, &snapshot->missing[i],
                                             snapshot->now_ms);
            }
        }
        failure_detector_drop_recovered(failure_detector);
        int64_t wait_ms = failure_detector_grace_ms(failure_detector, snapshot, &holds);
        for (size_t i = 0; i < snapshot->missing_count; i++) {
            struct suspect *suspect;
            HASH_FIND_STR(failure_detector->suspects, snapshot->missing[i].name, suspect);
            verdicts[i] = suspect && failure_detector_is_eligible(&snapshot->missing[i]) &&
                          suspect->checks >= 2 && snapshot->now_ms - suspect->since_ms >= wait_ms;
        }
    }
    if (on_hold) {
        *on_hold = holds;
    }
}

int64_t failure_detector_missing_since_ms(const struct failure_detector *failure_detector,
                                          const char *node) {
    struct suspect *suspect;
    HASH_FIND_STR(failure_detector->suspects, node, suspect);
    return suspect ? suspect->since_ms : 0;
}
