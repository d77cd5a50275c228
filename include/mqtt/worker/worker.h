/* Inside of the hosts: what the files of one host thread share. Only hosts*.c and host_*.c include
 * this.
 *
 *   any thread --host_push--> [ inbox ] --> host thread --> engine
 *   resolver threads --> [ resolved ] --> host thread
 *   engine events ---------------------> host thread (message: the engine's own thread)
 *
 * Locks: `lock` guards the client table and the shown fields of its clients. The host thread alone
 * writes them (but for inserting a new record and counting a publication up, which the facade does
 * under the lock), so it may read them without. Never held while calling the engine or the owner.
 */
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
#define WORKER_PER_TURN_MAX     1000 /* commands, timers, look-ups handled before looking elsewhere */
#define WORKER_PUBLICATIONS_MAX 100 /* outstanding per client */

enum worker_command_kind {
    WORKER_START,
    WORKER_STOP,
    WORKER_RETRY,
    WORKER_RESTART,
    WORKER_PUBLISH,
    WORKER_QUERY, /* context: a struct workers_query */
};

struct worker_publication {
    struct engine_publication publication; /* points into `data` */
    struct message_property *properties;
    char *data;
    size_t bytes;                 /* of `data` and the rest */
    struct publish_share *share;  /* of its broker; NULL: not counted */
    workers_published *published; /* NULL once answered */
    void *context;
    int64_t begun_us;
    int64_t deadline_ms; /* of the answer; unacknowledged: of sending again */
    bool is_unacknowledged;
    struct client *client; /* NULL while in the inbox */
    /* In host->publications until answered, then until its next deadline in unacknowledged. */
    struct worker_publication *prev, *next;
    struct worker_publication *client_prev, *client_next; /* client->publications */
};

struct worker_command {
    enum worker_command_kind kind;
    char *id;
    uint64_t generation;
    uint64_t record; /* of a publication: what it is for */
    struct shared_config *config;
    int64_t epoch, version, delay_ms;
    char *reason;
    workers_done *done;
    void *context;
    struct worker_publication *publication;
};

struct worker {
    const struct conf *conf;
    const struct workers_owner *owner;
    const struct engine_ops *ops;
    struct engine *engine;
    struct resolver *resolver;
    const struct address_policy *policy;
    struct good_addresses *good_addresses; /* of all hosts */
    struct queue *inbox;
    int wake_fd;
    atomic_bool woken; /* wake_fd was written since it was read */
    atomic_bool stopping;

    pthread_mutex_t lock;
    pthread_cond_t forgotten; /* a record left the table */
    struct client *clients;
    int64_t counts[CLIENT_STATE_COUNT];
    int64_t degraded_count;
    char drop_reason[96]; /* of workers_stop_all; guarded by lock */

    pthread_mutex_t resolved_lock; /* guards the list; taken under the resolver's lock */
    struct client_lookup *resolved;

    /* workers_stop_all: records of generations before drop_before go. */
    _Atomic uint64_t drop_before;
    atomic_bool drop_politely;

    /* Host thread only. */
    uint64_t dropped_before;
    struct timers timers;
    struct brokers brokers;
    struct connect_limiter connect_limiter;
    struct worker_publication *publications;   /* whose callers wait, by deadline */
    struct worker_publication *unacknowledged; /* whose callers were told so, by deadline */
    uint64_t refusals; /* publications that were given up because the broker does not take them */
    bool lease_was_valid;
    int64_t skip_logged_at_ms;
    size_t connection_count;
};

/* host.c */
struct worker *worker_create(const struct conf *conf, const struct workers_owner *owner,
                             const struct engine_ops *ops, struct resolver *resolver,
                             const struct address_policy *policy);
void worker_destroy(struct worker *worker);
void *worker_run(void *host);
void worker_stop(struct worker *worker);
/* Records of generations before this go, at the thread's next turn. Any thread. */
void worker_drop_all(struct worker *worker, uint64_t before, bool politely, const char *reason);
void worker_wake(struct worker *worker);
void worker_command_free(struct worker_command *command);
/* Into the table; host->lock is held. */
void worker_insert(struct client *client, int64_t epoch, int64_t version, uint64_t generation);

/* host_state.c: the one place where a client's state changes: logs, counts, records, and moves it
 * between what the states belong to. False: the event means nothing now, nothing happened. */
