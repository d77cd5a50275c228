/* What runs here against what Redis says should: starts what is missing, updates what changed, and
 * stops a client only on positive evidence (rule 4), never because it is merely absent. Agent
 * thread.
 *
 *   a change of the set  --store_changes-->  what changed since the rev applied here
 *   reconcile_ms         the sums of both sides; they differ, or a change was not noted:
 *   full pass            --store_assigned--> the whole list; and every ten minutes */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "agent_internal.h"

#define RECONCILE_REST        2    /* times as long as a full pass took */
#define RECONCILE_REST_MS_MAX 1000 /* also after one that Redis never answered */
#define CHANGES_PAGES_MAX     200  /* in one turn */
#define FULL_PASS_MS          600000
#define REV_UNKNOWN           (-1)                  /* a full pass is due */
#define RESTORE_MAX           20                    /* clients put back in one call */
#define RESTORE_BYTES_MAX     ((size_t)1024 * 1024) /* of their texts, but for the last */

/* One turn's findings: what runs otherwise than Redis says, to be judged in batches. */
struct turn {
    struct agent *agent;
    struct store_member member;
    bool restoring; /* nothing is opened that does not run yet */
    bool complete;  /* all was applied */
    bool gave_in;   /* Redis does not answer, or not to us */
    bool read;      /* something had changed */
    bool undecided; /* of some that run it is not known whether they may */
    int64_t limit;  /* no rev beyond it counts as applied */
    struct store_held held[STORE_BATCH_MAX];
    char *ids[STORE_BATCH_MAX]; /* owned, of held */
    size_t held_count;
    struct store_restore restores[STORE_RESTORE_MAX]; /* to be put back; ids of held */
    char *texts[STORE_RESTORE_MAX], *identities[STORE_RESTORE_MAX]; /* owned, of restores */
    size_t restore_count, restore_bytes;
};

static void note(struct turn *turn, enum err result) {
    turn->complete = turn->complete && result == ERR_OK;
    turn->gave_in = turn->gave_in || agent_gives_in(result);
}

static void note_judged(struct turn *turn, enum err result) {
    note(turn, result);
    turn->undecided = turn->undecided || result != ERR_OK;
}

/* ---- starting ------------------------------------------------------------------------------ */

/* With the text that Redis has now. */
static enum err start_by_id(struct turn *turn, const char *id) {
    struct store_client client = {0};
    enum err result = store_get(turn->agent->wiring.store, id, &client);
    if (result != ERR_OK) {
        return result == ERR_NOT_FOUND ? ERR_OK : result;
    }
    bool mine = client.where == STORE_OWNED && client.owner.node &&
                strcmp(client.owner.node, turn->member.node) == 0 &&
                strcmp(client.owner.incarnation, turn->member.incarnation) == 0;
    struct start_order order = {client.id, client.owner.epoch, client.version, client.config,
                                client.config_len};
    result = mine ? agent_start(turn->agent, &turn->member, &order) : ERR_OK;
    store_client_fini(&client);
    return result;
}

/* ---- deletes that are undone -------------------------------------------------------------------
 */

static void deleted_note(struct agent *agent, const struct store_held *held) {
    agent->deleted[agent->deleted_next] =
        (struct deleted){text_hash(held->id, SIZE_MAX), held->version};
    agent->deleted_next = (agent->deleted_next + 1) % DELETED_MAX;
}

/* What was stopped here as deleted is to run again, with a text that is not newer: Redis went back
 * to before the delete. */
static void deleted_tell(struct agent *agent, const struct start_order *order) {
    uint64_t hash = text_hash(order->id, SIZE_MAX);
    for (size_t i = 0; i < DELETED_MAX; i++) {
        struct deleted *deleted = &agent->deleted[i];
        if (deleted->id_hash == hash && deleted->version >= order->version) {
            log_event(LOG_WARN, "delete_undone", KS("client", order->id),
                      KS("detail", "Redis lost its delete: delete it again"));
            deleted->version = 0;
        }
    }
}

