/* The facade of the mqtt layer: the clients of this node, distributed over its workers. All
 * functions may be called from any thread, and block at most for a lock, unless stated otherwise.
 * Work is passed to the workers in bounded queues. */
#ifndef MQFLEET_WORKERS_WORKERS_H
#define MQFLEET_WORKERS_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "message/router.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"
#include "mqtt/client/client_selector.h"
#include "mqtt/client/client_state.h"
#include "mqtt/engine.h"
#include "mqtt/broker/incident.h"
#include "mqtt/probe/probe.h"
#include "mqtt/client/publish_quota.h"
#include "mqtt/client/publish_throttle.h"

struct workers;

/* A client asks to be released: it cannot come online here, or is in conflict. Its connection is
 * closed; it opens nothing until workers_stop or workers_retry. Strings are borrowed. */
struct workers_release {
    const char *id;
    int64_t epoch;
    int64_t delay_ms;        /* before the next attempt */
    int64_t cooldown_ms_max; /* in conflict: delay_ms doubles each time, up to this. Otherwise 0 */
    enum client_error error;
    const char *message;
};

/* The client's state has changed, possibly without a change of the state that the API shows; or the
 * state is the same and a newer version of its configuration applies. All pointers are borrowed. */
struct workers_change {
    const char *id;
    enum client_state from, to;
    const char *reason;
    int64_t version;               /* of the configuration that applies */
    struct message_origin *origin; /* with the labels; NULL: it has none */
    bool in_incident; /* part of an incident of its broker, which is reported as a whole */
};

/* An event of a client whose state stays as it is. All pointers are borrowed. */
struct workers_notice {
    const char *id;
    const char *code, *message; /* as in its last_error */
    struct message_origin *origin;
};

/* The interface through which workers use the rest of the node. Called on worker threads; must not
 * block. */
struct workers_owner {
    void *context;
    struct router *router; /* to the sinks; NULL only if no worker runs */
    /* Whether a connection may be opened now. */
    bool (*lease_valid)(void *context);
    /* How many nodes share connect_in_flight, this one included; 0: not known. Called often, and
     * must not lock. NULL: this node is alone. */
    size_t (*fleet_size)(void *context);
    void (*wants_release)(void *context, const struct workers_release *release);
    /* The client's connection has lasted stable_ms. May be repeated. */
    void (*stable)(void *context, const char *id);
    /* NULL: not reported. */
    void (*changed)(void *context, const struct workers_change *change);
    /* NULL: not reported. */
    void (*noticed)(void *context, const struct workers_notice *notice);
    /* NULL: not reported. */
    incidents_observer *incident;
};

struct workers *workers_create(const struct conf *conf, const struct workers_owner *owner);
void workers_destroy(struct workers *workers); /* after all runs have returned */
/* The number of threads to start with workers_run; the argument of each is workers_thread(index),
 * index 0..count-1. */
size_t workers_thread_count(const struct workers *workers);
void *workers_thread(struct workers *workers, size_t index);
void *workers_run(void *argument);
/* The body of conf.resolver_threads DNS threads. argument: the workers. */
void *workers_resolver_run(void *argument);
/* Ends the runs. Open connections are closed without DISCONNECT, as if the process had died. */
void workers_stop_threads(struct workers *workers);

/* From now on, clients of this incarnation are accepted; workers_start refuses any other. */
void workers_accept(struct workers *workers, const char *incarnation);

/* A client that this node owns. All borrowed. */
struct workers_assignment {
    const char *incarnation;
    int64_t epoch, version;
    const char
        *history; /* of the client on other nodes, see client_history.h; NULL: none is known */
};
/* Always takes ownership of config. Starts the client, or updates it if it runs: a greater epoch or
 * version, or another version of its profile, replaces the configuration; an older one is ignored.
 * It reconnects only if necessary: if only topics changed, they are subscribed and unsubscribed on
 * the open connection. ERR_WRONG_STATE: incarnation is not the accepted one. ERR_FULL: the queue is
 * full, try again. */
