/* Internals of a worker, shared by its files. Only worker*.c and workers*.c include this.
 *
 *   any thread --worker_push--> [ inbox ] --> worker thread --> engine
 *   resolver threads --> [ resolved ] --> worker thread
 *   engine events ---------------------> worker thread (message: the engine's own thread)
 *
 * `lock` guards the client table and the shown fields of its clients. Only the worker thread writes
 * them, except that the facade inserts new records and counts publications under the lock. So the
 * worker thread may read them without the lock. The lock is never held while calling the engine or
 * the owner. */
#ifndef MQFLEET_WORKER_WORKER_H
#define MQFLEET_WORKER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/queue.h"
#include "mqtt/config/address_policy.h"
#include "mqtt/client/client.h"
#include "mqtt/broker/good_addresses.h"
#include "mqtt/client/publish_quota.h"

#define WORKER_INBOX_MAX        65536
#define WORKER_PER_TURN_MAX     1000 /* of each kind: commands, timers, look-ups */
#define WORKER_PUBLICATIONS_MAX 100  /* outstanding per client */

enum worker_command_kind {
    WORKER_START,
    WORKER_STOP,
    WORKER_RETRY,
    WORKER_RESTART,
    WORKER_PUBLISH,
    WORKER_QUERY, /* context: a struct workers_query */
    WORKER_HEARD, /* a message of a silent client has arrived */
};

/* Where a publication is; worker_publication_move() alone changes it. */
enum worker_publication_phase {
    WORKER_PUBLICATION_INBOX,          /* not linked yet, or no longer linked */
    WORKER_PUBLICATION_AWAITED,        /* worker->publications: its caller waits */
    WORKER_PUBLICATION_UNACKNOWLEDGED, /* worker->unacknowledged: answered, may still be resent */
    WORKER_PUBLICATION_EXPIRED,        /* its published event is pending */
};

struct worker_publication {
    struct engine_publication publication; /* points into `data` */
    struct message_property *properties;
    char *data;
    size_t bytes;                 /* of `data` and the struct */
    struct publish_share *share;  /* of its broker; NULL: not counted */
    workers_published *published; /* NULL once answered */
    void *context;
    int64_t begun_us;
    int64_t deadline_ms;                    /* of the answer; when unacknowledged: of the resend */
    uint8_t phase;                          /* enum worker_publication_phase */
    struct client *client;                  /* NULL while in the inbox */
    struct worker_publication *prev, *next; /* the list of its phase */
    struct worker_publication *client_prev, *client_next; /* client->publications */
};

struct worker_command {
    enum worker_command_kind kind;
    char *id;
    uint64_t generation;
    uint64_t record; /* of a publication: the record it is for */
    struct shared_config *config;
    int64_t epoch, version, delay_ms;
    char *reason;
    struct client_history *history; /* of a start; NULL: none, or the record has it */
    int64_t since;                  /* of a start: client_history_since */
    workers_done *done;
    void *context;
    struct worker_publication *publication;
};

/* A walk over the table that releases the lock in between. A record that is removed meanwhile is
 * not where it continues. */
struct worker_visit {
    struct client *next; /* NULL: the end */
    struct worker_visit *other;
};

struct worker {
    const struct conf *conf;
    const struct workers_owner *owner;
    const struct engine_ops *ops;
    struct engine *engine;
    struct resolver *resolver;
    const struct address_policy *policy;
    struct good_addresses *good_addresses; /* shared by all workers */
    struct queue *inbox;
    int wake_fd;
    atomic_bool woken; /* wake_fd was written since it was last read */
    atomic_bool stopping;

    pthread_mutex_t lock;
    pthread_cond_t forgotten; /* a record was removed from the table */
    struct client *clients;
    int64_t counts[CLIENT_STATE_COUNT];
    int64_t degraded_count, silent_count;
    struct worker_visit *visits; /* in progress */
    char drop_reason[96];        /* of workers_stop_all; guarded by lock */

    pthread_mutex_t
        resolved_lock; /* guards the list; may be taken while the resolver's lock is held */
    struct client_lookup *resolved;

