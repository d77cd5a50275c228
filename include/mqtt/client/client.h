/* The record of one client on one worker. The worker thread owns it. The worker thread writes the
 * fields marked "shown" under the worker's lock; any thread may read them under it. */
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
#include "mqtt/client/client_history.h"
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

/* A configuration shared by the record, a queued command and an open connection. */
struct shared_config {
    atomic_uint references;
    bool is_view; /* of shared_config_at() */
    struct client_config *config;
};

/* The configuration for one of its urls. Holds `base`. NULL: out of memory. */
struct shared_config *shared_config_at(struct shared_config *base, size_t url_index);
/* The base of a view; NULL: it is not a view. Borrowed. */
const struct shared_config *shared_config_base(const struct shared_config *shared);
/* Takes ownership of config; NULL: out of memory, config is not freed. */
struct shared_config *shared_config_create(struct client_config *config);
struct shared_config *shared_config_hold(struct shared_config *shared); /* NULL stays NULL */
void shared_config_release(struct shared_config *shared);               /* NULL is legal */

struct client_stop { /* the callers that wait for the end */
    workers_done *done;
    void *context;
    struct client_stop *next;
};

/* The changes that must still be requested from the broker until the session has the wanted
 * subscriptions.
 */
struct subscribe_work {
    struct shared_config *from, *to; /* from NULL: a new connection */
    struct shared_config *asked_of;
    struct subscriptions_removed removed; /* borrows from the first two */
    size_t unsubscribed;                  /* of `removed`, finished */
    size_t kept;                          /* of `removed`, still in the session */
    const char *first_kept;               /* one of these */
    enum client_error kept_why;
    size_t in_flight;                      /* filters of the packet in flight */
    bool unsubscribing;                    /* it is an UNSUBSCRIBE */
    bool again;                            /* the connection has had the subscriptions */
    uint16_t asked[SUBSCRIBE_FILTERS_MAX]; /* otherwise: places in `asked_of` */
};

/* Filters that appear to have ended a connection. */
enum client_blame {
    BLAME_NOTHING,
    BLAME_UNSUBSCRIBE, /* an UNSUBSCRIBE was in flight */
    BLAME_ASKED,       /* filters that were requested, without SUBACK */
    BLAME_UNFIT,       /* the same, with a SUBACK that did not match */
    BLAME_REFUSED,     /* filters that a SUBACK had just refused */
};

struct client_start {
    struct shared_config *config;
    int64_t epoch, version;
    uint64_t generation;
    bool is_new; /* the client was deleted meanwhile, and created again */
};
void client_start_destroy(struct client_start *start); /* NULL is legal */

struct client_lookup {
    struct resolver_request request;
    struct client *client;
    bool answered; /* linked in worker->resolved, under worker->resolved_lock */
    struct client_lookup *prev, *next;
};

#define CLIENT_CHANGE_AT_MAX ((UINT64_C(1) << 48) - 1) /* the year 10889 */

struct client_change_entry { /* packed: every client keeps several */
    const char *reason;      /* interned */
    uint64_t at_ms : 48;
    uint64_t from : 4, to : 4; /* enum client_state */
    uint64_t node : 8;         /* client_history_node_number; 0: this one */
};
_Static_assert(CLIENT_STATE_COUNT <= 16, "a state has 4 bits");

/* There are tens of thousands of these: small members are grouped. */
struct client {
    struct worker *worker;
    char *id;
    uint64_t record;     /* number of this record: the same id may be used again */
    uint64_t generation; /* of workers_stop_all: older records are dropped */
    UT_hash_handle hh;

    /* Shown. */
    enum client_state state;
    uint32_t
        publication_count; /* outstanding; incremented by workers_publish too, under the lock */
    struct shared_config *config;
    int64_t epoch, version;
    int64_t since_ms;
    enum client_error error : 16; /* the last one */
    uint16_t saved_mark;          /* client_history_mark when it was saved; 0: it was not */
    uint32_t times_online;
    char *error_message; /* NULL: the error's own text */
    int64_t error_at_ms, next_retry_at_ms;
    int64_t certificate_expires_at_ms;   /* of the broker, wall clock; 0: no TLS, or unknown */
    struct subscribing subscribing;      /* of the subscriptions of config */
    struct client_change_entry *changes; /* a ring once it has CLIENT_CHANGES_MAX entries */
    uint8_t change_count, change_capacity, change_first;
    bool session_present;        /* of the last CONNACK */
    bool degraded : 1;           /* the broker refuses one of the subscriptions */
    bool held_by_quota : 1;      /* while QUEUED; worker_connect.c */
    uint8_t silent : 1;          /* see worker_messages.c */
    uint8_t silence_actions : 7; /* how often the node has acted, up to SILENCE_ACTIONS_MAX */
    uint16_t route_generation;   /* of the router, when `route` was set; worker thread only */

    /* Any thread. */
    struct route route; /* of received messages, from the configuration */
    _Atomic int64_t messages_out, bytes_out;