enum err workers_start(struct workers *workers, struct client_config *config,
                       const struct workers_assignment *assignment) MUST_CHECK;

/* Called once, when nothing is open any more. Any thread; must not block. */
typedef void workers_done(void *context);

/* Closes the client with DISCONNECT and forgets it. epoch 0: any. done (NULL: none) is also called
 * if there is nothing to stop. ERR_FULL: not queued, done is not called. */
enum err workers_stop(struct workers *workers, const char *id, int64_t epoch, const char *reason,
                      workers_done *done, void *context) MUST_CHECK;
/* Closes all clients and accepts no start until workers_accept. Waits up to timeout_ms until
 * nothing is open: ERR_OK, or ERR_TIMEOUT (closing continues; call again). Not for worker threads.
 * with_disconnect: DISCONNECT is sent; otherwise sockets are dropped as fast as possible. */
enum err workers_stop_all(struct workers *workers, const char *reason, bool with_disconnect,
                          int64_t timeout_ms) MUST_CHECK;
/* A client that requested its release stays on this node after all: it makes the next attempt after
 * delay_ms. */
enum err workers_retry(struct workers *workers, const char *id, int64_t epoch,
                       int64_t delay_ms) MUST_CHECK;
/* Drops the connection and connects again at once. ERR_NOT_FOUND, ERR_WRONG_STATE (paused),
 * ERR_FULL. */
enum err workers_restart(struct workers *workers, const char *id, const char *reason) MUST_CHECK;

/* result: borrowed during the call. */
typedef void workers_published(void *context, const struct publish_result *result);
/* Copies the publication. ERR_OK: `published` is called once, on a worker thread, within
 * publish_timeout_ms. On other results it is not called: ERR_NOT_FOUND, ERR_REFUSED (see
 * workers_publish_throttled), ERR_BUSY (see workers_publish_busy), ERR_OVER_QUOTA (see
 * workers_publish_over_quota), ERR_ARGUMENT (properties, and the client uses MQTT 3.1.1),
 * ERR_WRONG_STATE (not online), ERR_FULL. */
enum err workers_publish(struct workers *workers, const char *id,
                         const struct engine_publication *publication, workers_published *published,
                         void *context) MUST_CHECK;

/* Why workers_publish returned ERR_REFUSED, if that still applies: publications of this shape ended
 * the connection repeatedly. */
bool workers_publish_throttled(struct workers *workers, const char *id,
                               const struct engine_publication *publication,
                               struct publish_throttled *out);

/* The quota of publications of a client: why workers_publish returned ERR_OVER_QUOTA. */
struct workers_over_quota {
    char *scope;    /* NULL: it has no quota any more; free() */
    uint32_t per_s; /* of the whole fleet */
    int64_t wait_ms;
};
void workers_publish_over_quota(struct workers *workers, const char *id,
                                struct workers_over_quota *out);

/* The resources of the node that the broker of a client uses (publish_quota.h): why workers_publish
 * returned ERR_BUSY. */
struct workers_busy {
    char broker[INCIDENT_BROKER_MAX]; /* "host:port" */
    struct publish_use use;
};
bool workers_publish_busy(struct workers *workers, const char *id, struct workers_busy *out);
/* Counts a publication that another node is asked to send, so that the limit per broker applies to
 * such requests too. ERR_BUSY, ERR_MEMORY; ERR_OK: call publish_share_answered and
 * publish_share_release later. */
enum err workers_publish_remote(struct workers *workers, const char *broker,
                                struct publish_share **out) MUST_CHECK;
struct publish_use workers_publish_use_of(struct workers *workers, const char *broker);
/* Of all brokers. */
struct publish_use workers_publish_use(struct workers *workers);

