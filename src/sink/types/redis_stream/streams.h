/* The streams that one sink writes: which one a message belongs to, and what is known of each.
 *
 *   key "site-{label.site}", shards 4:   message --> "site-a:2" --> struct stream
 *
 * At most STREAMS_MAX are measured and trimmed; see streams_find for others. For one sink's thread,
 * except streams_status. */
#ifndef MQFLEET_REDIS_STREAM_STREAMS_H
#define MQFLEET_REDIS_STREAM_STREAMS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>
#include "base/buffer.h"
#include "base/err.h"
#include "message/message.h"
#include "net/redis/redis_router.h"
#include "sink/sink.h"
#include "sink/sink_template.h"
#include "stream_trim.h"

#define STREAMS_MAX        1024
#define STREAMS_SHARDS_MAX 256

struct stream {
    UT_hash_handle hh;
    char *key;
    unsigned slot;
    bool untracked; /* neither measured nor trimmed, except by XADD; only for this write */
    struct stream_trim trim;
    int64_t used_ms;
    uint64_t write; /* the last one that used it: streams->write */
    /* of the current write */
    enum err failed; /* its remaining messages wait */
    unsigned moves;  /* redirections that were followed */
    bool moved;      /* in this turn: later messages wait for those that are sent again */
    uint64_t turn;   /* the last one in which it may write */
    size_t written;  /* in that turn */
};

struct streams {
    const json_t *settings; /* borrowed */
    const char *sink, *node;
    char *prefix;
    struct template *template;
    const char *constant; /* the key without a part of the message; NULL: there is one */
    size_t shards;
    enum stream_trim_mode mode;
    int64_t entries_max;
    struct stream *fixed[STREAMS_SHARDS_MAX]; /* of a constant key: one per shard */
    struct buffer key;                        /* being made */
    size_t tracked, untracked;                /* streams of the table */
    uint64_t write;
    struct stream *refresh_next; /* NULL: from the start */
    int64_t refreshed_ms;

    pthread_mutex_t lock; /* guards the table against streams_status; only the thread changes it */
    struct stream *table; /* by key */
    int64_t untracked_ms; /* when there was last one too many; 0: never */
};

/* All but the settings are copied. ERR_ARGUMENT: fault names the field. */
enum err streams_init(struct streams *streams, const struct sink_environment *environment,
                      const json_t *settings, char *fault) MUST_CHECK;
void streams_fini(struct streams *streams);
/* Whether all messages go to one stream; it is streams->fixed[0]. */
bool streams_is_one(const struct streams *streams);

void streams_begin_write(struct streams *streams);
void streams_end_write(struct streams *streams);
/* The stream of a message; valid until the end of the write. When there are more than STREAMS_MAX:
 * with trim maxlen those that are used most stay, and others are trimmed by XADD, without regard
 * for their groups; otherwise one that this write did not use is forgotten. ERR_NOT_FOUND: the key
 * has no value, `missing` (MESSAGE_FAULT_LEN) says which; ERR_FULL: this write uses too many
 * streams; ERR_MEMORY. */
enum err streams_find(struct streams *streams, const struct message *message, struct stream **out,
                      char *missing) MUST_CHECK;
/* Trims and measures streams that messages have not caused to be: a bounded number once a second.
 */
void streams_refresh(struct streams *streams, struct redis_router *router);
/* The entries of all streams as measured, -1: not known; and their bounds, 0: none. */
void streams_count_entries(struct streams *streams, int64_t *entries, int64_t *entries_max);
/* Any thread. Groups of the same name are shown as one. */
void streams_status(struct streams *streams, struct sink_status *out);

#endif
