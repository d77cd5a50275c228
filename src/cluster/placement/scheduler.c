/* One round of assigning waiting clients:
 *
 *   Redis --waiting--> [ candidates ] --placement_level--> [ shares ] --store_assign--> owned
 *
 * A sweep over all waiting clients takes one or more rounds. It also counts why clients keep
 * waiting. Works on struct leader. The leader thread. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "cluster/placement/placement_routes.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "base/text.h"
#include "mqtt/client_error.h"
#include "cluster/membership/leader_internal.h"
#include "cluster/resources/profile_reader.h"

#define BAD_CONFIG_DELAY_MS  10000
#define IDENTITY_DELAY_MS    10000
#define BAD_CONFIGS_MAX      200  /* handled in one round; later rounds find the others */
#define SCHEDULE_CLIENTS_MAX 5000 /* in one round */
#define SCHEDULE_PAGES_MAX   40
#define SCHEDULE_PAGE_LEN    500
#define SWEEP_PERIOD_MS      5000 /* between sweeps while no client can be assigned */
#define NEEDS_MAX            64   /* different needs in one round */

struct candidate {
    char *id;
    char *identity;
    char *denied_by;          /* incarnations that may not connect to its broker; NULL: none */
    int64_t identity_version; /* as in struct store_assign_item */
};

static void scheduler_candidate_fini(struct candidate *candidate) {
    free(candidate->id);
    free(candidate->identity);
    free(candidate->denied_by);
}

/* One round: the nodes, the waiting clients, and the assignments. */
struct round {
    struct store_node *registered;
    size_t registered_count;
    struct placement_node *eligible;
    size_t eligible_count;
    struct placement_routes routes;
    struct placement_need needs[NEEDS_MAX];
    size_t need_count;
    struct candidate *candidates;
    struct placement_client *clients; /* of the candidates, by the same index */
    size_t candidate_count, candidate_max;
    size_t bad_config_count, assigned_count;
    bool restoring;
};

static void scheduler_round_fini(struct round *round) {
    for (size_t i = 0; i < round->candidate_count; i++) {
        scheduler_candidate_fini(&round->candidates[i]);
    }
    for (size_t i = 0; i < round->need_count; i++) {
        placement_need_fini(&round->needs[i]);
    }
    placement_routes_fini(&round->routes);
    free(round->candidates);
    free(round->clients);
    free(round->eligible);
    store_nodes_free(round->registered, round->registered_count);
}

static enum err scheduler_read_nodes(struct leader *leader, struct round *round) {
    enum err err = store_nodes(leader->store, leader->conf->heartbeat_ttl_ms, &round->registered,
                               &round->registered_count, NULL);
    if (err != ERR_OK) {
        return err;
    }
    round->eligible = calloc(round->registered_count + 1, sizeof *round->eligible);
    if (!round->eligible) {
        return ERR_MEMORY;
    }
    round->eligible_count =
        placement_eligible_nodes(round->registered, round->registered_count, round->eligible);
    placement_routes_init(&round->routes, leader->sinks, round->eligible, round->eligible_count);
    return ERR_OK;
}

/* ---- candidates ---------------------------------------------------------------------------------
 */

static void scheduler_count_wait(struct leader *leader, enum placement_wait wait, int64_t clients) {
    leader->wait_counts.by_reason[wait] += clients;
}

static void scheduler_defer_bad_config(struct leader *leader, struct round *round,
                                       const struct store_client *row,
                                       const struct client_faults *faults) {
    char message[600];
    scheduler_count_wait(leader, PLACEMENT_BAD_CONFIG, 1);
    if (round->bad_config_count++ >= BAD_CONFIGS_MAX) {
        return;
    }
    snprintf(message, sizeof(message), "%s%s%s", faults->items[0].pointer,
             faults->items[0].pointer[0] ? ": " : "", faults->items[0].detail);
    bool again = false;
    enum err err = store_set_cooldown(leader->store, row->id, BAD_CONFIG_DELAY_MS,
                                      client_error_code(CLIENT_ERROR_BAD_CONFIG), message, &again);
    if (err == ERR_OK && !again) { /* logs it once */
        log_event(LOG_WARN, "bad_config", KS("client", row->id), KS("detail", message));
    }
}

/* The index of an equal need, which is added if it is new. ERR_FULL: NEEDS_MAX in this round. */
static enum err scheduler_need_index(struct round *round, struct client_config *config,
                                     size_t *index) {
    struct placement_need need;
    enum err err = placement_need_of(config, &round->routes, &need);
    if (err != ERR_OK) {
        return err;
    }
    for (*index = 0; *index < round->need_count; (*index)++) {
        if (placement_need_equal(&round->needs[*index], &need)) {
            placement_need_fini(&need);
            return ERR_OK;
        }
    }
    if (round->need_count == NEEDS_MAX) {
        placement_need_fini(&need);
        return ERR_FULL;
    }
    round->needs[round->need_count++] = need;
    return ERR_OK;
}

