/* The record of one client on one host. The host thread owns it; the fields marked "shown" are
 * written by the host thread under the host's lock and may be read by any thread under it. */
#ifndef MQFLEET_CLIENT_CLIENT_H
#define MQFLEET_CLIENT_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uthash.h>
#include "base/err.h"
#include "mqtt/broker/address_list.h"
#include "mqtt/broker/broker.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"
#include "mqtt/client/client_state.h"
#include "mqtt/engine.h"
#include "mqtt/workers/workers.h"
#include "mqtt/client/loss.h"
#include "mqtt/broker/connect_limiter.h"
#include "mqtt/client/publish_throttle.h"
#include "mqtt/broker/resolver.h"
#include "mqtt/client/subscribing.h"
#include "mqtt/config/subscriptions.h"
#include "mqtt/client/timers.h"

struct worker;

/* A configuration that the record, a queued command and an open connection may hold at once. */
struct shared_config {
    atomic_uint references;
    bool is_view; /* of shared_config_at() */
    struct client_config *config;
};

/* The configuration as it is for one of its urls. Holds `base`. NULL: out of memory. */
struct shared_config *shared_config_at(struct shared_config *base, size_t url_index);
/* What it is a view of; NULL: it is none. Borrowed. */
const struct shared_config *shared_config_base(const struct shared_config *shared);
/* Takes ownership of config; NULL: out of memory, config is not freed. */
struct shared_config *shared_config_create(struct client_config *config);
struct shared_config *shared_config_hold(struct shared_config *shared); /* NULL stays NULL */
void shared_config_release(struct shared_config *shared);               /* NULL is legal */

struct client_stop { /* who waits for the end */
    workers_done *done;
    void *context;
    struct client_stop *next;
};

/* What still has to be said to the broker so that the session has the wanted subscriptions. */
struct subscribe_work {
    struct shared_config *from, *to; /* from NULL: a connection of which nothing is known */
    struct shared_config *asked_of;
    struct subscriptions_gone gone; /* borrows from the first two */
    size_t unsubscribed;            /* of these, done */
    size_t kept;                    /* of these, not taken out of the session */
    const char *first_kept;         /* one of these */
    enum client_error kept_why;
    size_t in_flight;                      /* filters of the packet under way */
    bool unsubscribing;                    /* it is an UNSUBSCRIBE */
    uint16_t asked[SUBSCRIBE_FILTERS_MAX]; /* else: places in `asked_of` */
};

/* What of a client's filters has ended a connection, it seems. */
enum client_blame {
    BLAME_NOTHING,
    BLAME_UNSUBSCRIBE, /* was under way */
    BLAME_ASKED,       /* those that were asked for, without SUBACK */
    BLAME_UNFIT,       /* the same: a SUBACK came that did not fit them */
    BLAME_REFUSED,     /* those that a SUBACK had just refused */
};

struct client_start {
    struct shared_config *config;
    int64_t epoch, version;
    uint64_t generation;
};
void client_start_destroy(struct client_start *start); /* NULL is legal */

struct client_lookup {
    struct resolver_request request;
    struct client *client;
    bool answered; /* linked in host->resolved, under host->resolved_lock */
    struct client_lookup *prev, *next;
};

struct client_change_entry { /* packed: every client keeps several */
    const char *reason;      /* interned */
    uint64_t at_ms : 48;
    uint64_t from : 8, to : 8; /* enum client_state */
};

/* Tens of thousands of these: members that are small lie beside each other. */
struct client {
    struct worker *worker;
    char *id;
    uint64_t record;     /* number of this record: an id may come again */
    uint64_t generation; /* of workers_stop_all: older ones are dropped */
    UT_hash_handle hh;

    /* Shown. */
    enum client_state state;
    uint32_t publication_count; /* outstanding; counted up by workers_publish, under the lock too */
    struct shared_config *config;
    int64_t epoch, version;
    int64_t since_ms;
    enum client_error error; /* the last one */
    uint32_t times_online;
    char *error_message; /* NULL: the error's own text */
    int64_t error_at_ms, next_retry_at_ms, connected_at_ms;
    int64_t certificate_expires_at_ms;   /* of the broker, wall clock; 0: no TLS, or not known */
    struct subscribing subscribing;      /* of the subscriptions of config */
    struct client_change_entry *changes; /* a ring once CLIENT_CHANGES_MAX are there */
    uint16_t change_count, change_capacity, change_first;
    bool session_present; /* by the last CONNACK */
    bool degraded;        /* the broker refuses one of the subscriptions */
    bool kept_reported;   /* filters that it does not unsubscribe were told of; host thread only */

