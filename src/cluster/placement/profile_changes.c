/* Owns the changes of running clients after a change of their profiles: which clients are still to
 * be changed, and how fast. Clients that start or are assigned get the newest version anyway. Works
 * on struct agent. The agent thread. */
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "cluster/membership/agent_internal.h"
#include "mqtt/config/client_profiles.h"

#define PROFILE_CHANGES_ROWS_MAX 5000 /* listed at once */
#define PROFILE_CHANGES_AGAIN_MS                                                                   \
    1000 /* a client that was changed is listed until it has applied it */

struct profile_changes {
    uint64_t generation; /* the generation of profiles that all running clients have */
    uint64_t listed;     /* the generation for which the list below was made */
    struct workers_client *rows;
    size_t n, next;
    int64_t list_next_ms;
    int64_t refilled_ms;
    int64_t budget_milli; /* thousandths of a client that may be changed now */
    size_t changed;       /* since the table changed */
    _Atomic int64_t pending;
};

struct profile_changes *profile_changes_create(void) {
    return calloc(1, sizeof(struct profile_changes));
}

static void profile_changes_clear(struct profile_changes *changes) {
    workers_list_free(changes->rows, changes->n);
    changes->rows = NULL;
    changes->n = changes->next = 0;
}

void profile_changes_destroy(struct profile_changes *changes) {
    if (changes) {
        profile_changes_clear(changes);
        free(changes);
    }
}

int64_t profile_changes_pending(const struct profile_changes *changes) {
    return atomic_load(&changes->pending);
}

/* This node's part of the rate of the fleet, but at least one client per second. */
static void profile_changes_refill(struct agent *agent, struct profile_changes *changes) {
    size_t nodes = node_fleet_size(agent->wiring.node);
    int64_t share_milli =
        agent->wiring.conf->profile_change_rate * 1000 / (nodes ? (int64_t)nodes : 1);
    share_milli = share_milli < 1000 ? 1000 : share_milli;
    int64_t now_ms = clock_ms(), passed_ms = now_ms - changes->refilled_ms;
    passed_ms = passed_ms > 1000 ? 1000 : passed_ms;
    changes->budget_milli += share_milli * passed_ms / 1000;
    changes->budget_milli =
        changes->budget_milli > share_milli ? share_milli : changes->budget_milli;
    changes->refilled_ms = now_ms;
}

static void profile_changes_list(struct agent *agent, struct profile_changes *changes) {
    size_t all = 0;
    profile_changes_clear(changes);
    changes->listed = client_profiles_generation();
    changes->list_next_ms = clock_ms() + PROFILE_CHANGES_AGAIN_MS;
    enum err err = workers_list_outdated(agent->wiring.workers, PROFILE_CHANGES_ROWS_MAX,
                                         &changes->rows, &changes->n, &all);
    atomic_store(&changes->pending, (int64_t)all);
    if (err != ERR_OK || all > 0) {
        return;
    }
    if (changes->changed > 0) {
        log_event(LOG_INFO, "profiles_applied", KI("clients", changes->changed));
    }
    changes->changed = 0;
    changes->generation = changes->listed;
}

/* Without a reconnect where the changed fields need none; the worker decides. A client that cannot
 * run with its profile any more is given back, with the reason. */
static enum err profile_changes_apply(struct agent *agent, const struct store_member *member,
                                      const char *id) {
    struct workers_client running = {.id = (char *)id};
    char *text, *identity;
    if (handover_is_pending(agent, id) ||
        !workers_has_client(agent->wiring.workers, id, &running) ||
        workers_config(agent->wiring.workers, id, &text, &identity) != ERR_OK) {
        return ERR_OK; /* it is listed again if it stays */
    }
    enum err err = agent_start(agent, member,
                               &(struct start_request){.id = id,
                                                       .epoch = running.epoch,
                                                       .version = running.version,
                                                       .config = text,
                                                       .config_len = strlen(text),
                                                       .identity = identity});
    agent->profile_changes->changed += err == ERR_OK;
    free(text);
    free(identity);
    return err;
}

void profile_changes_step(struct agent *agent) {
    struct profile_changes *changes = agent->profile_changes;
    char incarnation[TEXT_ID_LEN];
    if (changes->generation == client_profiles_generation()) {
        return;
    }
    profile_changes_refill(agent, changes);
    if (changes->next == changes->n &&
        (changes->listed != client_profiles_generation() || clock_ms() >= changes->list_next_ms)) {
        profile_changes_list(agent, changes);
    }
    struct store_member member = agent_member(agent, incarnation);
    while (changes->next < changes->n && changes->budget_milli >= 1000 &&
           agent_may_continue(agent)) {
        enum err err = profile_changes_apply(agent, &member, changes->rows[changes->next++].id);
        changes->budget_milli -= 1000;
        if (agent_redis_is_unusable(err)) {
            changes->next = changes->n; /* those that are left are listed again */
        }
    }
}