static size_t scheduler_node_index(const struct round *round, const char *name) {
    for (size_t i = 0; name && i < round->eligible_count; i++) {
        if (strcmp(round->eligible[i].name, name) == 0) {
            return i;
        }
    }
    return PLACEMENT_NOWHERE;
}

/* Why the client cannot be assigned in this round; PLACEMENT_SOON: it is a candidate now, or memory
 * ran out. */
static enum placement_wait scheduler_add_candidate(struct round *round,
                                                   const struct store_client *row,
                                                   struct client_config *config) {
    struct placement_client client = {.node = PLACEMENT_NOWHERE};
    if (scheduler_need_index(round, config, &client.need) != ERR_OK) {
        return PLACEMENT_SOON;
    }
    enum placement_wait wait =
        placement_wait_reason(round->eligible, round->eligible_count, &round->needs[client.need]);
    if (wait != PLACEMENT_SOON) {
        return wait;
    }
    client.avoid = scheduler_node_index(round, row->attempts > 0 ? row->attempt_node : NULL);
    struct candidate candidate = {text_dup(row->id), client_config_identity(config),
                                  text_dup(row->denied_by), config->profile ? row->version : 0};
    if (!candidate.id || !candidate.identity || (row->denied_by && !candidate.denied_by)) {
        scheduler_candidate_fini(&candidate);
        return PLACEMENT_SOON;
    }
    client.denied_by = candidate.denied_by;
    round->clients[round->candidate_count] = client;
    round->candidates[round->candidate_count++] = candidate;
    return PLACEMENT_SOON;
}

/* A waiting client becomes a candidate unless it cools down, is invalid, or no node can run it. */
static void scheduler_consider_row(struct leader *leader, struct round *round,
                                   const struct store_client *row) {
    struct client_config *config = NULL;
    struct client_faults faults;
    if (row->cooldown_ms > 0) {
        scheduler_count_wait(leader, PLACEMENT_NOT_BEFORE, 1);
        return;
    }
    enum err err = profile_reader_parse(leader->store, row, &config, &faults);
    if (err != ERR_OK) {
        if (err == ERR_ARGUMENT) { /* otherwise a later round finds it again */
            scheduler_defer_bad_config(leader, round, row, &faults);
        }
        return;
    }
    enum placement_wait wait = scheduler_add_candidate(round, row, config);
    if (wait != PLACEMENT_SOON) {
        scheduler_count_wait(leader, wait, 1);
    }
    client_config_destroy(config);
}

/* ---- why the others wait ------------------------------------------------------------------------
 */

static void scheduler_publish_wait_counts(struct leader *leader) {
    json_t *all = json_object();
    for (size_t i = 0; i < PLACEMENT_WAIT_COUNT; i++) {
        if (leader->wait_counts.by_reason[i] > 0) {
            json_object_set_new(all, placement_wait_code((enum placement_wait)i),
                                json_integer((json_int_t)leader->wait_counts.by_reason[i]));
        }
    }
    free(leader->unplaced_json);
    leader->unplaced_json = json_to_text(all, JSON_COMPACT);
    json_decref(all);
    leader->wait_counts = (struct wait_counts){0};
}

static enum err scheduler_read_page(struct leader *leader, struct round *round) {
    struct store_client *rows = NULL;
    size_t n = 0;
    int64_t redis_ms = 0;
    uint64_t next = leader->waiting_cursor;
    enum err err =
        store_page(leader->store, STORE_WAITING, &next, SCHEDULE_PAGE_LEN, &rows, &n, &redis_ms);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        if (round->candidate_count == round->candidate_max) {
            next = leader->waiting_cursor; /* the next round reads this page again */
            break;
        }
        scheduler_consider_row(leader, round, &rows[i]);
    }
    store_clients_free(rows, n);
    if (err == ERR_OK) {
        leader->waiting_cursor = next;
    }
    return err;
}

static enum err scheduler_read_candidates(struct leader *leader, struct round *round) {
    round->candidate_max = SCHEDULE_CLIENTS_MAX;
    round->candidates = calloc(round->candidate_max, sizeof *round->candidates);
    round->clients = calloc(round->candidate_max, sizeof *round->clients);
    if (!round->candidates || !round->clients) {
        return ERR_MEMORY;
    }
    for (int page = 0; page < SCHEDULE_PAGES_MAX; page++) {
        enum err err = scheduler_read_page(leader, round);
        if (err != ERR_OK) {
            return err;
        }
        if (leader->waiting_cursor == 0) {
            leader->last_sweep_ms = clock_ms();
            scheduler_publish_wait_counts(leader);
            break;
        }
        if (round->candidate_count == round->candidate_max) {
            break;
        }
    }
    return ERR_OK;
}

