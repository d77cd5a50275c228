/* Inside of the engine `reactor`: what its files share. Only src/mqtt/reactor includes this.
 *
 *   open --> OPENING --stream ready--> GREETING --CONNACK--> UP --close--> LEAVING --> PARTING
 *               |                         |                  |                |           |
 *               +-------------------------+----- end --------+----------------+-----------+
 *                                                            |
 *                                                            +--> ENDED
 *
 *   broker --> stream --> input --> packets --> events->message --> sink
 *                                                                    |   (sink's thread)
 *   broker <-- stream <-- out <-- PUBACK/PUBREC in order <-- answered list
 *
 * One thread, the host's; others touch the answered list alone. */
#ifndef MQFLEET_REACTOR_REACTOR_H
#define MQFLEET_REACTOR_REACTOR_H

#include <stdatomic.h>
#include "base/buffer.h"
#include "coalesce.h"
#include "inbound.h"
#include "mqtt/broker/address_list.h"
#include "mqtt/engine.h"
#include "mqtt/reason_codes.h"
#include "mqtt/reactor/packet/packet.h"
#include "mqtt/reactor/stream/stream.h"
#include "timer_wheel.h"

#define REACTOR_INPUT_SIZE 65536 /* read from one connection per turn */

enum connection_reading {
    READING_ALL,
    READING_AHEAD,   /* messages wait for their sink, what stands behind them is taken */
    READING_NOTHING, /* too much waits already, or `out` is behind */
};

enum connection_state {
    CONNECTION_OPENING,          /* TCP, TLS, WebSocket */
    CONNECTION_AWAITING_CONNACK, /* CONNECT is on its way, CONNACK to come */
    CONNECTION_UP,
    CONNECTION_DRAINING, /* told to close: takes no more, acknowledges what sinks still accept */
    CONNECTION_DISCONNECTING, /* DISCONNECT is sent, the server is to close */
    CONNECTION_ENDED,         /* the stream is closed, the closed event to come */
};

/* What a connection waits for in the engine's next turn. */
enum connection_task {
    TASK_READ = 1,         /* there is more than the descriptor shows */
    TASK_FLUSH = 2,        /* `out` has something new */
    TASK_REPORT = 4,       /* publications are settled */
    TASK_END = 8,          /* tell the host, and free */
    TASK_ACKNOWLEDGE = 16, /* sinks have accepted some of it */
    TASK_QUOTA = 32,       /* what was given up has perhaps used up the send quota */
};

/* A publication of ours until the host was told its end: for QoS 0 that it was written. */
struct outbound {
    struct outbound *prev, *next;
    uint64_t token;
    uint64_t written_at; /* the value of connection->out_total at which QoS 0 is written whole;
                            QoS 1 and 2: at which the last packet of it begins */
    uint16_t packet_id;
    uint16_t tries; /* PUBLISH was sent so often */
    uint8_t qos;
    uint8_t state;        /* enum outbound_state */
    uint8_t losses;       /* of connections, laid to it: at most OUTBOUND_LOSSES_MAX */
    bool was_written : 1; /* bytes of PUBLISH, on an earlier connection: nobody knows */
    bool in_doubt : 1;    /* the last connection ended while it was not acknowledged */
    uint8_t reason_code;  /* SETTLED */
    enum err result;      /* SETTLED */
    struct buffer bytes;  /* the PUBLISH; empty with QoS 0 and from PUBREC on */
};

enum outbound_state {
    OUTBOUND_QUEUED,   /* PUBLISH is to be sent */
    OUTBOUND_SENT,     /* PUBACK or PUBREC to come */
    OUTBOUND_RELEASED, /* QoS 2: PUBREC came, PUBCOMP to come */
    OUTBOUND_SETTLED,  /* the host is to be told */
};

#define OUTBOUND_KNOWN_MAX 8

