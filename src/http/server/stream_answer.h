/* Private to the HTTP server: an answer that lasts until its stream ends. */
#ifndef MQFLEET_SERVER_STREAM_ANSWER_H
#define MQFLEET_SERVER_STREAM_ANSWER_H

#include <microhttpd.h>

struct event_stream;

/* Takes over the reading side of the stream. NULL: out of memory; it is not taken over. MHD thread.
 */
struct MHD_Response *stream_answer_create(struct event_stream *stream,
                                          struct MHD_Connection *connection);

#endif
