/* Inside of the HTTP server: an answer that goes on until its stream ends. */
#ifndef MQFLEET_SERVER_STREAM_ANSWER_H
#define MQFLEET_SERVER_STREAM_ANSWER_H

#include <microhttpd.h>

struct event_stream;

/* Takes over the reader's part of the stream. NULL: out of memory, and it does not. MHD thread. */
struct MHD_Response *stream_answer_create(struct event_stream *stream,
                                          struct MHD_Connection *connection);

#endif
