/* Judges which nodes are dead from successive looks at the register. Agent thread only. */
#include "cluster/membership/reaper.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/telemetry/log.h"
#include "base/text.h"

/* A node whose beat was missing at every look since `since_ms`. */
struct suspect {
    char *name;
    char *incarnation;
    int64_t since_ms;
    unsigned checks;
    bool seen_now; /* in the look under way */
    UT_hash_handle hh;
};

struct reaper {
    struct reaper_rules rules;
    struct suspect *suspects;
    int64_t checked_ms;
    bool on_hold; /* as logged last */
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

/* Out of memory: this look does not count for the node. */
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

static void reaper_log_hold(struct reaper *reaper, bool brake, size_t missing, size_t all) {
    if (brake != reaper->on_hold) {
        reaper->on_hold = brake;
        log_event(LOG_WARN, brake ? "reaping_waits" : "reaping_goes_on", KI("missing", missing),
                  KI("nodes", all));
    }
}

/* Nodes that may be judged: those that beat are, whatever else is registered. */
static size_t reaper_count_eligible(const struct reaper_snapshot *look, size_t *missing) {
    size_t others = 0;
    for (size_t i = 0; i < look->missing_count; i++) {
        others += !reaper_is_eligible(&look->missing[i]);
    }
    *missing = look->missing_count - others;
    return look->registered_count > others ? look->registered_count - others : 0;
}

/* How long a beat has to be missing. */
static int64_t reaper_grace_ms(struct reaper *reaper, const struct reaper_snapshot *look,
                               bool *braked) {
    const struct reaper_rules *rules = &reaper->rules;
    size_t missing, all = reaper_count_eligible(look, &missing);
    bool mass = missing >= 2 && missing * 3 > all;
    bool redis_new = look->redis_recovered_ms != 0 &&
                     look->now_ms - look->redis_recovered_ms < rules->mass_death_wait_ms;
    *braked = missing > 0 && (mass || redis_new);
    reaper_log_hold(reaper, *braked, missing, all);
    return *braked && rules->reclaim_grace_ms < rules->mass_death_wait_ms
               ? rules->mass_death_wait_ms
               : rules->reclaim_grace_ms;
}

void reaper_check(struct reaper *reaper, const struct reaper_snapshot *look, bool *verdicts,
                  bool *braked) {
    bool brake = false;
    if (look->missing_count > 0) {
        memset(verdicts, 0, look->missing_count * sizeof *verdicts);
    }
    if (!look->own_is_fresh || look->now_ms - reaper->checked_ms > reaper->rules.check_gap_ms_max) {
        reaper_reset(reaper);
    }
    reaper->checked_ms = look->now_ms;
    if (look->own_is_fresh) {
        for (size_t i = 0; i < look->missing_count; i++) {
            if (reaper_is_eligible(&look->missing[i])) {
                reaper_suspect_add(reaper, &look->missing[i], look->now_ms);
            }
        }
        reaper_drop_recovered(reaper);
        int64_t wait_ms = reaper_grace_ms(reaper, look, &brake);
        for (size_t i = 0; i < look->missing_count; i++) {
            struct suspect *suspect;
            HASH_FIND_STR(reaper->suspects, look->missing[i].name, suspect);
            verdicts[i] = suspect && reaper_is_eligible(&look->missing[i]) &&
                          suspect->checks >= 2 && look->now_ms - suspect->since_ms >= wait_ms;
        }
    }
    if (braked) {
        *braked = brake;
    }
}

int64_t reaper_missing_since_ms(const struct reaper *reaper, const char *node) {
    struct suspect *suspect;
    HASH_FIND_STR(reaper->suspects, node, suspect);
    return suspect ? suspect->since_ms : 0;
}
