/* Internals of the Paho engine, shared by its files. No other file includes this.
 *
 *   worker thread                                    Paho's send and receive threads
 *   open close subscribe publish --Paho's calls-->   [ Paho: one mutex, all clients ]
 *   poll <-- ready list, eventfd <-- post_* ---------- callbacks (under Paho's mutex)
 *                                     route_submit <-- message callback, held until accepted
 *
 * An event is not an object but a mark in its connection. So callbacks allocate nothing, and the
 * number of connections bounds the list of events. */
#ifndef MQFLEET_PAHO_PAHO_H
#define MQFLEET_PAHO_PAHO_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include "mqtt/engine.h"

#define PAHO_TEXT_LEN 160

/* The result of the persistence of qos2.c for a request, which is queued in memory anyway. Since
 * 1.3.14, the call that made the request returns it. Not one of Paho's own codes. */
#define PAHO_NOT_STORED (-1000)

struct paho_waker;

/* The TCP socket of a connection, recorded when Paho called connect(2). A lock of net.c guards it.
 */
struct paho_socket {
    int fd; /* Paho's; -1 before. Valid only while `inode` matches */
    ino_t inode;
    int probe_fd; /* our duplicate until CONNACK, to find out how far it got; -1: none */
    int connect_errno;
    struct paho_socket *prev, *next; /* those with a probe_fd */
};

enum paho_phase {
    PAHO_WAITING, /* to be passed to Paho */
    PAHO_OPENING,
    PAHO_UP,
    PAHO_CLOSING, /* closed by the worker, Paho does not know yet */
    PAHO_ENDED,   /* ended, Paho has not released it yet */
    PAHO_RELEASED /* released by Paho; only the closed event is pending */
};

enum paho_event {
    PAHO_CONNACK = 1,
    PAHO_SUBACK = 2,
    PAHO_UNSUBACK = 4,
    PAHO_PUBLISHED = 8,
    PAHO_CLOSED = 16,
};

/* A SUBSCRIBE packet in flight. */
struct paho_subscribe {
    struct engine_connection *connection;
    size_t first, count; /* its codes in connection->codes */
};

struct paho_publication {
    struct engine_connection *connection;
    uint64_t token;
    struct engine_suspect about;
    bool done;
    struct publish_result result;
    struct paho_publication *prev, *next;
};

struct engine_connection {
    struct engine *engine;
    void *client;
    void *handle;      /* MQTTAsync */
    void *persistence; /* see qos2.c; NULL in MQTT 5 */
    enum paho_phase phase;
    struct engine_open open;
    char *id, *client_id, *host; /* host: the name that Paho looks up */
    int protocol_version;
    bool tls;
    bool stale;          /* half-open: reported once */
    int64_t check_at_ms; /* before then, it cannot have been silent for too long */
    int material_fds[3]; /* PEM text from the configuration, as memfds for Paho to read */
    struct paho_socket socket;
    struct engine_connection *prev, *next;           /* engine->connections */
    struct engine_connection *step_prev, *step_next; /* engine->waiting or engine->closing */

    /* Guarded by engine->lock. */
    unsigned marks; /* of enum paho_event */
    bool ready;     /* linked in engine->ready */
    struct engine_connection *ready_prev, *ready_next;
    struct engine_connack connack;
    uint32_t server_packet_max; /* 0: none; set before CONNACK is posted */
    char assigned_client_id[128];
    uint8_t *codes; /* of the SUBSCRIBE in flight */
    size_t code_count, codes_missing;
    struct paho_subscribe *subscribes; /* its packets; Paho keeps pointers into it */
    struct engine_closed closed;       /* message points to closed_message */
    char closed_message[PAHO_TEXT_LEN];
    char tls_error[PAHO_TEXT_LEN];
    struct paho_publication *publications;
    struct engine_suspects *suspects; /* not acknowledged; NULL: none */
    int64_t give_up_at_ms; /* when a held message is given up, because the connection closes; 0: not
                              closing */
};

struct engine {
    const struct conf *conf;
    const struct engine_events *events;
    int epoll_fd, event_fd, timer_fd;
    bool ticking;
    struct paho_waker *waker;
    struct engine_connection *connections;
    struct engine_connection *waiting; /* to be passed to Paho, one at a time */
    struct engine_connection *closing; /* to be destroyed, see paho_connection_release_closed */
    size_t opening_count;
    /* The last check for silent connections, the last open, the last wake-up of Paho. */
    int64_t watched_at_ms, opened_at_ms, woken_at_ms;
    uint16_t keepalive_s_min;

    pthread_mutex_t lock;
    struct engine_connection *ready;
    int64_t holding_since_ms; /* since when Paho is held by a message that is not accepted yet; 0:
                                 none */
    int64_t held_at_ms;       /* when a long hold ended */
    bool sink_stalled;        /* the last long hold ended without acceptance; guarded by lock */

    /* Answers to received messages, for Paho's receive thread, which has one message at a time. */
    struct receipts receipts;

    _Atomic int64_t
        calling_since_ms; /* since when the worker thread is in a call into Paho; 0: it is not */
};