/* Publications of QoS 0 to one topic on one connection. */
struct outbound_known {
    uint64_t topic; /* its hash */
    uint64_t ends_at;
    int64_t written_at_ms; /* the first of that size; 0: not yet */
    size_t size;           /* of the largest payload, or what counts as small; 0: a free place */
    bool retain;
};

/* The last publication of a connection for which no acknowledgement is to come: of QoS 0, or
 * refused in its acknowledgement. One of QoS 0 is left out if the connection has outlived another
 * like it. */
struct outbound_unacknowledged {
    int64_t at_ms;
    bool is_refused;
    uint8_t known_turn;
    struct outbound_known known[OUTBOUND_KNOWN_MAX];
    const struct outbound_known *kind; /* one of these; NULL: refused */
    uint64_t begins_at;                /* of connection->out_total */
    struct engine_suspect about;
};

struct engine_session { /* MQTT 5.0 section 4.1 */
    void *client;
    struct engine_connection *connection; /* NULL: none is open */
    uint32_t connection_number;           /* of that one, or the last */
    uint16_t last_packet_id;
    uint16_t inbound_count; /* in all of the following lists; at most one for each identifier */
    struct inbound *unacknowledged; /* of this connection, in the order of their acknowledgements */
    struct inbound *earlier;        /* came on an earlier one: the server will send them again */
    struct inbound *received;       /* QoS 2, until PUBREL */
    struct outbound *outbound;      /* in the order in which they were sent first */
    struct outbound *waiting;       /* the first that is to be sent on this connection, and with it
                                       all behind it; NULL: none */
    uint16_t offered;               /* of `unacknowledged`, with a sink */
    uint16_t in_flight;             /* of `outbound`, before `waiting` */
    uint16_t abandoned;     /* dropped while in flight: the server may still count them against its
                               receive maximum */
    bool suspect_in_flight; /* alone */
    struct outbound_retired
        *retired; /* packet identifiers of QoS 2 that were given up; NULL: none */
};

/* Tens of thousands of these: members that are small lie beside each other. */
struct engine_connection {
    struct engine *engine;
    void *client;
    const struct client_config *config;
    struct engine_session *session;
    struct engine_session **session_slot;
    struct stream stream;
    struct race *race; /* OPENING, several addresses: until TCP is there; else NULL */
    int8_t address;    /* what TCP connected to, of those that open() was given; -1: nothing yet */
    uint8_t end_step;  /* ENDED: enum stream_step that the stream had reached */
    uint8_t state;
    uint8_t tasks;
    uint8_t version;
    uint8_t reading;           /* enum connection_reading; but for ALL: in engine->paused */
    bool publications_resumed; /* the subscriptions are in order */
    bool proven;               /* something of what was owed is acknowledged, or nothing was owed */
    uint8_t server_maximum_qos;
    bool server_has_retain;
    bool skips_oversize; /* else one above packet_max ends the connection */
    uint8_t workarounds; /* enum engine_workaround */
    uint16_t keepalive_s;
    uint16_t send_maximum;  /* the server's receive maximum */
    uint16_t receiving;     /* inbound of this connection, against our receive maximum */
    uint16_t release_waits; /* looks at a message that finds no place until PUBREL comes */
    bool reports_suspects;  /* ENDED: `suspects` are those of the session */
    uint8_t epoll_events;   /* EPOLLIN, EPOLLOUT */
    struct {                /* SUBSCRIBE or UNSUBSCRIBE under way */
        uint16_t packet_id; /* 0: none */
        uint16_t count;
        uint8_t answer; /* PACKET_SUBACK or PACKET_UNSUBACK */
    } request;
    uint32_t server_packet_max; /* 0: none */
    uint32_t packet_max;        /* of what is taken */
    uint32_t connect_timeout_ms;
    uint32_t alias_bytes; /* of `aliases` */
    uint32_t held_back;   /* bytes of `in` that are whole messages; 0 while READING_ALL */
    struct engine_connection *task_prev, *task_next;
    struct engine_connection *paused_prev, *paused_next;
    struct timer_wheel_entry check_timer;

