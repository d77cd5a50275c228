/* The simulated world of test_store_property.c: what processes believe, what must be true of each
 * id, random choices, and the check of all keys after every step. */
#ifndef MQFLEET_TEST_PROPERTY_WORLD_H
#define MQFLEET_TEST_PROPERTY_WORLD_H

#include "fleet_check.h"

#define IDS       40
#define NODES     4
#define TEXT_LEN  80
#define TRACE_LEN 20

static const char *const NODE_NAMES[] = {"plain", "with:colon", "with space", "n\xc3\xb6t/\"q\"",
                                         NULL};
static const int64_t NODE_SIZES[NODES] = {4, 9, 15, 30};

/* The clients that a process believes it runs. */
struct held {
    bool held;
    int64_t epoch, version;
    char config[TEXT_LEN], identity[TEXT_LEN];
};

/* What a process has read of its set. */
struct mirror {
    int64_t applied;                    /* rev; -1: the whole list is to be read */
    int64_t epochs[IDS], versions[IDS]; /* epoch 0: not its own */
};

struct process {
    char incarnation[TEXT_ID_LEN], generation[TEXT_ID_LEN];
    struct held held[IDS];
    struct mirror mirror;
};

/* The entry of a node in the register before the current step. */
struct entry {
    char incarnation[TEXT_ID_LEN]; /* "": not registered */
    bool dead, draining, leaving;
};

/* The conditions that must hold for an id. */
struct truth {
    char id[TEXT_LEN];
    bool exists, deleted;   /* deleted: since Redis last lost its data, and not created again */
    char config[TEXT_LEN];  /* the text it has */
    char written[TEXT_LEN]; /* written by hand over an owned id, not yet taken up; "": none */
    int owner;              /* node, -1: none */
    int64_t owner_epoch;
    int64_t version;                      /* of that text; 0: none is noted */
    int64_t released_epoch;               /* the last at which it was owned */
    int64_t buried_version, buried_epoch; /* of the tombstone */
    int64_t epoch_max, version_max;       /* ever given, also what Redis lost */
};

static struct {
    uint64_t seed, random;
    int step;
    char trace[TRACE_LEN][256];
    size_t traced;
    struct truth ids[IDS];
    struct process now[NODES], before[NODES]; /* before: an earlier one, maybe a zombie */
    struct entry entries[NODES];
    bool over[NODES];   /* beyond its size because of a restore */
    bool spoilt[NODES]; /* the digest that Redis keeps, by a script of an older version */
    int64_t epoch_counter;
    struct {
        bool taken;
        struct truth ids[IDS];
        bool over[NODES], spoilt[NODES];
        int64_t epoch_counter;
    } snapshot;
    /* What the current step may do to ownership. */
    bool may_gain, may_lose_any;
    int may_lose_of; /* node, -1: none */
} world;

/* ---- chance and failure -------------------------------------------------------------------- */

static uint64_t random_below(uint64_t limit) {
    world.random ^= world.random << 13;
    world.random ^= world.random >> 7;
    world.random ^= world.random << 17;
    return (world.random >> 11) % limit;
}

static bool chance(unsigned percent) {
    return random_below(100) < percent;
}

#define NOTE(...)                                                                                  \
    snprintf(world.trace[world.traced++ % TRACE_LEN], sizeof world.trace[0], __VA_ARGS__)

static void breach(const char *condition, const char *more, int line) {
    fprintf(stderr, "SEED=%" PRIu64 " step %d line %d: %s %s\n", world.seed, world.step, line,
            condition, more);
    size_t first = world.traced > TRACE_LEN ? world.traced - TRACE_LEN : 0;
    for (size_t i = first; i < world.traced; i++) {
        fprintf(stderr, "  %s\n", world.trace[i % TRACE_LEN]);
    }
    ck_abort_msg("SEED=%" PRIu64 " step %d: %s %s", world.seed, world.step, condition, more);
}

#define MUST(condition, more)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            breach(#condition, (more), __LINE__);                                                  \
        }                                                                                          \
    } while (0)

