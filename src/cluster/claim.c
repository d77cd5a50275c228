/* Claiming waiting clients for this node, on whatever thread was asked (an HTTP worker, or the
 * scheduler when this node leads). */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "mqtt/client_secrets.h"
#include "agent_internal.h"

#define GIVE_BACK_DELAY_MS 10000
#define MESSAGE_LEN        CLIENT_SECRETS_FAULT_LEN
#define IDENTITY_DELAY_MS  10000
#define SINK_TROUBLE_MS    10000 /* a sink that has failed for so long is not just restarting */

static enum err give_back(struct agent *agent, const struct store_member *member,
                          const struct store_client *client, enum client_error error,
                          const char *message) {
    size_t released;
    enum err result = store_release(agent->wiring.store, member,
                                    &(struct store_release){.id = client->id,
                                                            .epoch = client->owner.epoch,
                                                            .delay_ms = GIVE_BACK_DELAY_MS,
                                                            .code = client_error_code(error),
                                                            .message = message,
                                                            .error = client_error_name(error),
                                                            .failed = true},
                                    1, &released);
    log_event(LOG_WARN, "client_given_back", KS("client", client->id),
              KS("reason", client_error_code(error)), KS("detail", message),
              KS("result", err_name(result)));
    return result;
}

/* Why this node cannot run what it was given; NONE: it can, and the secrets are decrypted. */
static enum client_error find_fault(struct agent *agent, struct client_config *config,
                                    char message[MESSAGE_LEN]) {
    if (config->sink && strcmp(config->sink, "file") == 0 &&
        agent->wiring.conf->sink_path[0] == '\0') {
        snprintf(message, MESSAGE_LEN, "/sink: this node has no sink.path");
        return CLIENT_ERROR_SINK_MISSING;
    }
    bool readable = client_secrets_open(config, agent->wiring.secrets, message) == ERR_OK;
    return readable ? CLIENT_ERROR_NONE : CLIENT_ERROR_SECRET_UNREADABLE;
}

static enum err start(struct agent *agent, const struct store_member *member,
                      const struct store_client *client, bool claimed) {
    struct client_config *config = NULL;
    struct client_faults faults;
    char message[MESSAGE_LEN];
    enum err read =
        client_config_parse_text(client->config, client->config_len, client->id, &config, &faults);
    if (read == ERR_MEMORY) {
        return read; /* no fault of its own: the next comparison starts it */
    }
    if (read != ERR_OK) {
        snprintf(message, sizeof(message), "%s: %s", faults.items[0].pointer,
                 faults.items[0].detail);
        return give_back(agent, member, client, CLIENT_ERROR_BAD_CONFIG, message);
    }
    enum client_error error = find_fault(agent, config, message);
    if (error != CLIENT_ERROR_NONE) {
        client_config_destroy(config);
        return give_back(agent, member, client, error, message);
    }
    enum err (*to_hosts)(struct hosts *, struct client_config *, const char *, int64_t, int64_t) =
        claimed ? hosts_start_claimed : hosts_start;
    enum err result = to_hosts(agent->wiring.hosts, config, member->incarnation,
                               client->owner.epoch, client->version);
    /* Fenced meanwhile: what was claimed is reaped with everything else. */
    return result == ERR_WRONG_STATE ? ERR_OK : result;
}

enum err agent_start(struct agent *agent, const struct store_member *member,
                     const struct store_client *client) {
    return start(agent, member, client, false);
}

static void judge(struct agent *agent, const struct store_member *member,
                  const struct store_claim_item *item, const struct store_claim_result *result,
                  struct agent_claim_answer *answer) {
    enum err deferred;
    switch (result->outcome) {
    case STORE_CLAIMED:
        /* What could not be started, for want of room or because it may have been given up again
         * while this thread slept, is started by the next comparison if it is still assigned. */
        answer->claimed += start(agent, member, &result->client, true) == ERR_OK;
        break;
    case STORE_CLAIM_FULL:
        answer->full = true;
        break;
    case STORE_CLAIM_IDENTITY:
        deferred = store_defer(agent->wiring.store, item->id, IDENTITY_DELAY_MS,
                               client_error_code(CLIENT_ERROR_IDENTITY_TAKEN),
                               client_error_text(CLIENT_ERROR_IDENTITY_TAKEN), NULL);
        (void)deferred; /* it will be found again */
        break;
    case STORE_CLAIM_GONE:
    case STORE_CLAIM_LATER:
        break;
    }
}

static bool is_troubled(struct agent *agent) {
    struct sink_status status;
    sink_status(agent->wiring.sink, &status);
    return status.failing_ms >= SINK_TROUBLE_MS;
}

enum err agent_claim(struct agent *agent, const struct store_claim_item *items, size_t n,
                     bool anyway, struct agent_claim_answer *answer) {
    *answer = (struct agent_claim_answer){0};
    if (!anyway && is_troubled(agent)) {
        answer->troubled = true;
        return ERR_OK;
    }
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
