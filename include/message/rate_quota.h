/* Rates that all clients with one label share in the whole fleet: connects, received messages,
 * publications of the API. This node enforces its share of each rate;
 * cluster/resources/quota_shares.c divides the rates among the nodes. A client counts for at most
 * one quota: all have the same label.
 *
 * Any thread, unless a comment says otherwise. A quota is used without a lock; the registry has
 * one, which is held briefly. */
#ifndef MQFLEET_MESSAGE_RATE_QUOTA_H
#define MQFLEET_MESSAGE_RATE_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/message_origin.h"

/* X(symbol, name): the name is the field of the API. */
#define RATE_QUOTA_TABLE(X)                                                                        \
    X(RATE_CONNECTS, "connects_per_s")                                                             \
    X(RATE_MESSAGES, "messages_per_s")                                                             \
    X(RATE_PUBLICATIONS, "publications_per_s")

enum rate_quota_kind {
#define RATE_QUOTA_SYMBOL(symbol, name) symbol,
    RATE_QUOTA_TABLE(RATE_QUOTA_SYMBOL)
#undef RATE_QUOTA_SYMBOL
        RATE_QUOTA_COUNT
};
const char *rate_quota_name(enum rate_quota_kind kind);

#define RATE_QUOTA_MAX 1000000 /* per second */

struct rate_quota;  /* of one value of the label */
struct rate_quotas; /* of a node */

/* One quota of the fleet. */
struct rate_quota_row {
    const char *value;                /* of the label */
    const char *scope;                /* the quota's name for users */
    uint32_t per_s[RATE_QUOTA_COUNT]; /* of the whole fleet; 0: no limit */
};

struct rate_quotas *rate_quotas_create(void); /* NULL: out of memory */
/* After the last release. NULL is legal. */
void rate_quotas_destroy(struct rate_quotas *quotas);
/* Replaces the quotas. One that stays keeps its buckets and counters. A new one begins with an
 * equal part of the rate: nodes, at least 1. Clients must take their quotas again. False: out of
 * memory, nothing has changed. */
bool rate_quotas_apply(struct rate_quotas *quotas, const char *label,
                       const struct rate_quota_row *rows, size_t n, size_t nodes);
/* The quota with a rate for which a client with these labels counts; NULL: none. Counts the client:
 * the caller releases it. */
struct rate_quota *rate_quotas_take(struct rate_quotas *quotas, const struct message_label *labels,
                                    size_t count);
/* Whether rate_quotas_take would search at all. Does not lock. */
bool rate_quotas_exist(const struct rate_quotas *quotas);
struct rate_quota *rate_quota_retain(struct rate_quota *quota); /* NULL stays NULL */
/* The memory stays valid until rate_quotas_destroy, for threads that still use it. NULL is legal.
 */
void rate_quota_release(struct rate_quota *quota);

/* ---- use ---- */

/* Until one more may pass; 0: now, also without that limit. */
int64_t rate_quota_wait_ns(const struct rate_quota *quota, enum rate_quota_kind kind,
                           int64_t now_ns);
/* When someone who has to wait should look again: the more clients share the quota, the later, so
 * that their looking costs a bounded part of a core; but soon enough that each sample knows of
 * them. 0: now. */
int64_t rate_quota_look_again_ns(const struct rate_quota *quota, enum rate_quota_kind kind,
                                 int64_t now_ns);
/* How many may pass now, at most `most`. */
size_t rate_quota_room(const struct rate_quota *quota, enum rate_quota_kind kind, int64_t now_ns,
                       size_t most);
/* One passes, if there is room. */
bool rate_quota_take(struct rate_quota *quota, enum rate_quota_kind kind, int64_t now_ns);
/* One has passed that found room before. If others were faster, the next ones wait longer. */
void rate_quota_charge(struct rate_quota *quota, enum rate_quota_kind kind, int64_t now_ns);
/* One found no room: it waits, or it was refused or dropped. */
void rate_quota_note_delayed(struct rate_quota *quota, enum rate_quota_kind kind);
void rate_quota_note_refused(struct rate_quota *quota, enum rate_quota_kind kind);
/* Some still wait; they were counted. */
void rate_quota_note_waiting(struct rate_quota *quota, enum rate_quota_kind kind);
/* The name for users, and the rate of the whole fleet. The caller has a reference. */
const char *rate_quota_scope(const struct rate_quota *quota);
uint32_t rate_quota_per_s(const struct rate_quota *quota, enum rate_quota_kind kind);

/* ---- shares: one thread ---- */

struct rate_quota_sample {
    char *scope; /* owned */
    size_t clients;
    struct rate_quota_use {
        uint32_t per_s;                    /* of the whole fleet; 0: no limit */
        double use;                        /* passed per second since the last sample */
        bool limited;                      /* some found no room since the last sample */
        double share;                      /* of this node, per second */
        int64_t allowed, delayed, refused; /* since this node started */
    } uses[RATE_QUOTA_COUNT];
};

/* What the clients of this node used since the last call. Quotas without clients here are left out,
 * and begin again with an equal part. nodes: as above. *rows: rate_quota_samples_free. */
enum err rate_quotas_sample(struct rate_quotas *quotas, int64_t now_ns, size_t nodes,
                            struct rate_quota_sample **rows, size_t *n) MUST_CHECK;
void rate_quota_samples_free(struct rate_quota_sample *rows, size_t n);
/* Sets this node's share of a rate. A scope without a quota is ignored. */
void rate_quotas_set_share(struct rate_quotas *quotas, const char *scope, enum rate_quota_kind kind,
                           double share, int64_t now_ns);

#endif