bool worker_change_state(struct client *client, enum client_event event, const char *reason);
/* message NULL: the error's own text. The same for all below. */
void worker_note_error(struct client *client, enum client_error error, const char *message);
/* The same, and tells it as an event of its own: the client's state stays as it is. */
void worker_notify_error(struct client *client, enum client_error error, const char *message);
/* Lets go of everything the client has under way; with_will: see engine_ops.close. */
void worker_tear_down(struct client *client, bool with_will);
/* Nothing is open any more: tells who waited, then starts anew or forgets. */
void worker_client_closed(struct client *client);
struct client *worker_find(struct worker *worker, const char *id);
void worker_set_timer(struct client *client, int64_t delay_ms);
/* Forgets what the client and its broker kept from connection to connection. */
void worker_end_session(struct client *client);

/* host_urls.c: which of its brokers a client is at. */
struct client_endpoint worker_endpoint(const struct client *client); /* borrowed */
/* With a configuration that may be another. */
void worker_urls_begin(struct client *client);
/* After a failure: the next. True: it has not been tried in this round, and may be at once. */
bool worker_urls_next(struct client *client);
/* Goes to the next that has no incident. False: all have. */
bool worker_urls_choose(struct client *client);
/* A reference of the configuration, as it is for that broker. NULL: out of memory. */
struct shared_config *worker_urls_config(const struct client *client, struct shared_config *config);

/* host_connect.c: from queued to CONNACK. */
void worker_enqueue(struct client *client);
/* client->broker becomes the one of its endpoint. False: out of memory. */
bool worker_take_broker(struct client *client);
int64_t worker_backoff_ms(const struct client *client);
int64_t worker_connect_timeout_ms(const struct client *client);
/* The same as after a first failure. */
int64_t worker_backoff_first_ms(const struct client *client);
void worker_requeue(struct client *client, const char *reason);
void worker_fail_connect(struct client *client, enum client_error error, const char *message);
void worker_schedule_retry(struct client *client, int64_t delay_ms);
void worker_admit(struct worker *worker, int64_t now_us);
void worker_check_lease(struct worker *worker);
void worker_take_resolved(struct worker *worker);
/* The connection that is being opened came to CONNACK, or did not (index -1: no address did more
 * than TCP) at this of its addresses. */
void worker_note_address(struct client *client, int index, bool good);
void worker_forget_addresses(struct client *client); /* of another broker */
/* For the engine: see engine_events. */
bool worker_may_connect(void *client);
void worker_socket_done(void *client);
void worker_cancel_lookup(struct client *client);
/* For its last error. rest_ms_max: see struct workers_release. */
void worker_request_release(struct client *client, int64_t delay_ms, int64_t rest_ms_max);

/* host_session.c: CONNACK. */
void worker_connected(void *client, const struct engine_connack *connack);

/* host_subscribe.c: the subscriptions, from CONNACK to the end of the connection. */
void worker_begin_subscribing(struct client *client);
void worker_subscribed(void *client, const uint8_t *codes, size_t n);
void worker_unsubscribed(void *client, const uint8_t *codes, size_t n);
void worker_update_subscriptions(struct client *client);
void worker_drop_work(struct client *client);
/* ONLINE, and the timer: what the broker refused is asked for again when its time has come. */
void worker_subscribe_retry(struct client *client);
/* The session's subscriptions are known to nobody; all are asked for on the next connection. */
void worker_subscribe_all(struct client *client);
/* The next of its urls: it has another session, and most likely takes the same filters. */
void worker_subscribe_other_url(struct client *client);
/* Another broker, say: what was learnt of this one means nothing. */
void worker_subscribe_reset(struct client *client);
#define WORKER_FILTER_SHOWN_LEN 200 /* bytes of a filter, in a sentence */
struct subscribing_rules worker_subscribe_rules(const struct client *client);
/* Told when it begins and after a change of the list, and shown as the last error of every
 * connection. */
void worker_subscribe_note_refusals(struct client *client, bool changed);

/* host_blame.c: filters that end connections. */
/* To which filters the end of the connection, with that error, may be due. */
enum client_blame worker_blame_find(const struct client *client, enum client_error error);
/* That is why, and not the broker; called at the loss when the broker said so, else just before the
 * next try. Carried out at the next CONNACK, unless the broker is seen to have been away until
 * then. True: the next connection asks for something else, and need not wait for longer than
 * reconnect_min_ms. */