    /* workers_stop_all: records of generations before drop_before are dropped. */
    _Atomic uint64_t drop_before;
    atomic_bool drop_with_disconnect;

    /* Worker thread only. */
    uint64_t dropped_before;
    struct timers timers;
    struct brokers brokers;
    struct connect_limiter connect_limiter;
    size_t fleet_size;                         /* that connect_limiter was divided by; 0: not yet */
    struct worker_publication *publications;   /* callers are waiting; by deadline */
    struct worker_publication *unacknowledged; /* callers have been answered; by deadline */
    uint64_t refusals; /* publications that were given up because the broker does not accept them */
    uint16_t routes_generation; /* of the router, when the routes of all clients were set */
    bool lease_was_valid;
    int64_t skip_logged_at_ms;
    size_t connection_count;
};

/* worker.c */
struct worker *worker_create(const struct conf *conf, const struct workers_owner *owner,
                             const struct engine_ops *ops, struct resolver *resolver,
                             const struct address_policy *policy);
void worker_destroy(struct worker *worker);
void *worker_run(void *argument);
void worker_stop(struct worker *worker);
/* Records of earlier generations are dropped in the thread's next turn. Any thread. */
void worker_drop_all(struct worker *worker, uint64_t before, bool with_disconnect,
                     const char *reason);
void worker_wake(struct worker *worker);
void worker_command_free(struct worker_command *command);
/* Inserts into the table; worker->lock is held. */
void worker_insert(struct client *client, int64_t epoch, int64_t version, uint64_t generation);
/* Removes it from the table, and is the only function that does; worker->lock is held. */
void worker_remove(struct client *client);

/* worker_state.c: the only function that changes a client's state. It logs, counts and records the
 * change, and moves the client between the lists of its states. False: the event has no meaning in
 * this state, nothing happened. */
bool worker_change_state(struct client *client, enum client_event event, const char *reason);
/* Tells the owner that the state or, if both are equal, the version has changed. */
void worker_report_change(const struct client *client, enum client_state from, enum client_state to,
                          const char *reason);
/* message NULL: the error's own text; so for all functions below. */
void worker_note_error(struct client *client, enum client_error error, const char *message);
/* The same, and reports the error as an event; the state of the client stays as it is. */
void worker_notify_error(struct client *client, enum client_error error, const char *message);
/* Releases everything the client has in progress; with_will: see engine_ops.close. */
void worker_tear_down(struct client *client, bool with_will);
/* Nothing is open any more: notifies callers of workers_stop, then restarts or removes the client.
 */
void worker_client_closed(struct client *client);
struct client *worker_find(struct worker *worker, const char *id);
void worker_set_timer(struct client *client, int64_t delay_ms);
/* Discards the session state of the client and its broker. */
void worker_end_session(struct client *client);

/* worker_urls.c: which of its brokers a client uses. */
struct client_endpoint worker_endpoint(const struct client *client); /* borrowed */
/* Starts with the first broker, after the configuration may have changed. */
void worker_urls_begin(struct client *client);
/* After a failure: selects the next broker. True: it was not tried in this round and may be tried
 * at once. */
bool worker_urls_next(struct client *client);
/* Selects the next broker without an incident. False: all have one. */
bool worker_urls_choose(struct client *client);
/* Returns a reference to the configuration for that broker. NULL: out of memory. */
struct shared_config *worker_urls_config(const struct client *client, struct shared_config *config);

/* worker_connect.c: from queued to CONNACK. */
void worker_enqueue(struct client *client);
/* Sets client->broker to the one of its endpoint. False: out of memory. */
bool worker_take_broker(struct client *client);
int64_t worker_backoff_ms(const struct client *client);
int64_t worker_connect_timeout_ms(const struct client *client);
/* The delay after a first failure. */
int64_t worker_backoff_first_ms(const struct client *client);
void worker_requeue(struct client *client, const char *reason);
void worker_fail_connect(struct client *client, enum client_error error, const char *message);
void worker_schedule_retry(struct client *client, int64_t delay_ms);
/* Until a client that cannot connect here is given back. The time stops during an incident and
 * starts again at its end, or when a quota lets the client connect. */
