/* Steps of test_store_property.c for the set of a node: what it reads of it, and what it
 * restores. */
#ifndef MQFLEET_TEST_PROPERTY_SET_H
#define MQFLEET_TEST_PROPERTY_SET_H

#include "property_world.h"

/* ---- steps: the set of a node ---------------------------------------------------------------- */

/* What a process of this name has read matches Redis. */
static void check_mirror(int node, const struct mirror *mirror) {
    for (int i = 0; i < IDS; i++) {
        const struct truth *truth = &world.ids[i];
        bool own = truth->owner == node;
        MUST((mirror->epochs[i] != 0) == own, truth->id);
        MUST(!own || mirror->epochs[i] == truth->owner_epoch, truth->id);
        MUST(!own || mirror->versions[i] == truth->version, truth->id);
    }
}

static int64_t mirror_digest(const struct mirror *mirror) {
    int64_t digest = 0;
    for (int i = 0; i < IDS; i++) {
        if (mirror->epochs[i] != 0) {
            digest =
                store_digest_add(digest, world.ids[i].id, mirror->epochs[i], mirror->versions[i]);
        }
    }
    return digest;
}

/* The process runs it, as recorded in Redis. */
static void hold(struct process *process, int i) {
    const struct truth *truth = &world.ids[i];
    struct held *held = &process->held[i];
    const char *text = RAW_TEXT("HGET", "mqtt_fleet:meta", truth->id);
    json_t *meta = json_loads(text, 0, NULL);
    const char *identities = fleet_identities(meta);
    *held = (struct held){.held = true, .epoch = truth->owner_epoch, .version = truth->version};
    snprintf(held->config, TEXT_LEN, "%s", truth->config);
    snprintf(held->identity, TEXT_LEN, "%s", identities ? identities : "");
    json_decref(meta);
}

static void read_whole_list(int node, struct process *process) {
    struct store_member who = member_of(node, process);
    struct store_assignment *rows;
    struct store_set set;
    size_t n;
    MUST(store_list_assignments(store, &who, &rows, &n, &set) == ERR_OK, "assigned");
    memset(&process->mirror, 0, sizeof process->mirror);
    for (size_t i = 0; i < n; i++) {
        int id = index_of(rows[i].id);
        process->mirror.epochs[id] = rows[i].epoch;
        process->mirror.versions[id] = rows[i].version;
        hold(process, id);
    }
    store_assignments_free(rows, n);
    check_mirror(node, &process->mirror);
    process->mirror.applied = set.rev;
    MUST(set.restoring == restoring(), "restoring");
    MUST(store_save_digest(store, &who, set.rev - 1, 7) == ERR_WRONG_STATE, "of another rev");
    MUST(store_save_digest(store, &who, set.rev, mirror_digest(&process->mirror)) == ERR_OK,
         "digest");
    world.spoilt[node] = false;
}

