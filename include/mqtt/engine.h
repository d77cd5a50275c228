/* What speaks MQTT for a host. An engine only opens, closes, subscribes, publishes, acknowledges
 * and reports; backoff, pacing, lease, subscriptions to restore and counters are the host's.
 *
 * Threads: every operation and every event is on the host's thread (events come out of poll()),
 * except events->message, which may come on a thread of the engine. */
#ifndef MQFLEET_MQTT_ENGINE_H
#define MQFLEET_MQTT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "message/message.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"
#include "mqtt/give_up.h"

struct address_list;      /* mqtt/address_list.h */
struct engine;            /* one per host */
struct engine_connection; /* one per open(), until its closed event */
struct engine_session;    /* what a client and its broker keep from connection to connection */

/* What the ends of a client's connections taught, to be heeded by its next ones. */
enum engine_workaround {
    ENGINE_WORKAROUND_SKIP_MALFORMED =
        1, /* a malformed PUBLISH is skipped instead of ending the connection */
    ENGINE_WORKAROUND_NO_ALIASES = 2, /* the server is offered no topic aliases */
};

#define ENGINE_SUSPECTS_MAX      8
#define ENGINE_SUSPECT_TOPIC_LEN 128

/* A publication of ours that may be why a connection ended: it was written, at least in part, and
 * not acknowledged; with QoS 0: it was written shortly before. */
struct engine_suspect {
    char topic[ENGINE_SUSPECT_TOPIC_LEN]; /* cut off, not at a whole character; "": not known */
    size_t payload_len;
    uint8_t qos;
    bool retain;
};

/* Those of one connection; of many, the first are described. */
struct engine_suspects {
    size_t count;
    size_t described;    /* min(count, ENGINE_SUSPECTS_MAX) */
    bool by_reason_code; /* the reason code of DISCONNECT speaks against them */
    bool given_up;       /* and against one alone, which was given up */
    struct engine_suspect suspects[ENGINE_SUSPECTS_MAX];
};

/* Why a connection failed or ended. */
struct engine_closed {
    enum client_error error;
    const char *message; /* borrowed during the event; NULL: the error's own text */
    int reason_code;     /* CONNACK return or reason code, or DISCONNECT's; -1: none */
    int address;         /* index in open->addresses of what TCP connected to; -1: nothing */
    uint8_t workarounds; /* of enum engine_workaround, those that it was opened with too */
    const struct engine_suspects *suspects; /* NULL: none; borrowed during the event */
};

enum engine_publication_state {
    PUBLICATION_QUEUED,   /* not sent on this connection */
    PUBLICATION_SENT,     /* PUBACK or PUBREC to come */
    PUBLICATION_RELEASED, /* QoS 2: PUBREC came, PUBCOMP to come */
};

struct engine_publication_status {
    enum engine_publication_state state;
    bool held_up;               /* never sent: the server's receive maximum is used up by others */
    int64_t acknowledged_at_ms; /* held up: something, on this connection; 0: nothing yet */
    unsigned tries;             /* how often it was sent */
    unsigned losses;            /* of connections that are laid to it */
};

struct engine_connack {
    bool session_present;
    uint32_t session_expiry_s;        /* granted; 0 when not said */
    uint16_t server_keepalive_s;      /* 0: not said */
    uint8_t maximum_qos;              /* 2 unless said */
    const char *assigned_client_id;   /* NULL: none */
    int address;                      /* index in open->addresses */
    int64_t certificate_expires_at_s; /* of the broker, since 1970; 0: no TLS, or not known */
};

/* What an engine keeps in memory. */
struct engine_buffers {
    size_t bytes, bytes_max; /* of packets that are not whole, not sent, or wait */
    size_t held_back_bytes, held_back_clients; /* received, and waiting for room in a sink */
};

enum engine_skip {
    ENGINE_SKIP_OVERSIZE, /* larger than the setting max_packet_bytes */
    ENGINE_SKIP_TOPIC,    /* its topic is malformed */
    ENGINE_SKIP_ALIAS,    /* its topic is an alias that nobody knows */
    ENGINE_SKIP_CONTENT,  /* malformed otherwise */
    ENGINE_SKIP_COUNT
};

