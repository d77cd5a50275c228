/* A connection to NATS, and the acknowledgements of JetStream that are due. The library calls back
 * on threads of its own; everything else is for the sink's thread. */
#ifndef MQFLEET_NATS_NATS_PUBLISHER_H
#define MQFLEET_NATS_NATS_PUBLISHER_H

#include <nats/nats.h>
#include "sink/sink_type.h"

struct nats_publisher;

/* Both are borrowed. ERR_ARGUMENT: fault (SINK_FAULT_LEN) says what is wrong with the url. */
enum err nats_publisher_create(struct nats_publisher **out,
                               const struct sink_environment *environment, const json_t *settings,
                               char *fault) MUST_CHECK;
void nats_publisher_destroy(struct nats_publisher *publisher);

/* Connects unless there is a connection. Resolving and connecting are bounded by timeout_ms of the
 * settings each. */
enum err nats_publisher_ensure_open(struct nats_publisher *publisher,
                                    struct sink_batch *batch) MUST_CHECK;
/* Between begin and end, outcomes of the batch are set by the library's threads. */
void nats_publisher_begin(struct nats_publisher *publisher, struct sink_batch *batch);
/* Takes ownership of the message, whose answer concerns that index. */
enum err nats_publisher_send(struct nats_publisher *publisher, size_t index, natsMsg *msg,
                             const char *message_id) MUST_CHECK;
/* Waits for all answers. ERR_OK: each message was accepted or rejected. */
enum err nats_publisher_end(struct nats_publisher *publisher) MUST_CHECK;

#endif