/* A publication of a client that is not acknowledged yet. */
struct workers_publication {
    char *topic; /* owned */
    size_t payload_len;
    uint8_t qos;
    bool retain;
    bool waited_for; /* its caller waits for the answer */
    int64_t age_ms;
    unsigned tries;    /* how often it was sent */
    unsigned losses;   /* connections that ended because of it */
    const char *state; /* "queued" "sent" "released", static */
};

/* Called on a worker thread; must not block. The callee owns rows (workers_publications_free). */
typedef void workers_publications_answered(void *context, enum err err,
                                           struct workers_publication *rows, size_t n);

/* Lists the pending publications of a client, oldest first. drop: gives them up and lists the
 * dropped ones. ERR_OK: `answered` is called once, perhaps with ERR_NOT_FOUND or ERR_UNAVAILABLE
 * (the workers stop). ERR_NOT_FOUND, ERR_FULL, ERR_MEMORY: it is not called. */
enum err workers_publications(struct workers *workers, const char *id, bool drop,
                              workers_publications_answered *answered, void *context) MUST_CHECK;
void workers_publications_free(struct workers_publication *rows, size_t n);

struct workers_client { /* of workers_list */
    char *id;           /* owned */
    int64_t epoch, version;
    bool closing; /* being stopped */
    enum client_state state;
    bool keeps_session; /* the broker is asked to keep the session when the connection ends */
};
/* Calls `changed` of the owner, with from equal to to, for each client whose state has changed
 * since that wall time or whose version is that recent. */
void workers_report_recent(struct workers *workers, int64_t since_ms);
/* All clients that run or are being stopped. The caller frees with workers_list_free. */
enum err workers_list(struct workers *workers, struct workers_client **rows, size_t *n) MUST_CHECK;
/* Those of them that have an older version of their profile, and are not being stopped: rows_max of
 * them; *all: their number. */
enum err workers_list_outdated(struct workers *workers, size_t rows_max,
                               struct workers_client **rows, size_t *n, size_t *all) MUST_CHECK;
void workers_list_free(struct workers_client *rows, size_t n);
size_t workers_count(struct workers *workers);
/* Whether the client runs and is not being stopped; out->id is not set. */
bool workers_has_client(struct workers *workers, const char *id, struct workers_client *out);
/* The running configuration: a copy of the text it was parsed from (config->source), for restore,
 * and its identity. The caller frees both. */
enum err workers_config(struct workers *workers, const char *id, char **config,
                        char **identity) MUST_CHECK;

/* A client as a selector sees it. Borrowed; valid during the call. */
struct workers_visited {
    struct client_facts facts;
    int64_t since_ms; /* wall clock: last change of its state */
    int64_t version;
};
/* Called with a lock of the mqtt layer held: must be quick, and must not call this layer. */
typedef void workers_visitor(void *context, const struct workers_visited *client);
/* Visits all clients that run and are not being stopped; node: their facts.node. The lock of a
 * worker is released after each few hundred clients. A client that runs during the whole visit is
 * visited once. */
void workers_visit(struct workers *workers, const char *node, workers_visitor *visitor,
                   void *context);

struct client_subscription_status {
    char *filter;
    uint8_t qos;
    int granted; /* granted QoS, or a reason code of 0x80 and above; -1: no SUBACK yet */
    enum client_error
        refusal; /* why the broker does not serve it; NONE: it does, or was not asked */
};

