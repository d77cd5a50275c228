/* Compares the running clients with the assignments in Redis: starts missing clients, updates
 * changed ones, and stops a client only on positive status (rule 4), never because it is merely
 * absent. Works on struct agent. The agent thread.
 *
 *   after a change    --store_changes--> the changes since the applied rev
 *   each reconcile_ms compares the digests of both sides
 *   full pass         --store_list_assignments--> all assignments; if the digests differ, if the
 * list of changes has a gap, and every ten minutes */
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "cluster/membership/agent_internal.h"

#define RECONCILE_COOLDOWN_FACTOR 2    /* multiple of the duration of the pass */
#define RECONCILE_COOLDOWN_MS_MAX 1000 /* also after a pass without an answer from Redis */
#define CHANGES_PAGES_MAX         200  /* in one pass */
#define FULL_PASS_MS              600000
#define REV_UNKNOWN               (-1)                  /* a full pass is due */
#define RESTORE_BYTES_MAX         ((size_t)1024 * 1024) /* of texts in one call, without the last */

/* One pass of the reconciliation. Clients that run differently from Redis are checked in batches.
 */
struct pass {
    struct agent *agent;
    struct store_member member;
    bool restoring;      /* Redis restores lost data; no new client is started */
    bool complete;       /* all was applied */
    bool redis_unusable; /* Redis does not answer, or has fenced this node */
    bool changed;        /* the pass found a change */
    bool undecided;      /* it is not known whether some running clients may run */
    int64_t rev_max;     /* no later rev counts as applied */
    struct store_held held[STORE_BATCH_MAX];
    char *ids[STORE_BATCH_MAX]; /* of held; owned */
    size_t held_count;
    struct store_restore_item restores[STORE_RESTORE_MAX]; /* to be restored; ids of held */
    char *texts[STORE_RESTORE_MAX], *identities[STORE_RESTORE_MAX]; /* of restores; owned */
    size_t restore_count, restore_bytes;
};

static void reconcile_note_result(struct pass *pass, enum err err) {
    pass->complete = pass->complete && err == ERR_OK;
    pass->redis_unusable = pass->redis_unusable || agent_redis_is_unusable(err);
}

static void reconcile_note_decision(struct pass *pass, enum err err) {
    reconcile_note_result(pass, err);
    pass->undecided = pass->undecided || err != ERR_OK;
}

/* ---- starting ------------------------------------------------------------------------------ */

/* Starts the client with the configuration that Redis has now. */
static enum err reconcile_start_by_id(struct pass *pass, const char *id) {
    struct store_client client = {0};
    enum err err = store_get(pass->agent->wiring.store, id, &client);
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    bool mine = client.state == STORE_OWNED && client.owner.node &&
                strcmp(client.owner.node, pass->member.node) == 0 &&
                strcmp(client.owner.incarnation, pass->member.incarnation) == 0;
    struct start_request request = {.id = client.id,
                                    .epoch = client.owner.epoch,
                                    .version = client.version,
                                    .config = client.config,
                                    .config_len = client.config_len,
                                    .identity = client.identity,
                                    .history = client.history};
    err = mine ? agent_start(pass->agent, &pass->member, &request) : ERR_OK;
    store_client_fini(&client);
    return err;
}

/* ---- deletes that are undone -------------------------------------------------------------------
 */

static void reconcile_remember_deleted(struct agent *agent, const struct store_held *held) {
    agent->deleted[agent->deleted_next] =
        (struct deleted_client){text_hash(held->id, SIZE_MAX), held->version};
    agent->deleted_next = (agent->deleted_next + 1) % DELETED_MAX;
}

/* A client that was stopped as deleted is assigned again, without a newer configuration: Redis has
 * lost the delete. */
static void reconcile_warn_undeleted(struct agent *agent, const struct start_request *request) {
    uint64_t hash = text_hash(request->id, SIZE_MAX);
    for (size_t i = 0; i < DELETED_MAX; i++) {
        struct deleted_client *deleted_client = &agent->deleted[i];
        if (deleted_client->id_hash == hash && deleted_client->version >= request->version) {
            log_event(LOG_WARN, "delete_undone", KS("client", request->id),
                      KS("detail", "Redis has lost the delete; delete the client again"));
            deleted_client->version = 0;
        }
    }
}

