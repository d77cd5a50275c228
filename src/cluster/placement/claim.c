/* POST /fleet/claim, which leaders of older versions send. This node assigns the clients to itself;
 * its agent then starts them like all others. Any thread. */
#include <stdlib.h>

#include "cluster/membership/agent_internal.h"
#include "mqtt/client_error.h"

#define IDENTITY_DELAY_MS 10000

static void claim_count_outcome(struct agent *agent, const struct store_assign_item *item,
                                enum store_assign_outcome outcome,
                                struct agent_claim_result *answer) {
    answer->claimed_count += outcome == STORE_ASSIGNED;
    if (outcome == STORE_ASSIGN_FULL) {
        answer->refusal = AGENT_CLAIM_FULL;
    }
    if (outcome == STORE_ASSIGN_IDENTITY) { /* the leader leaves the cool-down to this node */
        enum err err = store_set_cooldown(agent->wiring.store, item->id, IDENTITY_DELAY_MS,
                                          client_error_code(CLIENT_ERROR_IDENTITY_TAKEN),
                                          client_error_text(CLIENT_ERROR_IDENTITY_TAKEN), NULL);
        (void)err; /* without the cool-down, a later round finds the client again */
    }
}

enum err agent_claim(struct agent *agent, const struct store_assign_item *items, size_t n,
                     struct agent_claim_result *answer) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    struct store_assign_result *results = calloc(n + 1, sizeof *results);
    size_t done = 0;
    *answer = (struct agent_claim_result){0};
    if (!results) {
        return ERR_MEMORY;
    }
    enum err err = atomic_load(&agent->stopping)
                       ? ERR_REFUSED
                       : store_assign(agent->wiring.store, &member, items, n, results, &done);
    for (size_t i = 0; i < done; i++) {
        claim_count_outcome(agent, &items[i], results[i].outcome, answer);
    }
    free(results);
    if (err == ERR_FENCED) {
        answer->refusal = AGENT_CLAIM_FENCED;
        return ERR_OK;
    }
    if (err == ERR_REFUSED || err == ERR_WRONG_STATE) {
        answer->refusal = AGENT_CLAIM_DRAINING;
        return ERR_OK;
    }
    return err;
}
