/* Internals of the engine `reactor`, shared by its files. Only src/mqtt/reactor includes this.
 *
 *   open --> OPENING --> AWAITING_CONNACK --> UP --close--> DRAINING --> DISCONNECTING
 *               |               |              |                |              |
 *               +---------------+---- end -----+----------------+--------------+--> ENDED
 *
 *   broker --> stream --> input --> packets --> route_submit --> sink
 *                                                                 |   (sink's thread)
 *   broker <-- stream <-- out <-- PUBACK/PUBREC in order <-- list of receipts
 *
 * Runs on the worker thread; other threads only use the list of receipts. */
#ifndef MQFLEET_REACTOR_REACTOR_H
#define MQFLEET_REACTOR_REACTOR_H

#include <stdatomic.h>
#include "base/buffer.h"
#include "coalesce.h"
#include "received/inbound.h"
#include "mqtt/broker/address_list.h"
#include "mqtt/engine.h"
#include "mqtt/reason_codes.h"
#include "mqtt/reactor/packet/packet.h"
#include "mqtt/reactor/stream/stream.h"
#include "timer_wheel.h"

#define REACTOR_INPUT_SIZE 65536 /* bytes read from one connection per turn */

enum connection_reading {
    READING_ALL,
    READING_AHEAD,   /* messages wait for their sink or for the limits of the client, packets behind
                        them are processed */
    READING_NOTHING, /* too much is waiting, or `out` is behind */
};

enum connection_state {
    CONNECTION_OPENING,          /* TCP, TLS, WebSocket */
    CONNECTION_AWAITING_CONNACK, /* CONNECT is being sent or was sent */
    CONNECTION_UP,
    CONNECTION_DRAINING, /* closed by the worker: takes no more messages, acknowledges what sinks
                            still store */
    CONNECTION_DISCONNECTING, /* DISCONNECT is sent, the server should close */
    CONNECTION_ENDED,         /* the stream is closed, the closed event is pending */
};

/* The tasks of a connection in the engine's next turn. */
enum connection_task {
    TASK_READ = 1,         /* more can be read, although the descriptor does not show it */
    TASK_FLUSH = 2,        /* `out` has new data */
    TASK_REPORT = 4,       /* publications are settled */
    TASK_END = 8,          /* report the end to the worker, and free */
    TASK_ACKNOWLEDGE = 16, /* sinks have stored messages */
    TASK_QUOTA = 32,       /* publications that were given up may have used up the send quota */
};

/* A publication of ours until its end is reported; for QoS 0, that it was written. */
struct outbound {
    struct outbound *prev, *next;
    uint64_t token;
    uint64_t written_at; /* QoS 0: the value of connection->out_total at which it is completely
                            written; QoS 1 and 2: at which its last packet begins */
    uint16_t packet_id;
    uint16_t tries; /* how often PUBLISH was sent */
    uint8_t qos;
    uint8_t state;        /* enum outbound_state */
    uint8_t losses;       /* connections that ended because of it: at most OUTBOUND_LOSSES_MAX */
    bool was_written : 1; /* bytes of PUBLISH were sent on an earlier connection: the outcome is
                             unknown */
    bool in_doubt : 1;    /* not acknowledged when the last connection ended */
    uint8_t reason_code;  /* SETTLED */
    enum err result;      /* SETTLED */
    struct buffer bytes;  /* the PUBLISH; empty with QoS 0 and from PUBREC on */
};

enum outbound_state {
    OUTBOUND_QUEUED,   /* PUBLISH is to be sent */
    OUTBOUND_SENT,     /* waits for PUBACK or PUBREC */
    OUTBOUND_RELEASED, /* QoS 2: PUBREC received, waits for PUBCOMP */
    OUTBOUND_SETTLED,  /* its end is to be reported */
};

#define OUTBOUND_KNOWN_MAX 8

/* Publications of QoS 0 to one topic on one connection. */
struct outbound_known {
    uint64_t topic; /* its hash */
    uint64_t ends_at;
    int64_t written_at_ms; /* the first one of that size; 0: not yet */
    size_t
        size; /* of the largest payload, at least the size that counts as small; 0: a free slot */
    bool retain;
};

