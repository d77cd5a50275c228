/* The clients of this node, spread over its host threads: the facade of the mqtt layer. All
 * functions are for any thread unless said otherwise, and none blocks longer than a lock, because
 * the work is handed to the hosts through bounded queues. */
#ifndef MQFLEET_WORKERS_WORKERS_H
#define MQFLEET_WORKERS_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "message/message.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"
#include "mqtt/client/client_state.h"
#include "mqtt/engine.h"
#include "mqtt/broker/incident.h"
#include "mqtt/probe/probe.h"
#include "mqtt/client/publish_quota.h"
#include "mqtt/client/publish_throttle.h"

struct workers;

/* A client asks to be given back: it could not be brought online here, or is in conflict. Its
 * connection is closed; it opens nothing until workers_stop or workers_retry. Strings borrowed. */
struct workers_release {
    const char *id;
    int64_t epoch;
    int64_t delay_ms;        /* before it is tried again */
    int64_t cooldown_ms_max; /* in conflict: delay_ms doubles each time, up to this. Else 0 */
    enum client_error error;
    const char *message;
};

/* What the hosts need of the rest of the node; wired by main. Functions for any host thread; none
 * may block. */
struct workers_owner {
    void *context;
    /* May a connection be opened now? */
    bool (*lease_valid)(void *context);
    void (*wants_release)(void *context, const struct workers_release *release);
    /* The client's connection has lasted stable_ms. May be told again. */
    void (*stable)(void *context, const char *id);
    /* The client's state is another one; what the API calls it may be the same. Or the same one,
     * and a newer version of its configuration is in force. version: of that. NULL: not told. */
    void (*changed)(void *context, const char *id, enum client_state from, enum client_state to,
                    const char *reason, int64_t version);
    /* Something worth telling happened to a client whose state stays as it is; `code` and `message`
     * as in its last_error, borrowed. NULL: not told. */
    void (*noticed)(void *context, const char *id, const char *code, const char *message);
    /* A message for a sink (NULL: the default). Takes ownership on ERR_OK, and `accepted` is called
     * with accepted_context once the sink has it, or will not; on ERR_REFUSED too, without that:
     * QoS 0, dropped for want of room. ERR_FULL: not taken. */
    enum err (*deliver)(void *context, const char *sink, struct message *message,
                        void (*accepted)(void *accepted_context, enum err err),
                        void *accepted_context);
    /* Something was delivered, by this thread, and sinks are to begin with it. */
    void (*flush)(void *context);
    /* Whether something left that sink since it last answered ERR_FULL. */
    bool (*has_room)(void *context, const char *sink);
    void (*wait_room)(void *context, const char *sink, int64_t timeout_ms);
};

struct workers *workers_create(const struct conf *conf, const struct workers_owner *owner);
void workers_destroy(struct workers *workers); /* after all runs returned */
/* Threads to start with workers_run and the resolver's; each gets its own argument from
 * workers_thread: index 0..count-1. */
size_t workers_thread_count(const struct workers *workers);
void *workers_thread(struct workers *workers, size_t index);
void *workers_run(void *argument);
/* DNS threads: conf.resolver_threads of them. argument: the hosts. */
void *workers_resolver_run(void *argument);
/* Ends the runs. Open connections are closed as if the process had died (no DISCONNECT). */
void workers_stop_threads(struct workers *workers);

/* From now on clients of this incarnation are accepted; start calls for another are refused. */
void workers_accept(struct workers *workers, const char *incarnation);

/* Takes ownership of config, always. Starts the client, or updates it when it runs already: a
 * greater epoch or version replaces (reconnecting only if it must: changed topics alone are
 * subscribed and unsubscribed in place); an older one is ignored. ERR_WRONG_STATE: incarnation is
 * not the accepted one. ERR_FULL: the queue is, try again. */
enum err workers_start(struct workers *workers, struct client_config *config,
                       const char *incarnation, int64_t epoch, int64_t version) MUST_CHECK;