/* ---- judging ------------------------------------------------------------------------------- */

static enum err stop_client(struct turn *turn, const struct store_held *held, const char *reason) {
    return hosts_stop(turn->agent->wiring.hosts, held->id, held->epoch, reason, NULL, NULL);
}

static void restores_clear(struct turn *turn) {
    for (size_t i = 0; i < turn->restore_count; i++) {
        free(turn->texts[i]);
        free(turn->identities[i]);
    }
    turn->restore_count = turn->restore_bytes = 0;
}

/* What comes of it is a change of this node's set, which the next turn reads and applies like any
 * other. */
static void restores_answered(struct turn *turn, const struct store_restore *items,
                              const struct store_restored *restored, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct store_held held = {items[i].id, items[i].epoch, items[i].version};
        metric_add(METRIC_RESTORED, restored[i].mine);
        turn->agent->reconcile_now = true;
        if (!restored[i].mine) {
            note_judged(turn, stop_client(turn, &held, "not_restored"));
        }
    }
}

/* One that Redis cannot put back, for a key that was spoilt by hand, holds up no other. */
static void restores_send(struct turn *turn) {
    size_t at = 0, part = turn->restore_count;
    while (at < turn->restore_count && !turn->gave_in) {
        struct store_restored restored[STORE_RESTORE_MAX];
        size_t done = 0;
        enum err result = store_restore(turn->agent->wiring.store, &turn->member,
                                        &turn->restores[at], part, restored, &done);
        if (result == ERR_PROTOCOL && part > 1) {
            part = 1;
            continue;
        }
        note(turn, result);
        turn->undecided = turn->undecided || (result != ERR_OK && result != ERR_PROTOCOL);
        restores_answered(turn, &turn->restores[at], restored, done);
        at += part;
    }
    restores_clear(turn);
}

/* Redis has no trace of it, or one older than what runs: it went back. It is put back with others,
 * at the latest when all that are held have been judged. */
static enum err restore_client(struct turn *turn, const struct store_held *held) {
    size_t at = turn->restore_count;
    enum err result =
        hosts_config(turn->agent->wiring.hosts, held->id, &turn->texts[at], &turn->identities[at]);
    if (result != ERR_OK) {
        return result == ERR_NOT_FOUND ? ERR_OK : result; /* it has just stopped */
    }
    turn->restores[at] = (struct store_restore){.id = held->id,
                                                .epoch = held->epoch,
                                                .config = turn->texts[at],
                                                .identity = turn->identities[at],
                                                .version = held->version};
    turn->restore_bytes += strlen(turn->texts[at]);
    turn->restore_count++;
    if (turn->restore_count == STORE_RESTORE_MAX || turn->restore_bytes >= RESTORE_BYTES_MAX) {
        restores_send(turn);
    }
    return ERR_OK;
}

static enum err act_on(struct turn *turn, const struct store_held *held,
                       enum store_evidence evidence) {
    switch (evidence) {
    case STORE_EVIDENCE_MINE:
        return ERR_OK;
    case STORE_EVIDENCE_STALE:
        return start_by_id(turn, held->id);
    case STORE_EVIDENCE_NEWER:
        return stop_client(turn, held, "owned_by_another_node");
    case STORE_EVIDENCE_WAITING:
        return stop_client(turn, held, "released");
    case STORE_EVIDENCE_TOMBSTONE:
        deleted_note(turn->agent, held);
        return stop_client(turn, held, "deleted");
    case STORE_EVIDENCE_NONE:
    case STORE_EVIDENCE_OLDER:
        break;
    }
    return restore_client(turn, held);
}