/* The last publication of a connection without a pending acknowledgement: of QoS 0, or refused in
 * its acknowledgement. One of QoS 0 is left out if the connection has outlived a similar one. */
struct outbound_unacknowledged {
    int64_t at_ms;
    bool is_refused;
    uint8_t known_turn;
    struct outbound_known known[OUTBOUND_KNOWN_MAX];
    const struct outbound_known *kind; /* the last one; NULL: it was refused */
    uint64_t begins_at;                /* of connection->out_total */
    struct engine_suspect about;
};

struct engine_session { /* MQTT 5.0 section 4.1 */
    void *client;
    struct engine_connection *connection; /* NULL: none is open */
    uint32_t connection_number;           /* of that connection, or of the last one */
    uint16_t last_packet_id;
    uint16_t inbound_count; /* of the following lists together; at most one per packet identifier */
    struct inbound
        *unacknowledged; /* of this connection, in the order in which they must be acknowledged */
    struct inbound *earlier;   /* of an earlier connection: the server will send them again */
    struct inbound *received;  /* QoS 2, until PUBREL */
    struct outbound *outbound; /* in the order in which they were first sent */
    struct outbound *waiting; /* the first to be sent on this connection, followed by all behind it;
                                 NULL: none */
    uint16_t offered;         /* of `unacknowledged`, with a sink */
    uint16_t in_flight;       /* of `outbound`, before `waiting` */
    uint16_t abandoned;     /* dropped while in flight: the server may still count them against its
                               receive maximum */
    bool suspect_in_flight; /* sent alone */
    struct outbound_retired
        *retired; /* packet identifiers of QoS 2 that were given up; NULL: none */
};

/* There are tens of thousands of these: small members are grouped. */
struct engine_connection {
    struct engine *engine;
    struct route *route; /* NULL: messages are thrown away */
    const struct client_config *config;
    struct engine_session *session;
    struct engine_session **session_slot;
    struct stream stream;
    struct race *race; /* OPENING, several addresses: until TCP is connected; otherwise NULL */
    int8_t
        address; /* index in open->addresses of the address that TCP connected to; -1: none yet */
    uint8_t end_step; /* ENDED: the enum stream_step that the stream had reached */
    uint8_t state;
    uint8_t tasks;
    uint8_t version;
    uint8_t reading; /* enum connection_reading; unless READING_ALL, it is in engine->paused, or
                        waits for its limits until check_timer expires */
    bool publications_resumed; /* the subscriptions are complete */
    bool proven;               /* a pending publication was acknowledged, or none was pending */
    uint8_t server_maximum_qos;
    bool server_has_retain;
    bool skips_oversize; /* otherwise a packet above packet_max ends the connection */
    uint8_t workarounds; /* enum engine_workaround */
    uint16_t keepalive_s;
    uint16_t send_maximum;  /* the server's receive maximum */
    uint16_t receiving;     /* inbound messages of this connection, against our receive maximum */
    uint16_t release_waits; /* retries for a message that has no place until PUBREL arrives */
    bool reports_suspects;  /* ENDED: `suspects` are those of the session */
    uint8_t epoll_events;   /* EPOLLIN, EPOLLOUT */
    struct {                /* SUBSCRIBE or UNSUBSCRIBE in flight */
        uint16_t packet_id; /* 0: none */
        uint16_t count;
        uint8_t answer; /* PACKET_SUBACK or PACKET_UNSUBACK */
    } request;
    uint32_t server_packet_max; /* 0: none */
    uint32_t packet_max;        /* of received packets */
    union {
        uint32_t connect_timeout_ms; /* until CONNACK */
        uint32_t ping_at_us;         /* then: as ping_at_ms, modulo 2^32 */
    };
    uint32_t alias_bytes; /* of `aliases` */
    uint32_t held_back;   /* bytes of `in` that are complete messages; 0 while READING_ALL */
    struct engine_connection *task_prev, *task_next;
    struct engine_connection *paused_prev, *paused_next;
    struct timer_wheel_entry check_timer;

