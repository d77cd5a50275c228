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
#ifndef MQFLEET_MQTT_HOST_H
#define MQFLEET_MQTT_HOST_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/queue.h"
#include "mqtt/address_policy.h"
#include "mqtt/client.h"
#include "mqtt/good_addresses.h"
#include "mqtt/publish_quota.h"

#define HOST_INBOX_MAX        65536
#define HOST_PER_TURN_MAX     1000 /* commands, timers, look-ups handled before looking elsewhere */
#define HOST_PUBLICATIONS_MAX 100  /* outstanding per client */

enum host_command_kind {
    HOST_START,
    HOST_STOP,
    HOST_RETRY,
    HOST_RESTART,
    HOST_PUBLISH,
    HOST_QUERY, /* context: a struct publications_query */
};

struct host_publication {
    struct engine_publication publication; /* points into `data` */
    struct message_property *properties;
    char *data;
    size_t bytes;                /* of `data` and the rest */
    struct publish_share *share; /* of its broker; NULL: not counted */
    hosts_published *published;  /* NULL once answered */
    void *context;
    int64_t begun_us;
    int64_t deadline_ms; /* of the answer; unacknowledged: of sending again */
    bool is_unacknowledged;
    struct client *client; /* NULL while in the inbox */
    /* In host->publications until answered, then until its next deadline in unacknowledged. */
    struct host_publication *prev, *next;
    struct host_publication *client_prev, *client_next; /* client->publications */
};

struct host_command {
    enum host_command_kind kind;
    char *id;
    uint64_t generation;
    uint64_t record; /* of a publication: what it is for */
    struct shared_config *config;
    int64_t epoch, version, delay_ms;
    char *reason;
    hosts_done *done;
    void *context;
    struct host_publication *publication;
};

struct host {
    const struct conf *conf;
    const struct hosts_owner *owner;
    const struct engine_ops *ops;
    struct engine *engine;
    struct resolver *resolver;
    const struct address_policy *policy;
    struct good_addresses *good; /* of all hosts */
    struct queue *inbox;
    int wake_fd;
    atomic_bool woken; /* wake_fd was written since it was read */
    atomic_bool stopping;

    pthread_mutex_t lock;
    pthread_cond_t forgotten; /* a record left the table */
    struct client *clients;
    int64_t counts[CLIENT_STATE_COUNT];
    int64_t degraded_count;
    char drop_reason[96]; /* of hosts_stop_all; guarded by lock */

    pthread_mutex_t resolved_lock; /* guards the list; taken under the resolver's lock */
    struct client_lookup *resolved;

    /* hosts_stop_all: records of generations before drop_before go. */
    _Atomic uint64_t drop_before;
    atomic_bool drop_politely;

    /* Host thread only. */
    uint64_t dropped_before;
    struct timers timers;
    struct brokers brokers;
    struct pacer pacer;
    struct host_publication *publications;   /* whose callers wait, by deadline */
    struct host_publication *unacknowledged; /* whose callers were told so, by deadline */
    uint64_t refusals; /* publications that were given up because the broker does not take them */
    bool lease_was_valid;
    int64_t skip_logged_at_ms;
    size_t connection_count;
};

/* host.c */
struct host *host_create(const struct conf *conf, const struct hosts_owner *owner,
                         const struct engine_ops *ops, struct resolver *resolver,
                         const struct address_policy *policy);
void host_destroy(struct host *host);
void *host_run(void *host);
void host_stop(struct host *host);
/* Records of generations before this go, at the thread's next turn. Any thread. */
void host_drop_all(struct host *host, uint64_t before, bool politely, const char *reason);
void host_wake(struct host *host);
void host_command_free(struct host_command *command);
/* Into the table; host->lock is held. */
void host_insert(struct client *client, int64_t epoch, int64_t version, uint64_t generation);

/* host_state.c: the one place where a client's state changes: logs, counts, records, and moves it
 * between what the states belong to. False: the event means nothing now, nothing happened. */