    struct buffer in;  /* messages that wait for their sink, then a packet that is not whole yet */
    struct buffer out; /* from out_sent on still to be sent */
    size_t out_sent;
    size_t held;        /* by these, the stream and `aliases`, as counted in engine->buffered */
    uint64_t out_total; /* bytes ever sent from `out` */
    struct outbound *unwritten; /* QoS 0 */
    struct outbound *settled;
    struct outbound_unacknowledged *last_unacknowledged; /* NULL: none */

    int64_t opened_at_ms, sent_at_ms, received_at_ms;
    int64_t acknowledged_at_ms; /* a publication, by any step; 0: none yet */
    int64_t written_at_ms;      /* the stream took bytes */
    int64_t ping_at_ms;         /* of the PINGREQ that is not answered; 0: none */

    char *assigned_client_id;
    char **aliases;    /* topic_alias_maximum topics; NULL: none used yet */
    struct skip *skip; /* a message that is being thrown away; NULL: none */

    /* ENDED: see struct engine_closed. */
    enum client_error closed_error;
    int closed_reason_code;
    char *closed_message;
    struct engine_suspects *suspects; /* NULL: none */
};

struct engine {
    const struct conf *conf;
    const struct engine_events *events;
    int epoll_fd, wake_fd, timer_fd;
    bool ticking_fast; /* the timer, while something is paused */
    struct tls_contexts *tls;
    struct timer_wheel timer_wheel;
    struct coalesce coalesce;
    struct race *races; /* with addresses not tried yet, by the time of the next */
    int worker_fd;      /* of the host: readable when somebody wants it */
    bool more_events;   /* than one look took */
    struct inbound_table inbound;
    struct engine_connection *tasks;  /* connections with tasks */
    struct engine_connection *paused; /* not READING_ALL: their sink is full, or `out` is */
    size_t connection_count;
    size_t buffered, buffered_max;     /* bytes that connections and publications hold */
    size_t held_back, held_back_count; /* of them, messages that wait for sinks; of connections */
    struct {                           /* the same as of the last turn, for other threads */
        _Atomic size_t buffered, held_back, held_back_count;
    } shown;
    struct sockaddr_storage *sources;
    size_t source_count, source_turn;
    uint8_t *input;
    struct buffer scratch; /* texts of the message being made */

    atomic_bool waiting;                /* perhaps asleep in poll(): answers must wake it */
    _Atomic(struct inbound *) answered; /* by sinks, newest first */
    struct inbound *not_accepted;       /* taken from there, to be dealt with in the next turn */
};

/* engine.c */
void reactor_task(struct engine_connection *connection, enum connection_task task);
/* Stops reading all that comes: from now on `reading`, until it is tried again. */
void reactor_pause(struct engine_connection *connection, enum connection_reading reading);
/* READING_ALL again. */
void reactor_resume(struct engine_connection *connection);

/* connection.c: from open to the closed event. */
enum err connection_open(struct engine *engine, const struct engine_open *open,
                         struct engine_connection **out) MUST_CHECK;
/* The descriptor is ready for `events` of epoll. */
void connection_ready(struct engine_connection *connection, uint32_t events);
/* Its time on the wheel has come. */
void connection_check(struct engine_connection *connection, int64_t now_ms);
void connection_close(struct engine_connection *connection, bool with_will);
/* Sinks have accepted something. */
void connection_acknowledge(struct engine_connection *connection);
/* CONNACK was good: from GREETING to UP. */
void connection_up(struct engine_connection *connection);
/* Ends it; the message is copied. The first end counts. What sinks have accepted is acknowledged in
 * one write that does not wait, so that it does not come again. */
void connection_end(struct engine_connection *connection, const struct engine_closed *closed);
/* The same without a word: the stream is gone, or the server ended it. */
void connection_abort(struct engine_connection *connection, const struct engine_closed *closed);
void connection_lost(struct engine_connection *connection, const struct stream_fault *fault);
/* The server broke the protocol: says so in DISCONNECT where the version has it, and ends. */
void connection_refuse(struct engine_connection *connection, const struct packet_fault *fault);
/* The same; the next connection will do otherwise, by `lesson` of enum engine_workaround (0: not).
 */
