/* How much of a node one broker's publications may take: callers that wait for its acknowledgement,
 * and bytes that are kept until it comes. What is there is not divided beforehand: a broker may
 * have twice as much as is left free, and a little in any case. So one alone gets two thirds, and
 * however many are silent, those that answer get something. Any thread; one lock. */
#ifndef MQFLEET_CLIENT_PUBLISH_QUOTA_H
#define MQFLEET_CLIENT_PUBLISH_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct publish_quota; /* of a node */
struct publish_share; /* what one broker has of it, as long as it has something */

struct publish_use {
    size_t waiting; /* publications whose callers wait */
    size_t bytes;   /* of all that are not over */
};

/* NULL: out of memory. */
struct publish_quota *publish_quota_create(const struct publish_use *most);
void publish_quota_destroy(struct publish_quota *quota); /* NULL is legal */

/* One more publication for that broker ("host:port"), of so many bytes; its caller waits. ERR_BUSY:
 * the broker has its share; ERR_MEMORY. */
enum err publish_quota_take(struct publish_quota *quota, const char *broker, size_t bytes,
                            struct publish_share **out) MUST_CHECK;
/* Its caller waits no longer. */
void publish_share_answered(struct publish_share *share);
/* It is over. The share may be gone then. */
void publish_share_release(struct publish_share *share, size_t bytes);

/* Of one broker; NULL: of all. */
struct publish_use publish_quota_use(struct publish_quota *quota, const char *broker);

#endif