    /* Worker thread only. */
    bool closing : 1;           /* this node closed `connection`; its closed event is pending */
    bool session_kept : 1;      /* the broker has a session of the client that is still wanted */
    bool kept_reported : 1;     /* filters that it does not unsubscribe were reported */
    bool stable_reported : 1;   /* of this connection */
    bool unsubscribing : 1;     /* an UNSUBSCRIBE is in flight, or was at the connection's end */
    bool release_requested : 1; /* parked: opens nothing until requested */
    bool untried : 1; /* no attempt since the start, or since a new attempt was requested */
    bool last_loss_suspected : 1; /* the last loss counted fully towards `suspicion` */
    uint8_t state_before : 7;     /* CLOSING */
    uint8_t receiving : 1;        /* part of a message has arrived since silence was checked */
    /* enum client_blame of the last loss; takes effect when the broker is reachable */
    uint8_t blame : 7;
    uint8_t in_incident : 1;     /* of its broker, until it is online or fails for another reason */
    uint8_t blame_clears;        /* how often in a row that blame was cleared because the broker was
                                    unavailable */
    uint8_t workarounds;         /* of its connections, enum engine_workaround; for all its urls */
    uint8_t url_index;           /* of several brokers */
    uint8_t urls_failed;         /* how many of them in this round */
    uint8_t url_lost;            /* where the last connection was lost */
    uint16_t server_keepalive_s; /* requested by the broker, for the next open; 0: none */
    uint16_t suspicion;          /* of another client with its identifier */
    unsigned failures;           /* since a connection was last stable */
    uint32_t silence_acted_at_s; /* monotonic; 0: not since the start */
    uint32_t release_delay_ms;   /* as requested */
    struct timer timer;
    struct broker *broker; /* written under the lock: shown */
    struct connect_limiter_ticket ticket;
    struct client_lookup *lookup;
    /* Of a broker with several addresses. */
    struct address_list *tried;  /* the addresses of `connection` until CONNACK; otherwise NULL */
    struct address_list *failed; /* where TCP connected but no CONNACK arrived, since the last
                                    CONNACK; tried last. NULL: none */
    struct engine_session *session;   /* kept between connections; the engine's */
    struct shared_config *session_of; /* the configuration it was last used with */
    struct engine_connection *connection;
    struct shared_config *opened;  /* the configuration of `connection` */
    struct shared_config *applied; /* whose subscriptions the session has or is getting */
    struct subscribe_work *work;
    int64_t offline_since_ms;                /* monotonic */
    int64_t opened_at_ms;                    /* monotonic; the last open */
    int64_t connack_at_ms;                   /* monotonic; 0: none since the last open */
    int64_t last_answer_at_ms;               /* monotonic; of the broker, without messages */
    struct loss_facts *loss;                 /* judged before the next attempt; NULL: nothing */
    struct worker_publication *publications; /* whose published event is pending */
    struct publish_throttle *throttle;       /* shown; NULL: nothing is throttled */
    struct engine_suspects *suspects;        /* of `loss` */
    struct client_stop *stops;
    struct client_start *next; /* the configuration to start with once closed; NULL: none */
};

/* In state CLOSED. Takes a reference to config. NULL: out of memory. */
struct client *client_create(struct worker *worker, struct router *router,
                             struct shared_config *config);
void client_destroy(struct client *client);
/* Whether sinks or routes have changed since its route was set. Worker thread. */
bool client_route_is_outdated(const struct client *client);
/* Sets the route again if it is outdated. False: out of memory, it still is. Worker thread. */
bool client_update_route(struct client *client);
/* Equal for all records of one id; not 0. Valid once the client is in the table of its worker. */
uint64_t client_number(const struct client *client);

/* The following functions require the worker's lock. */
void client_record_change(struct client *client, enum client_state to, const char *reason);
/* message NULL: the error's own text. */
void client_note_error(struct client *client, enum client_error error, const char *message);
/* Replaces the configuration and keeps the granted state of unchanged filters. */
enum err client_replace_config(struct client *client, struct shared_config *config) MUST_CHECK;
const char *client_last_reason(const struct client *client); /* "" none */
enum err client_copy_status(const struct client *client, struct client_status *out) MUST_CHECK;
size_t client_copy_changes(const struct client *client,
                           struct client_change out[CLIENT_CHANGES_MAX]);
void client_copy_history(const struct client *client, struct client_history *out);
/* Continues with what the client did elsewhere. Only for a new record, before it runs. */
void client_restore_history(struct client *client, const struct client_history *history);
/* Its id now belongs to another client, which has done nothing yet. */
void client_forget_history(struct client *client);
/* Its history counts as not saved: Redis may have lost it together with the last epoch. */
static inline void client_take_epoch(struct client *client, int64_t epoch) {
    client->saved_mark = client->epoch == epoch ? client->saved_mark : 0;
    client->epoch = epoch;
}
/* Not 0. Differs, almost certainly, after the client has done anything that its history counts. */
uint16_t client_history_mark(const struct client *client);

/* client_same.c: whether a connection of `a` can serve `b`: everything but subscriptions, labels,
 * sink, limits, desired and reconnect bounds is equal. */
bool client_config_same_connection(const struct client_config *a, const struct client_config *b);
bool client_config_same_subscriptions(const struct client_config *a, const struct client_config *b);

#endif