/* ---- batches of running clients -------------------------------------------------------------- */

static enum err reconcile_stop_client(struct pass *pass, const struct store_held *held,
                                      const char *reason) {
    return workers_stop(pass->agent->wiring.workers, held->id, held->epoch, reason, NULL, NULL);
}

static void reconcile_restores_clear(struct pass *pass) {
    for (size_t i = 0; i < pass->restore_count; i++) {
        free(pass->texts[i]);
        free(pass->identities[i]);
    }
    pass->restore_count = pass->restore_bytes = 0;
}

/* Restoring changes the assignments of this node. The next pass reads these changes like all
 * others.
 */
static void reconcile_restores_answered(struct pass *pass, const struct store_restore_item *items,
                                        const struct store_restore_result *restored, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct store_held held = {items[i].id, items[i].epoch, items[i].version};
        metric_add(METRIC_RESTORED, restored[i].mine);
        pass->agent->reconcile_now = true;
        if (!restored[i].mine) {
            reconcile_note_decision(pass, reconcile_stop_client(pass, &held, "not_restored"));
        }
    }
}

/* A client that Redis cannot restore, for example because of an invalid key, does not block the
 * others: they are sent one by one then. */
static void reconcile_restores_send(struct pass *pass) {
    size_t at = 0, part = pass->restore_count;
    while (at < pass->restore_count && !pass->redis_unusable) {
        struct store_restore_result restored[STORE_RESTORE_MAX];
        size_t done = 0;
        enum err err = store_restore(pass->agent->wiring.store, &pass->member, &pass->restores[at],
                                     part, restored, &done);
        if (err == ERR_PROTOCOL && part > 1) {
            part = 1;
            continue;
        }
        reconcile_note_result(pass, err);
        pass->undecided = pass->undecided || (err != ERR_OK && err != ERR_PROTOCOL);
        reconcile_restores_answered(pass, &pass->restores[at], restored, done);
        at += part;
    }
    reconcile_restores_clear(pass);
}

/* Redis has lost the client, or has an older state of it. It is restored together with others, at
 * the latest at the end of the batch. */
static enum err reconcile_restore_client(struct pass *pass, const struct store_held *held) {
    size_t at = pass->restore_count;
    enum err err = workers_config(pass->agent->wiring.workers, held->id, &pass->texts[at],
                                  &pass->identities[at]);
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? ERR_OK : err; /* it has just stopped */
    }
    pass->restores[at] = (struct store_restore_item){.id = held->id,
                                                     .epoch = held->epoch,
                                                     .config = pass->texts[at],
                                                     .identity = pass->identities[at],
                                                     .version = held->version};
    pass->restore_bytes += strlen(pass->texts[at]);
    pass->restore_count++;
    if (pass->restore_count == STORE_RESTORE_MAX || pass->restore_bytes >= RESTORE_BYTES_MAX) {
        reconcile_restores_send(pass);
    }
    return ERR_OK;
}

static enum err reconcile_act_on_status(struct pass *pass, const struct store_held *held,
                                        enum store_ownership_status status) {
    switch (status) {
    case STORE_OWNERSHIP_MINE:
        return ERR_OK;
    case STORE_OWNERSHIP_STALE:
        return reconcile_start_by_id(pass, held->id);
    case STORE_OWNERSHIP_NEWER:
        return reconcile_stop_client(pass, held, "owned_by_another_node");
    case STORE_OWNERSHIP_WAITING:
        return reconcile_stop_client(pass, held, "released");
    case STORE_OWNERSHIP_TOMBSTONE:
        reconcile_remember_deleted(pass->agent, held);
        return reconcile_stop_client(pass, held, "deleted");
    case STORE_OWNERSHIP_NONE:
    case STORE_OWNERSHIP_OLDER:
        break;
    }
    return reconcile_restore_client(pass, held);
}

