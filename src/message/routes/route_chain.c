/* Owns how two lists become one: a sink that both name is that of the fleet's list. */
#include "message/routes/route_chain.h"

#include <string.h>

static size_t route_chain_find(const struct route_table *table, const char *sink) {
    size_t count = table ? route_table_sink_count(table) : 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(route_table_sink(table, i), sink) == 0) {
            return i;
        }
    }
    return ROUTE_SINKS_MAX;
}

void route_chain_init(struct route_chain *chain, const struct route_table *client,
                      const struct route_table *fleet) {
    chain->client = client;
    chain->fleet = fleet;
    for (size_t i = 0; client && i < route_table_sink_count(client); i++) {
        chain->same[i] = (uint8_t)route_chain_find(fleet, route_table_sink(client, i));
    }
}

static void route_chain_skip(struct route_decision *decision) {
    decision->to = decision->also = 0;
    decision->scripted_count = 0;
    decision->to_default = true;
    decision->stopped = false;
}

/* Moves the sinks that both name. */
static void route_chain_move(const struct route_chain *chain, uint64_t *from, uint64_t *to) {
    for (uint64_t bits = *from; bits; bits &= bits - 1) {
        size_t i = (size_t)__builtin_ctzll(bits);
        if (chain->same[i] < ROUTE_SINKS_MAX) {
            *from &= ~(UINT64_C(1) << i);
            *to |= UINT64_C(1) << chain->same[i];
        }
    }
}

static void route_chain_join(const struct route_chain *chain, struct route_chain_decision *out) {
    route_chain_move(chain, &out->client.to, &out->fleet.to);
    route_chain_move(chain, &out->client.also, &out->fleet.also);
    out->fleet.also &= ~out->fleet.to;
}

void route_chain_match(const struct route_chain *chain, struct message_view *view,
                       struct route_chain_decision *out, route_taken *taken, void *context) {
    route_chain_skip(&out->client);
    if (chain->client) {
        route_table_match(chain->client, view, &out->client, taken, context);
    }
    if (chain->fleet && !out->client.stopped) {
        route_table_match(chain->fleet, view, &out->fleet, taken, context);
    } else {
        route_chain_skip(&out->fleet);
    }
    if (chain->client) {
        route_chain_join(chain, out);
    }
    out->to_default = out->client.to_default && out->fleet.to_default;
}