    /* Any thread. */
    _Atomic int64_t messages_in, messages_out, bytes_in, bytes_out, messages_dropped;
    _Atomic int64_t heard_at_ms; /* monotonic; the last message or answer of the broker */
    _Atomic(const char *) sink;  /* as the configuration says, interned; NULL: the default */

    /* Host thread only. */
    uint8_t state_before; /* CLOSING */
    bool closing;         /* `connection` was told to close; its closed event is still to come */
    bool session_kept;    /* the broker was left with a session, and is to have it still */
    bool stable_reported; /* of this connection */
    uint8_t blame; /* enum client_blame, of the last loss; carried out when the broker is alive */
    bool unsubscribing;       /* an UNSUBSCRIBE is, or was when the connection ended, under way */
    uint8_t blame_clears;     /* in a row of that blame, because the broker was away */
    bool release_requested;   /* parked: opens nothing until told */
    bool untried;             /* not tried since it began, or was told to try anew */
    bool last_loss_suspected; /* the last loss counted whole towards `suspicion` */
    uint8_t workarounds;      /* of its connections, enum engine_workaround; of all its urls */
    uint8_t url_index;        /* of several brokers */
    uint8_t urls_failed;      /* so many of them in this round */
    uint8_t url_lost;         /* the one at which the last connection was lost */
    uint16_t server_keepalive_s; /* as the broker asked for, for the next open; 0: it did not */
    unsigned failures;           /* since a connection was last stable */
    unsigned suspicion;          /* of a second holder of its identifier */
    struct timer timer;
    struct broker *broker; /* changed under the lock: shown */
    struct connect_limiter_ticket ticket;
    struct client_lookup *lookup;
    /* Of a broker with several addresses. */
    struct address_list *tried;     /* what `connection` was given, until CONNACK; else NULL */
    struct address_list *failed;    /* at these TCP was no more than a beginning, since CONNACK last
                                     * came; they are tried last. NULL: none */
    struct engine_session *session; /* beyond connections; the engine's */
    struct shared_config *session_of; /* what it was last used with */
    struct engine_connection *connection;
    struct shared_config *opened;  /* what `connection` was opened with */
    struct shared_config *applied; /* whose subscriptions the session has or is getting */
    struct subscribe_work *work;
    int64_t offline_since_ms;                /* monotonic */
    int64_t opened_at_ms;                    /* monotonic; when the connection was last opened */
    int64_t connack_at_ms;                   /* monotonic; 0: none since the last open */
    struct loss_facts *loss;                 /* to be judged before the next try; NULL: nothing */
    int64_t release_delay_ms;                /* as asked for */
    struct worker_publication *publications; /* of which the engine owes the published event */
    struct publish_throttle *throttle;       /* shown; NULL: nothing is slowed down */
    struct engine_suspects *suspects;        /* of `loss` */
    struct client_stop *stops;
    struct client_start *next; /* to start again with once closed; NULL: nothing */
};

/* In state CLOSED. Takes a reference of config. NULL: out of memory. */
struct client *client_create(struct worker *worker, struct shared_config *config);
void client_destroy(struct client *client);
/* The same for each record of one id; not 0. Once it is in its host's table. */
uint64_t client_number(const struct client *client);

/* The following need the host's lock. */
void client_record_change(struct client *client, enum client_state to, const char *reason);
/* message NULL: the error's own text. */
void client_note_error(struct client *client, enum client_error error, const char *message);
/* Swaps the configuration and carries over what was granted for filters that stay as they were. */
enum err client_replace_config(struct client *client, struct shared_config *config) MUST_CHECK;
const char *client_last_reason(const struct client *client); /* "" none */
enum err client_copy_status(const struct client *client, struct client_status *out) MUST_CHECK;
size_t client_copy_changes(const struct client *client,
                           struct client_change out[CLIENT_CHANGES_MAX]);

/* Whether the connection of one can serve the other: all but subscriptions, labels, sink, desired
 * and reconnect bounds is equal. */
bool client_config_same_connection(const struct client_config *a, const struct client_config *b);
bool client_config_same_subscriptions(const struct client_config *a, const struct client_config *b);

#endif
