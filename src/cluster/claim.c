/* Claiming waiting clients for this node, on whatever thread was asked (an HTTP worker, or the
 * scheduler when this node leads). */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "agent_internal.h"

#define BAD_CONFIG_DELAY_MS 10000
#define IDENTITY_DELAY_MS   10000

static void give_back(struct agent *agent, const struct store_member *member,
                      const struct store_client *client, int64_t delay_ms, const char *code,
                      const char *message) {
    size_t released;
    enum err result = store_release(agent->wiring.store, member,
                                    &(struct store_release){.id = client->id,
                                                            .epoch = client->owner.epoch,
                                                            .delay_ms = delay_ms,
                                                            .code = code,
                                                            .message = message,
                                                            .failed = true},
                                    1, &released);
    log_event(LOG_WARN, "claim_given_back", KS("client", client->id), KS("reason", code),
              KS("detail", message), KS("result", err_name(result)));
}

/* Starts a claimed client. What cannot be started is given back with the reason. */
static bool start(struct agent *agent, const struct store_member *member,
                  const struct store_client *client) {
    struct client_config *config = NULL;
    struct client_faults faults;
    if (client_config_parse_text(client->config, client->config_len, client->id, &config,
                                 &faults) != ERR_OK) {
        char message[600];
        snprintf(message, sizeof(message), "%s: %s", faults.items[0].pointer,
                 faults.items[0].detail);
        give_back(agent, member, client, BAD_CONFIG_DELAY_MS, "bad_config", message);
        return false;
    }
    enum err result = hosts_start(agent->wiring.hosts, config, member->incarnation,
                                  client->owner.epoch, client->version);
    /* ERR_FULL, ERR_MEMORY: it is assigned all the same, and started by the next comparison.
     * ERR_STATE: fenced meanwhile; what was claimed is reaped with everything else. */
    return result == ERR_OK;
}

static void judge(struct agent *agent, const struct store_member *member,
                  const struct store_claim_item *item, const struct store_claim_result *result,
                  struct agent_claim_answer *answer) {
    enum err deferred;
    switch (result->outcome) {
    case STORE_CLAIMED:
        answer->claimed += start(agent, member, &result->client);
        break;
    case STORE_CLAIM_FULL:
        answer->full = true;
        break;
    case STORE_CLAIM_IDENTITY:
        deferred = store_defer(agent->wiring.store, item->id, IDENTITY_DELAY_MS, "identity_taken",
                               "another client has the same broker and client_id");
        (void)deferred; /* it will be found again */
        break;
    case STORE_CLAIM_GONE:
    case STORE_CLAIM_LATER:
        break;
    }
}

enum err agent_claim(struct agent *agent, const struct store_claim_item *items, size_t n,
                     struct agent_claim_answer *answer) {
    *answer = (struct agent_claim_answer){0};
    if (atomic_load(&agent->stopping)) {
        answer->draining = true;
        return ERR_OK;
    }
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    if (node_membership(agent->wiring.node) != NODE_MEMBER) {
        answer->fenced = true;
        return ERR_OK;
    }
    struct store_claim_result *results = calloc(n ? n : 1, sizeof(*results));
    if (!results) {
        return ERR_MEMORY;
    }
    size_t done = 0;
    int64_t rev;
    atomic_fetch_add(&agent->claims, 1); /* see reconcile.c */
    enum err result = store_claim(agent->wiring.store, &member, items, n, results, &done, &rev);
    /* What was claimed before an error is claimed: it must run. */
    for (size_t i = 0; i < done; i++) {
        judge(agent, &member, &items[i], &results[i], answer);
    }
    atomic_fetch_sub(&agent->claims, 1);
    metric_add(METRIC_CLAIMED, (int64_t)answer->claimed);
    store_claim_results_fini(results, done);
    free(results);
    if (result == ERR_FENCED) {
        answer->fenced = true;
        result = ERR_OK;
    } else if (result == ERR_REFUSED) {
        answer->draining = true;
        result = ERR_OK;
    }
    return result;
}