static void reconcile_act_on_batch(struct pass *pass, size_t n) {
    enum store_ownership_status status[STORE_BATCH_MAX];
    reconcile_note_decision(pass, store_ownership_status(pass->agent->wiring.store, &pass->member,
                                                         pass->held, n, status));
    for (size_t i = 0; i < n && !pass->redis_unusable; i++) {
        if (!agent_may_continue(pass->agent)) {
            reconcile_note_decision(pass, ERR_CANCELED);
            break;
        }
        enum err err = reconcile_act_on_status(pass, &pass->held[i], status[i]);
        reconcile_note_result(pass, err);
        bool may_run = status[i] == STORE_OWNERSHIP_MINE || status[i] == STORE_OWNERSHIP_STALE;
        pass->undecided = pass->undecided || (err != ERR_OK && !may_run);
    }
    reconcile_restores_send(pass);
}

static void reconcile_flush_batch(struct pass *pass) {
    size_t n = pass->held_count;
    if (n > 0 && pass->redis_unusable) {
        pass->complete = false;
        pass->undecided = true;
    } else if (n > 0) {
        reconcile_act_on_batch(pass, n);
    }
    for (size_t i = 0; i < n; i++) {
        free(pass->ids[i]);
    }
    pass->held_count = 0;
}

static void reconcile_queue_check(struct pass *pass, const struct workers_client *running) {
    char *id = text_dup(running->id);
    if (!id) {
        reconcile_note_decision(pass, ERR_MEMORY);
        return;
    }
    pass->ids[pass->held_count] = id;
    pass->held[pass->held_count++] = (struct store_held){id, running->epoch, running->version};
    if (pass->held_count == STORE_BATCH_MAX) {
        reconcile_flush_batch(pass);
    }
}

/* ---- one client ---------------------------------------------------------------------------- */

/* Compares the state of a client in Redis with the running one; running NULL: it does not run.
 * request->config NULL: must be read from Redis; request->epoch 0: this node does not own it. */
static void reconcile_apply_client(struct pass *pass, const struct start_request *request,
                                   const struct workers_client *running) {
    bool owned = request->epoch != 0;
    if (handover_is_pending(pass->agent, request->id) || pass->redis_unusable) {
        pass->complete = pass->complete && !pass->redis_unusable;
        pass->undecided = pass->undecided || pass->redis_unusable;
        return;
    }
    if (!agent_may_continue(pass->agent)) {
        reconcile_note_decision(pass, ERR_CANCELED);
        return;
    }
    bool newer =
        running && (running->epoch > request->epoch || running->version > request->version);
    if (running && (!owned || newer)) {
        reconcile_queue_check(pass, running);
    } else if (owned && !running && pass->restoring) {
        reconcile_note_result(pass, ERR_WRONG_STATE);
    } else if (owned && (!running || running->epoch != request->epoch ||
                         running->version != request->version)) {
        if (!running) {
            reconcile_warn_undeleted(pass->agent, request);
        }
        enum err err = request->config ? agent_start(pass->agent, &pass->member, request)
                                       : reconcile_start_by_id(pass, request->id);
        metric_add(METRIC_CLAIMED, !running && err == ERR_OK);
        reconcile_note_result(pass, err);
    }
}

/* ---- changes ------------------------------------------------------------------------------- */

static void reconcile_apply_change(struct pass *pass, const struct store_change *change) {
    struct workers_client running = {.id = change->id};
    bool runs = workers_has_client(pass->agent->wiring.workers, change->id, &running);
    reconcile_apply_client(pass,
                           &(struct start_request){.id = change->id,
                                                   .epoch = change->epoch,
                                                   .version = change->version,
                                                   .config = change->config,
                                                   .config_len = change->config_len,
                                                   .identity = change->identity,
                                                   .history = change->history},
                           runs ? &running : NULL);
}

/* A change that could not be applied does not block later ones. It is read again with all changes
 * of its rev. If a batch failed, the whole page is read again. */
static void reconcile_apply_page(struct pass *pass, const struct store_change *rows, size_t n) {
    int64_t limit = INT64_MAX;
    for (size_t i = 0; i < n && !pass->redis_unusable; i++) {
        pass->complete = true;
        bool may_flush = pass->held_count + 1 == STORE_BATCH_MAX;
        reconcile_apply_change(pass, &rows[i]);
        int64_t before = rows[may_flush ? 0 : i].rev - 1;
        limit = !pass->complete && before < limit ? before : limit;
    }
    pass->complete = true;
    reconcile_flush_batch(pass);
    if (n > 0 && (!pass->complete || pass->redis_unusable)) {
        limit = rows[0].rev - 1;
    }
    pass->rev_max = limit < pass->rev_max ? limit : pass->rev_max;
}

