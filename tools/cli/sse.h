/* Server-sent events, assembled from chunks of data (HTML standard, "Server-sent events"). */
#ifndef MQFLEET_CLI_SSE_H
#define MQFLEET_CLI_SSE_H

#include <stdbool.h>
#include "base/buffer.h"

#define SSE_EVENT_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct sse {
    struct buffer line, data;
    char event[64];
    char id[64]; /* of this event; "": none */
};

/* data: NUL-terminated. False: stop. */
typedef bool sse_take(void *context, const char *event, const char *data);

void sse_init(struct sse *sse);
void sse_fini(struct sse *sse);
/* False: `take` returned false, or an event is too large. */
bool sse_feed(struct sse *sse, const char *bytes, size_t len, sse_take *take, void *context);

#endif
