/* One round of placing what waits:
 *
 *   Redis --waiting--> [ candidates ] --placement_pour--> [ shares ] --store_assign--> owned
 *
 * and, over a whole sweep, why the others wait. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_memory.h"
#include "base/log.h"
#include "base/text.h"
#include "mqtt/client_error.h"
#include "leader_internal.h"

#define BAD_CONFIG_DELAY_MS  10000
#define IDENTITY_DELAY_MS    10000
#define BAD_CONFIGS_MAX      200  /* noted in one round; the others are found again */
#define SCHEDULE_CLIENTS_MAX 5000 /* in one round */
#define SCHEDULE_PAGES_MAX   40
#define SCHEDULE_PAGE_LEN    500
#define FULL_SWEEP_MS        5000 /* between sweeps while nobody can be assigned */
#define NEEDS_MAX            64   /* different ones in one round */

struct candidate {
    char *id;
    char *identity;
    char *denied_by; /* incarnations that may not reach its broker, or NULL */
};

static void candidate_fini(struct candidate *candidate) {
    free(candidate->id);
    free(candidate->identity);
    free(candidate->denied_by);
}

/* One round: who can take, who waits, who gets whom. */
struct round {
    struct store_node *all;
    size_t all_count;
    struct placement_node *nodes;
    size_t node_count;
    struct placement_need needs[NEEDS_MAX];
    size_t need_count;
    struct candidate *candidates;
    struct placement_client *clients; /* of the candidates, by index */
    size_t candidate_count, candidate_max;
    size_t bad_configs, assigned;
    bool restoring;
};

static void round_fini(struct round *round) {
    for (size_t i = 0; i < round->candidate_count; i++) {
        candidate_fini(&round->candidates[i]);
    }
    for (size_t i = 0; i < round->need_count; i++) {
        placement_need_fini(&round->needs[i]);
    }
    free(round->candidates);
    free(round->clients);
    free(round->nodes);
    store_nodes_free(round->all, round->all_count);
}

static enum err round_nodes(struct leader *leader, struct round *round) {
    enum err result = store_nodes(leader->store, leader->conf->heartbeat_ttl_ms, &round->all,
                                  &round->all_count, NULL);
    if (result != ERR_OK) {
        return result;
    }
    round->nodes = calloc(round->all_count + 1, sizeof(*round->nodes));
    if (!round->nodes) {
        return ERR_MEMORY;
    }
    round->node_count = placement_nodes(round->all, round->all_count, round->nodes);
    return ERR_OK;
}

/* ---- candidates ---------------------------------------------------------------------------------
 */

static void count(struct leader *leader, enum placement_wait wait, int64_t clients) {
    leader->tally.counts[wait] += clients;
}

static void bad_config(struct leader *leader, struct round *round, const struct store_client *row,
                       const struct client_faults *faults) {
    char message[600];
    count(leader, PLACEMENT_BAD_CONFIG, 1);
    if (round->bad_configs++ >= BAD_CONFIGS_MAX) {
        return;
    }
    snprintf(message, sizeof(message), "%s%s%s", faults->items[0].pointer,
             faults->items[0].pointer[0] ? ": " : "", faults->items[0].detail);
    bool again = false;
    enum err noted = store_defer(leader->store, row->id, BAD_CONFIG_DELAY_MS,
                                 client_error_code(CLIENT_ERROR_BAD_CONFIG), message, &again);
    if (noted == ERR_OK && !again) { /* else it will be found again */
        log_event(LOG_WARN, "bad_config", KS("client", row->id), KS("detail", message));
    }
}