/* Repeats a call, as after a lost reply. */
#define AGAIN() chance(30)

/* ---- picking ------------------------------------------------------------------------------- */

static int any_node(void) {
    return (int)random_below(NODES);
}

static int any_id(void) {
    return (int)random_below(IDS);
}

static struct process *process_of(int node) {
    return chance(10) ? &world.before[node] : &world.now[node];
}

static struct store_member member_of(int node, const struct process *process) {
    return member(NODE_NAMES[node], process->incarnation);
}

static void any_config(char out[TEXT_LEN]) {
    snprintf(out, TEXT_LEN, "{\"text\":%d}", (int)random_below(4));
}

/* Usually its own identity; sometimes one that another id uses too, or several at several brokers.
 */
static void any_identity(int id, char out[TEXT_LEN]) {
    size_t len = 0;
    for (int broker = 0; broker < 3 && (broker == 0 || chance(30)); broker++) {
        len += (size_t)snprintf(out + len, TEXT_LEN - len, "%s%c:1883/%s-%d", broker ? "\n" : "",
                                'b' + (int)random_below(3 - (unsigned)broker) + broker,
                                chance(85) ? "own" : "shared", chance(85) ? id : id % 3);
    }
}

static int index_of(const char *id) {
    for (int i = 0; i < IDS; i++) {
        if (strcmp(world.ids[i].id, id) == 0) {
            return i;
        }
    }
    breach("unknown id", id, __LINE__);
    return -1;
}

static const char *latest(const struct truth *truth) {
    return truth->written[0] ? truth->written : truth->config;
}

/* An id that the process holds, else any. */
static int any_held(const struct process *process) {
    int start = any_id();
    for (int i = 0; i < IDS; i++) {
        if (process->held[(start + i) % IDS].held) {
            return (start + i) % IDS;
        }
    }
    return start;
}

/* ---- what the register says ---------------------------------------------------------------- */

static bool beats(int node) {
    char key[TEXT_LEN + 16];
    snprintf(key, sizeof key, "beat:mqtt:%s", NODE_NAMES[node]);
    return RAW_INT("EXISTS", key) == 1;
}

static bool restoring(void) {
    return RAW_INT("EXISTS", "mqtt_fleet:restoring") == 1;
}

/* Registered under this incarnation and not dead. */
static bool is_member(int node, const struct process *process) {
    return strcmp(world.entries[node].incarnation, process->incarnation) == 0 &&
           !world.entries[node].dead;
}

/* ---- the check after each step ------------------------------------------------------------- */

/* Owner and epoch as stored; -1 and 0 if there is none. */
static void stored_owner(const struct fleet *fleet, const char *id, int *node, int64_t *epoch) {
    const char *text = fleet_field(fleet->use, id) ? fleet_field(fleet->owner, id) : NULL;
    json_t *record = json_loads(text ? text : "", 0, NULL);
    const char *name = json_string_value(json_object_get(record, "node"));
    const char *digits = json_string_value(json_object_get(record, "epoch"));
    *epoch = digits ? strtoll(digits, NULL, 10) : 0;
    *node = -1;
    for (int i = 0; i < NODES; i++) {
        if (name && strcmp(NODE_NAMES[i], name) == 0) {
            *node = i;
        }
    }
    json_decref(record);
}

static void check_text(struct truth *truth, const char *waiting, const char *used) {
    MUST((waiting || used) == truth->exists, truth->exists ? "lost" : "came back");
    if (!truth->exists) {
        return;
    }
    if (truth->written[0] && !(waiting && used)) { /* taken up */
        snprintf(truth->config, TEXT_LEN, "%s", truth->written);
        truth->written[0] = '\0';
    }
    MUST(!waiting || strcmp(waiting, latest(truth)) == 0, "waits with another text");
    MUST(!used || strcmp(used, truth->config) == 0, "owned with another text");
}

/* The contents of its meta record. */
static void learn_meta(struct truth *truth, const char *text) {
    json_t *meta = json_loads(text ? text : "", 0, NULL);
    const char *epoch = json_string_value(json_object_get(meta, "epoch"));
    truth->version = json_integer_value(json_object_get(meta, "version"));
    truth->released_epoch = epoch ? strtoll(epoch, NULL, 10) : 0;
    if (truth->version > truth->version_max) {
        truth->version_max = truth->version;
    }
    json_decref(meta);
}

