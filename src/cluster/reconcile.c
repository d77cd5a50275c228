/* What runs here against what Redis says should: starts what is missing, updates what changed, and
 * stops a client only on positive evidence (rule 4), never because it is merely absent. Agent
 * thread. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "agent_internal.h"

#define RECONCILE_REST        2    /* times as long as a comparison took */
#define RECONCILE_REST_MS_MAX 1000 /* also after one that Redis never answered */

/* A client of hosts_list, found by id. */
struct running {
    const struct hosts_client *client;
    bool assigned;
    UT_hash_handle hh;
};

struct comparison {
    struct store_member member;
    struct hosts_client *clients;
    size_t client_count;
    struct running *pool;    /* client_count of them */
    struct running *running; /* hash of the pool */
    struct store_assignment *assigned;
    size_t assigned_count;
    int64_t rev;
    bool claiming; /* what was claimed may not run yet, and not be what is owned any more */
};

static enum err comparison_make(struct agent *agent, struct comparison *comparison) {
    enum err result =
        store_assigned(agent->wiring.store, &comparison->member, &comparison->assigned,
                       &comparison->assigned_count, &comparison->rev);
    comparison->claiming = atomic_load(&agent->claims) > 0;
    if (result == ERR_OK) {
        /* After the list of Redis: what was claimed in between is running and looked up below. */
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
        HASH_ADD_KEYPTR(hh, comparison->running, running->client->id, strlen(running->client->id),
                        running);
    }
    return ERR_OK;
}

static void comparison_fini(struct comparison *comparison) {
    HASH_CLEAR(hh, comparison->running);
    free(comparison->pool);
    hosts_list_free(comparison->clients, comparison->client_count);
    store_assigned_free(comparison->assigned, comparison->assigned_count);
}

/* ---- assigned, but not running as it should ----------------------------------------------------
 */

/* Not ERR_OK: to be tried again at the next turn. */
static enum err start_client(struct agent *agent, const struct store_member *member,
                             const char *id) {
    struct store_client client = {0};
    enum err result = store_get(agent->wiring.store, id, &client);
    if (result != ERR_OK) {
        return result == ERR_NOT_FOUND ? ERR_OK : result;
    }
    bool mine = client.where == STORE_OWNED && client.owner.node &&
                strcmp(client.owner.node, member->node) == 0 &&
                strcmp(client.owner.incarnation, member->incarnation) == 0;
    result = mine ? agent_start(agent, member, &client) : ERR_OK;
    store_client_fini(&client);
    return result;
}

/* When Redis gives in the rest is only marked: it is assigned all the same. */
static bool start_missing(struct agent *agent, struct comparison *comparison) {
    bool complete = true, goes_on = true;
    for (size_t i = 0; i < comparison->assigned_count; i++) {
        const struct store_assignment *want = &comparison->assigned[i];
        struct running *running;
        HASH_FIND_STR(comparison->running, want->id, running);
        if (running) {
            running->assigned = true;
        }
        bool same = running && running->client->epoch == want->epoch &&
                    running->client->version >= want->version;
        if (same || releases_leaving(agent, want->id)) {
            continue;
        }
        goes_on = goes_on && agent_goes_on(agent);
        enum err result =
            goes_on ? start_client(agent, &comparison->member, want->id) : ERR_CANCELED;
        goes_on = goes_on && !agent_gives_in(result);
        complete = complete && result == ERR_OK;
    }
    return complete;
}

/* ---- running, but not assigned ------------------------------------------------------------------
 */

static enum err stop_client(struct agent *agent, const struct hosts_client *client,
                            const char *reason) {
    return hosts_stop(agent->wiring.hosts, client->id, client->epoch, reason, NULL, NULL);
}

