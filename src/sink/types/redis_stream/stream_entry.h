/* The XADD of a message: the form of an entry. One thread. */
#ifndef MQFLEET_REDIS_STREAM_STREAM_ENTRY_H
#define MQFLEET_REDIS_STREAM_STREAM_ENTRY_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "message/message.h"
#include "net/redis/redis.h"

struct stream_entry { /* the command that is being built; zero it before the first use */
    const char *node; /* borrowed */
    const char **parts;
    size_t *lens;
    size_t count, capacity;
};

void stream_entry_fini(struct stream_entry *entry);
/* Appends the command to the pipeline. entries_max: the length to which XADD trims; 0: it does
 * not. */
enum err stream_entry_send(struct stream_entry *entry, struct redis *redis, const char *key,
                           int64_t entries_max, const struct message *message) MUST_CHECK;

#endif