/* A copy of the state of a client on this node. Times: wall clock ms, 0: never. */
struct client_status {
    enum client_state state;
    char *reason; /* of the last change of state */
    int64_t since_ms;
    enum client_error error; /* the last one; CLIENT_ERROR_NONE: none yet */
    char *error_message;
    int64_t error_at_ms;
    int64_t next_retry_at_ms;
    int64_t connected_at_ms;
    char *broker;                      /* "host:port" in use or being tried; NULL: none yet */
    int64_t certificate_expires_at_ms; /* of the broker; 0: no TLS, or not known */
    int64_t last_message_at_ms;        /* since the client runs on this node; 0: none */
    bool degraded;                     /* a subscription is refused */
    bool silent;                       /* see expect_message_within_s */
    bool limited;                      /* its limits hold messages or have just dropped one */
    char *quota_scope;                 /* of the quota that holds it or its messages, or has just
                                          dropped one; NULL: none does */
    enum rate_quota_kind quota;        /* which rate of it */
    struct route_hold holds[ROUTE_HOLDS_MAX]; /* sinks that it waits for */
    size_t hold_count;
    bool session_present; /* at the last CONNACK, while connected: the broker had the session */
    int64_t reconnects, messages_in, messages_out, bytes_in, bytes_out, messages_dropped;
    int64_t dropped[MESSAGE_DROP_COUNT]; /* messages_dropped by reason */
    int64_t epoch, version;
    char *profile; /* NULL: none */
    int64_t profile_version;
    struct client_subscription_status *subscriptions;
    size_t subscription_count;
};
enum err workers_status(struct workers *workers, const char *id,
                        struct client_status *out) MUST_CHECK;
void client_status_fini(struct client_status *status);

#define CLIENT_CHANGES_MAX 32

struct client_change {
    int64_t at_ms; /* wall clock */
    enum client_state from, to;
    char reason[96];
    char node[128]; /* where it happened, cut; "": on this node */
};
/* The text to continue with on another node (client_history.h), owned. NULL: there is no such
 * client, or memory ran out. */
char *workers_history(struct workers *workers, const char *id);

/* A client whose history differs from that which was last saved. */
struct workers_unsaved {
    char *id, *history; /* owned */
    int64_t epoch;
    uint16_t mark; /* for workers_mark_saved */
};
/* Lists rows_max of them, beginning with the client at *from in the list of all; then *from is
 * where to go on, 0 after the last client. workers_unsaved_free. ERR_MEMORY: fewer. */
enum err workers_list_unsaved(struct workers *workers, size_t *from, size_t rows_max,
                              struct workers_unsaved **rows, size_t *n) MUST_CHECK;
void workers_unsaved_free(struct workers_unsaved *rows, size_t n);
void workers_mark_saved(struct workers *workers, const struct workers_unsaved *row);
/* Redis may have lost what was saved: all clients count as changed. */
void workers_forget_saved(struct workers *workers);

/* The last changes, also those on earlier nodes, oldest first; *n at most CLIENT_CHANGES_MAX.
 * ERR_NOT_FOUND. */
enum err workers_changes(struct workers *workers, const char *id,
                         struct client_change out[CLIENT_CHANGES_MAX], size_t *n) MUST_CHECK;

/* Tests a configuration with a connection of its own (mqtt/probe/probe.h), on the caller's thread.
 * No client is affected; changes config. */
void workers_probe(struct workers *workers, struct client_config *config, int64_t timeout_ms,
                   const struct probe_caller *caller, struct probe_report *report);

/* Clients by shown state, for node views: counts[CLIENT_STATE_COUNT]. */
void workers_state_counts(struct workers *workers, int64_t counts[CLIENT_STATE_COUNT]);
/* Clients with a subscription that the broker refuses. */
int64_t workers_degraded_count(struct workers *workers);
/* Clients that received nothing for their expect_message_within_s. */
int64_t workers_silent_count(struct workers *workers);

/* The sum over all workers; all 0 if the engine does not support it. */
void workers_buffers(struct workers *workers, struct engine_buffers *out);

/* The brokers that no client of this node reaches, like incidents_snapshot. */
size_t workers_incidents(struct workers *workers, struct incident_view *out, size_t max);
struct incidents_sum workers_incidents_sum(struct workers *workers);
/* Visits all brokers of this node, like incidents_visit. */
void workers_visit_brokers(struct workers *workers, incidents_visitor *visitor, void *context);

#endif