/* connection.c: how connections end. Worker thread. */
void paho_connection_free(struct engine_connection *connection);
/* The connection was opened, or is not opened any more. */
void paho_connection_end_opening(struct engine_connection *connection);
/* See engine_ops.close. */
void paho_connection_close(struct engine_connection *connection, bool with_will);
/* The connection ended: Paho must release it like one that is closed. */
void paho_connection_end(struct engine_connection *connection);
/* Lets Paho release a bounded number of them. */
void paho_connection_release_closed(struct engine *engine);

/* delivery.c: delivers the posted events of one connection. False: nothing. Worker thread. */
bool paho_delivery_next(struct engine *engine);

/* options.c: passes the connection to Paho. */
enum err paho_connect(struct engine_connection *connection);
void paho_close_material(struct engine_connection *connection);

/* requests.c: see engine_ops. */
enum err paho_subscribe(struct engine_connection *connection,
                        const struct client_subscription *subscriptions, size_t *n);
enum err paho_unsubscribe(struct engine_connection *connection, char *const *filters, size_t *n);
enum err paho_publish(struct engine_connection *connection,
                      const struct engine_publication *publication, uint64_t token);

/* callbacks.c: Paho's threads run these. */
enum err paho_set_callbacks(struct engine_connection *connection);
void paho_fill_connect_options(struct engine_connection *connection, void *options);
/* options: MQTTAsync_responseOptions */
void paho_fill_subscribe_options(struct paho_subscribe *packet, void *options);
void paho_fill_unsubscribe_options(struct engine_connection *connection, void *options);
void paho_fill_publish_options(struct paho_publication *publication, int protocol_version,
                               void *options);
/* Marks the connection and wakes the worker. engine->lock is held. */
void paho_post(struct engine_connection *connection, enum paho_event event);
/* The publication was not acknowledged and may have ended the connection. engine->lock is held. */
void paho_note_suspect(struct engine_connection *connection,
                       const struct paho_publication *publication);
/* Only the first cause of the end counts. engine->lock is held. */
void paho_post_closed(struct engine_connection *connection, const struct engine_closed *closed);

/* silence.c: ends connections whose broker has been silent for two keepalives. Worker thread. */
void paho_silence_check(struct engine *engine, int64_t now_ms);

/* message.c */
/* Around every call into Paho, which may wait for its mutex while a message is held. Worker thread.
 */
void paho_call_begin(struct engine *engine);
void paho_call_end(struct engine *engine);
/* Whether a message has been held for so long that calls into Paho should wait. */
bool paho_is_stalled(struct engine *engine);
int paho_message_arrived(void *context, char *topic, int topic_len, void *message);
/* From now on, a held message of the connection is given up at give_up_at_ms. Worker thread. */
void paho_hold_give_up(struct engine_connection *connection, int64_t give_up_at_ms);
/* Of messages that were given up. After Paho's threads have ended. */
void paho_hold_free_answered(struct engine *engine);
/* message: MQTTAsync_message, borrowed. topic NULL: out of memory, not accepted. */
void paho_deliver(struct engine_connection *connection, const char *topic, const void *message);

/* qos2.c: an MQTTClient_persistence; NULL: out of memory. The caller frees it after the handle. */
void *paho_qos2_persistence(struct engine_connection *connection);

/* net.c */
/* Whether Paho's calls reach this file at all: not if the program hides its symbols. */
bool paho_net_is_interposed(void);
/* The next look-up and connect(2) of Paho are for this socket. One at a time. paho_net_end frees
 * the place; the connect does so too, and then writes to notify_fd. */
bool paho_net_begin(const char *host, const struct sockaddr *address, struct paho_socket *socket,
                    int notify_fd);
/* Steps that Paho has not started for this socket fail from now on; the place stays in use. */
void paho_net_withdraw(const struct paho_socket *socket);
void paho_net_end(struct paho_socket *socket);
bool paho_net_busy(void);
void paho_socket_init(struct paho_socket *socket);
void paho_socket_end_probe(struct paho_socket *socket);
/* Whether any byte arrived from the peer. */
bool paho_socket_has_received(struct paho_socket *socket);
/* Ends the connection below Paho: what Paho writes from now on does not reach the broker. */
void paho_socket_drop(struct paho_socket *socket);
/* Milliseconds since the last byte arrived; -1: unknown. */
int64_t paho_socket_silent_ms(struct paho_socket *socket);

/* waker.c: Paho's receive thread checks a new or writable socket only at its next poll, up to 1.1 s
 * later. A Paho connection to ourselves gives it something to read at any time. It also keeps
 * Paho's threads running while there is no client. */
struct paho_waker *paho_waker_create(int epoll_fd, int notify_fd);
void paho_waker_destroy(struct paho_waker *waker);
void paho_waker_poll(struct paho_waker *waker); /* worker thread */
void paho_waker_wake(struct paho_waker *waker);
/* Paho checks keepalives at a tenth of the interval of the last connect: sets it for the shortest
 * one. */
void paho_waker_set_keepalive(struct paho_waker *waker, uint16_t keepalive_s);

#endif
