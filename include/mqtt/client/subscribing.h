/* Decides which of a client's filters to request next and how many at once, and evaluates the end
 * of a connection for the requested filters. Pure: the caller holds the worker's lock, because the
 * state of filters is shown.
 *
 * The specification lets a broker refuse a filter in SUBACK. Many brokers close the connection
 * instead: because of too many filters in a packet, too many on a connection, or a single filter.
 * The filters that were requested when a connection ended are therefore requested in halves on the
 * next connections, before all others. Filters that prove good are then requested as before. A
 * filter that ended two connections by itself is refused. From then on it is requested last, when
 * the client is online, and at increasing intervals. */
#ifndef MQFLEET_CLIENT_SUBSCRIBING_H
#define MQFLEET_CLIENT_SUBSCRIBING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"

#define GRANTED_NONE     0x7F /* no SUBACK yet */
#define GRANTED_TOO_LONG 0x7E /* it alone does not fit into a packet on this connection */

enum filter_flag {
    FILTER_DONE = 1,             /* need not be requested on this connection any more */
    FILTER_HELD = 2,             /* the broker has granted it in this session, to this process */
    FILTER_PENDING = 4,          /* in doubt: requested, no SUBACK received */
    FILTER_SUSPECT = 8,          /* was in doubt when a connection ended */
    FILTER_CHARGED = 16,         /* and alone, once */
    FILTER_ENDS_CONNECTION = 32, /* twice: it is refused */
    FILTER_SURPLUS = 64,         /* exceeds the number that the broker accepts on a connection */
    FILTER_DEFERRED = 128,       /* not requested again before the client is online */
};

struct subscribing_filter { /* one per subscription of every client */
    uint8_t granted;        /* QoS, a reason code of 0x80 and above, or GRANTED_... */
    uint8_t flags;          /* enum filter_flag */
    uint16_t packet_max;    /* filters in a packet with this one; 0: no limit */
};

struct subscribing_learned {
    uint16_t packet_max;    /* filters in any packet; 0: the configured number */
    uint16_t packet_before; /* packet_max before the current search */
    uint16_t packet_good;   /* the largest packet that was acknowledged */
    uint16_t total_good;    /* the largest number of filters that the broker has accepted */
    uint16_t total_bad;     /* this number ends a connection, although each filter alone is good; 0:
                               unknown */
    uint16_t losses;        /* since everything that could be requested was */
    uint16_t turn;          /* the refused filter that was requested last */
    uint8_t unsubscribes_lost; /* connections that ended while filters were unsubscribed */
    uint8_t streak;            /* filters that ended a connection alone, none acknowledged since */
    uint8_t deferred_tries;    /* unsuccessful attempts with deferred filters */
    uint8_t retry_tries;       /* tries of temporarily refused filters */
    bool deferred_now;         /* the deferred filters are being requested now */
    bool on_trial; /* a refused filter was granted; the broker may still close the connection */
    int64_t deferred_at_ms, retry_at_ms, trial_ends_at_ms; /* monotonic; 0: not planned */
    int64_t
        refused_at_ms; /* monotonic; the last SUBACK with a refusal; 0: none on this connection */
};

struct subscribing {
    struct subscribing_filter *filters;
    struct subscribing_learned *learned; /* NULL: nothing learned */
};

enum err subscribing_init(struct subscribing *subscribing,
                          const struct client_config *config) MUST_CHECK;
void subscribing_fini(struct subscribing *subscribing);
/* Keeps the state of unchanged filters. */
enum err subscribing_change(struct subscribing *subscribing, const struct client_config *from,
                            const struct client_config *to) MUST_CHECK;

/* CONNACK. skip: filters that the session has are not requested. */
void subscribing_connected(struct subscribing *subscribing, size_t count, bool session_present,
                           bool skip);
/* The filters of the session are no longer known. */
void subscribing_forget_session(struct subscribing *subscribing, size_t count);
/* Another broker, or another user: forgets everything that was learned. */
void subscribing_reset(struct subscribing *subscribing, size_t count);

struct subscribing_rules {
    size_t packet_max;                        /* configured number of filters in a packet */
    int version;                              /* of the protocol */
    int64_t retry_ms_min, retry_ms_max;       /* between tries of temporarily refused filters */
    int64_t deferred_ms_min, deferred_ms_max; /* of filters that end the connection */
};

/* The filters of the next packet, all with the same identifier; 0: no more. `out` has room for
 * packet_max. */
size_t subscribing_next(struct subscribing *subscribing, const struct client_config *config,
                        const struct subscribing_rules *rules, uint16_t *out);
void subscribing_asked(struct subscribing *subscribing, const uint16_t *filters, size_t n);
/* SUBACK for all filters that were requested together, in order. place: in the present
 * configuration; negative: no longer there. */
void subscribing_acknowledged(struct subscribing *subscribing, size_t count, const int32_t *places,
                              const uint8_t *codes, size_t n, int64_t now_ms);
/* It alone does not fit into a packet on this connection. */
void subscribing_refuse_too_long(struct subscribing *subscribing, size_t filter);
/* Whether everything that could be requested was: the client is as complete as possible. */
void subscribing_complete(struct subscribing *subscribing, size_t count);

/* The connection ended because of the filters in doubt. False: there was none, or out of memory. */
bool subscribing_blame(struct subscribing *subscribing, size_t count,
                       const struct subscribing_rules *rules, int64_t now_ms);
/* Whether a SUBACK shortly before that time refused filters: some brokers refuse and then close. */
bool subscribing_was_just_refused(const struct subscribing *subscribing, int64_t now_ms);
/* The connection ended because of these refusals, and no other filter is in doubt. A filter that
 * was requested alone is refused at once; several are requested in halves. Returns how many there
 * are, and the first of them; 0: none is left. */
size_t subscribing_blame_refused(struct subscribing *subscribing, size_t count,
                                 const struct subscribing_rules *rules, int64_t now_ms, size_t *n);
/* The same for filters to be unsubscribed: in smaller and smaller packets, then not at all. */
bool subscribing_blame_unsubscribe(struct subscribing *subscribing, size_t count,
                                   const struct subscribing_rules *rules);
/* Filters in one UNSUBSCRIBE; 0: none is sent any more. */
size_t subscribing_unsubscribe_max(const struct subscribing *subscribing,
                                   const struct subscribing_rules *rules);
bool subscribing_has_pending(const struct subscribing *subscribing, size_t count);

/* When something will be tried again on the present connection (monotonic); 0: nothing. Plans it if
 * necessary. */
int64_t subscribing_due_ms(struct subscribing *subscribing, size_t count,
                           const struct subscribing_rules *rules, int64_t now_ms);
/* The time has come: subscribing_next() returns the filters to request. */
void subscribing_retry(struct subscribing *subscribing, size_t count,
                       const struct subscribing_rules *rules, int64_t now_ms);
/* Filters that ended connections are tried as soon as the client is online. */
void subscribing_expedite(struct subscribing *subscribing);

/* Why the broker does not serve a filter; CLIENT_ERROR_NONE: it does, or was not asked yet. */
enum client_error subscribing_refusal(const struct subscribing_filter *filter);
/* The reason code of SUBACK, or its equivalent; -1: none yet. */
int subscribing_shown_code(const struct subscribing_filter *filter);
size_t subscribing_refused_count(const struct subscribing *subscribing, size_t count);

#endif
