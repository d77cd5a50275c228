/* Reads the other nodes, and chooses one for a client that leaves. The agent thread. */
#include "cluster/placement/destinations.h"

#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "cluster/membership/agent_internal.h"

void destinations_fini(struct destinations *destinations) {
    store_nodes_free(destinations->registered, destinations->registered_count);
    free(destinations->eligible);
    placement_routes_fini(&destinations->routes);
    *destinations = (struct destinations){0};
}

static size_t destinations_find(const struct destinations *destinations, const char *name) {
    for (size_t i = 0; i < destinations->eligible_count; i++) {
        if (strcmp(destinations->eligible[i].name, name) == 0) {
            return i;
        }
    }
    return PLACEMENT_NOWHERE;
}

static enum err destinations_read(struct destinations *destinations, struct agent *agent) {
    const struct agent_wiring *wiring = &agent->wiring;
    enum err err = store_nodes(wiring->store, wiring->conf->heartbeat_ttl_ms,
                               &destinations->registered, &destinations->registered_count, NULL);
    if (err == ERR_OK) {
        err = store_counts(wiring->store, &destinations->counts);
    }
    if (err != ERR_OK) {
        return err;
    }
    destinations->eligible =
        calloc(destinations->registered_count + 1, sizeof *destinations->eligible);
    if (!destinations->eligible) {
        return ERR_MEMORY;
    }
    destinations->eligible_count = placement_eligible_nodes(
        destinations->registered, destinations->registered_count, destinations->eligible);
    destinations->own = destinations_find(destinations, node_name(wiring->node));
    placement_routes_init(&destinations->routes, wiring->sinks, destinations->eligible,
                          destinations->eligible_count);
    return ERR_OK;
}

enum err destinations_refresh(struct destinations *destinations, struct agent *agent,
                              int64_t age_ms_max) {
    int64_t now_ms = clock_ms();
    if (destinations->read_ms != 0 && now_ms - destinations->read_ms < age_ms_max) {
        return ERR_OK;
    }
    destinations_fini(destinations);
    enum err err = destinations_read(destinations, agent);
    if (err != ERR_OK) {
        destinations_fini(destinations);
        return err;
    }
    destinations->read_ms = now_ms;
    return ERR_OK;
}

int64_t destinations_room(const struct destinations *destinations, struct agent *agent) {
    int64_t room = -destinations->counts.waiting - (int64_t)HASH_COUNT(agent->handovers);
    for (size_t i = 0; i < destinations->eligible_count; i++) {
        const struct placement_node *node = &destinations->eligible[i];
        bool has = i != destinations->own && node->size > node->clients;
        room += has ? node->size - node->clients : 0;
    }
    return room;
}

/* What a node must have to run the client. ERR_NOT_FOUND: it has just stopped. */
static enum err destinations_need(struct agent *agent, const char *id,
                                  const struct placement_routes *routes,
                                  struct placement_need *need) {
    char *text, *identity;
    struct client_config *config = NULL;
    struct client_faults faults;
    enum err err = workers_config(agent->wiring.workers, id, &text, &identity);
    if (err == ERR_OK) {
        err = client_config_parse_text(text, strlen(text), id, &config, &faults);
    }
    if (err == ERR_OK) {
        err = placement_need_of(config, routes, need);
    }
    client_config_destroy(config);
    free(text);
    free(identity);
    return err;
}

/* NULL: out of memory. */
static bool *destinations_excluded(const struct destinations *destinations, const int64_t *quotas) {
    bool *excluded = calloc(destinations->eligible_count + 1, sizeof *excluded);
    for (size_t i = 0; excluded && i < destinations->eligible_count; i++) {
        excluded[i] = i == destinations->own || (quotas && quotas[i] <= 0);
    }
    return excluded;
}

const struct placement_node *destinations_take(struct destinations *destinations,
                                               struct agent *agent, const char *id,
                                               const int64_t *quotas, enum placement_wait *wait) {
    struct placement_need need;
    enum placement_wait ignored;
    wait = wait ? wait : &ignored;
    *wait = PLACEMENT_SOON;
    enum err err = destinations_need(agent, id, &destinations->routes, &need);
    if (err != ERR_OK) {
        *wait = err == ERR_ARGUMENT ? PLACEMENT_BAD_CONFIG : PLACEMENT_SOON;
        return NULL;
    }
    bool *excluded = destinations_excluded(destinations, quotas);
    size_t at = excluded ? placement_choose(destinations->eligible, destinations->eligible_count,
                                            &need, excluded)
                         : PLACEMENT_NOWHERE;
    free(excluded);
    if (quotas && at != PLACEMENT_NOWHERE &&
        placement_sink_is_failing(&destinations->eligible[at], &need)) {
        at = PLACEMENT_NOWHERE; /* nothing forces the client to move there */
    }
    if (at == PLACEMENT_NOWHERE) {
        *wait = placement_wait_reason(destinations->eligible, destinations->eligible_count, &need);
    }
    placement_need_fini(&need);
    if (at == PLACEMENT_NOWHERE) {
        return NULL;
    }
    destinations->eligible[at].clients++;
    return &destinations->eligible[at];
}