/* Called once when nothing is open any more. Any thread; must not block. */
typedef void workers_done(void *context);

/* Closes with DISCONNECT and forgets. epoch 0: whatever runs. done (NULL: none) is called also when
 * there is nothing to stop. ERR_FULL: not queued, done not called. */
enum err workers_stop(struct workers *workers, const char *id, int64_t epoch, const char *reason,
                      workers_done *done, void *context) MUST_CHECK;
/* Closes all at once and accepts no start until workers_accept. Waits up to timeout_ms until
 * nothing is open: ERR_OK, or ERR_TIMEOUT (closing goes on; call again). Not for host threads.
 * polite: with DISCONNECT; else sockets are just dropped as fast as can be. */
enum err workers_stop_all(struct workers *workers, const char *reason, bool polite,
                          int64_t timeout_ms) MUST_CHECK;
/* A client that asked for its release stays here after all: it goes on trying after delay_ms. */
enum err workers_retry(struct workers *workers, const char *id, int64_t epoch,
                       int64_t delay_ms) MUST_CHECK;
/* Drops the connection and connects anew at once. ERR_NOT_FOUND, ERR_WRONG_STATE (paused),
 * ERR_FULL. */
enum err workers_restart(struct workers *workers, const char *id, const char *reason) MUST_CHECK;

/* Why nothing was acknowledged in time: reason_code of ERR_TIMEOUT. */
enum workers_timeout {
    WORKERS_TIMEOUT_SILENT,       /* the broker said nothing */
    WORKERS_TIMEOUT_READ_BLOCKED, /* the client's sink is full, so that nothing is read of its
                                     connection */
};

/* result: ERR_OK acknowledged (reason_code from PUBACK/PUBCOMP, >= 0x80: the broker refused);
 * ERR_WRONG_STATE not online; ERR_TIMEOUT, reason_code is an enum workers_timeout; ERR_UNAVAILABLE
 * connection lost: outcome unknown;
 * ERR_REFUSED: given up, reason_code is an enum give_up. */
typedef void workers_published(void *context, enum err err, int reason_code);
/* Copies the publication. ERR_NOT_FOUND, ERR_REFUSED (see workers_publish_throttled), ERR_BUSY (see
 * workers_publish_busy), ERR_ARGUMENT (properties, and the client speaks MQTT 3.1.1),
 * ERR_WRONG_STATE (not online), ERR_FULL: `published` not called; ERR_OK: it is called once, on a
 * host thread, within publish_timeout_ms.
 */
enum err workers_publish(struct workers *workers, const char *id,
                         const struct engine_publication *publication, workers_published *published,
                         void *context) MUST_CHECK;

/* Why workers_publish answered ERR_REFUSED, if it still would: others of its shape ended the
 * connection again and again. */
bool workers_publish_throttled(struct workers *workers, const char *id,
                               const struct engine_publication *publication,
                               struct publish_throttled *out);

/* What the broker of a client has of the node (publish_quota.h): why workers_publish answered
 * ERR_BUSY.
 */
struct workers_busy {
    char broker[INCIDENT_BROKER_MAX]; /* "host:port" */
    struct publish_use use;
};
bool workers_publish_busy(struct workers *workers, const char *id, struct workers_busy *out);
/* Counts a publication that another node is asked for, so that no broker takes all such requests
 * either. ERR_BUSY, ERR_MEMORY; ERR_OK: publish_share_answered and publish_share_release follow. */
enum err workers_publish_elsewhere(struct workers *workers, const char *broker,
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
    bool waited_for; /* its caller was not answered yet */
    int64_t age_ms;
    unsigned tries;    /* how often it was sent */
    unsigned losses;   /* of connections that are laid to it */
    const char *state; /* "queued" "sent" "released", static */
};

/* On a host thread; must not block. rows: the callee's, to workers_publications_free. */
typedef void workers_publications_answered(void *context, enum err err,
                                           struct workers_publication *rows, size_t n);