bool host_change(struct client *client, enum client_event event, const char *reason);
/* message NULL: the error's own text. The same for all below. */
void host_note_error(struct client *client, enum client_error error, const char *message);
/* The same, and tells it as an event of its own: the client's state stays as it is. */
void host_notice(struct client *client, enum client_error error, const char *message);
/* Lets go of everything the client has under way; with_will: see engine_ops.close. */
void host_tear_down(struct client *client, bool with_will);
/* Nothing is open any more: tells who waited, then starts anew or forgets. */
void host_closed(struct client *client);
struct client *host_find(struct host *host, const char *id);
void host_set_timer(struct client *client, int64_t delay_ms);
/* Forgets what the client and its broker kept from connection to connection. */
void host_end_session(struct client *client);

/* host_urls.c: which of its brokers a client is at. */
struct client_endpoint host_endpoint(const struct client *client); /* borrowed */
/* With a configuration that may be another. */
void host_urls_begin(struct client *client);
/* After a failure: the next. True: it has not been tried in this round, and may be at once. */
bool host_urls_next(struct client *client);
/* Goes to the next that has no incident. False: all have. */
bool host_urls_choose(struct client *client);
/* A reference of the configuration, as it is for that broker. NULL: out of memory. */
struct shared_config *host_urls_config(const struct client *client, struct shared_config *config);

/* host_connect.c: from queued to CONNACK. */
void host_enqueue(struct client *client);
/* client->broker becomes the one of its endpoint. False: out of memory. */
bool host_take_broker(struct client *client);
int64_t host_backoff_ms(const struct client *client);
int64_t host_connect_timeout_ms(const struct client *client);
/* The same as after a first failure. */
int64_t host_backoff_first_ms(const struct client *client);
void host_requeue(struct client *client, const char *reason);
void host_fail(struct client *client, enum client_error error, const char *message);
void host_schedule(struct client *client, int64_t delay_ms);
void host_admit(struct host *host, int64_t now_us);
void host_check_lease(struct host *host);
void host_take_resolved(struct host *host);
/* The connection that is being opened came to CONNACK, or did not (index -1: no address did more
 * than TCP) at this of its addresses. */
void host_note_address(struct client *client, int index, bool good);
void host_forget_addresses(struct client *client); /* of another broker */
/* For the engine: see engine_events. */
bool host_may_connect(void *client);
void host_socket_over(void *client);
void host_cancel_lookup(struct client *client);
/* For its last error. rest_ms_max: see struct hosts_release. */
void host_ask_release(struct client *client, int64_t delay_ms, int64_t rest_ms_max);

/* host_session.c: CONNACK. */
void host_connected(void *client, const struct engine_connack *connack);

/* host_subscribe.c: the subscriptions, from CONNACK to the end of the connection. */
void host_begin_subscribing(struct client *client);
void host_subscribed(void *client, const uint8_t *codes, size_t n);
void host_unsubscribed(void *client, const uint8_t *codes, size_t n);
void host_update_subscriptions(struct client *client);
void host_drop_work(struct client *client);
/* ONLINE, and the timer: what the broker refused is asked for again when its time has come. */
void host_subscribe_again(struct client *client);
/* The session's subscriptions are known to nobody; all are asked for on the next connection. */
void host_subscribe_all(struct client *client);
/* The next of its urls: it has another session, and most likely takes the same filters. */
void host_subscribe_elsewhere(struct client *client);
/* Another broker, say: what was learnt of this one means nothing. */
void host_subscribe_start_over(struct client *client);
#define HOST_FILTER_SHOWN_LEN 200 /* bytes of a filter, in a sentence */
struct subscribing_rules host_subscribe_rules(const struct client *client);
/* Told when it begins and after a change of the list, and shown as the last error of every
 * connection. */
void host_subscribe_note_refusals(struct client *client, bool changed);

/* host_blame.c: filters that end connections. */
/* To which filters the end of the connection, with that error, may be due. */
enum client_blame host_subscribe_doubt(const struct client *client, enum client_error error);
/* That is why, and not the broker; called at the loss when the broker said so, else just before the
 * next try. Carried out at the next CONNACK, unless the broker is seen to have been away until
 * then. True: the next connection asks for something else, and need not wait for longer than
 * reconnect_min_ms. */
