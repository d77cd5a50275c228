/* Random sequences of all transitions by simulated nodes, some of them fenced without knowing it,
 * and by people who write keys by hand. Some calls are repeated, as after a lost reply. After every
 * step all keys are read, the invariants are checked, and the data is compared with a model. SEED=n
 * in the environment runs only that seed. */
#include "property_client.h"
#include "property_set.h"

#define STEPS 2000
/* The test has one thread and Redis has the rules: a sanitizer sees all of it in the first two. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RUNS 2
#else
#define RUNS 6
#endif

/* ---- steps: assign and release ------------------------------------------------------------- */

#define ASSIGNED_MAX 6

static enum err assign_expected(int node, const struct process *process) {
    const struct entry *entry = &world.entries[node];
    return restoring()                                 ? ERR_WRONG_STATE
           : !is_member(node, process) || !beats(node) ? ERR_FENCED
           : entry->draining || entry->leaving         ? ERR_REFUSED
                                                       : ERR_OK;
}

static void check_assigned(int node, const struct store_assign_item *item, bool later,
                           const struct store_assign_result *result) {
    const struct truth *truth = &world.ids[index_of(item->id)];
    if (result->outcome != STORE_ASSIGNED) {
        return;
    }
    MUST(!later, "assigned before its time");
    MUST(truth->exists, "assigned what is gone");
    MUST(result->epoch > truth->epoch_max ||
             (result->epoch == truth->owner_epoch && truth->owner == node),
         "epoch does not grow");
}