    struct buffer in;  /* messages that wait for their sink, then an incomplete packet */
    struct buffer out; /* to be sent, from out_sent on */
    size_t out_sent;
    size_t held; /* bytes of these, the stream and `aliases`, as counted in engine->buffered */
    uint64_t out_total;         /* bytes ever sent from `out` */
    struct outbound *unwritten; /* QoS 0 */
    struct outbound *settled;
    struct outbound_unacknowledged *last_unacknowledged; /* NULL: none */

    int64_t opened_at_ms, sent_at_ms, received_at_ms;
    int64_t acknowledged_at_ms; /* the last acknowledgement of a publication, of any kind; 0: none
                                   yet */
    int64_t written_at_ms;      /* the last time the stream accepted bytes */
    int64_t ping_at_ms;         /* of the unanswered PINGREQ; 0: none */

    char *assigned_client_id;
    char **aliases;    /* topic_alias_maximum topics; NULL: none used yet */
    struct skip *skip; /* a message that is being skipped; NULL: none */

    /* ENDED: see struct engine_closed. */
    enum client_error closed_error;
    int closed_reason_code;
    char *closed_message;
    struct engine_suspects *suspects; /* NULL: none */
};

struct engine {
    const struct conf *conf;
    const struct engine_events *events;
    int epoll_fd, timer_fd;
    bool ticking_fast; /* the timer runs fast while a connection is paused */
    struct tls_contexts *tls;
    struct timer_wheel timer_wheel;
    struct coalesce coalesce;
    struct race *races; /* with addresses not tried yet, by the time of the next try */
    int worker_fd;      /* of the worker: readable when the worker is woken */
    bool more_events;   /* epoll returned as many events as it could */
    struct inbound_table inbound;
    struct engine_connection *tasks;  /* connections with tasks */
    struct engine_connection *paused; /* not READING_ALL: their sink is full, or `out` is */
    size_t connection_count;
    size_t buffered, buffered_max; /* bytes that connections and publications hold */
    size_t held_back,
        held_back_count; /* of these, messages that wait for sinks; number of such connections */
    struct {             /* the same as of the last turn, for other threads */
        _Atomic size_t buffered, held_back, held_back_count;
    } shown;
    struct sockaddr_storage *sources;
    size_t source_count, source_turn;
    uint8_t *input;
    struct buffer scratch; /* texts of the message being built */

    struct receipts receipts;     /* answers of sinks */
    struct receipt *not_accepted; /* taken from there, for the next turn */
};

/* engine.c */
void reactor_task(struct engine_connection *connection, enum connection_task task);
/* Reads less: `reading` from now on, until the connection is retried. */
void reactor_pause(struct engine_connection *connection, enum connection_reading reading);
/* Returns to READING_ALL. */
void reactor_resume(struct engine_connection *connection);

/* connection.c: from open to the closed event. */
enum err connection_open(struct engine *engine, const struct engine_open *open,
                         struct engine_connection **out) MUST_CHECK;
/* The descriptor is ready for `events` of epoll. */
void connection_ready(struct engine_connection *connection, uint32_t events);
/* The connection's timer has expired. */
void connection_check(struct engine_connection *connection, int64_t now_ms);
void connection_close(struct engine_connection *connection, bool with_will);
/* Sinks have stored messages. */
void connection_acknowledge(struct engine_connection *connection);
/* CONNACK was good: from GREETING to UP. */
void connection_up(struct engine_connection *connection);
/* Ends the connection; the message is copied. Only the first end counts. Messages that sinks have
 * stored are acknowledged in one non-blocking write, so that they are not sent again. */
void connection_end(struct engine_connection *connection, const struct engine_closed *closed);
/* The same without DISCONNECT: the stream is gone, or the server has ended it. */
void connection_abort(struct engine_connection *connection, const struct engine_closed *closed);
void connection_lost(struct engine_connection *connection, const struct stream_fault *fault);
/* The server broke the protocol: sends the reason in DISCONNECT if the version has it, and ends. */
void connection_refuse(struct engine_connection *connection, const struct packet_fault *fault);
/* The same; the next connection uses `workaround` of enum engine_workaround (0: none). */
void connection_refuse_with_workaround(struct engine_connection *connection,
                                       const struct packet_fault *fault, unsigned workaround);