void connection_refuse_with_workaround(struct engine_connection *connection,
                                       const struct packet_fault *fault, unsigned lesson);
/* Tells the host, frees. */
void connection_finish(struct engine_connection *connection);

/* race.c: several addresses, until TCP has connected to one. */
/* Tries the first that can be; where none can, the connection ends. */
void race_begin(struct engine_connection *connection, const struct address_list *addresses);
/* One of its sockets is ready. True: the race is over, the stream has its socket. */
bool race_ready(struct engine_connection *connection);
/* Tries the next addresses where it is time. */
void race_start_due(struct engine *engine);
/* Until race_start_due is wanted: most_ms at most. */
int64_t race_wait_ms(const struct engine *engine, int64_t most_ms);
/* What came of each address so far. */
#define RACE_TEXT_LEN 600
void race_describe(const struct race *race, char out[RACE_TEXT_LEN]);
/* Closes all sockets but `kept` (-1: none), frees. */
void race_end(struct engine_connection *connection, int kept);
/* The local address for a socket to a broker's address; NULL: the system's choice. */
const struct sockaddr_storage *connection_source_address(struct engine *engine, int family);

/* greeting.c: what a broker does instead of CONNACK, and which setting is the likely cause. */
/* It closed after CONNECT. */
enum client_error greeting_closed(const struct engine_connection *connection);
/* It took too long for the step that the connection is at. */
enum client_error greeting_timeout(const struct engine_connection *connection);
/* The finer of `error`, by what the client's configuration gives. */
enum client_error greeting_fault(const struct engine_connection *connection,
                                 enum client_error error);
/* False: these first bytes begin no packet that could come now. len: at least 1. */
bool greeting_may_be_mqtt(const uint8_t *data, size_t len);
/* Ends the connection for the sake of an answer that is no MQTT. */
void greeting_refuse(struct engine_connection *connection, const uint8_t *data, size_t len);

/* output.c: what goes out, and how much is kept. */
/* Sends what `out` holds, as far as that goes. */
void output_flush(struct engine_connection *connection);
/* So much unsent that nothing more should be read, which would ask for more answers. */
bool output_is_behind(const struct engine_connection *connection);
/* Waits for what the state of the connection waits for. */
void output_watch(struct engine_connection *connection);
/* The last words of a connection that ends for another reason: whether they arrive changes nothing.
 */
void output_flush_final(struct engine_connection *connection);
/* Counts what the connection holds now. */
void output_count(struct engine_connection *connection);
/* The same. False: it is beyond the bound, and the connection ended. */
bool output_account(struct engine_connection *connection);

/* receive.c: from bytes to packets to what they mean. */
void receive_available(struct engine_connection *connection);
/* Takes the packet at `data`. 0: it is not whole, was not taken, or the connection ended. */
size_t receive_packet(struct engine_connection *connection, const uint8_t *data, size_t len);
/* So many bytes came, behind `kept` of a packet: perhaps a sign of life. */
void receive_note_life(struct engine_connection *connection, size_t n, size_t kept);
/* Paused: offers again what waits, and reads all. False: there is no room yet. */
bool receive_retry(struct engine_connection *connection);

/* ahead.c: what is read while the sink has no room. */
/* Instead of receive(): reads as much as may be kept. */
void read_ahead_receive(struct engine_connection *connection);
/* So many bytes of `in`, from its start, are whole messages that wait. */
void read_ahead_note_waiting(struct engine_connection *connection, size_t waiting);
/* Takes what stands in `in` behind those and is no message; the messages join them. */
void read_ahead_sort(struct engine_connection *connection);
/* Whether more may be kept. */
bool read_ahead_may_read(const struct engine_connection *connection);
/* Nothing is read because of the sink: what the broker answers cannot be heard. */
bool read_ahead_is_blocked(struct engine_connection *connection);
/* The connection ends: what nobody will send again is offered a last time. */
void read_ahead_end(struct engine_connection *connection);

