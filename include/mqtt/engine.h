/* The MQTT implementation that a worker uses. An engine only opens, closes, subscribes, publishes,
 * acknowledges and reports. The worker does the rest: backoff, rate limits, lease, restoring
 * subscriptions, counters.
 *
 * All operations and events run on the worker thread (events during poll()).
 *
 * Messages are not events: an engine submits them to the route of their client (message/router.h),
 * and acknowledges one of QoS 1 and 2 when its receipt has come back with ERR_OK. A message for
 * which a sink has no room is offered again later. */
#ifndef MQFLEET_MQTT_ENGINE_H
#define MQFLEET_MQTT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "message/router.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"
#include "mqtt/publish_result.h"

struct address_list;      /* mqtt/broker/address_list.h */
struct engine;            /* one per worker */
struct engine_connection; /* one per open(), until its closed event */
struct engine_session;    /* the session state of a client and its broker between connections */

/* Workarounds learned from the ends of a client's connections, and used for its next ones. */
enum engine_workaround {
    ENGINE_WORKAROUND_SKIP_MALFORMED =
        1, /* skip a malformed PUBLISH instead of ending the connection */
    ENGINE_WORKAROUND_NO_ALIASES = 2, /* offer the server no topic aliases */
};

#define ENGINE_SUSPECTS_MAX      8
#define ENGINE_SUSPECT_TOPIC_LEN 128

/* A publication of this node that may have ended a connection. It was written at least in part and
 * not acknowledged or, with QoS 0, written shortly before. */
struct engine_suspect {
    char topic[ENGINE_SUSPECT_TOPIC_LEN]; /* cut, possibly within a character; "": unknown */
    size_t payload_len;
    uint8_t qos;
    bool retain;
};

enum engine_suspicion {
    SUSPICION_BY_TIME,        /* they were sent before the connection ended */
    SUSPICION_BY_REASON_CODE, /* the reason code of DISCONNECT points to them */
    SUSPICION_GIVEN_UP        /* the same, and to one of them, which was given up */
};

/* The suspects of one connection. If there are many, only the first are described. */
struct engine_suspects {
    size_t count;
    size_t described; /* min(count, ENGINE_SUSPECTS_MAX) */
    enum engine_suspicion suspicion;
    struct engine_suspect suspects[ENGINE_SUSPECTS_MAX];
};

/* Why a connection failed or ended. */
struct engine_closed {
    enum client_error error;
    const char *message; /* borrowed during the event; NULL: the error's own text */
    int reason_code;     /* CONNACK return or reason code, or the code of DISCONNECT; -1: none */
    int address; /* index in open->addresses of the address that TCP connected to; -1: none */
    uint8_t workarounds; /* of enum engine_workaround, including those it was opened with */
    const struct engine_suspects *suspects; /* NULL: none; borrowed during the event */
};

enum engine_publication_state {
    PUBLICATION_QUEUED,   /* not sent on this connection */
    PUBLICATION_SENT,     /* waits for PUBACK or PUBREC */
    PUBLICATION_RELEASED, /* QoS 2: PUBREC received, waits for PUBCOMP */
};

struct engine_publication_status {
    enum engine_publication_state state;
    bool held_up; /* never sent, because others use up the server's receive maximum */
    int64_t
        acknowledged_at_ms; /* held up: the last acknowledgement on this connection; 0: none yet */
    unsigned tries;         /* how often it was sent */
    unsigned losses;        /* connections that ended because of it */
};

struct engine_connack {
    bool session_present;
    uint32_t session_expiry_s;        /* granted; 0: not sent */
    uint16_t server_keepalive_s;      /* 0: not sent */
    uint8_t maximum_qos;              /* 2 unless sent */
    uint16_t receive_maximum;         /* 65535 unless sent; 0: unknown (paho) */
    const char *assigned_client_id;   /* NULL: none */
    int address;                      /* index in open->addresses */
    int64_t certificate_expires_at_s; /* of the broker, since 1970; 0: no TLS, or unknown */
};

/* Memory used by an engine. */
struct engine_buffers {
    size_t bytes, bytes_max; /* of packets that are incomplete, unsent or waiting */
    size_t held_back_bytes, held_back_clients; /* received, waiting for room in a sink */
};

enum engine_skip {
    ENGINE_SKIP_OVERSIZE, /* larger than the setting max_packet_bytes */
    ENGINE_SKIP_TOPIC,    /* its topic is malformed */
    ENGINE_SKIP_ALIAS,    /* its topic is an unknown alias */
    ENGINE_SKIP_CONTENT,  /* malformed otherwise */
    ENGINE_SKIP_COUNT
};

/* A message that was read and discarded. Strings are borrowed during the event. */
struct engine_skipped {
    enum engine_skip reason;
    const char *topic; /* printable; not for machines */
    size_t bytes;      /* of the packet */
    uint8_t qos;
};

struct engine_publication {
    const char *topic;
    const uint8_t *payload;
    size_t payload_len;
    uint8_t qos;
    bool retain;
    const struct message_property *properties; /* as in base/message.h */
    size_t property_count;
};

/* `client` is the value given to open(). After close(), only pending published events and then the
 * closed event follow. Before that, also within close(), messages that wait for room and that the
 * broker will not send again go to the route one last time, without a receipt. */
