/* Starts a client that this node owns, or releases it if it cannot run here. Works on struct agent.
 * The agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/telemetry/log.h"
#include "mqtt/config/client_secrets.h"
#include "cluster/membership/agent_internal.h"
#include "cluster/resources/profile_reader.h"
#include "sink/sinks.h"

#define START_RELEASE_DELAY_MS 10000
#define MESSAGE_LEN            CLIENT_SECRETS_FAULT_LEN

static enum err agent_start_release(struct agent *agent, const struct store_member *member,
                                    const struct start_request *request, enum client_error error,
                                    const char *message) {
    size_t released;
    enum err err = store_release(agent->wiring.store, member,
                                 &(struct store_release_item){.id = request->id,
                                                              .epoch = request->epoch,
                                                              .delay_ms = START_RELEASE_DELAY_MS,
                                                              .code = client_error_code(error),
                                                              .message = message,
                                                              .error = client_error_name(error),
                                                              .failed = true},
                                 1, &released);
    log_event(LOG_WARN, "client_given_back", KS("client", request->id),
              KS("reason", client_error_code(error)), KS("detail", message),
              KS("result", err_name(err)));
    return err;
}

/* Why this node cannot run the client; CLIENT_ERROR_NONE: it can, and the secrets are decrypted. */
static enum client_error agent_start_find_fault(struct agent *agent, struct client_config *config,
                                                char message[MESSAGE_LEN]) {
    if (config->sink && !sinks_has(agent->wiring.sinks, config->sink)) {
        snprintf(message, MESSAGE_LEN, "/sink: this node has no sink %s", config->sink);
        return CLIENT_ERROR_SINK_MISSING;
    }
    bool readable = client_secrets_open(config, agent->wiring.secrets, message) == ERR_OK;
    return readable ? CLIENT_ERROR_NONE : CLIENT_ERROR_SECRET_UNREADABLE;
}

/* Stores the client's current identity, which a change of its profile may have changed. *taken:
 * this identity belongs to another client. */
static enum err agent_start_renew_identity(struct agent *agent, const struct start_request *request,
                                           const struct client_config *config, bool *taken) {
    char *identity = config->profile ? client_config_identity(config) : NULL, *other_id = NULL;
    int64_t version;
    enum err err = identity || !config->profile ? ERR_OK : ERR_MEMORY;
    *taken = false;
    if (identity && request->identity && strcmp(identity, request->identity) != 0) {
        const struct store_configuration present = {.id = request->id,
                                                    .expected_version = request->version,
                                                    .config = request->config,
                                                    .identity = identity};
        err = store_update(agent->wiring.store, &present, &version, &other_id);
        *taken = err == ERR_EXISTS;
    }
    free(other_id);
    free(identity);
    return *taken ? ERR_OK : err;
}

static enum err agent_start_config(struct agent *agent, const struct store_member *member,
                                   const struct start_request *request,
                                   struct client_config *config) {
    char message[MESSAGE_LEN];
    bool taken = false;
    enum err err = ERR_OK;
    enum client_error error = agent_start_find_fault(agent, config, message);
    if (error == CLIENT_ERROR_NONE) {
        err = agent_start_renew_identity(agent, request, config, &taken);
    }
    if (taken) {
        error = CLIENT_ERROR_IDENTITY_TAKEN;
        snprintf(message, sizeof message, "%s", client_error_text(error));
    }
    if (error != CLIENT_ERROR_NONE || err != ERR_OK) {
        client_config_destroy(config);
        return err != ERR_OK ? err : agent_start_release(agent, member, request, error, message);
    }
    err = workers_start(agent->wiring.workers, config,
                        &(struct workers_assignment){.incarnation = member->incarnation,
                                                     .epoch = request->epoch,
                                                     .version = request->version,
                                                     .history = request->history});
    /* Fenced meanwhile: the client is reaped with all others of this node. */
    return err == ERR_WRONG_STATE ? ERR_OK : err;
}

enum err agent_start(struct agent *agent, const struct store_member *member,
                     const struct start_request *request) {
    struct client_config *config = NULL;
    struct client_faults faults;
    char message[MESSAGE_LEN];
    const struct store_client row = {.id = (char *)request->id,
                                     .config = (char *)request->config,
                                     .config_len = request->config_len};
    enum err err = profile_reader_parse(agent->wiring.store, &row, &config, &faults);
    if (err == ERR_OK) {
        return agent_start_config(agent, member, request, config);
    }
    if (err != ERR_ARGUMENT) {
        return err; /* the caller tries again */
    }
    snprintf(message, sizeof(message), "%s: %s", faults.items[0].pointer, faults.items[0].detail);
    return agent_start_release(agent, member, request, CLIENT_ERROR_BAD_CONFIG, message);
}