/* Redis has no trace of it, or one older than this claim: it lost data. */
static enum err restore_client(struct agent *agent, const struct store_member *member,
                               const struct hosts_client *client) {
    char *text = NULL, *identity = NULL;
    enum err result = hosts_config(agent->wiring.hosts, client->id, &text, &identity);
    if (result != ERR_OK) {
        return result == ERR_NOT_FOUND ? ERR_OK : result; /* it has just stopped */
    }
    int64_t epoch = 0;
    struct store_restore item = {.id = client->id,
                                 .epoch = client->epoch,
                                 .config = text,
                                 .identity = identity,
                                 .version = client->version};
    result = store_restore(agent->wiring.store, member, &item, &epoch);
    if (result == ERR_REFUSED) {
        result = stop_client(agent, client, "not_restored");
    } else if (result == ERR_OK) {
        metric_add(METRIC_RESTORED, 1);
        struct store_client restored = {.id = client->id,
                                        .config = text,
                                        .config_len = strlen(text),
                                        .version = client->version,
                                        .owner = {.epoch = epoch}};
        result = agent_start(agent, member, &restored);
    }
    free(text);
    free(identity);
    return result;
}

static enum err act_on(struct agent *agent, const struct store_member *member,
                       const struct hosts_client *client, enum store_evidence evidence) {
    switch (evidence) {
    case STORE_EVIDENCE_MINE:
        return ERR_OK;
    case STORE_EVIDENCE_NEWER:
        return stop_client(agent, client, "owned_by_another_node");
    case STORE_EVIDENCE_WAITING:
        return stop_client(agent, client, "released");
    case STORE_EVIDENCE_TOMBSTONE:
        return stop_client(agent, client, "deleted");
    case STORE_EVIDENCE_NONE:
    case STORE_EVIDENCE_OLDER:
        break;
    }
    return restore_client(agent, member, client);
}

static bool stop_unassigned(struct agent *agent, struct comparison *comparison) {
    struct store_held *held = calloc(comparison->client_count + 1, sizeof(*held));
    const struct hosts_client **clients =
        calloc(comparison->client_count + 1, sizeof(const struct hosts_client *));
    enum store_evidence *evidence = calloc(comparison->client_count + 1, sizeof(*evidence));
    size_t n = 0;
    enum err result = held && clients && evidence ? ERR_OK : ERR_MEMORY;
    for (size_t i = 0; result == ERR_OK && i < comparison->client_count; i++) {
        const struct hosts_client *client = comparison->pool[i].client;
        if (!comparison->pool[i].assigned && !releases_leaving(agent, client->id)) {
            held[n] = (struct store_held){.id = client->id, .epoch = client->epoch};
            clients[n++] = client;
        }
    }
    if (result == ERR_OK && n > 0) {
        result = store_evidence(agent->wiring.store, &comparison->member, held, n, evidence);
    }
    bool known = result == ERR_OK;
    size_t acted = 0, failed = 0;
    while (known && acted < n && !agent_gives_in(result) && agent_goes_on(agent)) {
        result = act_on(agent, &comparison->member, clients[acted], evidence[acted]);
        failed += result != ERR_OK;
        acted++;
    }
    free(held);
    free(clients);
    free(evidence);
    return known && acted == n && failed == 0;
}

void reconcile_step(struct agent *agent) {
    int64_t now_ms = clock_ms();
    bool moved = node_rev(agent->wiring.node) != agent->reconciled_rev;
    bool due = now_ms - agent->reconciled_ms >= agent->wiring.conf->reconcile_ms;
    if ((!agent->reconcile_now && !moved && !due) || now_ms < agent->reconcile_next_ms) {
        return;
    }
    agent->reconcile_now = false;
    char incarnation[TEXT_ID_LEN];
    struct comparison comparison = {.member = agent_member(agent, incarnation)};
    enum err result = comparison_make(agent, &comparison);
    /* Whoever changes this node's clients without a pause must not keep Redis busy with lists. */
    int64_t rest_ms = RECONCILE_REST * (clock_ms() - now_ms);
    agent->reconcile_next_ms =
        clock_ms() + (rest_ms < RECONCILE_REST_MS_MAX ? rest_ms : RECONCILE_REST_MS_MAX);
    if (result == ERR_OK) {
        bool complete = start_missing(agent, &comparison);
        complete = stop_unassigned(agent, &comparison) && complete && !comparison.claiming;
        agent->reconciled_ms = now_ms;
        /* Incomplete: the rev stays unknown, so that the next turn looks again. */
        agent->reconciled_rev = complete ? comparison.rev : -1;
    }
    comparison_fini(&comparison);
}