/* The index of an equal need; ERR_FULL: there are too many different ones for this round. */
static enum err need_index(struct round *round, struct client_config *config, size_t *index) {
    struct placement_need need;
    enum err result = placement_need_of(config, &need);
    if (result != ERR_OK) {
        return result;
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

static size_t node_index(const struct round *round, const char *name) {
    for (size_t i = 0; name && i < round->node_count; i++) {
        if (strcmp(round->nodes[i].name, name) == 0) {
            return i;
        }
    }
    return PLACEMENT_NOWHERE;
}

/* Why it is not to be assigned in this round; PLACEMENT_SOON: it is a candidate now, or there was
 * no memory for it. */
static enum placement_wait candidate_add(struct round *round, const struct store_client *row,
                                         struct client_config *config) {
    struct placement_client client = {.node = PLACEMENT_NOWHERE};
    if (need_index(round, config, &client.need) != ERR_OK) {
        return PLACEMENT_SOON;
    }
    enum placement_wait wait =
        placement_why(round->nodes, round->node_count, &round->needs[client.need]);
    if (wait != PLACEMENT_SOON) {
        return wait;
    }
    client.avoid = node_index(round, row->attempts > 0 ? row->attempt_node : NULL);
    struct candidate candidate = {text_dup(row->id), client_config_identity(config),
                                  text_dup(row->denied_by)};
    if (!candidate.id || !candidate.identity || (row->denied_by && !candidate.denied_by)) {
        candidate_fini(&candidate);
        return PLACEMENT_SOON;
    }
    client.denied_by = candidate.denied_by;
    round->clients[round->candidate_count] = client;
    round->candidates[round->candidate_count++] = candidate;
    return PLACEMENT_SOON;
}

/* A waiting row becomes a candidate unless it is not its time, or it cannot be read or run. */
static void consider(struct leader *leader, struct round *round, const struct store_client *row) {
    struct client_config *config = NULL;
    struct client_faults faults;
    if (row->rest_ms > 0) {
        count(leader, PLACEMENT_NOT_BEFORE, 1);
        return;
    }
    enum err result =
        client_config_parse_text(row->config, row->config_len, row->id, &config, &faults);
    if (result != ERR_OK) {
        if (result == ERR_ARGUMENT) { /* else it is no fault of its own, and comes again */
            bad_config(leader, round, row, &faults);
        }
        return;
    }
    enum placement_wait wait = candidate_add(round, row, config);
    if (wait != PLACEMENT_SOON) {
        count(leader, wait, 1);
    }
    client_config_destroy(config);
}

/* ---- why the others wait ------------------------------------------------------------------------
 */

static void tally_publish(struct leader *leader) {
    json_t *all = json_object();
    for (size_t i = 0; i < PLACEMENT_WAIT_COUNT; i++) {
        if (leader->tally.counts[i] > 0) {
            json_object_set_new(all, placement_wait_code((enum placement_wait)i),
                                json_integer((json_int_t)leader->tally.counts[i]));
        }
    }
    free(leader->unplaced);
    leader->unplaced = json_text(all, JSON_COMPACT);
    json_decref(all);
    leader->tally = (struct tally){0};
}

static enum err page_read(struct leader *leader, struct round *round) {
    struct store_client *rows = NULL;
    size_t n = 0;
    int64_t redis_ms = 0;
    uint64_t next = leader->cursor;
    enum err result =
        store_page(leader->store, STORE_WAITING, &next, SCHEDULE_PAGE_LEN, &rows, &n, &redis_ms);
    for (size_t i = 0; result == ERR_OK && i < n; i++) {
        if (round->candidate_count == round->candidate_max) {
            next = leader->cursor; /* full in the middle of a page: it is read again next time */
            break;
        }
        consider(leader, round, &rows[i]);
    }
    store_rows_free(rows, n);
    if (result == ERR_OK) {
        leader->cursor = next;
    }
    return result;
}

static enum err round_candidates(struct leader *leader, struct round *round) {
    round->candidate_max = SCHEDULE_CLIENTS_MAX;
    round->candidates = calloc(round->candidate_max, sizeof(*round->candidates));
    round->clients = calloc(round->candidate_max, sizeof(*round->clients));
    if (!round->candidates || !round->clients) {
        return ERR_MEMORY;
    }
    for (int page = 0; page < SCHEDULE_PAGES_MAX; page++) {
        enum err result = page_read(leader, round);
        if (result != ERR_OK) {
            return result;
        }
        if (leader->cursor == 0) {
            leader->swept_ms = clock_ms();
            tally_publish(leader);
            break;
        }
        if (round->candidate_count == round->candidate_max) {
            break;
        }
    }
    return ERR_OK;
}

/* ---- assigning ----------------------------------------------------------------------------- */

/* A part of one node's share. */
struct share {
    const struct placement_node *node;
    struct store_assign_item items[STORE_BATCH_MAX];
    size_t n;
};

static void judge(struct leader *leader, struct round *round, const struct share *share,
                  const struct store_assign_result *results, size_t n) {
    for (size_t i = 0; i < n; i++) {
        round->assigned += results[i].outcome == STORE_ASSIGNED;
        if (results[i].outcome == STORE_ASSIGN_IDENTITY) {
            enum err deferred = store_defer(leader->store, share->items[i].id, IDENTITY_DELAY_MS,
                                            client_error_code(CLIENT_ERROR_IDENTITY_TAKEN),
                                            client_error_text(CLIENT_ERROR_IDENTITY_TAKEN), NULL);
            (void)deferred; /* it will be found again */
        }
    }
}

/* False: nothing more for this node in this round. */
static bool share_assign(struct leader *leader, struct round *round, struct share *share) {
    struct store_assign_result results[STORE_BATCH_MAX];
    struct store_member target = {share->node->name, share->node->incarnation};
    size_t done = 0;
    enum err result = store_assign(leader->store, &target, share->items, share->n, results, &done);
    judge(leader, round, share, results, done);
    share->n = 0;
    round->restoring = round->restoring || result == ERR_WRONG_STATE;
    if (result != ERR_OK && result != ERR_WRONG_STATE) {
        log_event(LOG_DEBUG, "assign_failed", KS("node", share->node->name),
                  KS("error", err_name(result)));
    }
    return result == ERR_OK;
}

static void node_assign(struct leader *leader, struct round *round, size_t node) {
    struct share share = {.node = &round->nodes[node]};
    bool more = true;
    for (size_t i = 0; more && i < round->candidate_count; i++) {
        if (round->clients[i].node == node) {
            share.items[share.n++] =
                (struct store_assign_item){round->candidates[i].id, round->candidates[i].identity};
        }
        if (share.n == STORE_BATCH_MAX) {
            more = share_assign(leader, round, &share);
        }
    }
    if (more && share.n > 0) {
        (void)share_assign(leader, round, &share);
    }
}

static bool sweep_is_due(const struct leader *leader) {
    return leader->cursor != 0 || leader->swept_ms == 0 ||
           clock_ms() - leader->swept_ms >= FULL_SWEEP_MS;
}

/* While all who wait have to wait for their time, or no node has room, they are looked at only now
 * and then, for the reasons: a look costs Redis a read of all nodes. */
static bool may_assign(struct leader *leader, const struct store_counts *counts) {
    if (counts->waiting == 0) {
        leader->cursor = 0;
        leader->tally = (struct tally){0};
        tally_publish(leader);
        return false;
    }
    bool changed = counts->waiting != leader->waiting || counts->resting != leader->resting;
    leader->waiting = counts->waiting;
    leader->resting = counts->resting;
    return counts->waiting > counts->resting || changed || sweep_is_due(leader);
}

static bool worth_a_sweep(struct leader *leader, const struct round *round) {
    for (size_t i = 0; i < round->node_count; i++) {
        if (round->nodes[i].clients < round->nodes[i].size) {
            return true;
        }
    }
    return sweep_is_due(leader);
}

bool schedule_round(struct leader *leader) {
    struct round round = {0};
    struct store_counts counts;
    if (store_counts(leader->store, &counts) == ERR_OK && may_assign(leader, &counts) &&
        round_nodes(leader, &round) == ERR_OK && worth_a_sweep(leader, &round) &&
        round_candidates(leader, &round) == ERR_OK && round.candidate_count > 0 &&
        placement_pour(round.nodes, round.node_count, round.needs, round.need_count, round.clients,
                       round.candidate_count) == ERR_OK) {
        for (size_t node = 0; node < round.node_count && !round.restoring; node++) {
            node_assign(leader, &round, node);
        }
        leader->swept_ms = round.assigned > 0 ? 0 : leader->swept_ms; /* who is left is counted */
        log_event(LOG_DEBUG, "scheduled", KI("clients", round.candidate_count),
                  KI("assigned", round.assigned), KI("nodes", round.node_count));
    }
    round_fini(&round);
    return round.assigned > 0;
}