/* Asks the client's host what is pending of its publications, oldest first; drop: gives it up, and
 * answers what was dropped. ERR_NOT_FOUND, ERR_FULL, ERR_MEMORY: `answered` is not called; ERR_OK:
 * it is, once, also with ERR_NOT_FOUND and ERR_UNAVAILABLE (the hosts stop). */
enum err workers_publications(struct workers *workers, const char *id, bool drop,
                              workers_publications_answered *answered, void *context) MUST_CHECK;
void workers_publications_free(struct workers_publication *rows, size_t n);

struct workers_client { /* of workers_list */
    char *id;           /* owned */
    int64_t epoch, version;
    bool closing; /* it is being stopped */
};
/* Tells of each client whose state has changed since that wall time, or whose version is that
 * young: `changed` of the owner is called with from as to. */
void hosts_tell_recent(struct workers *workers, int64_t since_ms);
/* Everything that runs or is being stopped here. workers_list_free. */
enum err workers_list(struct workers *workers, struct workers_client **rows, size_t *n) MUST_CHECK;
void workers_list_free(struct workers_client *rows, size_t n);
size_t workers_count(struct workers *workers);
/* Whether it runs and is not being stopped; out->id stays as it is. */
bool workers_has_client(struct workers *workers, const char *id, struct workers_client *out);
/* The configuration that runs: a copy of the text it came from (config->source), for restore, and
 * its identity. Both free(). */
enum err workers_config(struct workers *workers, const char *id, char **config,
                        char **identity) MUST_CHECK;

struct client_subscription_status {
    char *filter;
    uint8_t qos;
    int granted; /* granted QoS, or a reason code of 0x80 and above; -1: no SUBACK yet */
    enum client_error
        refusal; /* why the broker does not serve it; NONE: it does, or was not asked */
};

/* A copy of what is known of a client here. Times: wall clock ms, 0: never. */
struct client_status {
    enum client_state state;
    char *reason; /* of the last change of state */
    int64_t since_ms;
    enum client_error error; /* the last one; CLIENT_ERROR_NONE: none yet */
    char *error_message;
    int64_t error_at_ms;
    int64_t next_retry_at_ms;
    int64_t connected_at_ms;
    char *broker;                      /* "host:port" it is at, or tries; NULL: none yet */
    int64_t certificate_expires_at_ms; /* of the broker; 0: no TLS, or not known */
    bool degraded;                     /* a subscription is refused */
    bool session_present;              /* while connected: the broker still had the session */
    int64_t reconnects, messages_in, messages_out, bytes_in, bytes_out, messages_dropped;
    int64_t epoch, version;
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
};
/* The last changes, oldest first; *n at most CLIENT_CHANGES_MAX. ERR_NOT_FOUND. */
enum err workers_changes(struct workers *workers, const char *id,
                         struct client_change out[CLIENT_CHANGES_MAX], size_t *n) MUST_CHECK;

/* Tries a configuration with a connection of its own (mqtt/probe.h), on the caller's thread. Takes
 * no client's place; changes config. */
void workers_probe(struct workers *workers, struct client_config *config, int64_t timeout_ms,
                   const struct probe_asker *asker, struct probe_report *report);

/* What sinks answered so far is acknowledged to the brokers now. Any thread, until workers_destroy.
 */
void workers_flush(struct workers *workers);

/* Clients by shown state, for node views: counts[CLIENT_STATE_COUNT]. */
void workers_state_counts(struct workers *workers, int64_t counts[CLIENT_STATE_COUNT]);
/* Clients of which the broker refuses a subscription. */
int64_t workers_degraded_count(struct workers *workers);

/* What the engines keep, all host threads together; all 0 where an engine does not tell. */
void workers_buffers(struct workers *workers, struct engine_buffers *out);

/* Brokers that nobody on this node reaches: see incidents_snapshot. */
size_t workers_incidents(struct workers *workers, struct incident_view *out, size_t max);

#endif
