/* POST /fleet/claim: what a leader of an older version asks. This node assigns the clients to
 * itself, and its agent finds them like any others. */
#include <stdlib.h>

#include "agent_internal.h"

enum err agent_claim(struct agent *agent, const struct store_assign_item *items, size_t n,
                     struct agent_claim_answer *answer) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    struct store_assign_result *results = calloc(n + 1, sizeof(*results));
    size_t done = 0;
    *answer = (struct agent_claim_answer){0};
    if (!results) {
        return ERR_MEMORY;
    }
    enum err result = atomic_load(&agent->stopping)
                          ? ERR_REFUSED
                          : store_assign(agent->wiring.store, &member, items, n, results, &done);
    for (size_t i = 0; i < done; i++) {
        answer->claimed += results[i].outcome == STORE_ASSIGNED;
        answer->full = answer->full || results[i].outcome == STORE_ASSIGN_FULL;
    }
    free(results);
    answer->fenced = result == ERR_FENCED;
    answer->draining = result == ERR_REFUSED || result == ERR_WRONG_STATE;
    return answer->fenced || answer->draining ? ERR_OK : result;
}