static bool reconcile_read_page(struct pass *pass, struct store_change *last,
                                struct store_set *set) {
    struct store_change *rows = NULL;
    struct agent *agent = pass->agent;
    size_t n = 0;
    enum err err = store_changes(agent->wiring.store, &pass->member, agent->applied_rev,
                                 last->id ? last : NULL, set, &rows, &n);
    reconcile_note_result(pass, err);
    if (err != ERR_OK) {
        return false;
    }
    pass->restoring = set->restoring;
    if (set->gap_rev > agent->applied_rev || set->rev < agent->applied_rev) {
        agent->applied_rev = REV_UNKNOWN;
        pass->complete = false;
        store_changes_free(rows, n);
        return false;
    }
    reconcile_apply_page(pass, rows, n);
    pass->changed = pass->changed || n > 0;
    if (n > 0) {
        free(last->id);
        *last = (struct store_change){.rev = rows[n - 1].rev, .id = rows[n - 1].id};
        rows[n - 1].id = NULL;
        /* The next page may have more changes of the last rev. */
        int64_t upto = last->rev - 1 < pass->rev_max ? last->rev - 1 : pass->rev_max;
        agent->applied_rev = upto > agent->applied_rev ? upto : agent->applied_rev;
    }
    store_changes_free(rows, n);
    return n > 0 && !pass->redis_unusable;
}

static void reconcile_read_changes(struct pass *pass, struct store_set *set) {
    struct store_change last = {0};
    int pages = 0;
    pass->rev_max = INT64_MAX;
    while (pages++ < CHANGES_PAGES_MAX && reconcile_read_page(pass, &last, set)) {
    }
    pass->complete = pass->complete && pass->rev_max == INT64_MAX && pages <= CHANGES_PAGES_MAX;
    if (pass->complete) {
        pass->agent->applied_rev = set->rev;
    }
    free(last.id);
}

/* ---- digests --------------------------------------------------------------------------------- */

/* Called when there are no changes; does nothing while a client leaves. A difference then means
 * that one side was changed by hand. The first difference is ignored, because a client that is
 * being stopped may still be listed. False: must be compared again soon. */
static bool reconcile_compare_digests(struct agent *agent, const struct store_set *set) {
    struct workers_client *rows = NULL;
    size_t n = 0;
    int64_t digest = 0;
    if (agent->handovers || agent->releases ||
        workers_list(agent->wiring.workers, &rows, &n) != ERR_OK) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].closing) {
            digest = store_digest_add(digest, rows[i].id, rows[i].epoch, rows[i].version);
        }
    }
    workers_list_free(rows, n);
    bool again = digest != set->digest && !agent->digest_differed;
    if (digest != set->digest && agent->digest_differed) {
        log_event(LOG_WARN, "set_differs", KS("node", node_name(agent->wiring.node)),
                  KS("detail", "the running clients differ from Redis; all clients are compared"));
        agent->applied_rev = REV_UNKNOWN;
    }
    agent->digest_differed = again;
    return !again;
}

/* ---- full pass ------------------------------------------------------------------------------- */

/* A client of workers_list, found by id. */
struct running {
    const struct workers_client *client;
    bool assigned;
    UT_hash_handle hh;
};

struct comparison {
    struct store_assignment *assigned;
    size_t assigned_count;
    struct workers_client *clients;
    size_t client_count;
    struct running *pool;    /* client_count entries */
    struct running *running; /* hash of the entries of pool */
};