/* ---- assigning ----------------------------------------------------------------------------- */

/* A batch of clients for one node. */
struct share {
    const struct placement_node *node;
    struct store_assign_item items[STORE_BATCH_MAX];
    size_t n;
};

static void scheduler_handle_results(struct leader *leader, struct round *round,
                                     const struct share *share,
                                     const struct store_assign_result *results, size_t n) {
    for (size_t i = 0; i < n; i++) {
        round->assigned_count += results[i].outcome == STORE_ASSIGNED;
        if (results[i].outcome == STORE_ASSIGN_IDENTITY) {
            enum err err = store_set_cooldown(leader->store, share->items[i].id, IDENTITY_DELAY_MS,
                                              client_error_code(CLIENT_ERROR_IDENTITY_TAKEN),
                                              client_error_text(CLIENT_ERROR_IDENTITY_TAKEN), NULL);
            (void)err; /* without the cool-down, a later round finds the client again */
        }
    }
}

/* False: the node gets no more clients in this round. */
static bool scheduler_assign_share(struct leader *leader, struct round *round,
                                   struct share *share) {
    struct store_assign_result results[STORE_BATCH_MAX];
    struct store_member target = {share->node->name, share->node->incarnation};
    size_t done = 0;
    enum err err = store_assign(leader->store, &target, share->items, share->n, results, &done);
    scheduler_handle_results(leader, round, share, results, done);
    share->n = 0;
    round->restoring = round->restoring || err == ERR_WRONG_STATE;
    if (err != ERR_OK && err != ERR_WRONG_STATE) {
        log_event(LOG_DEBUG, "assign_failed", KS("node", share->node->name),
                  KS("error", err_name(err)));
    }
    return err == ERR_OK;
}

static void scheduler_assign_node(struct leader *leader, struct round *round, size_t node) {
    struct share share = {.node = &round->eligible[node]};
    bool more = true;
    for (size_t i = 0; more && i < round->candidate_count; i++) {
        if (round->clients[i].node == node) {
            share.items[share.n++] =
                (struct store_assign_item){round->candidates[i].id, round->candidates[i].identity,
                                           round->candidates[i].identity_version};
        }
        if (share.n == STORE_BATCH_MAX) {
            more = scheduler_assign_share(leader, round, &share);
        }
    }
    if (more && share.n > 0) {
        (void)scheduler_assign_share(leader, round, &share);
    }
}

static bool scheduler_sweep_is_due(const struct leader *leader) {
    return leader->waiting_cursor != 0 || leader->last_sweep_ms == 0 ||
           clock_ms() - leader->last_sweep_ms >= SWEEP_PERIOD_MS;
}

/* While all waiting clients cool down or no node has room, a round only counts reasons. Then one
 * round per SWEEP_PERIOD_MS is enough, because a round reads all nodes from Redis. */
static bool scheduler_may_assign(struct leader *leader, const struct store_counts *counts) {
    if (counts->waiting == 0) {
        leader->waiting_cursor = 0;
        leader->wait_counts = (struct wait_counts){0};
        scheduler_publish_wait_counts(leader);
        return false;
    }
    bool changed =
        counts->waiting != leader->waiting || counts->cooling_down != leader->cooling_down;
    leader->waiting = counts->waiting;
    leader->cooling_down = counts->cooling_down;
    return counts->waiting > counts->cooling_down || changed || scheduler_sweep_is_due(leader);
}

static bool scheduler_round_is_due(struct leader *leader, const struct round *round) {
    for (size_t i = 0; i < round->eligible_count; i++) {
        if (round->eligible[i].clients < round->eligible[i].size) {
            return true;
        }
    }
    return scheduler_sweep_is_due(leader);
}

bool scheduler_round(struct leader *leader) {
    struct round round = {0};
    struct store_counts counts;
    if (store_counts(leader->store, &counts) == ERR_OK && scheduler_may_assign(leader, &counts) &&
        scheduler_read_nodes(leader, &round) == ERR_OK && scheduler_round_is_due(leader, &round) &&
        scheduler_read_candidates(leader, &round) == ERR_OK && round.candidate_count > 0 &&
        placement_level(round.eligible, round.eligible_count, round.needs, round.need_count,
                        round.clients, round.candidate_count) == ERR_OK) {
        for (size_t node = 0; node < round.eligible_count && !round.restoring; node++) {
            scheduler_assign_node(leader, &round, node);
        }
        leader->last_sweep_ms =
            round.assigned_count > 0 ? 0 : leader->last_sweep_ms; /* 0: counts the others soon */
        log_event(LOG_DEBUG, "scheduled", KI("clients", round.candidate_count),
                  KI("assigned", round.assigned_count), KI("nodes", round.eligible_count));
    }
    scheduler_round_fini(&round);
    return round.assigned_count > 0;
}