static void act_on_all(struct turn *turn, size_t n) {
    enum store_evidence evidence[STORE_BATCH_MAX];
    note_judged(turn,
                store_evidence(turn->agent->wiring.store, &turn->member, turn->held, n, evidence));
    for (size_t i = 0; i < n && !turn->gave_in; i++) {
        if (!agent_goes_on(turn->agent)) {
            note_judged(turn, ERR_CANCELED);
            break;
        }
        enum err result = act_on(turn, &turn->held[i], evidence[i]);
        note(turn, result);
        bool may_run = evidence[i] == STORE_EVIDENCE_MINE || evidence[i] == STORE_EVIDENCE_STALE;
        turn->undecided = turn->undecided || (result != ERR_OK && !may_run);
    }
    restores_send(turn);
}

static void judge(struct turn *turn) {
    size_t n = turn->held_count;
    if (n > 0 && turn->gave_in) {
        turn->complete = false;
        turn->undecided = true;
    } else if (n > 0) {
        act_on_all(turn, n);
    }
    for (size_t i = 0; i < n; i++) {
        free(turn->ids[i]);
    }
    turn->held_count = 0;
}

static void doubt(struct turn *turn, const struct hosts_client *running) {
    char *id = text_dup(running->id);
    if (!id) {
        note_judged(turn, ERR_MEMORY);
        return;
    }
    turn->ids[turn->held_count] = id;
    turn->held[turn->held_count++] = (struct store_held){id, running->epoch, running->version};
    if (turn->held_count == STORE_BATCH_MAX) {
        judge(turn);
    }
}

/* ---- one client ---------------------------------------------------------------------------- */

/* What Redis says of an id, beside what runs; running NULL: it does not. order->config NULL: to be
 * looked up; order->epoch 0: it is not this node's. */
static void apply(struct turn *turn, const struct start_order *order,
                  const struct hosts_client *running) {
    bool owned = order->epoch != 0;
    if (releases_leaving(turn->agent, order->id) || turn->gave_in) {
        turn->complete = turn->complete && !turn->gave_in;
        turn->undecided = turn->undecided || turn->gave_in;
        return;
    }
    if (!agent_goes_on(turn->agent)) {
        note_judged(turn, ERR_CANCELED);
        return;
    }
    bool newer = running && (running->epoch > order->epoch || running->version > order->version);
    if (running && (!owned || newer)) {
        doubt(turn, running);
    } else if (owned && !running && turn->restoring) {
        note(turn, ERR_WRONG_STATE);
    } else if (owned &&
               (!running || running->epoch != order->epoch || running->version != order->version)) {
        if (!running) {
            deleted_tell(turn->agent, order);
        }
        enum err result = order->config ? agent_start(turn->agent, &turn->member, order)
                                        : start_by_id(turn, order->id);
        metric_add(METRIC_CLAIMED, !running && result == ERR_OK);
        note(turn, result);
    }
}

/* ---- changes ------------------------------------------------------------------------------- */

static void apply_change(struct turn *turn, const struct store_change *change) {
    struct hosts_client running = {.id = change->id};
    bool runs = hosts_runs(turn->agent->wiring.hosts, change->id, &running);
    apply(turn,
          &(struct start_order){change->id, change->epoch, change->version, change->config,
                                change->config_len},
          runs ? &running : NULL);
}

/* What could not be applied holds up nothing behind it, but is read again: with all of its rev, and
 * what had to be judged with its whole page. */
static void apply_page(struct turn *turn, const struct store_change *rows, size_t n) {
    int64_t limit = INT64_MAX;
    for (size_t i = 0; i < n && !turn->gave_in; i++) {
        turn->complete = true;
        bool judges = turn->held_count + 1 == STORE_BATCH_MAX;
        apply_change(turn, &rows[i]);
        int64_t before = rows[judges ? 0 : i].rev - 1;
        limit = !turn->complete && before < limit ? before : limit;
    }
    turn->complete = true;
    judge(turn);
    if (n > 0 && (!turn->complete || turn->gave_in)) {
        limit = rows[0].rev - 1;
    }
    turn->limit = limit < turn->limit ? limit : turn->limit;
}

