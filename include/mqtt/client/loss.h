/* Finds out why an established connection ended without a reason: from the facts at the loss and,
 * just before the next attempt, from the losses of other clients. The first explanation that
 * applies is the verdict. Other explanations have no effect. Pure; any thread. */
#ifndef MQFLEET_CLIENT_LOSS_H
#define MQFLEET_CLIENT_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(symbol, name), in the order in which they are considered. */
#define LOSS_VERDICT_TABLE(X)                                                                      \
    X(LOSS_BY_BROKER, "broker")               /* it was unavailable, or lost all its clients */    \
    X(LOSS_BY_SUBSCRIPTIONS, "subscriptions") /* filters were requested, without SUBACK */         \
    X(LOSS_BY_PUBLICATIONS, "publications")   /* publications were not acknowledged */             \
    X(LOSS_BY_AGE, "age")     /* the broker ends all connections at a steady age */                \
    X(LOSS_BY_RIVAL, "rival") /* no other explanation: another client may use the identifier */    \
    X(LOSS_UNEXPLAINED, "unexplained") /* the connection had lasted */

enum loss_verdict {
#define LOSS_VERDICT_SYMBOL(symbol, name) symbol,
    LOSS_VERDICT_TABLE(LOSS_VERDICT_SYMBOL)
#undef LOSS_VERDICT_SYMBOL
        LOSS_VERDICT_COUNT
};

struct loss_facts {
    /* At the loss. */
    int64_t lost_at_ms;        /* monotonic */
    int64_t age_ms;            /* of the connection, since CONNACK */
    int64_t retry_wait_ms;     /* from the judgement to the next attempt */
    uint64_t window;           /* of the broker's loss_watch */
    bool early;                /* online for less than stable_ms, while the lease was valid */
    bool subscribing;          /* `blame` is set */
    uint8_t blame;             /* enum client_blame */
    bool publications_pending; /* see struct engine_suspects */
    bool publications_by_reason_code;
    int check_fd;        /* see worker_check_broker: a socket; -1: none */
    int64_t judge_in_ms; /* from the end of the check to the judgement */
    bool refused;        /* according to the check, the broker was unavailable */
    /* Just before the next attempt. */
    bool broker_unreachable; /* or all its other clients were lost within a second */
    bool steady_age;         /* see LOSS_BY_AGE */
};

enum loss_verdict loss_judge(const struct loss_facts *facts);
/* The same for a DISCONNECT whose reason code may refer to one packet: judged immediately, whatever
 * happens to the broker. LOSS_UNEXPLAINED: it does not refer to one. */
enum loss_verdict loss_judge_disconnect(const struct loss_facts *facts, int reason_code);
const char *loss_verdict_name(enum loss_verdict verdict);

/* ---- other clients that were lost ---- */

/* Distinguishes a client that the broker disconnects from a broker that becomes unavailable: counts
 * losses in windows of a second. */
struct loss_watch {
    int64_t window_at_ms;
    uint64_t window; /* number of the current one */
    uint64_t client; /* the last one; repeated losses of one client count once */
    size_t losses, online_before;
    uint64_t mass_windows; /* bit n: many were lost at once in window - n */
};

/* Records a loss. online_before: number of clients that were online at this broker before it.
 * Returns the window for later queries. */
uint64_t loss_watch_note(struct loss_watch *watch, uint64_t client, int64_t now_ms,
                         size_t online_before);
/* Whether a tenth or more of all clients (at least two) were lost in that window, or the window is
 * too old. */
bool loss_watch_was_mass(const struct loss_watch *watch, uint64_t window);

/* ---- ages of lost connections ---- */

#define LOSS_AGES_MAX 32

struct loss_ages { /* of the last connections that a broker ended */
    struct loss_age {
        uint64_t client;
        int64_t age_ms, at_ms;
    } rows[LOSS_AGES_MAX];
    size_t count, next;
};

void loss_ages_note(struct loss_ages *ages, uint64_t client, int64_t age_ms, int64_t at_ms);
/* Whether connections of several clients end at about this age, not all at one time, and hardly any
 * at another age. */
bool loss_ages_steady(const struct loss_ages *ages, int64_t age_ms);

#endif
