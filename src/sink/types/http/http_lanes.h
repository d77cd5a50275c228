/* Parallel requests for one batch. Each lane is a sequence of requests, one at a time; a client's
 * messages are always in the same lane, so that they arrive in the order received.
 *
 *   batch --by client--> lane 0: [1 2 3] [7 8 9] ...     one request per bracket
 *                        lane 1: [4 5 6] ...
 *
 * A request that is refused because of its content is split in halves until those messages are
 * alone. A lane ends at an error of the target; its other messages are retried. The sink's
 * thread. */
#ifndef MQFLEET_SINK_HTTP_LANES_H
#define MQFLEET_SINK_HTTP_LANES_H

#include "http_upload.h"
#include "http_target.h"
#include "net/http_client.h"

#define HTTP_SPLITS_MAX 16 /* halves of 10,000 messages, and halves of these ... */

struct http_lanes;

struct http_lane {
    struct http_lanes *lanes;
    struct http_upload upload;
    size_t *indices;        /* of the messages of this batch */
    size_t next, end;       /* those in `indices` that were not yet in a request */
    struct http_lane_part { /* of these */
        size_t begin, end;
    } sent, splits[HTTP_SPLITS_MAX]; /* in the current request; to be sent next, the last first */
    size_t split_count;
    size_t doubts; /* in a row */
    bool ended;
};

struct http_lanes {
    const struct http_target *target;
    struct http_client *client;
    struct http_lane *items;
    size_t count;
    size_t *indices, *lane_of; /* of a batch */
    size_t capacity;
    struct sink_batch *batch; /* of the current write */
    size_t busy;              /* requests in flight */
    int64_t start_until_ms;   /* no request is started afterwards */
    int64_t not_before_ms;    /* the target asked to wait until then */
};

/* target and client: borrowed. False: out of memory, and http_lanes_fini must be called all the
 * same. */
bool http_lanes_init(struct http_lanes *lanes, const struct http_target *target,
                     struct http_client *client, size_t count);
void http_lanes_fini(struct http_lanes *lanes);

/* Bounded: a second for starting requests, and the timeout of a request. */
enum err http_lanes_write(struct http_lanes *lanes, struct sink_batch *batch);

#endif