static bool changes_page(struct turn *turn, struct store_change *last, struct store_set *set) {
    struct store_change *rows = NULL;
    struct agent *agent = turn->agent;
    size_t n = 0;
    enum err result = store_changes(agent->wiring.store, &turn->member, agent->applied_rev,
                                    last->id ? last : NULL, set, &rows, &n);
    note(turn, result);
    if (result != ERR_OK) {
        return false;
    }
    turn->restoring = set->restoring;
    if (set->gap > agent->applied_rev || set->rev < agent->applied_rev) {
        agent->applied_rev = REV_UNKNOWN;
        turn->complete = false;
        store_changes_free(rows, n);
        return false;
    }
    apply_page(turn, rows, n);
    turn->read = turn->read || n > 0;
    if (n > 0) {
        free(last->id);
        *last = (struct store_change){.rev = rows[n - 1].rev, .id = rows[n - 1].id};
        rows[n - 1].id = NULL;
        /* The next page may have more of the last rev. */
        int64_t upto = last->rev - 1 < turn->limit ? last->rev - 1 : turn->limit;
        agent->applied_rev = upto > agent->applied_rev ? upto : agent->applied_rev;
    }
    store_changes_free(rows, n);
    return n > 0 && !turn->gave_in;
}

static void read_changes(struct turn *turn, struct store_set *set) {
    struct store_change last = {0};
    int pages = 0;
    turn->limit = INT64_MAX;
    while (pages++ < CHANGES_PAGES_MAX && changes_page(turn, &last, set)) {
    }
    turn->complete = turn->complete && turn->limit == INT64_MAX && pages <= CHANGES_PAGES_MAX;
    if (turn->complete) {
        turn->agent->applied_rev = set->rev;
    }
    free(last.id);
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* Right after nothing was found to have changed, and while nothing is on its way out: what runs is
 * what Redis says, or somebody changed one of the two by hand. False: to be compared again soon. A
 * client that was told to stop just now may still be listed, so that one difference is none. */
static bool compare_sums(struct agent *agent, const struct store_set *set) {
    struct hosts_client *rows = NULL;
    size_t n = 0;
    int64_t digest = 0;
    if (agent->leaving || agent->releases || hosts_list(agent->wiring.hosts, &rows, &n) != ERR_OK) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].closing) {
            digest = store_digest_add(digest, rows[i].id, rows[i].epoch, rows[i].version);
        }
    }
    hosts_list_free(rows, n);
    bool again = digest != set->digest && !agent->sums_differed;
    if (digest != set->digest && agent->sums_differed) {
        log_event(
            LOG_WARN, "set_differs", KS("node", node_name(agent->wiring.node)),
            KS("detail", "what runs here is not what Redis says; the whole list is compared"));
        agent->applied_rev = REV_UNKNOWN;
    }
    agent->sums_differed = again;
    return !again;
}

/* ---- the whole list ------------------------------------------------------------------------ */

/* A client of hosts_list, found by id. */
struct running {
    const struct hosts_client *client;
    bool assigned;
    UT_hash_handle hh;
};

struct comparison {
    struct store_assignment *assigned;
    size_t assigned_count;
    struct hosts_client *clients;
    size_t client_count;
    struct running *pool;    /* client_count of them */
    struct running *running; /* hash of the pool */
};

static enum err comparison_make(struct turn *turn, struct comparison *comparison,
                                struct store_set *set) {
    struct agent *agent = turn->agent;
    enum err result = store_assigned(agent->wiring.store, &turn->member, &comparison->assigned,
                                     &comparison->assigned_count, set);
    if (result == ERR_OK) {
        result = hosts_list(agent->wiring.hosts, &comparison->clients, &comparison->client_count);
    }
    if (result != ERR_OK) {
        return result;
    }
    comparison->pool = calloc(comparison->client_count + 1, sizeof(*comparison->pool));
    if (!comparison->pool) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < comparison->client_count; i++) {
        struct running *running = &comparison->pool[i];
        running->client = &comparison->clients[i];
        if (!running->client->closing) {
            HASH_ADD_KEYPTR(hh, comparison->running, running->client->id,
                            strlen(running->client->id), running);
        }
    }
    return ERR_OK;
}

