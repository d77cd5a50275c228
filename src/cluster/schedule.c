/* Pours waiting clients onto the nodes with the fewest, while this node leads. Leading is only an
 * optimisation: what is asked twice, or wrongly, the claim script refuses.
 *
 *   Redis --waiting--> [ candidates ] --scheduler_pour--> [ calls ] --POST /fleet/claim--> nodes
 *
 * A thread of its own: a node that does not answer holds it up, and nothing else. */
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_memory.h"
#include "base/log.h"
#include "base/pulse.h"
#include "base/text.h"
#include "agent_internal.h"

#define SCHEDULE_REST_MS     100 /* between looks for what was written by hand: nobody wakes us */
#define SCHEDULE_REST_MS_MAX 500
#define CLAIM_TIMEOUT_MS     2000
#define SHUN_MS              2000
#define SHUN_TROUBLED_MS     10000
#define BAD_CONFIG_DELAY_MS  10000
#define BAD_CONFIGS_MAX      200  /* noted in one round; the others are found again */
#define SCHEDULE_CLIENTS_MAX 5000 /* in one round */
#define SCHEDULE_PAGES_MAX   40
#define SCHEDULE_PAGE_LEN    500

void schedule_fini(struct agent *agent) {
    struct shunned *shunned, *next;
    HASH_ITER(hh, agent->shunned, shunned, next) {
        HASH_DEL(agent->shunned, shunned);
        free(shunned->name);
        free(shunned);
    }
}