/* Reads one page; false: it was the last, or the whole list must be read. */
static bool read_page(int node, struct process *process, struct store_change *last,
                      struct store_set *set) {
    struct store_member who = member_of(node, process);
    struct mirror *mirror = &process->mirror;
    struct store_change *rows;
    size_t n;
    MUST(store_changes(store, &who, mirror->applied, last->id ? last : NULL, set, &rows, &n) ==
             ERR_OK,
         "changes");
    if (set->gap_rev > mirror->applied || set->rev < mirror->applied) {
        mirror->applied = -1;
        store_changes_free(rows, n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int id = index_of(rows[i].id);
        const struct truth *truth = &world.ids[id];
        MUST(rows[i].rev > mirror->applied && rows[i].rev <= set->rev, "rev of a change");
        MUST(rows[i].rev >= last->rev, "order of changes");
        mirror->epochs[id] = rows[i].epoch;
        mirror->versions[id] = rows[i].version;
        if (rows[i].epoch != 0) {
            MUST(strcmp(rows[i].config, truth->config) == 0, "text of a change");
            hold(process, id);
        } else if (chance(50)) {
            process->held[id].held = false; /* or it goes on, until the evidence is heard */
        }
        free(last->id);
        *last = rows[i];
        rows[i].id = NULL;
        last->config = NULL;
    }
    store_changes_free(rows, n);
    return n > 0;
}

static void read_changes(int node, struct process *process) {
    struct store_change last = {0};
    struct store_set set;
    while (read_page(node, process, &last, &set)) {
    }
    free(last.id);
    if (process->mirror.applied < 0) {
        read_whole_list(node, process);
        return;
    }
    process->mirror.applied = set.rev;
    MUST(set.restoring == restoring(), "restoring");
    check_mirror(node, &process->mirror);
    MUST(world.spoilt[node] || set.digest == mirror_digest(&process->mirror), "digest");
}

static void step_changes(void) {
    int node = any_node();
    struct process *process = &world.now[node];
    struct store_member who = member_of(node, process);
    NOTE("changes of %s", who.node);
    if (!is_member(node, process)) {
        struct store_change *rows;
        struct store_assignment *list;
        struct store_set set;
        size_t n;
        MUST(store_changes(store, &who, 0, NULL, &set, &rows, &n) == ERR_FENCED, "changes");
        MUST(store_list_assignments(store, &who, &list, &n, &set) == ERR_FENCED, "assigned");
        MUST(store_save_digest(store, &who, 0, 7) == ERR_FENCED, "digest");
        return;
    }
    if (strcmp(process->generation, RAW_TEXT("GET", "mqtt_fleet:generation")) != 0) {
        return; /* its next heartbeat reports that Redis lost data */
    }
    if (process->mirror.applied < 0) {
        read_whole_list(node, process);
    } else {
        read_changes(node, process);
    }
}

/* Somebody else has one of the identities. */
static bool identity_taken(const struct truth *truth, const char *identities) {
    char one[FLEET_FAULT_LEN];
    bool taken = false;
    for (const char *at = identities; *at;) {
        char *holder;
        at = fleet_next_identity(at, one);
        if (store_identity_owner(store, one, &holder) == ERR_OK) {
            taken = taken || strcmp(holder, truth->id) != 0;
            free(holder);
        }
    }
    return taken;
}

/* A count in place of a time: not by a process that updated what this process runs, unless Redis
 * lost data. */
static bool created_anew(const struct truth *truth, int64_t version) {
    return truth->version < INT64_C(1000000000000) && truth->version < version && !restoring();
}

/* The configuration of the id after a restore: the newer one. kept: the one in Redis in any
 * case. */
static void learn_restored(struct truth *truth, const struct held *held, bool kept) {
    const char *now = RAW_TEXT("HGET", "mqtt_config:no", truth->id);
    now = strcmp(now, "(nil)") == 0 ? RAW_TEXT("HGET", "mqtt_config:use", truth->id) : now;
    bool exists = strcmp(now, "(nil)") != 0, newer = held->version > truth->version;
    if (!truth->exists && exists) {
        bool stands = truth->deleted && truth->buried_version >= held->version &&
                      truth->buried_epoch >= held->epoch;
        MUST(!stands, "deleted, and came back");
        MUST(strcmp(now, held->config) == 0, "came back with another text");
        truth->exists = true;
        truth->deleted = false;
        snprintf(truth->config, TEXT_LEN, "%s", held->config);
    } else if (exists && newer && strcmp(latest(truth), held->config) != 0) {
        bool put_back = strcmp(now, held->config) == 0;
        MUST(put_back || kept || truth->written[0], "a newer text is lost");
        if (put_back && truth->written[0] == '\0') {
            snprintf(truth->config, TEXT_LEN, "%s", held->config);
        }
    }
}

static void step_restore(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    int i = any_held(process);
    struct held *held = &process->held[i];
    struct truth *truth = &world.ids[i];
    bool by_hand = truth->exists && truth->version == 0;
    if (!held->held || truth->written[0] || by_hand) {
        return;
    }
    struct store_restore_item item = {.id = truth->id,
                                      .epoch = held->epoch,
                                      .config = held->config,
                                      .identity = held->identity,
                                      .version = held->version};
    struct store_restore_result restored = {0}, second = {0};
    size_t done;
    bool kept = identity_taken(truth, held->identity) ||
                (truth->exists && created_anew(truth, held->version));
    enum err err = store_restore(store, &who, &item, 1, &restored, &done);
    NOTE("restore %s by %s/%.4s: %s%s", truth->id, who.node, who.incarnation, err_name(err),
         restored.mine ? ", mine" : "");
    MUST(err == (is_member(node, process) ? ERR_OK : ERR_FENCED), err_name(err));
    MUST(!restored.mine || restored.epoch >= held->epoch, "epoch went back");
    MUST(!restored.mine || restored.version >= held->version || kept, "version went back");
    world.may_gain = world.may_lose_any = true;
    if (AGAIN()) {
        MUST(store_restore(store, &who, &item, 1, &second, &done) == err, "second restore");
        MUST(second.mine == restored.mine && second.epoch == restored.epoch,
             "second restore differs");
    }
    if (err == ERR_OK) {
        learn_restored(truth, held, kept);
    }
    if (restored.mine) {
        held->epoch = restored.epoch;
        world.over[node] = true;
    } else {
        held->held = false;
    }
}

#endif
