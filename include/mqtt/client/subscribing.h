/* What a client's broker takes of its filters: which are to be asked for next, how many at once,
 * and what the end of a connection says about those that were asked for. Pure: who calls has the
 * host's lock, because what is known of a filter is shown.
 *
 * The specification lets a broker refuse a filter in SUBACK. Many close the connection instead: at
 * too many filters in a packet, at too many on a connection, at a single one. So what was asked for
 * when a connection ended is asked for in halves on the next ones, first of all; what proves to be
 * good alone is asked for as before. One filter that ended two connections by itself is refused,
 * and from then on asked for last, when the client is online, ever more seldom. */
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
    FILTER_DONE = 1,             /* needs not be asked for on this connection any more */
    FILTER_HELD = 2,             /* the broker has granted it in this session, to this process */
    FILTER_PENDING = 4,          /* in doubt: it was asked for, and no SUBACK has come */
    FILTER_SUSPECT = 8,          /* was in doubt when a connection ended */
    FILTER_CHARGED = 16,         /* and alone, once */
    FILTER_ENDS_CONNECTION = 32, /* twice: it is refused */
    FILTER_SURPLUS = 64,         /* beyond what the broker takes on a connection */
    FILTER_DEFERRED = 128,       /* not tried any more before the client is online */
};

struct subscribing_filter { /* there is one per subscription of every client */
    uint8_t granted;        /* QoS, a reason code of 0x80 and above, or GRANTED_... */
    uint8_t flags;          /* enum filter_flag */
    uint16_t packet_max;    /* filters in a packet with this one; 0: any number */
};

struct subscribing_learned {
    uint16_t packet_max;    /* filters in any packet; 0: as it is set */
    uint16_t packet_before; /* the same before the present doubts */
    uint16_t packet_good;   /* the largest packet that was acknowledged */
    uint16_t total_good;    /* the most filters that the broker ever held */
    uint16_t total_bad; /* so many end a connection, although each alone is good; 0: not known */
    uint16_t losses;    /* since all that could be asked for was */
    uint16_t turn;      /* the refused filter that was last tried */
    uint8_t unsubscribes_lost; /* connections that ended while filters were unsubscribed */
    uint8_t streak;            /* filters that ended a connection alone, none acknowledged since */
    uint8_t deferred_tries;    /* of LATE ones in vain */
    uint8_t retry_tries;       /* of those refused for the moment */
    bool deferred_now;         /* it is their turn */
    bool on_trial; /* a refused filter was granted; whether the broker means it is awaited */
    int64_t deferred_at_ms, retry_at_ms, trial_ends_at_ms; /* monotonic; 0: nothing to come */
    int64_t refused_at_ms; /* monotonic; of the last SUBACK that refused; 0: none did on this
                            * connection */
};

struct subscribing {
    struct subscribing_filter *filters;
    struct subscribing_learned *learned; /* NULL: there never was any */
};

enum err subscribing_init(struct subscribing *subscribing,
                          const struct client_config *config) MUST_CHECK;
void subscribing_fini(struct subscribing *subscribing);
/* What is known of filters that stay as they are is kept. */
enum err subscribing_change(struct subscribing *subscribing, const struct client_config *from,
                            const struct client_config *to) MUST_CHECK;

/* CONNACK. skip: what the session holds needs not be asked for. */
void subscribing_connected(struct subscribing *subscribing, size_t count, bool session_present,
                           bool skip);
/* Nobody knows any more what the session holds. */
void subscribing_forget_session(struct subscribing *subscribing, size_t count);
/* Another broker, or another user there: all that was learnt is forgotten. */
void subscribing_reset(struct subscribing *subscribing, size_t count);

struct subscribing_rules {
    size_t packet_max;                  /* filters in a packet, as it is set */
    int version;                        /* of the protocol */
    int64_t retry_ms_min, retry_ms_max; /* bounds between tries of filters refused for the moment */
    int64_t deferred_ms_min, deferred_ms_max; /* of filters that end the connection */
};

/* The next to be asked for in one packet, of the same identifier; 0: no more. `out` has room for
 * packet_max. */
size_t subscribing_next(struct subscribing *subscribing, const struct client_config *config,
                        const struct subscribing_rules *rules, uint16_t *out);
void subscribing_asked(struct subscribing *subscribing, const uint16_t *filters, size_t n);
/* SUBACK: all that were asked for together, in order. place: in the configuration of now, or
 * negative where it is not any more. */
void subscribing_acknowledged(struct subscribing *subscribing, size_t count, const int32_t *places,
                              const uint8_t *codes, size_t n, int64_t now_ms);
/* It alone does not fit into a packet on this connection. */
void subscribing_refuse_too_long(struct subscribing *subscribing, size_t filter);
/* All that can be asked for was: the client is as good as it gets. */
void subscribing_complete(struct subscribing *subscribing, size_t count);

/* The connection has ended and the filters that were in doubt are the cause. False: none was, or
 * memory ran out. */
bool subscribing_blame(struct subscribing *subscribing, size_t count,
                       const struct subscribing_rules *rules, int64_t now_ms);
/* Whether a SUBACK had just refused filters at that time: some brokers say so, and close then. */
bool subscribing_was_just_refused(const struct subscribing *subscribing, int64_t now_ms);
/* That is why the connection has ended, and no other filter is in doubt: one that was asked for
 * alone is refused at once, several are asked for in halves. The first of them, and how many; 0:
 * none of them is left. */
size_t subscribing_blame_refused(struct subscribing *subscribing, size_t count,
                                 const struct subscribing_rules *rules, int64_t now_ms, size_t *n);
/* The same for filters that were to be unsubscribed: in ever smaller packets, then not at all. */
bool subscribing_blame_unsubscribe(struct subscribing *subscribing, size_t count,
                                   const struct subscribing_rules *rules);
/* Filters in one UNSUBSCRIBE; 0: none is sent any more. */
size_t subscribing_unsubscribe_max(const struct subscribing *subscribing,
                                   const struct subscribing_rules *rules);
bool subscribing_has_pending(const struct subscribing *subscribing, size_t count);

/* When something is to be tried again on the present connection (monotonic); 0: nothing. Plans it
 * if it is not planned yet. */
int64_t subscribing_due_ms(struct subscribing *subscribing, size_t count,
                           const struct subscribing_rules *rules, int64_t now_ms);
/* The time has come; subscribing_next() tells what. */
void subscribing_retry(struct subscribing *subscribing, size_t count,
                       const struct subscribing_rules *rules, int64_t now_ms);
/* What ended connections is tried as soon as the client is online. */
void subscribing_expedite(struct subscribing *subscribing);

/* Why the broker does not serve a filter; CLIENT_ERROR_NONE: it does, or was not asked yet. */
enum client_error subscribing_refusal(const struct subscribing_filter *filter);
/* Of SUBACK, or what says the same; -1: none yet. */
int subscribing_shown_code(const struct subscribing_filter *filter);
size_t subscribing_refused_count(const struct subscribing *subscribing, size_t count);

#endif