/* deliver.c: PUBLISH to the host, acknowledgements from it. */
/* False: not taken; offer it again. */
bool deliver_publish(struct engine_connection *connection, const struct packet *packet);
void deliver_release(struct engine_connection *connection, const struct packet *pubrel);
/* Offers one that the server will not send again; dropped, and counted, if it is not taken. */
void deliver_final(struct engine_connection *connection, const struct packet *packet);
/* Whether one more message with an identifier may be kept. False: not now, or never: then the
 * connection ended. */
bool deliver_may_accept(struct engine_connection *connection);
/* Whether there is a message with that identifier, which takes no further place. */
bool deliver_has_packet_id(const struct engine_connection *connection, uint16_t packet_id);
/* Whether PUBREL with that identifier would end an exchange. */
bool deliver_may_release(const struct engine_connection *connection, uint16_t packet_id);
/* A message with an identifier that no sink gets: acknowledged in its turn with that reason. False:
 * it is known already, or the connection ended. */
bool deliver_discard(struct engine_connection *connection, const struct packet *packet,
                     uint8_t reason_code);

/* alias.c */
enum alias_result {
    ALIAS_FOUND,
    ALIAS_UNKNOWN, /* the message is to be skipped */
    ALIAS_ENDED,   /* the connection is */
};
/* How many are offered to the server. */
uint16_t alias_maximum(const struct engine_connection *connection);
/* The topic of a PUBLISH; notes an alias that it sets. */
enum alias_result alias_topic(struct engine_connection *connection, const struct packet *packet,
                              struct packet_slice *topic);
void alias_forget_all(struct engine_connection *connection);

/* skip.c: messages that are read and thrown away. */
/* At `data` is a packet above packet_max, its fixed header whole. How many bytes are done with; 0:
 * more are needed first, it waits, or the connection ended. */
size_t skip_oversize(struct engine_connection *connection, const uint8_t *data, size_t len,
                     const struct packet_frame *frame);
/* The same for a packet with that fault. */
size_t skip_malformed(struct engine_connection *connection, const uint8_t *data, size_t len,
                      const struct packet_fault *fault);
/* Goes on with connection->skip: so many of len bytes were of it. */
size_t skip_go_on(struct engine_connection *connection, size_t len);
/* A whole PUBLISH whose topic is not known. False: not taken; offer it again. */
bool skip_unknown_alias(struct engine_connection *connection, const struct packet *packet);
void skip_forget(struct engine_connection *connection);

/* answers.c: of sinks, and the acknowledgements that follow. */
/* From any thread: as engine_ops.acknowledge and flush. */
void answers_put(struct engine *engine, void *receipt, enum err err);
void answers_flush(struct engine *engine);
/* Notes what sinks have accepted; ends nothing. */
void answers_collect(struct engine *engine);
/* The same, and ends the connections whose messages were not accepted. */
void answers_take(struct engine *engine);
/* Writes into `out` the acknowledgements whose turn it is. False: none. */
bool answers_acknowledge(struct engine_connection *connection);

/* publish.c: our publications. */
enum err publish_submit(struct engine_connection *connection,
                        const struct engine_publication *publication, uint64_t token) MUST_CHECK;
/* Sends what may be sent, in order. */
void publish_next(struct engine_connection *connection);
/* PUBACK, PUBREC, PUBCOMP. */
void publish_acknowledged(struct engine_connection *connection, const struct packet *packet);
/* Out of its session, and of what is in flight. */
void publish_unlink(struct engine_session *session, struct outbound *outbound);
/* Tells the host, and frees. */
void publish_report_one(struct engine *engine, void *client, struct outbound *outbound,
                        enum err err, int reason_code);
/* Tells the host what is settled. */
void publish_report(struct engine_connection *connection);
/* What went into the stream and what never will. */
void publish_note_written(struct engine_connection *connection);
void publish_fail_unwritten(struct engine_connection *connection);