bool host_subscribe_blame(struct client *client, enum client_blame blame);
/* A connect failed, or the session was lost: so it was away. */
void host_subscribe_acquit(struct client *client);
/* CONNACK: what was blamed is charged. */
void host_subscribe_carry_out_blame(struct client *client);

/* host_incident.c: what clients do while nobody reaches their broker. */
bool host_is_away(const struct client *client);           /* its broker has an incident */
bool host_speaks_against_broker(enum client_error error); /* as the end of a connect */
/* A connect failed. True: it speaks against the broker, and so does everything else. */
bool host_blame_broker(struct client *client, enum client_error error, const char *message);
/* From BACKOFF, or QUEUED: tries again when the incident ends, or as a probe. */
void host_await_broker(struct client *client);
/* Lets one probe, or all come back. */
void host_watch_brokers(struct host *host, int64_t now_ms);

/* host_look.c: whether the broker that a client was lost from is there, for client->loss. */
#define HOST_LOOK_MS 500
void host_look(struct client *client);
/* HOST_LOOK_MS later, if loss->look is there. */
void host_look_again(struct client *client);
void host_look_over(struct client *client); /* legal when there is none */

/* host_judge.c: why connections were lost. */
/* Before anything of the connection is torn down. True: what is to blame is known already, and the
 * next connection will be another. */
bool host_note_loss(struct client *client, const struct engine_closed *closed);
/* Of client->loss, which is forgotten: for how long the next try has to wait still. */
int64_t host_judge_loss(struct client *client);
/* After host_note_loss: says so if the broker is known to end connections at this age. */
bool host_tell_age(struct client *client);
bool host_in_conflict(const struct client *client);
void host_forget_loss(struct client *client);
void host_clear_suspicion(struct client *client); /* and what is not judged yet */
/* The broker no longer had the session: after a restart, or since a rival began anew. */
void host_doubt_suspicion(struct client *client);

/* host_loss.c: failures, losses, conflicts and what follows. */
void host_connection_closed(void *client, const struct engine_closed *closed);
void host_timer(struct client *client);

/* host_message.c: received messages. */
enum err host_message(void *client, struct message *message, void *receipt);
void host_heard(void *client);
void host_skipped(void *client, const struct engine_skipped *skipped);
void host_flush(void *context);
bool host_has_room(void *client);
void host_wait_room(void *client, int64_t timeout_ms);

/* host_publication.c: publications. */
void host_publish(struct host *host, struct host_command *command);
void host_published(void *client, uint64_t token, enum err result, int reason_code);
void host_expire_publications(struct host *host, int64_t now_ms);
/* Until the next of them is over its time, at most most_ms. */
int64_t host_publications_wait_ms(const struct host *host, int64_t now_ms, int64_t most_ms);
/* Any thread. NULL: out of memory. */
struct host_publication *host_publication_copy(const struct engine_publication *from);
void host_publication_free(struct host_publication *publication);

struct publications_query;
/* hosts_publications.c: answers it, and lets go of it. client NULL: with that result. */
void host_answer_query(struct client *client, struct publications_query *query, enum err result);

/* host_suspects.c: publications that end connections. */
#define HOST_SUSPECT_TEXT_LEN 512
/* Keeps what may be why a connection ended, in place of what was kept before; NULL: nothing. */
void host_note_suspects(struct client *client, const struct engine_suspects *suspects);
/* A connection ended for those. True: the next one will be another. */
bool host_publications_blame(struct client *client);
/* The broker has acknowledged it. */
void host_acquit_publication(struct client *client, const struct engine_publication *publication);
struct publish_shape host_shape_of(const struct engine_publication *publication);
/* Fit to be shown: the topic is cut off, and has no control characters. */
void host_describe_given_up(const struct engine_publication *publication, enum give_up reason,
                            char out[HOST_SUSPECT_TEXT_LEN]);

/* host_commands.c */
void host_obey(struct host *host, struct host_command *command); /* frees it */
/* From CLOSED: as the configuration desires. */
void host_begin(struct client *client);
/* Drops, a bounded number at once, what hosts_stop_all ended. */
void host_drop_old(struct host *host);
void host_stop_client(struct client *client, const char *reason, bool with_will);

#endif
