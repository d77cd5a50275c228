/* Judges which nodes are dead from successive looks at the register. Agent thread only. */
#include "cluster/reaper.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/log.h"
#include "base/text.h"

/* A node whose beat was missing at every look since `since_ms`. */
struct suspect {
    char *name;
    char *incarnation;
    int64_t since_ms;
    unsigned looks;
    bool seen; /* in the look under way */
    UT_hash_handle hh;
};

struct reaper {
    struct reaper_rules rules;
    struct suspect *suspects;
    int64_t looked_ms;
    bool braking; /* as logged last */
};

struct reaper *reaper_create(const struct reaper_rules *rules) {
    struct reaper *reaper = calloc(1, sizeof(*reaper));
    if (reaper) {
        reaper->rules = *rules;
    }
    return reaper;
}

static void suspect_free(struct reaper *reaper, struct suspect *suspect) {
    HASH_DEL(reaper->suspects, suspect);
    free(suspect->name);
    free(suspect->incarnation);
    free(suspect);
}

void reaper_forget(struct reaper *reaper) {
    struct suspect *suspect, *next;
    HASH_ITER(hh, reaper->suspects, suspect, next) {
        suspect_free(reaper, suspect);
    }
}

void reaper_destroy(struct reaper *reaper) {
    if (reaper) {
        reaper_forget(reaper);
        free(reaper);
    }
}

/* NULL: out of memory, then this look does not count for the node. */
static struct suspect *suspect_note(struct reaper *reaper, const struct store_node *node,
                                    int64_t now_ms) {
    struct suspect *suspect;
    HASH_FIND_STR(reaper->suspects, node->name, suspect);
    if (suspect && strcmp(suspect->incarnation, node->incarnation) != 0) {
        suspect_free(reaper, suspect);
        suspect = NULL;
    }
    if (!suspect) {
        suspect = calloc(1, sizeof(*suspect));
        if (!suspect) {
            return NULL;
        }
        suspect->name = text_dup(node->name);
        suspect->incarnation = text_dup(node->incarnation);
        if (!suspect->name || !suspect->incarnation) {
            free(suspect->name);
            free(suspect->incarnation);
            free(suspect);
            return NULL;
        }
        suspect->since_ms = now_ms;
        HASH_ADD_KEYPTR(hh, reaper->suspects, suspect->name, strlen(suspect->name), suspect);
        log_event(LOG_WARN, "beat_missing", KS("node", node->name));
    }
    suspect->looks++;
    suspect->seen = true;
    return suspect;
}

static bool judged(const struct store_node *node) {
    return node->state != STORE_NODE_DEAD && node->incarnation[0] != '\0';
}

static void forget_unseen(struct reaper *reaper) {
    struct suspect *suspect, *next;
    HASH_ITER(hh, reaper->suspects, suspect, next) {
        if (!suspect->seen) {
            suspect_free(reaper, suspect);
        } else {
            suspect->seen = false;
        }
    }
}

static void brake_log(struct reaper *reaper, bool brake, size_t missing, size_t all) {
    if (brake != reaper->braking) {
        reaper->braking = brake;
        log_event(LOG_WARN, brake ? "reaping_waits" : "reaping_goes_on", KI("missing", missing),
                  KI("nodes", all));
    }
}

void reaper_look(struct reaper *reaper, const struct store_node *nodes, size_t n, int64_t now_ms,
                 bool own_fresh, int64_t redis_back_ms, bool *verdicts, bool *braked) {
    memset(verdicts, 0, n * sizeof(*verdicts));
    if (braked) {
        *braked = false;
    }
    if (!own_fresh || now_ms - reaper->looked_ms > reaper->rules.look_gap_ms_max) {
        reaper_forget(reaper);
    }
    reaper->looked_ms = now_ms;
    if (!own_fresh) {
        return;
    }
    size_t all = 0, missing = 0;
    for (size_t i = 0; i < n; i++) {
        if (judged(&nodes[i])) {
            all++;
            if (!nodes[i].beating) {
                missing++;
                suspect_note(reaper, &nodes[i], now_ms);
            }
        }
    }
    forget_unseen(reaper);

    bool mass = missing >= 2 && missing * 3 > all;
    bool redis_new =
        redis_back_ms != 0 && now_ms - redis_back_ms < reaper->rules.mass_death_wait_ms;
    bool brake = missing > 0 && (mass || redis_new);
    int64_t wait_ms = reaper->rules.reclaim_grace_ms;
    if (brake && wait_ms < reaper->rules.mass_death_wait_ms) {
        wait_ms = reaper->rules.mass_death_wait_ms;
    }
    brake_log(reaper, brake, missing, all);
    if (braked) {
        *braked = brake;
    }
    for (size_t i = 0; i < n; i++) {
        struct suspect *suspect;
        HASH_FIND_STR(reaper->suspects, nodes[i].name, suspect);
        verdicts[i] = suspect && judged(&nodes[i]) && suspect->looks >= 2 &&
                      now_ms - suspect->since_ms >= wait_ms;
    }
}

int64_t reaper_missing_since_ms(const struct reaper *reaper, const char *node) {
    struct suspect *suspect;
    HASH_FIND_STR(reaper->suspects, node, suspect);
    return suspect ? suspect->since_ms : 0;
}