static void comparison_fini(struct comparison *comparison) {
    HASH_CLEAR(hh, comparison->running);
    free(comparison->pool);
    hosts_list_free(comparison->clients, comparison->client_count);
    store_assigned_free(comparison->assigned, comparison->assigned_count);
}

/* The sum of what is assigned. */
static int64_t compare_all(struct turn *turn, struct comparison *comparison) {
    int64_t digest = 0;
    for (size_t i = 0; i < comparison->assigned_count; i++) {
        const struct store_assignment *want = &comparison->assigned[i];
        struct running *running;
        HASH_FIND_STR(comparison->running, want->id, running);
        if (running) {
            running->assigned = true;
        }
        digest = store_digest_add(digest, want->id, want->epoch, want->version);
        apply(turn, &(struct start_order){want->id, want->epoch, want->version, NULL, 0},
              running ? running->client : NULL);
    }
    struct running *running, *next;
    HASH_ITER(hh, comparison->running, running, next) {
        if (!running->assigned) {
            apply(turn, &(struct start_order){running->client->id, 0, 0, NULL, 0}, running->client);
        }
    }
    judge(turn);
    return digest;
}

static void full_pass(struct turn *turn, struct store_set *set) {
    struct agent *agent = turn->agent;
    struct comparison comparison = {0};
    enum err result = comparison_make(turn, &comparison, set);
    turn->restoring = set->restoring;
    note(turn, result);
    if (result == ERR_OK) {
        int64_t digest = compare_all(turn, &comparison);
        /* Changed meanwhile: the next pass keeps it. */
        enum err ignored = store_keep_digest(agent->wiring.store, &turn->member, set->rev, digest);
        (void)ignored;
        agent->full_ms = clock_ms();
        if (!turn->undecided) {
            node_judged(agent->wiring.node);
        }
    }
    /* Incomplete: the rev stays unknown, so that the next turn looks again. */
    agent->applied_rev = turn->complete ? set->rev : REV_UNKNOWN;
    comparison_fini(&comparison);
}

void reconcile_step(struct agent *agent) {
    int64_t now_ms = clock_ms();
    bool full = agent->applied_rev == REV_UNKNOWN || now_ms - agent->full_ms >= FULL_PASS_MS;
    bool moved = node_rev(agent->wiring.node) > agent->applied_rev; /* a beat may be older */
    bool due = now_ms - agent->compared_ms >= agent->wiring.conf->reconcile_ms;
    if ((!agent->reconcile_now && !moved && !due && !full) || now_ms < agent->reconcile_next_ms) {
        return;
    }
    agent->reconcile_now = false;
    char incarnation[TEXT_ID_LEN];
    struct store_set set = {0};
    struct turn turn = {
        .agent = agent, .member = agent_member(agent, incarnation), .complete = true};
    if (full) {
        full_pass(&turn, &set);
    } else {
        read_changes(&turn, &set);
        due = due && turn.complete && !turn.read && compare_sums(agent, &set);
    }
    if (due) {
        agent->compared_ms = now_ms;
    }
    /* A pass that failed, or looked at everything, must not keep Redis busy with lists. */
    int64_t rest_ms = RECONCILE_REST * (clock_ms() - now_ms);
    bool rests = full || !turn.complete;
    agent->reconcile_next_ms =
        !rests ? 0
               : clock_ms() + (rest_ms < RECONCILE_REST_MS_MAX ? rest_ms : RECONCILE_REST_MS_MAX);
    node_applied(agent->wiring.node, agent->applied_rev);
}
