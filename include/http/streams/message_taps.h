/* Shows received messages live to streams that tail a client. A tap neither delays nor changes
 * messages on their way to the sink. It formats a message before the sink accepts it, and puts the
 * text into the streams afterwards. Without tails, a message costs one relaxed load. Any thread. */
#ifndef MQFLEET_STREAMS_MESSAGE_TAPS_H
#define MQFLEET_STREAMS_MESSAGE_TAPS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "message/message.h"
#include "http/auth/scope.h"
#include "http/streams/event_stream.h"

#define MESSAGE_TAPS_PAYLOAD_BYTES_MAX 65536 /* bytes of a payload that are shown */

struct message_taps;
struct tapped_message; /* a message in the form in which its watchers get it */

struct message_taps *message_taps_create(void);
void message_taps_destroy(struct message_taps *taps); /* without watchers */

/* From now on the messages of that client, while it is in the scope, go to the stream, which is
 * borrowed until message_taps_remove. ERR_MEMORY. */
enum err message_taps_add(struct message_taps *taps, const char *id, const struct scope *scope,
                          struct event_stream *stream) MUST_CHECK;
/* Legal when it was not added. */
void message_taps_remove(struct message_taps *taps, struct event_stream *stream);

/* Call it before the sink accepts the message. NULL: no stream tails its client. */
struct tapped_message *message_taps_prepare(struct message_taps *taps,
                                            const struct message *message);
/* Puts the message into the streams. If the sink has not accepted it, discards the text, because
 * the message is delivered again. NULL is legal. */
void message_taps_deliver(struct message_taps *taps, struct tapped_message *note, bool taken);

#endif
