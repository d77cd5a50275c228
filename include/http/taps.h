/* Received messages, shown live to those who tail a client. A tap never slows or changes what the
 * sink gets: it makes a text of the message before the sink takes it and puts it into the rings of
 * those who watch, afterwards. While nobody tails, a message costs one relaxed load. Any thread. */
#ifndef MQFLEET_HTTP_TAPS_H
#define MQFLEET_HTTP_TAPS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "base/message.h"
#include "http/event_stream.h"

#define TAPS_PAYLOAD_MAX 65536 /* bytes of a payload that are shown */

struct taps;
struct tap_note; /* a message as its watchers will see it */

struct taps *taps_create(void);
void taps_destroy(struct taps *taps); /* without watchers */

/* From now on the messages of that client go to the stream, which is borrowed until taps_remove.
 * ERR_MEMORY. */
enum err taps_add(struct taps *taps, const char *id, struct event_stream *stream) MUST_CHECK;
/* Legal when it was not added. */
void taps_remove(struct taps *taps, struct event_stream *stream);

/* Before the message is given away. NULL: nobody watches its client. */
struct tap_note *taps_note(struct taps *taps, const struct message *message);
/* After it was: shows it, or (not taken: it will be offered again) forgets it. NULL is legal. */
void taps_tell(struct taps *taps, struct tap_note *note, bool taken);

#endif
