/* Received messages, shown live to those who tail a client. A tap never slows or changes what the
 * sink gets: it makes a text of the message before the sink takes it and puts it into the rings of
 * those who watch, afterwards. While nobody tails, a message costs one relaxed load. Any thread. */
#ifndef MQFLEET_STREAMS_MESSAGE_TAPS_H
#define MQFLEET_STREAMS_MESSAGE_TAPS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "message/message.h"
#include "http/streams/event_stream.h"

#define MESSAGE_TAPS_PAYLOAD_BYTES_MAX 65536 /* bytes of a payload that are shown */

struct message_taps;
struct tapped_message; /* a message as its watchers will see it */

struct message_taps *message_taps_create(void);
void message_taps_destroy(struct message_taps *taps); /* without watchers */

/* From now on the messages of that client go to the stream, which is borrowed until
 * message_taps_remove. ERR_MEMORY. */
enum err message_taps_add(struct message_taps *taps, const char *id,
                          struct event_stream *stream) MUST_CHECK;
/* Legal when it was not added. */
void message_taps_remove(struct message_taps *taps, struct event_stream *stream);

/* Before the message is given away. NULL: nobody watches its client. */
struct tapped_message *message_taps_prepare(struct message_taps *taps,
                                            const struct message *message);
/* After it was: shows it, or (not taken: it will be offered again) forgets it. NULL is legal. */
void message_taps_deliver(struct message_taps *taps, struct tapped_message *note, bool taken);

#endif
