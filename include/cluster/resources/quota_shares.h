/* Divides the rates of quotas among the nodes: each node with clients of a quota reports once a
 * second what they use, reads what the others report, and takes its share (docs/protocol.md). The
 * agent thread. */
#ifndef MQFLEET_RESOURCES_QUOTA_SHARES_H
#define MQFLEET_RESOURCES_QUOTA_SHARES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cluster/membership/node.h"
#include "message/rate_quota.h"
#include "store/quotas.h"
#include "store/store.h"

#define QUOTA_SHARES_MS        1000
#define QUOTA_SHARES_NODES_MAX 1000 /* further ones are ignored */

/* What a node reports of one rate. */
struct quota_demand {
    double use;      /* per second */
    bool limited;    /* there was not enough */
    int64_t clients; /* its weight among nodes for which there is not enough */
    double share;    /* result */
};

/* Divides a rate. A node that has enough gets a quarter more than it uses, at least a tenth of an
 * equal part; the others divide the rest by their clients. The sum is per_s. Pure; any thread. */
void quota_shares_divide(double per_s, struct quota_demand *nodes, size_t n);

/* The report of a node. NULL: out of memory. */
json_t *quota_shares_report(const struct rate_quota_sample *samples, size_t n);

/* Sums over the nodes of one rate, from their reports. */
struct quota_use_sum {
    int64_t nodes; /* that have clients of the scope */
    double use;
    int64_t allowed, delayed, refused;
};
/* Adds what the report (as stored) says of a rate of the scope. */
void quota_shares_add_use(const json_t *report, const char *scope, enum rate_quota_kind kind,
                          struct quota_use_sum *sum);

struct quota_shares;
/* All are borrowed. NULL: out of memory. */
struct quota_shares *quota_shares_create(struct node *node, struct store *store,
                                         struct rate_quotas *quotas);
void quota_shares_destroy(struct quota_shares *shares); /* NULL is legal */
/* Once in QUOTA_SHARES_MS. Without clients of a quota, Redis is not used. If it does not answer,
 * the shares stay as they are. */
void quota_shares_step(struct quota_shares *shares);

#endif