/* Reports the end to the worker, and frees. */
void connection_finish(struct engine_connection *connection);

/* race.c: several addresses, until TCP has connected to one. */
/* Tries the first usable address; if there is none, the connection ends. */
void race_begin(struct engine_connection *connection, const struct address_list *addresses);
/* One of its sockets is ready. True: the race is over, the stream has its socket. */
bool race_ready(struct engine_connection *connection);
/* Tries the next addresses that are due. */
void race_start_due(struct engine *engine);
/* Time until race_start_due is needed: wait_ms_max at most. */
int64_t race_wait_ms(const struct engine *engine, int64_t wait_ms_max);
/* The result of each address so far. */
#define RACE_TEXT_LEN 600
void race_describe(const struct race *race, char out[RACE_TEXT_LEN]);
/* Closes all sockets except `kept` (-1: none), and frees. */
void race_end(struct engine_connection *connection, int kept);
/* The local address for a socket to a broker's address; NULL: the system chooses. */
const struct sockaddr_storage *connection_source_address(struct engine *engine, int family);

/* greeting.c: answers of a broker other than CONNACK, and the setting that is the likely cause. */
/* The broker closed after CONNECT. */
enum client_error greeting_closed(const struct engine_connection *connection);
/* The current step of the connection timed out. */
enum client_error greeting_timeout(const struct engine_connection *connection);
/* A more specific error than `error`, by the client's configuration. */
enum client_error greeting_fault(const struct engine_connection *connection,
                                 enum client_error error);
/* False: no expected packet starts with these bytes. len: at least 1. */
bool greeting_may_be_mqtt(const uint8_t *data, size_t len);
/* Ends the connection because of an answer that is not MQTT. */
void greeting_refuse(struct engine_connection *connection, const uint8_t *data, size_t len);

/* output.c: unsent bytes, and the memory bound. */
/* Sends as much of `out` as the stream accepts. */
void output_flush(struct engine_connection *connection);
/* So much is unsent that nothing more should be read, because reading creates more answers. */
bool output_is_behind(const struct engine_connection *connection);
/* Sets the epoll events that the state of the connection needs. */
void output_watch(struct engine_connection *connection);
/* Sends the remaining output of a connection that ends for another reason, if possible. */
void output_flush_final(struct engine_connection *connection);
/* Counts the memory that the connection holds now. */
void output_count(struct engine_connection *connection);
/* The same. False: the bound is exceeded, and the connection ended. */
bool output_account(struct engine_connection *connection);

/* receive.c: from bytes to packets to their effects. */
void receive_available(struct engine_connection *connection);
/* Processes the packet at `data`. 0: it is incomplete, was not accepted, or the connection ended.
 */
size_t receive_packet(struct engine_connection *connection, const uint8_t *data, size_t len);
/* n bytes arrived, after `kept` bytes of the same packet: perhaps a sign of life. */
void receive_note_life(struct engine_connection *connection, size_t n, size_t kept);
/* Offers again what waits, and reads everything. False: there is no room yet. */
bool receive_retry(struct engine_connection *connection);

/* received/read_ahead.c: reading while the sink has no room. */
/* In place of receive_available(): reads as much as may be kept. */
void read_ahead_receive(struct engine_connection *connection);
/* The first n bytes of `in` are complete messages that wait. */
void read_ahead_note_waiting(struct engine_connection *connection, size_t waiting);
/* Processes the packets behind these messages in `in`; further messages join the waiting ones. */
void read_ahead_sort(struct engine_connection *connection);
/* Whether more may be kept. */
bool read_ahead_may_read(const struct engine_connection *connection);
/* Nothing is read because of the sink: answers of the broker do not arrive. */
bool read_ahead_is_blocked(struct engine_connection *connection);
/* The connection ends: messages that the broker will not send again are offered one last time. */
void read_ahead_end(struct engine_connection *connection);

