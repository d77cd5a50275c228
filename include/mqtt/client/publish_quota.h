/* Limits the resources of a node that publications to one broker may use: callers that wait for an
 * acknowledgement, and bytes kept until it arrives. Capacity is not divided in advance: a broker
 * may use twice as much as is still free, and always a small minimum. A single broker can therefore
 * use two thirds, and brokers that answer get a share even if many others are silent. Any thread;
 * one lock. */
#ifndef MQFLEET_CLIENT_PUBLISH_QUOTA_H
#define MQFLEET_CLIENT_PUBLISH_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct publish_quota; /* of a node */
struct publish_share; /* the use of one broker, while there is any */

struct publish_use {
    size_t waiting; /* publications whose callers wait */
    size_t bytes;   /* of all that are in progress */
};

/* NULL: out of memory. */
struct publish_quota *publish_quota_create(const struct publish_use *most);
void publish_quota_destroy(struct publish_quota *quota); /* NULL is legal */

/* Counts one more publication of that many bytes to that broker ("host:port"); its caller waits.
 * ERR_BUSY: the broker has used up its share. ERR_MEMORY. */
enum err publish_quota_take(struct publish_quota *quota, const char *broker, size_t bytes,
                            struct publish_share **out) MUST_CHECK;
/* Its caller no longer waits. */
void publish_share_answered(struct publish_share *share);
/* The publication is finished. The share may be freed. */
void publish_share_release(struct publish_share *share, size_t bytes);

/* Of one broker; NULL: of all. */
struct publish_use publish_quota_use(struct publish_quota *quota, const char *broker);

#endif
