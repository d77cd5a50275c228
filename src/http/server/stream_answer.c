/* Passes the bytes of a stream to libmicrohttpd until the stream ends. No state; MHD threads. */
#include "stream_answer.h"

#include <stddef.h>
#include "http/streams/event_stream.h"

#define STREAM_BLOCK_BYTES ((size_t)16 * 1024) /* passed at once */

static void stream_answer_suspend(void *connection) {
    MHD_suspend_connection(connection);
}

static void stream_answer_resume(void *connection) {
    MHD_resume_connection(connection);
}

static ssize_t stream_answer_read(void *context, uint64_t position, char *out, size_t size) {
    (void)position;
    ssize_t len = event_stream_read(context, out, size);
    return len >= 0 ? len : MHD_CONTENT_READER_END_OF_STREAM;
}

static void stream_answer_detach(void *context) {
    event_stream_detach(context);
}

struct MHD_Response *stream_answer_create(struct event_stream *stream,
                                          struct MHD_Connection *connection) {
    static const struct event_stream_reader reader = {stream_answer_suspend, stream_answer_resume};
    struct MHD_Response *answer = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, stream_answer_read, stream, stream_answer_detach);
    if (!answer) {
        return NULL;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    event_stream_attach(stream, &reader, connection, info ? info->connect_fd : -1);
    return answer;
}