/* received/deliver.c: PUBLISH to the route of the client. */
/* False: not accepted; offer it again. */
bool deliver_publish(struct engine_connection *connection, const struct packet *packet);
void deliver_release(struct engine_connection *connection, const struct packet *pubrel);
/* Offers a message that the server will not send again. Dropped and counted if it is not accepted.
 */
void deliver_final(struct engine_connection *connection, const struct packet *packet);
/* Whether one more message with a packet identifier may be kept. False: not now, or never, and then
 * the connection ended. */
bool deliver_may_accept(struct engine_connection *connection);
/* Whether the sink's queue has room for a message that it rejected, or for a small one. */
bool deliver_has_room(const struct engine_connection *connection);
/* Until the limits of the client let a message pass; 0: now. */
int64_t deliver_limit_wait_ms(const struct engine_connection *connection);
/* Whether a message with that identifier is known, and so takes no further place. */
bool deliver_has_packet_id(const struct engine_connection *connection, uint16_t packet_id);
/* Whether PUBREL with that identifier would complete an exchange. */
bool deliver_may_release(const struct engine_connection *connection, uint16_t packet_id);
/* A message with an identifier that no sink gets: acknowledged in its turn, with that reason.
 * False: it is already known, or the connection ended. */
bool deliver_discard(struct engine_connection *connection, const struct packet *packet,
                     uint8_t reason_code);

/* received/alias.c */
enum alias_result {
    ALIAS_FOUND,
    ALIAS_UNKNOWN, /* skip the message */
    ALIAS_ENDED,   /* the connection ended */
};
/* How many aliases the server is offered. */
uint16_t alias_maximum(const struct engine_connection *connection);
/* The topic of a PUBLISH; records an alias that it sets. */
enum alias_result alias_topic(struct engine_connection *connection, const struct packet *packet,
                              struct packet_slice *topic);
void alias_forget_all(struct engine_connection *connection);

/* received/skip.c: messages that are read and discarded. */
/* `data` is a packet above packet_max with a complete fixed header. Returns how many bytes are done
 * with; 0: more are needed first, it waits, or the connection ended. */
size_t skip_oversize(struct engine_connection *connection, const uint8_t *data, size_t len,
                     const struct packet_frame *frame);
/* The same for a packet with that fault. */
size_t skip_malformed(struct engine_connection *connection, const uint8_t *data, size_t len,
                      const struct packet_fault *fault);
/* Continues connection->skip: returns how many of len bytes belong to it. */
size_t skip_go_on(struct engine_connection *connection, size_t len);
/* A complete PUBLISH with an unknown topic alias. False: not accepted; offer it again. */
bool skip_unknown_alias(struct engine_connection *connection, const struct packet *packet);
void skip_forget(struct engine_connection *connection);

/* received/answers.c: answers of sinks, and the acknowledgements that follow. */
/* Records what sinks have stored; ends nothing. */
void answers_collect(struct engine *engine);
/* The same, and ends the connections whose messages were not stored. */
void answers_take(struct engine *engine);
/* Writes the acknowledgements whose turn it is into `out`. False: none. */
bool answers_acknowledge(struct engine_connection *connection);

/* publications/publish.c: publications. */
enum err publish_submit(struct engine_connection *connection,
                        const struct engine_publication *publication, uint64_t token) MUST_CHECK;
/* Sends what may be sent, in order. */
void publish_next(struct engine_connection *connection);
/* PUBACK, PUBREC, PUBCOMP. */
void publish_acknowledged(struct engine_connection *connection, const struct packet *packet);
/* Removes it from its session, and from the publications in flight. */
void publish_unlink(struct engine_session *session, struct outbound *outbound);
/* Reports the end to the worker, and frees. */
void publish_report_one(struct engine *engine, void *client, struct outbound *outbound,
                        const struct publish_result *result);
/* Reports all settled publications. */
void publish_report(struct engine_connection *connection);
/* Settles the publications that the stream has accepted. */
void publish_note_written(struct engine_connection *connection);
void publish_fail_unwritten(struct engine_connection *connection);

