/* Owns the nodes whose heartbeat is missing, and decides which of them are dead. Leader thread. */
#include "cluster/membership/reaper.h"

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

struct reaper {
    struct reaper_rules rules;
    struct suspect *suspects;
    int64_t checked_ms;
    bool on_hold; /* as last logged */
};

struct reaper *reaper_create(const struct reaper_rules *rules) {
    struct reaper *reaper = calloc(1, sizeof *reaper);
    if (reaper) {
        reaper->rules = *rules;
    }
    return reaper;
}

static void reaper_suspect_free(struct reaper *reaper, struct suspect *suspect) {
    HASH_DEL(reaper->suspects, suspect);
    free(suspect->name);
    free(suspect->incarnation);
    free(suspect);
}

void reaper_reset(struct reaper *reaper) {
    struct suspect *suspect, *next;
    HASH_ITER(hh, reaper->suspects, suspect, next) {
        reaper_suspect_free(reaper, suspect);
    }
}

void reaper_destroy(struct reaper *reaper) {
    if (reaper) {
        reaper_reset(reaper);
        free(reaper);
    }
}

/* Out of memory: this snapshot does not count for the node. */
static void reaper_suspect_add(struct reaper *reaper, const struct store_missing *node,
                               int64_t now_ms) {
    struct suspect *suspect;
    HASH_FIND_STR(reaper->suspects, node->name, suspect);
    if (suspect && strcmp(suspect->incarnation, node->incarnation) != 0) {
        reaper_suspect_free(reaper, suspect);
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
        HASH_ADD_KEYPTR(hh, reaper->suspects, suspect->name, strlen(suspect->name), suspect);
        log_event(LOG_WARN, "beat_missing", KS("node", node->name));
    }
    suspect->checks++;
    suspect->seen_now = true;
}

static bool reaper_is_eligible(const struct store_missing *node) {
    return node->state != STORE_NODE_DEAD && node->incarnation[0] != '\0';
}

static void reaper_drop_recovered(struct reaper *reaper) {
    struct suspect *suspect, *next;
    HASH_ITER(hh, reaper->suspects, suspect, next) {
        if (!suspect->seen_now) {
            reaper_suspect_free(reaper, suspect);
        } else {
            suspect->seen_now = false;
        }
    }
}

static void reaper_log_hold(struct reaper *reaper, bool on_hold, size_t missing, size_t all) {
    if (on_hold != reaper->on_hold) {
        reaper->on_hold = on_hold;
        log_event(LOG_WARN, on_hold ? "reaping_waits" : "reaping_goes_on", KI("missing", missing),
                  KI("nodes", all));
    }
}

/* Counts nodes with a heartbeat and nodes that may be fenced; only the latter go into *missing. */
static size_t reaper_count_eligible(const struct reaper_snapshot *snapshot, size_t *missing) {
    size_t others = 0;
    for (size_t i = 0; i < snapshot->missing_count; i++) {
        others += !reaper_is_eligible(&snapshot->missing[i]);
    }
    *missing = snapshot->missing_count - others;
    return snapshot->registered_count > others ? snapshot->registered_count - others : 0;
}

/* How long a heartbeat must be missing. */
static int64_t reaper_grace_ms(struct reaper *reaper, const struct reaper_snapshot *snapshot,
                               bool *on_hold) {
    const struct reaper_rules *rules = &reaper->rules;
    size_t missing, all = reaper_count_eligible(snapshot, &missing);
    bool mass = missing >= 2 && missing * 3 > all;
    bool redis_new = snapshot->redis_recovered_ms != 0 &&
                     snapshot->now_ms - snapshot->redis_recovered_ms < rules->mass_death_wait_ms;
    *on_hold = missing > 0 && (mass || redis_new);
    reaper_log_hold(reaper, *on_hold, missing, all);
    return *on_hold && rules->reclaim_grace_ms < rules->mass_death_wait_ms
               ? rules->mass_death_wait_ms
               : rules->reclaim_grace_ms;
}

void reaper_check(struct reaper *reaper, const struct reaper_snapshot *snapshot, bool *verdicts,
                  bool *on_hold) {
    bool holds = false;
    if (snapshot->missing_count > 0) {
        memset(verdicts, 0, snapshot->missing_count * sizeof *verdicts);
    }
    if (!snapshot->own_is_fresh ||
        snapshot->now_ms - reaper->checked_ms > reaper->rules.check_gap_ms_max) {
        reaper_reset(reaper);
    }
    reaper->checked_ms = snapshot->now_ms;
    if (snapshot->own_is_fresh) {
        for (size_t i = 0; i < snapshot->missing_count; i++) {
            if (reaper_is_eligible(&snapshot->missing[i])) {
                reaper_suspect_add(reaper, &snapshot->missing[i], snapshot->now_ms);
            }
        }
        reaper_drop_recovered(reaper);
        int64_t wait_ms = reaper_grace_ms(reaper, snapshot, &holds);
        for (size_t i = 0; i < snapshot->missing_count; i++) {
            struct suspect *suspect;
            HASH_FIND_STR(reaper->suspects, snapshot->missing[i].name, suspect);
            verdicts[i] = suspect && reaper_is_eligible(&snapshot->missing[i]) &&
                          suspect->checks >= 2 && snapshot->now_ms - suspect->since_ms >= wait_ms;
        }
    }
    if (on_hold) {
        *on_hold = holds;
    }
}

int64_t reaper_missing_since_ms(const struct reaper *reaper, const char *node) {
    struct suspect *suspect;
    HASH_FIND_STR(reaper->suspects, node, suspect);
    return suspect ? suspect->since_ms : 0;
}