static void check_ownership(struct truth *truth, int node, int64_t epoch) {
    bool same = node == truth->owner && epoch == truth->owner_epoch;
    bool lost = truth->owner >= 0 && !same, gained = node >= 0 && !same;
    MUST(!lost || world.may_lose_any || truth->owner == world.may_lose_of, "lost its owner");
    MUST(!gained || world.may_gain, "found an owner");
    MUST(!gained || epoch > truth->epoch_max, "epoch does not grow");
    truth->owner = node;
    truth->owner_epoch = epoch;
    if (epoch > truth->epoch_max) {
        truth->epoch_max = epoch;
    }
}

static void learn_entry(const struct fleet *fleet, int node) {
    struct entry *entry = &world.entries[node];
    const char *text = fleet_field(fleet->registered, NODE_NAMES[node]);
    json_t *record = json_loads(text ? text : "", 0, NULL);
    const char *incarnation = json_string_value(json_object_get(record, "incarnation"));
    const char *state = json_string_value(json_object_get(record, "state"));
    MUST(!text || (incarnation && state), "register");
    *entry = (struct entry){.dead = state && strcmp(state, "dead") == 0,
                            .draining = state && strcmp(state, "draining") == 0,
                            .leaving = state && strcmp(state, "leaving") == 0};
    snprintf(entry->incarnation, TEXT_ID_LEN, "%s", incarnation ? incarnation : "");
    json_decref(record);
}

static void check_world(void) {
    struct fleet fleet;
    const char *written[IDS + 1];
    size_t written_count = 0;
    fleet_read(&fleet, NODE_NAMES, NODES);
    for (int i = 0; i < IDS; i++) {
        struct truth *truth = &world.ids[i];
        const char *used = fleet_field(fleet.use, truth->id);
        int node;
        int64_t epoch;
        NOTE("checking %s", truth->id);
        check_text(truth, fleet_field(fleet.no, truth->id), used);
        stored_owner(&fleet, truth->id, &node, &epoch);
        check_ownership(truth, node, epoch);
        learn_meta(truth, fleet_field(fleet.meta, truth->id));
        if (truth->written[0]) {
            written[written_count++] = truth->id;
        }
        world.traced--;
    }
    written[written_count] = NULL;
    for (int i = 0; i < NODES; i++) {
        fleet.spoilt[i] = world.spoilt[i];
    }
    fleet_check(&fleet, written);
    MUST(fleet.fault[0] == '\0', fleet.fault);
    for (int i = 0; i < NODES; i++) {
        learn_entry(&fleet, i);
        bool over = (int64_t)redis_reply_count(fleet.bind[i]) > NODE_SIZES[i];
        MUST(!over || world.over[i], "a node exceeds its size");
        world.over[i] = over;
    }
    MUST(redis_reply_int(fleet.epoch) >= world.epoch_counter, "the epoch counter went back");
    world.epoch_counter = redis_reply_int(fleet.epoch);
    fleet_free(&fleet);
}

static void make_world(uint64_t seed) {
    static const char *const ODD[] = {"with space", "with:colon", "\"quoted\"", "\xff\x01\n", "{}"};
    memset(&world, 0, sizeof world);
    world.seed = seed;
    world.random = seed * 2654435769u + 88172645463325252u;
    for (int i = 0; i < IDS; i++) {
        world.ids[i].owner = -1;
        snprintf(world.ids[i].id, TEXT_LEN, "%s%d", i < 5 ? ODD[i] : "client-", i);
    }
    for (int i = 0; i < NODES; i++) {
        text_random_id(world.now[i].incarnation);
        text_random_id(world.before[i].incarnation);
        world.now[i].mirror.applied = world.before[i].mirror.applied = -1;
    }
    RAW("FLUSHALL");
    store_set_restoring_ms(store, 3600000);
}

#endif