int64_t worker_release_left_ms(const struct client *client);
/* Looks up its broker, and connects. In RESOLVING. */
void worker_resolve(struct client *client);
void worker_take_resolved(struct worker *worker);
/* Records whether a connection over this address got CONNACK (index -1: no address got further than
 * TCP). */
void worker_note_address(struct client *client, int index, bool good);
void worker_forget_addresses(struct client *client); /* when the broker changes */
/* Called by the engine: see engine_events. */
bool worker_may_connect(void *client);
void worker_socket_done(void *client);
void worker_cancel_lookup(struct client *client);
/* Requests the release because of the last error. cooldown_ms_max: see struct workers_release. */
void worker_request_release(struct client *client, int64_t delay_ms, int64_t cooldown_ms_max);

/* worker_admit.c: which clients may connect now. */
void worker_admit(struct worker *worker, int64_t now_us);
void worker_check_lease(struct worker *worker);
/* After a change of its labels: a client that waits for a quota it had waits for it no longer. */
void worker_check_hold(struct client *client);

/* worker_connect.c, too: CONNACK, and what it and PINGRESP say about the broker. */
void worker_pinged(void *client, int64_t us);
void worker_connected(void *client, const struct engine_connack *connack);

/* worker_subscribe.c: the subscriptions, from CONNACK to the end of the connection. */
void worker_begin_subscribing(struct client *client);
void worker_subscribed(void *client, const uint8_t *codes, size_t n);
void worker_unsubscribed(void *client, const uint8_t *codes, size_t n);
void worker_update_subscriptions(struct client *client);
void worker_drop_work(struct client *client);
/* ONLINE, on timer: requests refused subscriptions that are due again. */
void worker_subscribe_retry(struct client *client);
/* ONLINE: sets the timer for what is due next, unless there is work. */
void worker_subscribe_watch(struct client *client);
/* ONLINE, without work: requests all filters again on this connection, without retained messages
 * of subscriptions that the broker still has (MQTT 5). */
void worker_subscribe_again(struct client *client);
/* The session's subscriptions are unknown: the next connection requests all of them. */
void worker_subscribe_all(struct client *client);
/* The client moves to the next of its urls: the session changes, but most likely the same filters
 * are accepted.
 */
void worker_subscribe_other_url(struct client *client);
/* The broker may have changed: forgets everything learned about the previous one. */
void worker_subscribe_reset(struct client *client);
#define WORKER_FILTER_SHOWN_LEN 200 /* bytes of a filter in a text */
struct subscribing_rules worker_subscribe_rules(const struct client *client);
/* Reports refusals when they begin and when the list changes, and shows them as the last error of
 * every connection. */
void worker_subscribe_note_refusals(struct client *client, bool changed);

/* worker_blame.c: filters that end connections. */
/* The filters that may have caused the end of the connection with that error. */
enum client_blame worker_blame_find(const struct client *client, enum client_error error);
/* Blames those filters, not the broker, for the loss. Called at the loss if the broker named the
 * cause, otherwise just before the next attempt. The blame takes effect at the next CONNACK, unless
 * the broker turns out to have been unavailable until then. True: the next connection requests
 * other filters and need not wait longer than reconnect_min_ms. */
bool worker_blame_set(struct client *client, enum client_blame blame);
/* A connect failed or the session was lost: the broker was unavailable. */
void worker_blame_clear(struct client *client);
/* CONNACK: charges the blamed filters. */
void worker_blame_apply(struct client *client);

/* worker_incident.c: clients of an unreachable broker. */
bool worker_broker_is_unreachable(const struct client *client); /* its broker has an incident */
bool worker_is_broker_failure(enum client_error error);         /* as the end of a connect */
/* A connect failed. True: this counts against the broker and explains the failure. */
bool worker_note_broker_failure(struct client *client, enum client_error error,
                                const char *message);
/* From BACKOFF or QUEUED: makes an attempt when the incident ends, or as a probe. */
void worker_await_broker(struct client *client);
/* Admits one probe, or all clients when the incident has ended. */
void worker_watch_brokers(struct worker *worker, int64_t now_ms);