void schedule_wake(struct agent *agent) {
    /* Only fails when the counter is about to overflow: then it is readable anyway. */
    (void)!write(agent->schedule_fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* ---- a round --------------------------------------------------------------------------------- */

struct candidate {
    char *id;
    char *identity;
    char *failed_on; /* node of the last failed attempt, or NULL */
    char *denied_by; /* incarnations that may not reach its broker, or NULL */
};

/* One round: who can take, who waits, who gets whom. */
struct round {
    struct store_node *all;
    size_t all_count;
    struct scheduler_node *nodes;
    const struct store_node **infos; /* of nodes[i] */
    size_t node_count;
    int64_t room;
    bool anyway; /* nodes in trouble are asked too: no other has room */
    struct candidate *candidates;
    size_t candidate_count, candidate_max;
    size_t bad_configs;
    size_t *avoid, *placed;
};

static void round_fini(struct round *round) {
    for (size_t i = 0; i < round->candidate_count; i++) {
        free(round->candidates[i].id);
        free(round->candidates[i].identity);
        free(round->candidates[i].failed_on);
        free(round->candidates[i].denied_by);
    }
    free(round->candidates);
    free(round->avoid);
    free(round->placed);
    free(round->nodes);
    free(round->infos);
    store_nodes_free(round->all, round->all_count);
}

static bool is_shunned(struct agent *agent, const char *name, bool anyway) {
    struct shunned *shunned;
    HASH_FIND_STR(agent->shunned, name, shunned);
    return shunned && clock_ms() < shunned->until_ms && !(anyway && shunned->troubled);
}

static struct shunned *shunned_of(struct agent *agent, const char *name) {
    struct shunned *shunned;
    HASH_FIND_STR(agent->shunned, name, shunned);
    if (!shunned) {
        shunned = calloc(1, sizeof(*shunned));
        if (!shunned || !(shunned->name = text_dup(name))) {
            free(shunned);
            return NULL;
        }
        HASH_ADD_KEYPTR(hh, agent->shunned, shunned->name, strlen(shunned->name), shunned);
    }
    return shunned;
}

#define WHY_TROUBLED "sink_failing"

static void shun(struct agent *agent, const struct store_node *node, const char *why,
                 const char *detail) {
    bool troubled = strcmp(why, WHY_TROUBLED) == 0;
    log_event(LOG_WARN, "claim_failed", KS("node", node->name), KS("host", node->host),
              KI("port", node->port), KS("error", why), KS("detail", detail));
    struct shunned *shunned = shunned_of(agent, node->name);
    if (shunned) {
        shunned->troubled = troubled;
        shunned->until_ms = clock_ms() + (troubled ? SHUN_TROUBLED_MS : SHUN_MS);
    }
}

/* Why a node does not want to claim; NULL: it does. */
static const char *unwilling(const struct agent_claim_answer *answer) {
    return answer->fenced     ? "fenced"
           : answer->draining ? "draining"
           : answer->troubled ? WHY_TROUBLED
                              : NULL;
}

/* All that beat and have room; true: there are some. */
static bool round_takers(struct agent *agent, struct round *round) {
    for (size_t i = 0; i < round->all_count; i++) {
        const struct store_node *info = &round->all[i];
        if (!info->beating || info->state != STORE_NODE_LIVE ||
            is_shunned(agent, info->name, round->anyway)) {
            continue;
        }
        round->nodes[round->node_count] =
            (struct scheduler_node){info->name, info->clients, info->size};
        round->infos[round->node_count++] = info;
        round->room += info->size > info->clients ? info->size - info->clients : 0;
    }
    return round->room > 0;
}

static enum err round_nodes(struct agent *agent, struct round *round) {
    enum err result = store_nodes(agent->wiring.store, agent->wiring.conf->heartbeat_ttl_ms,
                                  &round->all, &round->all_count, NULL);
    if (result != ERR_OK) {
        return result;
    }
    round->nodes = calloc(round->all_count + 1, sizeof(*round->nodes));
    round->infos = calloc(round->all_count + 1, sizeof(const struct store_node *));
    if (!round->nodes || !round->infos) {
        return ERR_MEMORY;
    }
    if (!round_takers(agent, round)) {
        round->anyway = true;
        round->node_count = 0;
        (void)round_takers(agent, round);
    }
    return ERR_OK;
}

static void bad_config(struct agent *agent, struct round *round, const struct store_client *row,
                       const struct client_faults *faults) {
    char message[600];
    if (round->bad_configs++ >= BAD_CONFIGS_MAX) {
        return;
    }
    snprintf(message, sizeof(message), "%s%s%s", faults->items[0].pointer,
             faults->items[0].pointer[0] ? ": " : "", faults->items[0].detail);
    bool again = false;
    enum err noted = store_defer(agent->wiring.store, row->id, BAD_CONFIG_DELAY_MS,
                                 client_error_code(CLIENT_ERROR_BAD_CONFIG), message, &again);
    if (noted == ERR_OK && !again) { /* else it will be found again */
        log_event(LOG_WARN, "bad_config", KS("client", row->id), KS("detail", message));
    }
}

/* A waiting row becomes a candidate unless it is not its time, or it cannot be read. */
static void round_consider(struct agent *agent, struct round *round,
                           const struct store_client *row) {
    if (row->rest_ms > 0 || round->candidate_count == round->candidate_max) {
        return;
    }
    struct client_config *config = NULL;
    struct client_faults faults;
    enum err result =
        client_config_parse_text(row->config, row->config_len, row->id, &config, &faults);
    if (result != ERR_OK) {
        if (result == ERR_ARGUMENT) { /* else it is no fault of its own, and comes again */
            bad_config(agent, round, row, &faults);
        }
        return;
    }
    struct candidate *candidate = &round->candidates[round->candidate_count];
    candidate->id = text_dup(row->id);
    candidate->identity = client_config_identity(config);
    candidate->failed_on = row->attempts > 0 ? text_dup(row->attempt_node) : NULL;
    candidate->denied_by =
        row->denied_by && row->denied_by[0] != '\0' ? text_dup(row->denied_by) : NULL;
    client_config_destroy(config);
    if (candidate->id && candidate->identity) {
        round->candidate_count++;
    } else {
        free(candidate->id);
        free(candidate->identity);
        free(candidate->failed_on);
        free(candidate->denied_by);
    }
}

static enum err round_candidates(struct agent *agent, struct round *round) {
    round->candidate_max =
        round->room < SCHEDULE_CLIENTS_MAX ? (size_t)round->room : SCHEDULE_CLIENTS_MAX;
    round->candidates = calloc(round->candidate_max, sizeof(*round->candidates));
    if (!round->candidates) {
        return ERR_MEMORY;
    }
    for (int page = 0; page < SCHEDULE_PAGES_MAX; page++) {
        struct store_client *rows = NULL;
        size_t n = 0;
        uint64_t next = agent->schedule_cursor;
        enum err result = store_page(agent->wiring.store, STORE_WAITING, &next, SCHEDULE_PAGE_LEN,
                                     &rows, &n, NULL);
        if (result != ERR_OK) {
            return result;
        }
        for (size_t i = 0; i < n; i++) {
            round_consider(agent, round, &rows[i]);
        }
        store_rows_free(rows, n);
        /* Full in the middle of a page: the page is read again next time. */
        if (round->candidate_count == round->candidate_max) {
            break;
        }
        agent->schedule_cursor = next;
        if (next == 0) {
            break;
        }
    }
    return ERR_OK;
}

/* The emptiest node with room that has not said that it may not reach the broker. */
static size_t place_denied(struct round *round, const struct candidate *candidate) {
    size_t best = SCHEDULER_NOWHERE;
    for (size_t i = 0; i < round->node_count; i++) {
        const struct scheduler_node *node = &round->nodes[i];
        if (node->clients < node->size &&
            !strstr(candidate->denied_by, round->infos[i]->incarnation) &&
            (best == SCHEDULER_NOWHERE || node->clients < round->nodes[best].clients)) {
            best = i;
        }
    }
    if (best != SCHEDULER_NOWHERE) {
        round->nodes[best].clients++;
    }
    return best;
}

/* Those that nodes have denied are placed first, and stand at the end then. Answers how many are
 * left to be poured. */
static size_t round_place_denied(struct round *round) {
    size_t left = round->candidate_count;
    for (size_t i = 0; i < left;) {
        struct candidate candidate = round->candidates[i];
        if (!candidate.denied_by) {
            i++;
            continue;
        }
        round->candidates[i] = round->candidates[--left];
        round->candidates[left] = candidate;
        round->placed[left] = place_denied(round, &candidate);
    }
    return left;
}

static enum err round_place(struct round *round) {
    size_t n = round->candidate_count;
    round->avoid = calloc(n + 1, sizeof(*round->avoid));
    round->placed = calloc(n + 1, sizeof(*round->placed));
    if (!round->avoid || !round->placed) {
        return ERR_MEMORY;
    }
    n = round_place_denied(round);
    for (size_t i = 0; i < n; i++) {
        round->avoid[i] = SCHEDULER_NOWHERE;
        for (size_t j = 0; round->candidates[i].failed_on && j < round->node_count; j++) {
            if (strcmp(round->nodes[j].name, round->candidates[i].failed_on) == 0) {
                round->avoid[i] = j;
            }
        }
    }
    return scheduler_pour(round->nodes, round->node_count, round->avoid, n, round->placed)
               ? ERR_OK
               : ERR_MEMORY;
}

/* ---- asking the nodes to claim -----------------------------------------------------------------
 */

struct claim_call {
    size_t node; /* index into round->nodes */
    struct store_claim_item items[STORE_BATCH_MAX];
    size_t item_count;
    char *body;
};

static char *claim_body(const struct claim_call *call, bool anyway) {
    json_t *clients = json_array();
    for (size_t i = 0; i < call->item_count; i++) {
        json_array_append_new(clients, json_pack("{s:s, s:s}", "id", call->items[i].id, "identity",
                                                 call->items[i].identity));
    }
    json_t *body = json_pack("{s:o, s:b}", "clients", clients, "anyway", anyway);
    char *text = body ? json_text(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

/* Cuts each node's share into calls of at most STORE_BATCH_MAX ids. */
static struct claim_call *claim_calls(const struct round *round, size_t *count) {
    size_t most = round->candidate_count / STORE_BATCH_MAX + round->node_count + 1;
    struct claim_call *calls = calloc(most, sizeof(*calls));
    *count = 0;
    for (size_t node = 0; calls && node < round->node_count; node++) {
        struct claim_call *call = NULL;
        for (size_t i = 0; i < round->candidate_count; i++) {
            if (round->placed[i] != node) {
                continue;
            }
            if (!call || call->item_count == STORE_BATCH_MAX) {
                call = &calls[(*count)++];
                call->node = node;
            }
            call->items[call->item_count++] =
                (struct store_claim_item){round->candidates[i].id, round->candidates[i].identity};
        }
    }
    return calls;
}

static bool call_is_own(struct agent *agent, const struct round *round,
                        const struct claim_call *call) {
    return strcmp(round->nodes[call->node].name, node_name(agent->wiring.node)) == 0;
}

/* The answer of a node's POST /fleet/claim: how many it took. */
static size_t claim_answer(struct agent *agent, const struct store_node *node,
                           const struct peer_call *peer) {
    if (peer->result != ERR_OK) {
        shun(agent, node, err_name(peer->result),
             "no answer from this address: look at node_info.host, node_info.port and http.listen "
             "of that node, and at what is between");
        return 0;
    }
    if (peer->status != 200) {
        shun(agent, node, "bad_status",
             peer->status >= 500 ? "it could not do it now; its own log says why"
                                 : "something else may listen at this address");
        return 0;
    }
    json_t *answer = json_of_text(peer->answer.data ? peer->answer.data : "", peer->answer.len, 0);
    json_int_t claimed = 0;
    int fenced = 0, draining = 0, troubled = 0;
    int bad = json_unpack(answer, "{s:I, s:b, s:b, s?b}", "claimed", &claimed, "fenced", &fenced,
                          "draining", &draining, "troubled", &troubled);
    const char *why = unwilling(
        &(struct agent_claim_answer){.fenced = fenced, .draining = draining, .troubled = troubled});
    if (bad != 0) {
        shun(agent, node, "bad_answer", "something else may listen at this address");
    } else if (why) {
        shun(agent, node, why, NULL);
    }
    json_decref(answer);
    return claimed > 0 ? (size_t)claimed : 0;
}

static size_t claim_by_peers(struct agent *agent, const struct round *round,
                             struct claim_call *calls, size_t count) {
    struct peer_call *peers = calloc(count + 1, sizeof(*peers));
    size_t *of = calloc(count + 1, sizeof(*of)), n = 0, claimed = 0;
    for (size_t i = 0; peers && of && i < count; i++) {
        const struct store_node *info = round->infos[calls[i].node];
        if (call_is_own(agent, round, &calls[i]) ||
            !(calls[i].body = claim_body(&calls[i], round->anyway))) {
            continue;
        }
        peers[n] = (struct peer_call){.host = info->host,
                                      .port = info->port,
                                      .method = "POST",
                                      .path = "/fleet/claim",
                                      .body = calls[i].body,
                                      .body_len = strlen(calls[i].body)};
        of[n++] = i;
    }
    if (n > 0) {
        peers_run(agent->wiring.peers, peers, n, CLAIM_TIMEOUT_MS);
    }
    for (size_t i = 0; i < n; i++) {
        claimed += claim_answer(agent, round->infos[calls[of[i]].node], &peers[i]);
        buffer_fini(&peers[i].answer);
    }
    free(peers);
    free(of);
    return claimed;
}

static size_t claim_here(struct agent *agent, const struct round *round, struct claim_call *calls,
                         size_t count) {
    size_t claimed = 0;
    for (size_t i = 0; i < count; i++) {
        struct agent_claim_answer answer;
        if (!call_is_own(agent, round, &calls[i])) {
            continue;
        }
        enum err result =
            agent_claim(agent, calls[i].items, calls[i].item_count, round->anyway, &answer);
        const char *why = result != ERR_OK ? err_name(result) : unwilling(&answer);
        claimed += answer.claimed;
        if (why) {
            shun(agent, round->infos[calls[i].node], why, NULL);
            break;
        }
    }
    return claimed;
}

static size_t round_claim(struct agent *agent, const struct round *round) {
    size_t count = 0, claimed = 0;
    struct claim_call *calls = claim_calls(round, &count);
    if (!calls) {
        return 0;
    }
    claimed = claim_here(agent, round, calls, count);
    claimed += claim_by_peers(agent, round, calls, count);
    for (size_t i = 0; i < count; i++) {
        free(calls[i].body);
    }
    free(calls);
    return claimed;
}

/* After Redis lost its data every node first puts back what it runs. */
static bool restoring(struct agent *agent) {
    int64_t lost_ms = atomic_load(&agent->lost_ms);
    return lost_ms != 0 && clock_ms() - lost_ms < 3 * agent->wiring.conf->heartbeat_ms;
}

/* True: clients were claimed, there may be more. */
static bool schedule(struct agent *agent) {
    if (!atomic_load(&agent->leading) || !node_lease_valid(agent->wiring.node) ||
        restoring(agent)) {
        return false;
    }
    struct round round = {0};
    struct store_counts counts;
    size_t claimed = 0;
    if (store_counts(agent->wiring.store, &counts) == ERR_OK && counts.waiting > 0 &&
        round_nodes(agent, &round) == ERR_OK && round.room > 0 &&
        round_candidates(agent, &round) == ERR_OK && round.candidate_count > 0 &&
        round_place(&round) == ERR_OK) {
        claimed = round_claim(agent, &round);
        log_event(LOG_DEBUG, "scheduled", KI("clients", round.candidate_count),
                  KI("claimed", claimed), KI("nodes", round.node_count));
    }
    round_fini(&round);
    return claimed > 0;
}

/* Until somebody wakes it, or the time is over. */
static void schedule_wait(struct agent *agent, int64_t most_ms) {
    struct pollfd fd = {.fd = agent->schedule_fd, .events = POLLIN};
    uint64_t count;
    if (poll(&fd, 1, (int)most_ms) > 0) {
        (void)!read(agent->schedule_fd, &count, sizeof(count));
    }
}

/* A long look for nothing is followed by a longer rest: many may wait for their time. */
static int64_t rest_ms(int64_t took_ms) {
    int64_t rest = 4 * took_ms;
    if (rest < SCHEDULE_REST_MS) {
        return SCHEDULE_REST_MS;
    }
    return rest < SCHEDULE_REST_MS_MAX ? rest : SCHEDULE_REST_MS_MAX;
}

void *agent_schedule_run(void *argument) {
    struct agent *agent = argument;
    while (!atomic_load(&agent->stopping)) {
        int64_t begun_ms = clock_ms();
        pulse();
        if (!schedule(agent)) {
            schedule_wait(agent, rest_ms(clock_ms() - begun_ms));
        }
    }
    return NULL;
}