static enum err reconcile_comparison_init(struct pass *pass, struct comparison *comparison,
                                          struct store_set *set) {
    struct agent *agent = pass->agent;
    enum err err = store_list_assignments(agent->wiring.store, &pass->member, &comparison->assigned,
                                          &comparison->assigned_count, set);
    if (err == ERR_OK) {
        err = workers_list(agent->wiring.workers, &comparison->clients, &comparison->client_count);
    }
    if (err != ERR_OK) {
        return err;
    }
    comparison->pool = calloc(comparison->client_count + 1, sizeof *comparison->pool);
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

static void reconcile_comparison_fini(struct comparison *comparison) {
    HASH_CLEAR(hh, comparison->running);
    free(comparison->pool);
    workers_list_free(comparison->clients, comparison->client_count);
    store_assignments_free(comparison->assigned, comparison->assigned_count);
}

/* Returns the digest of the assignments. */
static int64_t reconcile_compare_all(struct pass *pass, struct comparison *comparison) {
    int64_t digest = 0;
    for (size_t i = 0; i < comparison->assigned_count; i++) {
        const struct store_assignment *want = &comparison->assigned[i];
        struct running *running;
        HASH_FIND_STR(comparison->running, want->id, running);
        if (running) {
            running->assigned = true;
        }
        digest = store_digest_add(digest, want->id, want->epoch, want->version);
        reconcile_apply_client(
            pass,
            &(struct start_request){.id = want->id, .epoch = want->epoch, .version = want->version},
            running ? running->client : NULL);
    }
    struct running *running, *next;
    HASH_ITER(hh, comparison->running, running, next) {
        if (!running->assigned) {
            reconcile_apply_client(pass, &(struct start_request){.id = running->client->id},
                                   running->client);
        }
    }
    reconcile_flush_batch(pass);
    return digest;
}

static void reconcile_full_pass(struct pass *pass, struct store_set *set) {
    struct agent *agent = pass->agent;
    struct comparison comparison = {0};
    enum err err = reconcile_comparison_init(pass, &comparison, set);
    pass->restoring = set->restoring;
    reconcile_note_result(pass, err);
    if (err == ERR_OK) {
        int64_t digest = reconcile_compare_all(pass, &comparison);
        /* Fails if the assignments have changed meanwhile; the next full pass saves a digest. */
        enum err ignored = store_save_digest(agent->wiring.store, &pass->member, set->rev, digest);
        (void)ignored;
        agent->full_pass_ms = clock_ms();
        if (!pass->undecided) {
            node_mark_reconciled(agent->wiring.node);
        }
    }
    /* If the pass is incomplete, the rev stays unknown, and the next pass is a full one again. */
    agent->applied_rev = pass->complete ? set->rev : REV_UNKNOWN;
    reconcile_comparison_fini(&comparison);
}

/* Full and failed passes must not keep Redis busy. */
static int64_t reconcile_cooldown_ms(int64_t took_ms) {
    int64_t cooldown_ms = RECONCILE_COOLDOWN_FACTOR * took_ms;
    return cooldown_ms < RECONCILE_COOLDOWN_MS_MAX ? cooldown_ms : RECONCILE_COOLDOWN_MS_MAX;
}

void reconcile_step(struct agent *agent) {
    int64_t now_ms = clock_ms();
    bool full = agent->applied_rev == REV_UNKNOWN || now_ms - agent->full_pass_ms >= FULL_PASS_MS;
    struct node_fleet_view fleet;
    node_fleet_view(agent->wiring.node, &fleet);
    bool moved = fleet.rev > agent->applied_rev; /* by the last heartbeat */
    bool due = now_ms - agent->digest_checked_ms >= agent->wiring.conf->reconcile_ms;
    if ((!agent->reconcile_now && !moved && !due && !full) || now_ms < agent->reconcile_next_ms) {
        return;
    }
    agent->reconcile_now = false;
    char incarnation[TEXT_ID_LEN];
    struct store_set set = {0};
    struct pass pass = {
        .agent = agent, .member = agent_member(agent, incarnation), .complete = true};
    if (full) {
        reconcile_full_pass(&pass, &set);
    } else {
        reconcile_read_changes(&pass, &set);
        due = due && pass.complete && !pass.changed && reconcile_compare_digests(agent, &set);
    }
    if (due) {
        agent->digest_checked_ms = now_ms;
    }
    agent->reconcile_next_ms =
        full || !pass.complete ? clock_ms() + reconcile_cooldown_ms(clock_ms() - now_ms) : 0;
    node_set_applied_rev(agent->wiring.node, agent->applied_rev);
}
