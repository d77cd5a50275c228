/* Owns the clients that this node ran when it was fenced. If Redis has lost data since, it may not
 * know them. The next incarnation then restores them with epoch 0: assignments of a fenced
 * incarnation are void, but configurations are not. Works on struct agent. The agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "cluster/membership/agent_internal.h"

#define SALVAGE_AGE_MS_MAX  3600000 /* as long as tombstones are kept */
#define SALVAGE_CLIENTS_MAX 200     /* in one step */

struct salvage_client {
    char *id, *config, *identity;
    int64_t version;
};

struct salvage {
    char generation[TEXT_ID_LEN]; /* of the Redis that had all these clients; "": none */
    int64_t answered_ms;          /* when (clock_ms) the last answered heartbeat was sent */
    struct salvage_client *clients;
    size_t n, next, restored_count;
};

void salvage_clear(struct agent *agent) {
    struct salvage *salvage = agent->salvage;
    for (size_t i = 0; salvage && i < salvage->n; i++) {
        free(salvage->clients[i].id);
        free(salvage->clients[i].config);
        free(salvage->clients[i].identity);
    }
    free(salvage ? salvage->clients : NULL);
    free(salvage);
    agent->salvage = NULL;
}

static void salvage_add(struct agent *agent, const struct workers_client *running) {
    struct salvage *salvage = agent->salvage;
    struct salvage_client client = {.id = text_dup(running->id), .version = running->version};
    if (!running->closing && client.id &&
        workers_config(agent->wiring.workers, client.id, &client.config, &client.identity) ==
            ERR_OK) {
        salvage->clients[salvage->n++] = client;
    } else {
        free(client.id);
    }
}

void salvage_take(struct agent *agent) {
    struct workers_client *rows = NULL;
    size_t n = 0;
    int64_t age_ms = node_heartbeat_age_ms(agent->wiring.node);
    if (agent->salvage || age_ms < 0 || workers_list(agent->wiring.workers, &rows, &n) != ERR_OK) {
        return;
    }
    agent->salvage = calloc(1, sizeof *agent->salvage);
    if (agent->salvage) {
        node_generation(agent->wiring.node, agent->salvage->generation);
        agent->salvage->answered_ms = clock_ms() - age_ms;
        agent->salvage->clients = calloc(n + 1, sizeof *agent->salvage->clients);
    }
    for (size_t i = 0; agent->salvage && agent->salvage->clients && i < n; i++) {
        salvage_add(agent, &rows[i]);
    }
    workers_list_free(rows, n);
}

/* Whether a client may have been deleted since, and its tombstone has expired. */
static bool salvage_is_too_old(const struct salvage *salvage) {
    return clock_ms() - salvage->answered_ms > SALVAGE_AGE_MS_MAX;
}

/* False: Redis does not answer; must be called again. */
static bool salvage_restore_next(struct agent *agent, const struct store_member *member) {
    struct salvage *salvage = agent->salvage;
    const struct salvage_client *client = &salvage->clients[salvage->next];
    struct store_restore_result restored = {0};
    size_t done = 0;
    enum err err = store_restore(agent->wiring.store, member,
                                 &(struct store_restore_item){.id = client->id,
                                                              .config = client->config,
                                                              .identity = client->identity,
                                                              .version = client->version},
                                 1, &restored, &done);
    if (agent_redis_is_unusable(err)) {
        return false;
    }
    salvage->restored_count += restored.mine;
    metric_add(METRIC_RESTORED, restored.mine);
    salvage->next++;
    return true;
}

void salvage_step(struct agent *agent) {
    struct salvage *salvage = agent->salvage;
    char incarnation[TEXT_ID_LEN], generation[TEXT_ID_LEN];
    if (!salvage) {
        return;
    }
    struct store_member member = agent_member(agent, incarnation);
    node_generation(agent->wiring.node, generation);
    bool went_back = strcmp(generation, salvage->generation) != 0 && !salvage_is_too_old(salvage);
    for (int i = 0; went_back && i < SALVAGE_CLIENTS_MAX && salvage->next < salvage->n; i++) {
        if (!agent_may_continue(agent) || !salvage_restore_next(agent, &member)) {
            return;
        }
    }
    if (went_back && salvage->next < salvage->n) {
        return;
    }
    if (went_back) {
        log_event(LOG_WARN, "fenced_restored", KI("clients", salvage->n),
                  KI("restored", salvage->restored_count));
    }
    salvage_clear(agent);
}
