/* Random interleavings of all transitions by make-believe nodes, some of them long fenced and not
 * knowing it, with people writing into the keys by hand; each call now and then made twice, as
 * after a lost reply. After every step all keys are read and the invariants checked, and what is
 * stored is compared with a model. SEED=n in the environment runs that seed only. */
#include "property_client.h"

#define STEPS 2000

/* ---- steps: claim and release -------------------------------------------------------------- */

#define CLAIMS 6

static void hold(struct process *process, const struct store_client *client, const char *identity) {
    int i = index_of(client->id);
    struct truth *truth = &world.ids[i];
    struct held *held = &process->held[i];
    MUST(truth->exists, "claimed what is gone");
    MUST(strcmp(client->config, latest(truth)) == 0, "claimed with another text");
    MUST(client->owner.epoch > truth->epoch_max ||
             (client->owner.epoch == truth->owner_epoch && truth->owner >= 0),
         "epoch does not grow");
    *held = (struct held){.held = true, .epoch = client->owner.epoch, .version = client->version};
    snprintf(held->config, TEXT_LEN, "%s", client->config);
    snprintf(held->identity, TEXT_LEN, "%s", identity);
}

static void step_claim(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    struct store_claim_item items[CLAIMS];
    struct store_claim_result results[CLAIMS], second[CLAIMS];
    char identities[CLAIMS][TEXT_LEN];
    bool later[CLAIMS];
    size_t n = 1 + random_below(CLAIMS), done, second_done;
    int64_t rev, second_rev;
    for (size_t i = 0; i < n; i++) {
        int id = any_id();
        any_identity(id, identities[i]);
        items[i] = (struct store_claim_item){.id = world.ids[id].id, .identity = identities[i]};
        later[i] = RAW_INT("ZSCORE", "mqtt_fleet:retry", items[i].id) > 1;
    }
    enum err expected = !is_member(node, process) || !beats(node) ? ERR_FENCED
                        : world.entries[node].draining            ? ERR_REFUSED
                                                                  : ERR_OK;
    enum err err = store_claim(store, &who, items, n, results, &done, &rev);
    NOTE("claim by %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == expected, err_name(err));
    MUST(done == (err == ERR_OK ? n : 0), "done");
    world.may_gain = true;
    bool again = AGAIN();
    if (again) {
        MUST(store_claim(store, &who, items, n, second, &second_done, &second_rev) == err,
             "second");
        MUST(second_done == done && second_rev >= rev, "second claim differs");
    }
    for (size_t i = 0; i < done; i++) {
        NOTE("  %s: %d", items[i].id, results[i].outcome);
        if (again) {
            /* Another item of the same call may have given the identity up. */
            MUST(second[i].outcome == results[i].outcome ||
                     results[i].outcome == STORE_CLAIM_IDENTITY,
                 "second outcome differs");
            MUST(results[i].outcome != STORE_CLAIMED ||
                     second[i].client.owner.epoch == results[i].client.owner.epoch,
                 "second epoch differs");
        }
        const struct store_claim_result *last = again ? &second[i] : &results[i];
        MUST(last->outcome != STORE_CLAIMED || !later[i], "claimed before its time");
        if (last->outcome == STORE_CLAIMED) {
            MUST(strcmp(last->client.owner.node, who.node) == 0, "claimed for another node");
            hold(process, &last->client, identities[i]);
        }
    }
    store_claim_results_fini(results, n);
    if (again) {
        store_claim_results_fini(second, n);
    }
}

static void step_release(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    int i = any_held(process);
    struct held *held = &process->held[i];
    int64_t epoch = chance(90) ? held->epoch : held->epoch + 1;
    bool owns = world.ids[i].owner == node && world.ids[i].owner_epoch == epoch;
    size_t released = release(who, world.ids[i].id, epoch, chance(20) ? 3600000 : 0, chance(50));
    NOTE("release %s by %s/%.4s: %zu", world.ids[i].id, who.node, who.incarnation, released);
    MUST(released == owns, "released what is not its own, or not what is");
    held->held = held->held && (epoch != held->epoch || chance(30)); /* or it does not know */
    world.may_lose_of = node;
    if (AGAIN()) {
        MUST(release(who, world.ids[i].id, epoch, 0, true) == 0, "released twice");
    }
}

static void step_succeeded(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    const char *ids[] = {world.ids[any_held(process)].id, world.ids[any_id()].id};
    NOTE("succeeded %s %s by %s", ids[0], ids[1], who.node);
    MUST(store_succeeded(store, &who, ids, 2) == ERR_OK, "succeeded");
}

/* Looks an enum up in what the model says of it. */
static void check_evidence(int node, int i, int64_t epoch, enum store_evidence evidence) {
    const struct truth *truth = &world.ids[i];
    enum store_evidence expected = truth->deleted ? STORE_EVIDENCE_TOMBSTONE : STORE_EVIDENCE_NONE;
    if (truth->exists) {
        expected = STORE_EVIDENCE_WAITING;
    }
    if (truth->owner >= 0) {
        expected = truth->owner == node && truth->owner_epoch == epoch ? STORE_EVIDENCE_MINE
                   : truth->owner_epoch >= epoch                       ? STORE_EVIDENCE_NEWER
                                                                       : STORE_EVIDENCE_OLDER;
    }
    MUST(evidence == expected, truth->id);
}

static void step_evidence(void) {
    int node = any_node();
    struct process *process = &world.now[node];
    struct store_member who = member_of(node, process);
    struct store_held held[IDS];
    enum store_evidence evidence[IDS];
    for (int i = 0; i < IDS; i++) {
        held[i] = (struct store_held){.id = world.ids[i].id, .epoch = process->held[i].epoch};
    }
    NOTE("evidence for %s", who.node);
    MUST(store_evidence(store, &who, held, IDS, evidence) == ERR_OK, "evidence");
    for (int i = 0; i < IDS; i++) {
        check_evidence(node, i, held[i].epoch, evidence[i]);
    }
}

static void step_assigned(void) {
    int node = any_node();
    struct store_member who = member_of(node, &world.now[node]);
    struct store_assignment *rows;
    size_t n, expected = 0;
    int64_t rev;
    enum err err = store_assigned(store, &who, &rows, &n, &rev);
    NOTE("assigned to %s: %s", who.node, err_name(err));
    MUST(err == (is_member(node, &world.now[node]) ? ERR_OK : ERR_FENCED), err_name(err));
    for (int i = 0; i < IDS && err == ERR_OK; i++) {
        expected += world.ids[i].owner == node;
    }
    MUST(n == expected, "assigned differs in number");
    for (size_t i = 0; i < n; i++) {
        const struct truth *truth = &world.ids[index_of(rows[i].id)];
        MUST(truth->owner == node && truth->owner_epoch == rows[i].epoch, rows[i].id);
    }
    store_assigned_free(rows, n);
}

static void step_restore(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    int i = any_held(process);
    struct held *held = &process->held[i];
    struct truth *truth = &world.ids[i];
    if (!held->held) {
        return;
    }
    struct store_restore item = {.id = truth->id,
                                 .epoch = held->epoch,
                                 .config = held->config,
                                 .identity = held->identity,
                                 .version = held->version};
    int64_t epoch, second_epoch;
    enum err err = store_restore(store, &who, &item, &epoch);
    NOTE("restore %s by %s/%.4s: %s", truth->id, who.node, who.incarnation, err_name(err));
    MUST((err == ERR_FENCED) == !is_member(node, process), err_name(err));
    MUST(err == ERR_OK || err == ERR_FENCED || err == ERR_REFUSED, err_name(err));
    MUST(err != ERR_OK || !truth->deleted, "deleted, and came back");
    MUST(err != ERR_OK || epoch >= held->epoch, "epoch went back");
    world.may_gain = true;
    if (AGAIN()) {
        MUST(store_restore(store, &who, &item, &second_epoch) == err, "second restore");
        MUST(second_epoch == epoch, "second restore has another epoch");
    }
    bool waits = !truth->exists && RAW_INT("HEXISTS", "mqtt_config:no", truth->id) == 1;
    if ((err == ERR_OK || waits) && !truth->exists) {
        MUST(!truth->deleted, "deleted, and came back to wait");
        truth->exists = true;
        snprintf(truth->config, TEXT_LEN, "%s", held->config);
    }
    if (err == ERR_OK) {
        held->epoch = epoch;
        world.over[node] = true;
    } else {
        held->held = false;
    }
}

/* ---- steps: nodes -------------------------------------------------------------------------- */

/* Leaves an id that another node owns in a node's list, as nothing of ours ever does. */
static const char *plant(int node) {
    char key[TEXT_LEN];
    for (int i = 0; i < IDS && chance(50); i++) {
        if (world.ids[i].owner >= 0 && world.ids[i].owner != node) {
            snprintf(key, sizeof key, "node_bind:%s", NODE_NAMES[node]);
            RAW("RPUSH", key, world.ids[i].id);
            return world.ids[i].id;
        }
    }
    return NULL;
}

static void unplant(int node, const char *id) {
    char key[TEXT_LEN];
    snprintf(key, sizeof key, "node_bind:%s", NODE_NAMES[node]);
    if (id) {
        RAW("LREM", key, "-1", id);
    }
}

static void step_restart(void) {
    int node = any_node();
    struct process fresh = {0};
    bool alive = beats(node);
    const char *planted = alive ? NULL : plant(node);
    char generation[TEXT_ID_LEN];
    text_random_id(fresh.incarnation);
    struct store_member who = member_of(node, &fresh);
    enum err err = try_join(who, NODE_SIZES[node], fresh.generation);
    NOTE("join %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == (alive ? ERR_EXISTS : ERR_OK), "join");
    if (err != ERR_OK) {
        unplant(node, planted);
        return;
    }
    world.before[node] = world.now[node];
    world.now[node] = fresh;
    world.over[node] = false;
    world.may_lose_of = node;
    if (AGAIN()) {
        MUST(try_join(who, NODE_SIZES[node], generation) == ERR_OK, "second join");
        MUST(strcmp(generation, fresh.generation) == 0, "second join has another generation");
    }
}

static void rejoin_after_loss(int node, struct process *process) {
    struct store_member who = member_of(node, process);
    enum err err = try_join(who, NODE_SIZES[node], process->generation);
    NOTE("rejoin %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == ERR_OK || err == ERR_EXISTS || err == ERR_FENCED, "rejoin");
    if (err != ERR_OK) {
        memset(process->held, 0, sizeof process->held);
    } else if (process == &world.before[node]) { /* the zombie was there first: it lives */
        struct process swapped = world.now[node];
        world.now[node] = *process;
        world.before[node] = swapped;
    }
    world.may_lose_of = node;
}

static void step_beat(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    struct store_beat beat, second;
    enum err err = store_beat(store, &who, process->generation, TTL_MS, &beat);
    NOTE("beat %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == ERR_WRONG_STATE || (err == ERR_OK) == is_member(node, process), err_name(err));
    MUST(err == ERR_OK || err == ERR_FENCED || err == ERR_WRONG_STATE, err_name(err));
    if (AGAIN()) {
        MUST(store_beat(store, &who, process->generation, TTL_MS, &second) == err, "second beat");
        MUST(second.rev == beat.rev && second.alone == beat.alone, "second beat differs");
    }
    if (err == ERR_FENCED) {
        memset(process->held, 0, sizeof process->held);
    } else if (err == ERR_WRONG_STATE) {
        rejoin_after_loss(node, process);
    }
}

static void step_beat_expires(void) {
    int node = any_node();
    stop_beating(member(NODE_NAMES[node], ""));
    NOTE("beat of %s expires", NODE_NAMES[node]);
}

static void step_fence(void) {
    int caller = any_node(), target = any_node();
    const struct process *by_process = process_of(caller), *process = process_of(target);
    struct store_member by = member_of(caller, by_process), who = member_of(target, process);
    bool may = is_member(caller, by_process) && beats(caller) && !beats(target);
    bool known = world.entries[target].incarnation[0] != '\0';
    bool same = strcmp(world.entries[target].incarnation, process->incarnation) == 0;
    enum err err = store_fence(store, &by, &who);
    NOTE("fence %s/%.4s by %s: %s", who.node, who.incarnation, by.node, err_name(err));
    MUST(err == (may && (same || !known) ? ERR_OK : ERR_REFUSED), err_name(err));
    if (AGAIN()) {
        MUST(store_fence(store, &by, &who) == err, "second fence");
    }
}

static void step_reap(void) {
    int node = any_node();
    const struct process *process = process_of(node);
    const struct entry *entry = &world.entries[node];
    struct store_member who = member_of(node, process);
    bool same = strcmp(entry->incarnation, process->incarnation) == 0;
    bool may = !beats(node) && (entry->incarnation[0] == '\0' || (entry->dead && same));
    const char *planted = plant(node);
    size_t moved;
    bool finished, again;
    enum err err = store_reap(store, &who, &moved, &finished);
    NOTE("reap %s/%.4s: %s, %zu moved%s", who.node, who.incarnation, err_name(err), moved,
         planted ? ", planted" : "");
    MUST(err == (may ? ERR_OK : ERR_REFUSED), err_name(err));
    if (err == ERR_REFUSED) {
        unplant(node, planted);
    } else {
        world.may_lose_of = node;
        MUST(finished, "reap of one batch is not finished");
    }
    if (AGAIN()) {
        MUST(store_reap(store, &who, &moved, &again) == err, "second reap");
    }
}

static void step_leave(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    bool known = world.entries[node].incarnation[0] != '\0';
    for (int i = 0; i < IDS; i++) {
        if (process->held[i].held && chance(95)) {
            (void)release(who, world.ids[i].id, process->held[i].epoch, 0, false);
            process->held[i].held = false;
        }
    }
    char key[TEXT_LEN];
    snprintf(key, sizeof key, "node_bind:%s", NODE_NAMES[node]);
    int64_t owned = RAW_INT("LLEN", key);
    enum err err = store_leave(store, &who);
    NOTE("leave %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    bool same = strcmp(world.entries[node].incarnation, process->incarnation) == 0;
    MUST(err == (same && owned > 0 ? ERR_REFUSED : ERR_OK), err_name(err));
    MUST(same || RAW_INT("HEXISTS", "register:mqtt", who.node) == known, "another one left");
    world.may_lose_of = node;
    if (AGAIN()) {
        MUST(store_leave(store, &who) == err, "second leave");
    }
}

static void step_drain(void) {
    int node = any_node();
    bool draining = chance(30);
    const struct entry *entry = &world.entries[node];
    enum err expected = entry->incarnation[0] == '\0' ? ERR_NOT_FOUND
                        : entry->dead                 ? ERR_REFUSED
                                                      : ERR_OK;
    enum err err = store_drain(store, NODE_NAMES[node], draining);
    NOTE("drain %s %d: %s", NODE_NAMES[node], draining, err_name(err));
    MUST(err == expected, err_name(err));
}

static void step_lead(void) {
    int node = any_node();
    const struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    const char *leader = RAW_TEXT("GET", "mqtt_fleet:leader");
    bool free = strcmp(leader, "(nil)") == 0 || strstr(leader, who.incarnation);
    bool may = free && is_member(node, process) && beats(node), leading, second;
    MUST(store_lead(store, &who, TTL_MS, &leading) == ERR_OK, "lead");
    NOTE("lead %s/%.4s: %d", who.node, who.incarnation, leading);
    MUST(leading == may, "lead");
    if (AGAIN()) {
        MUST(store_lead(store, &who, TTL_MS, &second) == ERR_OK && second == leading,
             "second lead");
    }
    if (chance(50)) {
        MUST(store_unlead(store, &who) == ERR_OK, "unlead");
    }
}

/* Redis loses everything; what processes hold is all there is. */
static void step_lose_all(void) {
    RAW("FLUSHALL");
    NOTE("FLUSHALL");
    for (int i = 0; i < IDS; i++) {
        world.ids[i].exists = world.ids[i].deleted = false;
        world.ids[i].written[0] = '\0';
    }
    memset(world.over, 0, sizeof world.over);
    world.epoch_counter = 0;
    world.may_lose_any = true;
}

static const struct {
    void (*run)(void);
    unsigned weight;
} STEP_TABLE[] = {
    {step_create, 14},        {step_update, 8},    {step_delete, 6},      {step_write_by_hand, 6},
    {step_orphan_by_hand, 2}, {step_defer, 3},     {step_time_passes, 2}, {step_claim, 30},
    {step_release, 10},       {step_succeeded, 2}, {step_evidence, 3},    {step_assigned, 3},
    {step_restore, 8},        {step_restart, 12},  {step_beat, 20},       {step_beat_expires, 6},
    {step_fence, 20},         {step_reap, 8},      {step_leave, 2},       {step_drain, 4},
    {step_lead, 3},
};

/* ---- running ------------------------------------------------------------------------------- */

static void any_step(void) {
    unsigned total = 0;
    size_t n = sizeof STEP_TABLE / sizeof STEP_TABLE[0];
    for (size_t i = 0; i < n; i++) {
        total += STEP_TABLE[i].weight;
    }
    unsigned pick = (unsigned)random_below(total);
    size_t i = 0;
    while (pick >= STEP_TABLE[i].weight) {
        pick -= STEP_TABLE[i++].weight;
    }
    STEP_TABLE[i].run();
}

static uint64_t seed_of(int run) {
    const char *text = getenv("SEED");
    if (text) {
        return strtoull(text, NULL, 10);
    }
    return run < 5 ? (uint64_t)run + 1 : (uint64_t)clock_wall_ms(); /* the last is new each time */
}

START_TEST(every_interleaving_keeps_every_id_in_exactly_one_place) {
    if (_i > 0 && getenv("SEED")) {
        return;
    }
    make_world(seed_of(_i));
    for (world.step = 1; world.step <= STEPS; world.step++) {
        world.may_gain = world.may_lose_any = false;
        world.may_lose_of = -1;
        if (random_below(400) == 0) {
            step_lose_all();
        } else {
            any_step();
        }
        check_world();
    }
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_loop_test(tcase, every_interleaving_keeps_every_id_in_exactly_one_place, 0, 6);
}

int main(void) {
    return fixture_run("store_property", add);
}