bool worker_blame_set(struct client *client, enum client_blame blame);
/* A connect failed, or the session was lost: so it was away. */
void worker_blame_clear(struct client *client);
/* CONNACK: what was blamed is charged. */
void worker_blame_apply(struct client *client);

/* host_incident.c: what clients do while nobody reaches their broker. */
bool worker_broker_is_unreachable(const struct client *client); /* its broker has an incident */
bool worker_is_broker_failure(enum client_error error);         /* as the end of a connect */
/* A connect failed. True: it speaks against the broker, and so does everything else. */
bool worker_note_broker_failure(struct client *client, enum client_error error,
                                const char *message);
/* From BACKOFF, or QUEUED: tries again when the incident ends, or as a probe. */
void worker_await_broker(struct client *client);
/* Lets one probe, or all come back. */
void worker_watch_brokers(struct worker *worker, int64_t now_ms);

/* worker_check_broker.c: whether the broker that a client was lost from is there, for client->loss.
 */
#define WORKER_CHECK_MS 500
void worker_check_broker(struct client *client);
/* WORKER_CHECK_MS later, if loss->look is there. */
void worker_check_broker_again(struct client *client);
void worker_check_broker_end(struct client *client); /* legal when there is none */

/* host_judge.c: why connections were lost. */
/* Before anything of the connection is torn down. True: what is to blame is known already, and the
 * next connection will be another. */
bool worker_note_loss(struct client *client, const struct engine_closed *closed);
/* Of client->loss, which is forgotten: for how long the next try has to wait still. */
int64_t worker_judge_loss(struct client *client);
/* After worker_note_loss: says so if the broker is known to end connections at this age. */
bool worker_report_steady_age(struct client *client);
bool worker_is_in_conflict(const struct client *client);
void worker_forget_loss(struct client *client);
void worker_clear_suspicion(struct client *client); /* and what is not judged yet */
/* The broker no longer had the session: after a restart, or since a rival began anew. */
void worker_reduce_suspicion(struct client *client);

/* host_loss.c: failures, losses, conflicts and what follows. */
void worker_connection_closed(void *client, const struct engine_closed *closed);
void worker_handle_timer(struct client *client);

/* worker_message.c: received messages. */
enum err worker_message(void *client, struct message *message, void *receipt);
void worker_heard(void *client);
void worker_skipped(void *client, const struct engine_skipped *skipped);
void worker_flush(void *context);
bool worker_has_room(void *client);
void worker_wait_room(void *client, int64_t timeout_ms);

/* worker_publication.c: publications. */
void worker_publish(struct worker *worker, struct worker_command *command);
void worker_published(void *client, uint64_t token, enum err err, int reason_code);
void worker_expire_publications(struct worker *worker, int64_t now_ms);
/* Until the next of them is over its time, at most most_ms. */
int64_t worker_publications_wait_ms(const struct worker *worker, int64_t now_ms, int64_t most_ms);
/* Any thread. NULL: out of memory. */
struct worker_publication *worker_publication_copy(const struct engine_publication *from);
void worker_publication_free(struct worker_publication *publication);

struct workers_query;
/* workers_publications.c: answers it, and lets go of it. client NULL: with that result. */
void worker_answer_query(struct client *client, struct workers_query *query, enum err err);

/* host_suspects.c: publications that end connections. */
#define WORKER_SUSPECT_TEXT_LEN 512
/* Keeps what may be why a connection ended, in place of what was kept before; NULL: nothing. */
void worker_note_suspects(struct client *client, const struct engine_suspects *suspects);
/* A connection ended for those. True: the next one will be another. */
bool worker_publications_blame(struct client *client);
/* The broker has acknowledged it. */
void worker_clear_publication(struct client *client, const struct engine_publication *publication);
struct publish_shape worker_shape_of(const struct engine_publication *publication);
/* Fit to be shown: the topic is cut off, and has no control characters. */
void worker_describe_given_up(const struct engine_publication *publication, enum give_up reason,
                              char out[WORKER_SUSPECT_TEXT_LEN]);

/* host_commands.c */
void worker_execute(struct worker *worker, struct worker_command *command); /* frees it */
/* From CLOSED: as the configuration desires. */
void worker_start_client(struct client *client);
/* Drops, a bounded number at once, what workers_stop_all ended. */
void worker_drop_old(struct worker *worker);
void worker_stop_client(struct client *client, const char *reason, bool with_will);

#endif