struct engine_events {
    void (*connected)(void *client, const struct engine_connack *connack);
    void (*closed)(void *client, const struct engine_closed *closed);
    /* codes[n]: one reason code per filter of the request, in its order. */
    void (*subscribed)(void *client, const uint8_t *codes, size_t n);
    /* The same for UNSUBSCRIBE. n 0: the protocol or the library provides no codes. */
    void (*unsubscribed)(void *client, const uint8_t *codes, size_t n);
    /* The publication has ended. Called exactly once per accepted publish(). With a session that
     * outlives the connection, this may happen on a later connection, at the latest in
     * session_end(). result: borrowed during the event; never ERR_TIMEOUT. */
    void (*published)(void *client, uint64_t token, const struct publish_result *result);
    /* More of a large, incomplete message has arrived. NULL: not reported. */
    void (*receiving)(void *client);
    /* The round trip of a PINGREQ. NULL: not reported. paho never reports it. */
    void (*pinged)(void *client, int64_t us);
    /* A message was discarded, and acknowledged if possible. NULL: not reported. */
    void (*skipped)(void *client, const struct engine_skipped *skipped);
    /* While a connection is opened: whether one more of its sockets may connect at the same time
     * (the first needs no permission). Each permitted socket is returned with socket_over. Worker
     * thread. */
    bool (*may_connect)(void *client);
    void (*socket_done)(void *client);
};

struct engine_open {
    const struct client_config *config; /* borrowed until the closed event */
    struct sockaddr_storage address;    /* of the broker, allowed by the policy */
    socklen_t address_len;
    /* All addresses in the order of the attempts, `address` first; NULL: only that one. Borrowed
     * during the call. An engine that does not race them uses the first. */
    const struct address_list *addresses;
    int64_t connect_timeout_ms; /* to CONNACK */
    uint8_t workarounds;        /* of enum engine_workaround, from earlier connections */
    uint16_t keepalive_s;       /* of config, or as the broker requested last time */
    /* The client's session, kept between its connections; *session NULL: none yet. The engine sets
     * it, the worker ends it (session_end). */
    struct engine_session **session;
    /* Of the client's messages; borrowed until the closed event. NULL: messages are discarded, and
     * not acknowledged (reactor only). */
    struct route *route;
    void *client; /* passed to every event */
};

struct engine_ops {
    const char *name;
    unsigned workers_max; /* workers this engine can serve; 0: any number */
    struct engine *(*create)(const struct conf *conf, const struct engine_events *events);
    /* All connections must be closed. */
    void (*destroy)(struct engine *engine);
    /* Starts to connect. On an error nothing is started and no event follows. */
    enum err (*open)(struct engine *engine, const struct engine_open *open,
                     struct engine_connection **out);
    /* Sends DISCONNECT and releases the connection; the closed event follows within a few seconds
     * (paho: not while the sink of another client is stalled). with_will: the broker publishes the
     * will, because the reason is 0x04 or the connection is just closed. */
    void (*close)(struct engine_connection *connection, bool with_will);
    /* Discards a session without an open connection; NULL is legal. Unacknowledged publications get
     * their published event now, with ERR_UNAVAILABLE. */
    void (*session_end)(struct engine *engine, struct engine_session *session);
    /* A connection has at most one SUBSCRIBE or UNSUBSCRIBE in flight; the worker waits for the
     * event. All filters of one SUBSCRIBE have the same identifier. Sends as many of the first *n
     * as fit into the largest packet that the server accepts, and sets *n to their number.
     * ERR_ARGUMENT with *n 0: not even the first fits, and nothing was sent. */
    enum err (*subscribe)(struct engine_connection *connection,
                          const struct client_subscription *subscriptions, size_t *n);
    enum err (*unsubscribe)(struct engine_connection *connection, char *const *filters, size_t *n);
    enum err (*publish)(struct engine_connection *connection,
                        const struct engine_publication *publication, uint64_t token);
    /* The subscriptions are complete: pending publications of the session may be sent, followed by
     * publications that publish() has accepted in the meantime. May be called again. NULL: the
     * engine waits for nothing. */
    void (*resume_publications)(struct engine_connection *connection);
    /* Blames the suspects of a connection for its end: each gets a loss. One with two losses is
     * given up and gets its published event now. session: the client's, NULL when it ended with the
     * connection; no connection is open. True: the next connection will be different. */
    bool (*publications_blame)(struct engine *engine, struct engine_session *session);
    /* Gives one publication up, with its published event now. False: not found. NULL: not
     * supported. */
    bool (*publication_drop)(struct engine *engine, struct engine_session *session, uint64_t token,
                             enum give_up reason);
    /* False: not found. NULL: not supported. */
    bool (*publication_status)(const struct engine_session *session, uint64_t token,
                               struct engine_publication_status *out);
    /* Whether a full sink blocks the connection, so that the broker's answers are not read. As of
     * the connection's last turn. */
    bool (*is_read_blocked)(struct engine_connection *connection);
    /* As of the engine's last turn. Any thread. NULL: unknown. */
    void (*buffers)(const struct engine *engine, struct engine_buffers *out);
    /* Makes poll() return when `fd` is readable; an engine has one such descriptor. False: no
     * descriptors left. */
    bool (*watch)(struct engine *engine, int fd);
    /* Waits at most timeout_ms for work, then delivers a bounded number of events. While messages
     * arrive fast, it may start with a pause of the setting coalesce_ms, which ends when the
     * watched descriptor is readable. */
    void (*poll)(struct engine *engine, int64_t timeout_ms);
};

extern const struct engine_ops engine_reactor;
extern const struct engine_ops engine_paho;

/* By name, as in the setting `engine`; NULL: unknown. */
const struct engine_ops *engine_find(const char *name);

#endif