static void step_assign(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    struct store_assign_item items[ASSIGNED_MAX];
    struct store_assign_result results[ASSIGNED_MAX], second[ASSIGNED_MAX];
    char identities[ASSIGNED_MAX][TEXT_LEN];
    bool later[ASSIGNED_MAX];
    size_t n = 1 + random_below(ASSIGNED_MAX), done, second_done;
    for (size_t i = 0; i < n; i++) {
        int id = any_id();
        any_identity(id, identities[i]);
        items[i] = (struct store_assign_item){.id = world.ids[id].id, .identity = identities[i]};
        later[i] = RAW_INT("ZSCORE", "mqtt_fleet:retry", items[i].id) > 1;
    }
    enum err expected = assign_expected(node, process);
    enum err err = store_assign(store, &who, items, n, results, &done);
    NOTE("assign to %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == expected, err_name(err));
    MUST(done == (err == ERR_OK ? n : 0), "done");
    world.may_gain = true;
    bool again = AGAIN();
    if (again) {
        MUST(store_assign(store, &who, items, n, second, &second_done) == err, "second");
        MUST(second_done == done, "second assignment differs");
    }
    for (size_t i = 0; i < done; i++) {
        NOTE("  %s: %d", items[i].id, results[i].outcome);
        if (again) {
            /* Another item of the same call may have released the identity. */
            MUST(second[i].outcome == results[i].outcome ||
                     results[i].outcome == STORE_ASSIGN_IDENTITY,
                 "second outcome differs");
            MUST(results[i].outcome != STORE_ASSIGNED || second[i].epoch == results[i].epoch,
                 "second epoch differs");
        }
        check_assigned(node, &items[i], later[i], again ? &second[i] : &results[i]);
    }
}

/* As the scripts of an older version assigned: only the rev is recorded. */
static void step_assign_older(void) {
    static const char older[] =
        "local text = redis.call('HGET', 'mqtt_config:no', ARGV[1])\n"
        "if not text or redis.call('HEXISTS', 'mqtt_config:use', ARGV[1]) == 1 or\n"
        "    redis.call('EXISTS', 'beat:mqtt:' .. ARGV[2]) == 0 then\n"
        "    return 0\n"
        "end\n"
        "local ok, meta = pcall(cjson.decode, redis.call('HGET', 'mqtt_fleet:meta', ARGV[1]))\n"
        "if not ok or redis.call('ZSCORE', 'mqtt_fleet:retry', ARGV[1]) then return 0 end\n"
        "local time = redis.call('TIME')\n"
        "local epoch = math.max((tonumber(redis.call('GET', 'mqtt_fleet:epoch')) or 0) + 1,\n"
        "    time[1] * 1000000 + time[2])\n"
        "redis.call('SET', 'mqtt_fleet:epoch', string.format('%.0f', epoch))\n"
        "redis.call('HDEL', 'mqtt_config:no', ARGV[1])\n"
        "redis.call('HSET', 'mqtt_config:use', ARGV[1], text)\n"
        "redis.call('HSET', 'mqtt_fleet:owner', ARGV[1], cjson.encode({node = ARGV[2],\n"
        "    incarnation = ARGV[3], epoch = string.format('%.0f', epoch),\n"
        "    version = meta.version, since = 1}))\n"
        "redis.call('SET', 'mqtt_size:' .. ARGV[2],\n"
        "    redis.call('RPUSH', 'node_bind:' .. ARGV[2], ARGV[1]))\n"
        "redis.call('INCR', 'mqtt_fleet:rev:' .. ARGV[2])\n"
        "return 1\n";
    int node = any_node();
    const struct truth *truth = &world.ids[any_id()];
    struct store_member who = member_of(node, &world.now[node]);
    if (!is_member(node, &world.now[node]) || world.entries[node].leaving) {
        return;
    }
    if (RAW_INT("EVAL", older, "0", truth->id, who.node, who.incarnation) == 1) {
        NOTE("older assign of %s to %s", truth->id, who.node);
        world.may_gain = world.spoilt[node] = world.over[node] = true;
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

static void step_release_to(void) {
    int node = any_node(), to = any_node();
    struct process *process = process_of(node), *target = process_of(to);
    struct store_member who = member_of(node, process), whom = member_of(to, target);
    int i = any_held(process);
    struct held *held = &process->held[i];
    bool owns = world.ids[i].owner == node && world.ids[i].owner_epoch == held->epoch;
    bool accepts = to != node && assign_expected(to, target) == ERR_OK;
    size_t released = release_to(who, world.ids[i].id, held->epoch, 0, whom);
    NOTE("release %s by %s/%.4s to %s: %zu", world.ids[i].id, who.node, who.incarnation, whom.node,
         released);
    MUST(released == owns, "released what is not its own, or not what is");
    world.may_lose_of = node;
    world.may_gain = accepts;
    if (AGAIN()) {
        MUST(release_to(who, world.ids[i].id, held->epoch, 0, whom) == 0, "released twice");
    }
    held->held = false;
}

static void step_succeeded(void) {
    int node = any_node();
    struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    const char *ids[] = {world.ids[any_held(process)].id, world.ids[any_id()].id};
    NOTE("succeeded %s %s by %s", ids[0], ids[1], who.node);
    MUST(store_mark_stable(store, &who, ids, 2) == ERR_OK, "succeeded");
}

/* What the model says of one that a node runs at this epoch with this version. */
static enum store_ownership_status evidence_expected(const struct truth *truth, int node,
                                                     const struct store_held *held) {
    bool newer = held->version > truth->version, anew = created_anew(truth, held->version);
    if (truth->exists && anew) {
        return truth->owner == node ? STORE_OWNERSHIP_STALE
               : truth->owner >= 0  ? STORE_OWNERSHIP_NEWER
                                    : STORE_OWNERSHIP_WAITING;
    }
    if (truth->owner == node) {
        return held->epoch > truth->owner_epoch || newer ? STORE_OWNERSHIP_OLDER
               : held->epoch == truth->owner_epoch && held->version == truth->version
                   ? STORE_OWNERSHIP_MINE
                   : STORE_OWNERSHIP_STALE;
    }
    if (truth->owner >= 0) {
        return held->epoch > truth->owner_epoch || newer ? STORE_OWNERSHIP_OLDER
                                                         : STORE_OWNERSHIP_NEWER;
    }
    if (truth->exists) {
        return held->epoch > truth->released_epoch || newer ? STORE_OWNERSHIP_OLDER
                                                            : STORE_OWNERSHIP_WAITING;
    }
    bool stands = truth->deleted && truth->buried_version >= held->version &&
                  truth->buried_epoch >= held->epoch;
    return stands ? STORE_OWNERSHIP_TOMBSTONE : STORE_OWNERSHIP_NONE;
}

/* Owned by this process. */
static bool owns(int node, const struct process *process, int i) {
    return world.ids[i].owner == node &&
           strcmp(world.entries[node].incarnation, process->incarnation) == 0;
}

static void step_evidence(void) {
    int node = any_node();
    struct process *process = &world.now[node];
    struct store_member who = member_of(node, process);
    struct store_held held[IDS];
    enum store_ownership_status evidence[IDS];
    for (int i = 0; i < IDS; i++) {
        held[i] = (struct store_held){.id = world.ids[i].id,
                                      .epoch = process->held[i].epoch,
                                      .version = process->held[i].version};
    }
    NOTE("evidence for %s", who.node);
    MUST(store_ownership_status(store, &who, held, IDS, evidence) == ERR_OK, "evidence");
    for (int i = 0; i < IDS; i++) {
        /* A text written by hand has no version of its own. */
        if (world.ids[i].version == 0 && world.ids[i].exists) {
            continue;
        }
        int as = owns(node, process, i) || world.ids[i].owner != node ? node : -2;
        MUST(evidence[i] == evidence_expected(&world.ids[i], as, &held[i]), world.ids[i].id);
    }
}

/* ---- steps: nodes -------------------------------------------------------------------------- */

/* Leaves an id that another node owns in a node's list, which no script does. */
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
    fresh.mirror.applied = -1;
    world.now[node] = fresh;
    world.over[node] = world.spoilt[node] = false;
    world.may_lose_of = node;
    if (AGAIN()) {
        MUST(try_join(who, NODE_SIZES[node], generation) == ERR_OK, "second join");
        MUST(strcmp(generation, fresh.generation) == 0, "second join has another generation");
    }
}

static void rejoin_after_loss(int node, struct process *process) {
    struct store_member who = member_of(node, process);
    bool kept = is_member(node, process);
    enum err err = try_join(who, NODE_SIZES[node], process->generation);
    NOTE("rejoin %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == ERR_OK || err == ERR_EXISTS || err == ERR_FENCED, "rejoin");
    process->mirror.applied = -1;
    world.spoilt[node] = world.spoilt[node] && (kept || err != ERR_OK);
    if (err != ERR_OK) {
        memset(process->held, 0, sizeof process->held);
    } else if (process == &world.before[node]) { /* the fenced process was first: it is alive */
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
    struct store_heartbeat beat, second;
    enum err err = store_heartbeat(store, &who, process->generation, TTL_MS, "{}", &beat);
    NOTE("beat %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == ERR_WRONG_STATE || (err == ERR_OK) == is_member(node, process), err_name(err));
    MUST(err == ERR_OK || err == ERR_FENCED || err == ERR_WRONG_STATE, err_name(err));
    if (AGAIN()) {
        MUST(store_heartbeat(store, &who, process->generation, TTL_MS, "{}", &second) == err,
             "second beat");
        MUST(second.rev == beat.rev && second.candidate_wanted == beat.candidate_wanted,
             "second beat differs");
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
    bool remembered = !draining && RAW_INT("HEXISTS", "mqtt_fleet:drained", NODE_NAMES[node]) == 1;
    enum err expected = remembered                      ? ERR_OK
                        : entry->incarnation[0] == '\0' ? ERR_NOT_FOUND
                        : entry->dead || entry->leaving ? ERR_REFUSED
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
    bool beating = is_member(node, process) && beats(node);
    enum store_role role, second;
    MUST(store_lead(store, &who, TTL_MS, "", &role) == ERR_OK, "lead");
    NOTE("lead %s/%.4s: %d", who.node, who.incarnation, role);
    MUST((role == STORE_ROLE_LEADER) == (free && beating), "lead");
    MUST(role == STORE_ROLE_NONE || beating, "lead without a beat");
    MUST(RAW_INT("ZCARD", "mqtt_fleet:standby") <= 2, "three standbys");
    if (AGAIN()) {
        MUST(store_lead(store, &who, TTL_MS, "", &second) == ERR_OK && second == role,
             "second lead");
    }
    if (chance(50)) {
        MUST(store_resign(store, &who) == ERR_OK, "unlead");
    }
}

static void step_leaving(void) {
    int node = any_node();
    const struct process *process = process_of(node);
    struct store_member who = member_of(node, process);
    enum err err = store_mark_leaving(store, &who);
    NOTE("leaving %s/%.4s: %s", who.node, who.incarnation, err_name(err));
    MUST(err == (is_member(node, process) ? ERR_OK : ERR_FENCED), err_name(err));
}

/* ---- steps: Redis goes back -------------------------------------------------------------------
 */

/* The next call that writes notices it and does nothing else. */
static void find_out(void) {
    const char *before = RAW_TEXT("GET", "mqtt_fleet:generation");
    MUST(store_set_cooldown(store, "nobody", 0, "", "", NULL) == ERR_OK, "find out");
    MUST(store_noticed_rollback(store), "a loss that is not noticed");
    MUST(restoring(), "assigned at once after a loss");
    MUST(strcmp(before, RAW_TEXT("GET", "mqtt_fleet:generation")) != 0,
         "a loss without a new generation");
}

/* Redis loses everything; what processes hold is all that remains. */
static void step_lose_all(void) {
    clock_sleep_ms(2); /* versions are times in ms: what was lost and what follows differ */
    RAW("FLUSHALL");
    NOTE("FLUSHALL");
    for (int i = 0; i < IDS; i++) {
        world.ids[i].exists = world.ids[i].deleted = false;
        world.ids[i].written[0] = '\0';
    }
    memset(world.over, 0, sizeof world.over);
    memset(world.spoilt, 0, sizeof world.spoilt);
    world.snapshot.taken = false;
    world.epoch_counter = 0;
    world.may_lose_any = true;
    find_out();
}

static void step_snapshot(void) {
    take_snapshot();
    NOTE("snapshot");
    memcpy(world.snapshot.ids, world.ids, sizeof world.ids);
    memcpy(world.snapshot.over, world.over, sizeof world.over);
    memcpy(world.snapshot.spoilt, world.spoilt, sizeof world.spoilt);
    world.snapshot.epoch_counter = world.epoch_counter;
    world.snapshot.taken = true;
}

/* An older snapshot, or a replica that lacks the last writes, perhaps from while nodes restored.
 * What processes run stays. */
static void step_go_back(void) {
    if (!world.snapshot.taken) {
        return;
    }
    MUST(store_set_cooldown(store, "nobody", 0, "", "", NULL) == ERR_OK,
         "an answered write to lose");
    go_back();
    NOTE("Redis goes back");
    for (int i = 0; i < IDS; i++) {
        int64_t epoch_max = world.ids[i].epoch_max, version_max = world.ids[i].version_max;
        world.ids[i] = world.snapshot.ids[i];
        world.ids[i].epoch_max = epoch_max;
        world.ids[i].version_max = version_max;
    }
    memcpy(world.over, world.snapshot.over, sizeof world.over);
    memcpy(world.spoilt, world.snapshot.spoilt, sizeof world.spoilt);
    world.epoch_counter = world.snapshot.epoch_counter;
    find_out();
}

static const struct {
    void (*run)(void);
    unsigned weight;
} STEP_TABLE[] = {
    {step_create, 14},       {step_update, 8},         {step_delete, 6},
    {step_write_by_hand, 6}, {step_orphan_by_hand, 2}, {step_defer, 3},
    {step_time_passes, 6},   {step_assign, 30},        {step_assign_older, 2},
    {step_release, 10},      {step_release_to, 8},     {step_succeeded, 2},
    {step_evidence, 4},      {step_changes, 40},       {step_restore, 14},
    {step_restart, 8},       {step_beat, 20},          {step_beat_expires, 6},
    {step_fence, 20},        {step_reap, 8},           {step_leave, 2},
    {step_leaving, 1},       {step_drain, 4},          {step_lead, 3},
    {step_snapshot, 2},      {step_go_back, 1},        {step_operate, 2},
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
    return run < RUNS - 1 ? (uint64_t)run + 1
                          : (uint64_t)clock_wall_ms(); /* the last is new each time */
}

START_TEST(every_interleaving_keeps_every_id_in_exactly_one_place) {
    if (_i > 0 && getenv("SEED")) {
        return;
    }
    make_world(seed_of(_i));
    for (world.step = 1; world.step <= STEPS; world.step++) {
        world.may_gain = world.may_lose_any = false;
        world.may_lose_of = -1;
        if (random_below(600) == 0) {
            step_lose_all();
        } else {
            any_step();
        }
        check_world();
    }
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_loop_test(tcase, every_interleaving_keeps_every_id_in_exactly_one_place, 0, RUNS);
}

int main(void) {
    return fixture_run("store_property", add);
}
