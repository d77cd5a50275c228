/* Replaces the queue of a sink (message/message_queue.h) in the programs of tests/unit/mqtt and in
 * the fuzzer of connections: messages go to functions of the test. Any thread may call them. */
#ifndef MQFLEET_TEST_QUEUE_DOUBLE_H
#define MQFLEET_TEST_QUEUE_DOUBLE_H

#include "message/message_queue.h"

struct queue_double {
    enum err (*put)(struct message_queue *queue, struct message *message, struct receipt *receipt);
    bool (*has_room)(const struct message_queue *queue);
};

/* NULL: the real functions. */
extern struct queue_double queue_double;

#endif