/* worker_check.c: checks whether the broker of a lost connection is reachable, for client->loss. */
#define WORKER_CHECK_MS 500
void worker_check_broker(struct client *client);
/* Called WORKER_CHECK_MS later, if a check is in progress. */
void worker_check_broker_again(struct client *client);
void worker_check_broker_end(struct client *client); /* has no effect if there is none */

/* worker_verdict.c: why connections were lost. */
/* Called before the connection is torn down. True: the cause is already known, and the next
 * connection will be different. */
bool worker_note_loss(struct client *client, const struct engine_closed *closed);
/* Judges and forgets client->loss. Returns the remaining wait before the next attempt. */
int64_t worker_judge_loss(struct client *client);
/* After worker_note_loss: reports if the broker is known to end connections at this age. */
bool worker_report_steady_age(struct client *client);
bool worker_is_in_conflict(const struct client *client);
void worker_forget_loss(struct client *client);
void worker_clear_suspicion(struct client *client); /* also drops an unjudged loss */
/* The broker no longer had the session: after a restart, or because a rival began a new one. */
void worker_reduce_suspicion(struct client *client);

/* worker_loss.c: failures, losses, conflicts and their consequences. */
void worker_connection_closed(void *client, const struct engine_closed *closed);
void worker_handle_timer(struct client *client);

/* worker_messages.c: received messages that go to no sink. */
void worker_receiving(void *client);
void worker_skipped(void *client, const struct engine_skipped *skipped);

/* worker_messages.c, too: clients that receive nothing (expect_message_within_s). */
/* Time of the next worker_silence_check (monotonic); 0: none. Only in ONLINE. */
int64_t worker_silence_due_ms(const struct client *client);
/* Marks the client as silent and performs on_silence, if they are due. Only in ONLINE and without
 * work. False: the timer is set, or a new connection is requested. */
bool worker_silence_check(struct client *client);
/* Ends the silence; why: a message has arrived, for example. No effect if the client is not silent.
 */
void worker_silence_end(struct client *client, const char *why);
/* Applies a changed configuration. Only in ONLINE. */
void worker_silence_update(struct client *client);
/* Forgets earlier silences: the next one is acted on immediately. */
void worker_silence_reset(struct client *client);

/* worker_publication.c: publications. */
void worker_publish(struct worker *worker, struct worker_command *command);
void worker_published(void *client, uint64_t token, const struct publish_result *result);
void worker_expire_publications(struct worker *worker, int64_t now_ms);
/* Time until the next publication is overdue, at most wait_ms_max. */
int64_t worker_publications_wait_ms(const struct worker *worker, int64_t now_ms,
                                    int64_t wait_ms_max);
/* Any thread. NULL: out of memory. */
struct worker_publication *worker_publication_copy(const struct engine_publication *from);
void worker_publication_free(struct worker_publication *publication);

struct workers_query;
/* workers_publications.c: answers the query and releases it. client NULL: with that result. */
void worker_answer_query(struct client *client, struct workers_query *query, enum err err);

/* worker_suspects.c: publications that end connections. */
#define WORKER_SUSPECT_TEXT_LEN 512
/* Keeps the publications that may have ended a connection, replacing earlier ones; NULL: none. */
void worker_note_suspects(struct client *client, const struct engine_suspects *suspects);
/* Blames these publications for the loss. True: the next connection will be different. */
bool worker_publications_blame(struct client *client);
/* The broker has acknowledged the publication. */
void worker_clear_publication(struct client *client, const struct engine_publication *publication);
struct publish_shape worker_shape_of(const struct engine_publication *publication);
/* A text that can be shown: the topic is truncated and has no control characters. */
void worker_describe_given_up(const struct engine_publication *publication, enum give_up reason,
                              char out[WORKER_SUSPECT_TEXT_LEN]);

/* worker_commands.c */
void worker_execute(struct worker *worker, struct worker_command *command); /* frees it */
/* From CLOSED: starts as the configuration desires. */
void worker_start_client(struct client *client);
/* Drops a bounded number of the clients that workers_stop_all ended. */
void worker_drop_old(struct worker *worker);
void worker_stop_client(struct client *client, const char *reason, bool with_will);

#endif