/* A message that was read and thrown away. Strings borrowed during the event. */
struct engine_skipped {
    enum engine_skip reason;
    const char *topic; /* as people can read it: not for machines */
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

/* `client` is what open() was given. After close() only the published events still owed and then
 * the closed event come; before that, also within close(), messages that waited for room and that
 * nobody will send again, each a last time and without a receipt. */
struct engine_events {
    void (*connected)(void *client, const struct engine_connack *connack);
    void (*closed)(void *client, const struct engine_closed *closed);
    /* codes[n]: one reason code per filter of the request, in its order. */
    void (*subscribed)(void *client, const uint8_t *codes, size_t n);
    /* The same for an UNSUBSCRIBE; n 0: the protocol or the library knows no codes. */
    void (*unsubscribed)(void *client, const uint8_t *codes, size_t n);
    /* PUBACK/PUBCOMP (or written, for QoS 0): reason_code as received, 0 for MQTT 3.1.1.
     * ERR_REFUSED: given up, reason_code is an enum give_up; any other err: it was not
     * acknowledged. Comes exactly once per accepted publish(): with a session that outlives the
     * connection perhaps only on a later one, at the latest in session_end(). */
    void (*published)(void *client, uint64_t token, enum err err, int reason_code);
    /* An application message. The host takes ownership of `message` on ERR_OK and will later call
     * acknowledge once with `receipt` for QoS 1 and 2, from any thread; until then the engine does
     * not acknowledge to the broker. (A last offer, see above, has no receipt.) ERR_FULL: not
     * taken; the engine offers it again once there is room. Any thread; blocks shortly at most. */
    enum err (*message)(void *client, struct message *message, void *receipt);
    /* More came of a large message, which is not whole yet. NULL: not told. */
    void (*heard)(void *client);
    /* A message went to nobody, and was acknowledged if it could be. NULL: not told. */
    void (*skipped)(void *client, const struct engine_skipped *skipped);
    /* Messages were offered outside of poll(): what has to be done with them is to begin. Any
     * thread; does not block. */
    void (*flush)(void *client);
    /* Whether a message may be taken since the last ERR_FULL. Any thread; does not block. */
    bool (*has_room)(void *client);
    /* Blocks at most timeout_ms until so. Engine threads only. */
    void (*wait_room)(void *client, int64_t timeout_ms);
    /* While a connection is opened: whether one more socket of it may connect beside those that do
     * (the first needs no leave). Each that was allowed is given back with socket_over. Host
     * thread. */
    bool (*may_connect)(void *client);
    void (*socket_done)(void *client);
};

struct engine_open {
    const struct client_config *config; /* borrowed until the closed event */
    struct sockaddr_storage address;    /* of the broker, allowed by the policy */
    socklen_t address_len;
    /* All of them, in the order to try them, `address` the first; NULL: there is but that one.
     * Borrowed during the call. An engine that does not race them takes the first. */
    const struct address_list *addresses;
    int64_t connect_timeout_ms; /* to CONNACK */
    uint8_t workarounds;        /* of enum engine_workaround: what earlier connections taught */
    uint16_t keepalive_s;       /* config's, or what the broker asked for the last time */
    /* Where the client's session is kept between its connections; NULL there: none yet. Written by
     * the engine, ended by the host (session_end). */
    struct engine_session **session;
    void *client; /* given back with every event */
};

struct engine_ops {
    const char *name;
    unsigned workers_max; /* host threads this engine can serve; 0: as many as there are cores */
    struct engine *(*create)(const struct conf *conf, const struct engine_events *events);
    /* All connections must be closed. */
    void (*destroy)(struct engine *engine);
    /* Begins to connect. An error: nothing was begun, no event comes. */
    enum err (*open)(struct engine *engine, const struct engine_open *open,
                     struct engine_connection **out);
    /* Sends DISCONNECT (with_will: lets the broker publish the will, by reason 0x04 or by just
     * closing) and lets go; the closed event follows within a few seconds (paho: not while the
     * sink of another client is stalled). */
    void (*close)(struct engine_connection *connection, bool with_will);
    /* Forgets a session of which no connection is open; NULL is legal. Publications that nobody
     * acknowledged get their published event now, with ERR_UNAVAILABLE. */
    void (*session_end)(struct engine *engine, struct engine_session *session);
    /* One SUBSCRIBE or UNSUBSCRIBE in flight per connection; the host waits for the event. All of
     * one SUBSCRIBE have the same identifier. Asks for as many of the first *n as fit into the
     * largest packet that the server takes, and leaves their number in *n; ERR_ARGUMENT with 0
     * there: not even the first fits, and nothing was sent. */
    enum err (*subscribe)(struct engine_connection *connection,
                          const struct client_subscription *subscriptions, size_t *n);
    enum err (*unsubscribe)(struct engine_connection *connection, char *const *filters, size_t *n);
    enum err (*publish)(struct engine_connection *connection,
                        const struct engine_publication *publication, uint64_t token);
    /* The subscriptions are in order: what the session still owes may go out, and what publish()
     * took meanwhile after it. May be called again. NULL: the engine waits for nothing. */
    void (*resume_publications)(struct engine_connection *connection);
    /* A connection that ended with suspects, of which it was not told, ended because of them, as
     * far as anybody can tell: a loss is laid to each. What has two is given up, with its published
     * event now. session: the client's, NULL when it ended with the connection; no connection is
     * open. True: the next connection will be another. */
    bool (*publications_blame)(struct engine *engine, struct engine_session *session);
    /* Gives one up, with its published event now. False: there is no such. NULL: it cannot. */
    bool (*publication_drop)(struct engine *engine, struct engine_session *session, uint64_t token,
                             enum give_up reason);
    /* False: there is no such. NULL: not known. */
    bool (*publication_status)(const struct engine_session *session, uint64_t token,
                               struct engine_publication_status *out);
    /* A sink is full, and nothing is read of the connection: what the broker answers cannot be
     * heard. */
    bool (*is_read_blocked)(struct engine_connection *connection);
    /* As of its last turn. Any thread. NULL: not known. */
    void (*buffers)(const struct engine *engine, struct engine_buffers *out);
    /* The message behind `receipt` is safe (or, result not ERR_OK, it will not be: the engine must
     * not acknowledge it). Seen by the engine when it next has something to do, at the latest at
     * the next flush(): an engine that is busy needs no wake-up. Any thread. */
    void (*acknowledge)(struct engine *engine, void *receipt, enum err err);
    void (*flush)(struct engine *engine);
    /* poll() no longer waits when `fd`, of which there is one, is readable. False: no descriptors
     * left. */
    bool (*watch)(struct engine *engine, int fd);
    /* Waits at most timeout_ms for something to do, then delivers events, a bounded number. While
     * messages come fast it may begin with a pause of the setting coalesce_ms, which ends when what
     * is watched is readable. */
    void (*poll)(struct engine *engine, int64_t timeout_ms);
};

extern const struct engine_ops engine_reactor;
extern const struct engine_ops engine_paho;

/* By name, as in the setting `engine`; NULL: unknown. */
const struct engine_ops *engine_find(const char *name);

#endif
