/* Messages that a broker refuses, with PUBACK or by ending the connection. Some brokers refuse a
 * message only by ending the connection, without naming the message. Pure; the sink's thread.
 *
 * A refused message (PUBACK with a code that is not about its content) waits until the others of
 * its batch were sent.
 *
 * After two connections in a row that ended with messages in flight, messages are sent alone.
 * If a connection ends with its first and only message in flight, that message is a suspect. It
 * waits until another message was accepted, and is then sent once more, alone. If that
 * connection ends too, the message is rejected: the broker accepts others, but not this one. */
#ifndef MQFLEET_SINK_MQTT_DOUBT_H
#define MQFLEET_SINK_MQTT_DOUBT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MQTT_DOUBT_LIST_MAX 128

struct mqtt_doubt_list { /* numbers of messages */
    size_t count;
    uint64_t numbers[MQTT_DOUBT_LIST_MAX];
};

struct mqtt_doubt {  /* zero at first */
    unsigned losses; /* connections in a row that ended with messages in flight */
    size_t alone;    /* how many messages, from the next on, are sent alone */
    struct mqtt_doubt_list suspects, refused;
};

/* The end of a connection with messages in flight. */
struct mqtt_doubt_loss {
    size_t in_flight;
    uint64_t first;   /* number of the first message in flight */
    size_t sent;      /* messages on this connection during this write */
    bool others_pass; /* one of them was accepted */
};

enum mqtt_doubt_verdict { MQTT_DOUBT_OPEN, MQTT_DOUBT_GUILTY };

bool mqtt_doubt_has(const struct mqtt_doubt_list *list, uint64_t number);
bool mqtt_doubt_sends_alone(const struct mqtt_doubt *doubt);
/* The broker has accepted or rejected the message. */
void mqtt_doubt_note_answer(struct mqtt_doubt *doubt, uint64_t number);
/* False: too many wait, so nothing more should be sent for now. */
bool mqtt_doubt_note_refused(struct mqtt_doubt *doubt, uint64_t number);
enum mqtt_doubt_verdict mqtt_doubt_note_loss(struct mqtt_doubt *doubt,
                                             const struct mqtt_doubt_loss *loss);
/* All messages of a batch were accepted or rejected, and the connection continues. */
void mqtt_doubt_note_success(struct mqtt_doubt *doubt);

#endif