/* owed.c: what a session owes over its connections, and which of it a broker does not take. */
/* A connection begins: what was not judged of the one before is in doubt no longer. */
void outbound_attach(struct engine_session *session);
/* CONNACK was good. */
void outbound_begin(struct engine_connection *connection, bool session_present);
void outbound_resume(struct engine_connection *connection);
/* Whether this may be sent now. */
bool outbound_may_send(const struct engine_connection *connection, const struct outbound *outbound);
/* Nothing more is sent on this connection. all: what was not written yet will be. */
void outbound_interrupt(struct engine_connection *connection, bool all);
/* Ends a connection on which nothing can be sent any more: what was given up uses up the server's
 * receive maximum. */
void outbound_check_quota(struct engine_connection *connection);
/* On a connection that goes on its acknowledgement may still come. */
void outbound_give_up(struct engine *engine, struct engine_session *session,
                      struct outbound *outbound, enum give_up reason);
/* One loss for each that is in doubt. False: none was. */
bool outbound_charge_all(struct engine *engine, struct engine_session *session,
                         enum give_up reason);
/* The connection ended for this one. */
void outbound_blame_one(struct engine *engine, struct engine_session *session,
                        struct outbound *outbound, enum give_up reason);
/* The connection ended for an acknowledgement that is malformed. */
void outbound_blame_answer(struct engine *engine, struct engine_session *session);
bool outbound_blame(struct engine *engine, struct engine_session *session);
bool outbound_drop(struct engine *engine, struct engine_session *session, uint64_t token,
                   enum give_up reason);
bool outbound_status(const struct engine_session *session, uint64_t token,
                     struct engine_publication_status *out);
/* An acknowledgement of nothing that is known. */
void outbound_acknowledged_late(struct engine_connection *connection, const struct packet *packet);
/* A packet identifier of QoS 2 that the server may still know: not used again in this session. */
void outbound_retire(struct engine_session *session, uint16_t packet_id);
bool outbound_id_is_retired(const struct engine_session *session, uint16_t packet_id);
bool outbound_has_retired_too_many(const struct engine_session *session);
/* Answers all of which the server may have seen, or, all, every one: nobody knows. */
void outbound_fail(struct engine *engine, struct engine_session *session, bool all);
/* Of session_end. */
void outbound_fini(struct engine *engine, struct engine_session *session);

/* suspects.c: what of it may have ended a connection. */
/* A connection ended, with that reason code of the server's DISCONNECT; -1: without one. */
void suspects_end(struct engine_connection *connection, int reason_code);
/* Notes one of QoS 0, which lies between those values of out_total. */
void suspects_note_unacknowledged(struct engine_connection *connection,
                                  const struct engine_publication *publication, uint64_t begins_at,
                                  uint64_t ends_at);
/* Something of QoS 0 was written whole. */
void suspects_note_written(struct engine_connection *connection);
/* Notes one that the server refuses in its acknowledgement: perhaps it ends the connection too. */
void suspects_note_refused(struct engine_connection *connection, struct outbound *outbound);
/* Whether this code in an acknowledgement is one that only DISCONNECT may have. */
bool suspects_ends_connections(uint8_t reason_code, enum give_up *reason);

/* session.c */
struct engine_session *session_create(void *client);
/* A new connection begins. */
void session_attach(struct engine_session *session, struct engine_connection *connection);
/* A message that was just received, offered to a sink. NULL: out of memory. */
struct inbound *session_remember(struct engine *engine, struct engine_session *session,
                                 const struct packet *packet);
/* The server has no such session: everything received is forgotten. */
void session_forget_inbound(struct engine *engine, struct engine_session *session);
void session_forget(struct engine *engine, struct inbound *inbound);
void session_end(struct engine *engine, struct engine_session *session);
/* One that no publication uses, nor `taken`. */
uint16_t session_packet_id(struct engine_session *session, uint16_t taken);

#endif