/* publications/outbound.c: the publications of a session across its connections, and those that a
 * broker does not accept. */
/* A new connection: publications not judged after the previous one are no longer in doubt. */
void outbound_attach(struct engine_session *session);
/* CONNACK was successful. */
void outbound_begin(struct engine_connection *connection, bool session_present);
void outbound_resume(struct engine_connection *connection);
/* Whether this one may be sent now. */
bool outbound_may_send(const struct engine_connection *connection, const struct outbound *outbound);
/* Nothing more is sent on this connection. all: unwritten ones stay with the session. */
void outbound_interrupt(struct engine_connection *connection, bool all);
/* Ends a connection on which nothing can be sent any more, because publications that were given up
 * use up the server's receive maximum. */
void outbound_check_quota(struct engine_connection *connection);
/* On a connection that continues, its acknowledgement may still arrive. */
void outbound_give_up(struct engine *engine, struct engine_session *session,
                      struct outbound *outbound, enum give_up reason);
/* A loss for each one that is in doubt. False: none was. */
bool outbound_charge_all(struct engine *engine, struct engine_session *session,
                         enum give_up reason);
/* The connection ended because of this one. */
void outbound_blame_one(struct engine *engine, struct engine_session *session,
                        struct outbound *outbound, enum give_up reason);
/* The connection ended because of a malformed acknowledgement. */
void outbound_blame_answer(struct engine *engine, struct engine_session *session);
bool outbound_blame(struct engine *engine, struct engine_session *session);
bool outbound_drop(struct engine *engine, struct engine_session *session, uint64_t token,
                   enum give_up reason);
bool outbound_status(const struct engine_session *session, uint64_t token,
                     struct engine_publication_status *out);
/* An acknowledgement of an unknown publication. */
void outbound_acknowledged_late(struct engine_connection *connection, const struct packet *packet);
/* The server may still know this packet identifier of QoS 2: it is not used again in this session.
 */
void outbound_retire(struct engine_session *session, uint16_t packet_id);
bool outbound_id_is_retired(const struct engine_session *session, uint16_t packet_id);
bool outbound_has_retired_too_many(const struct engine_session *session);
/* Answers all that the server may have seen; all: every one. Their outcome is unknown. */
void outbound_fail(struct engine *engine, struct engine_session *session, bool all);
/* For session_end. */
void outbound_fini(struct engine *engine, struct engine_session *session);

/* publications/suspects.c: publications that may have ended a connection. */
/* A connection ended, with that reason code of the server's DISCONNECT; -1: none. */
void suspects_end(struct engine_connection *connection, int reason_code);
/* Records one of QoS 0, which lies between those values of out_total. */
void suspects_note_unacknowledged(struct engine_connection *connection,
                                  const struct engine_publication *publication, uint64_t begins_at,
                                  uint64_t ends_at);
/* A publication of QoS 0 was completely written. */
void suspects_note_written(struct engine_connection *connection);
/* Records one that the server refuses in its acknowledgement: it may end the connection too. */
void suspects_note_refused(struct engine_connection *connection, struct outbound *outbound);
/* Whether this code of an acknowledgement is one that only DISCONNECT may have. */
bool suspects_ends_connections(uint8_t reason_code, enum give_up *reason);

/* session.c */
struct engine_session *session_create(void *client);
/* A new connection starts. */
void session_attach(struct engine_session *session, struct engine_connection *connection);
/* A message that was just received and offered to a sink. NULL: out of memory. */
struct inbound *session_remember(struct engine *engine, struct engine_session *session,
                                 const struct packet *packet);
/* The server has no such session: forgets all received messages. */
void session_forget_inbound(struct engine *engine, struct engine_session *session);
void session_forget(struct engine *engine, struct inbound *inbound);
void session_end(struct engine *engine, struct engine_session *session);
/* An identifier that no publication uses, and not `taken`. */
uint16_t session_packet_id(struct engine_session *session, uint16_t taken);

#endif
