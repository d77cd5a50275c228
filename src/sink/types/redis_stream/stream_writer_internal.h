/* Private to this folder: a batch on its way to Redis, and the interfaces between the files that
 * write it.
 *
 *   stream_writer.c    turns: the stream of each message, its room, what is accepted
 *   stream_pipeline.c  one turn: the commands and the replies of each connection
 *   stream_confirm.c   waits for the replicas */
#ifndef MQFLEET_REDIS_STREAM_STREAM_WRITER_INTERNAL_H
#define MQFLEET_REDIS_STREAM_STREAM_WRITER_INTERNAL_H

#include "redis_quota.h"
#include "stream_entry.h"
#include "stream_writer.h"

#define STREAM_MOVES_MAX 3 /* redirections of a stream that one write follows */

enum item_state {
    ITEM_WAITING,     /* to be sent */
    ITEM_SENT,        /* its reply has not been read */
    ITEM_WRITTEN,     /* in the stream */
    ITEM_UNCONFIRMED, /* in the stream, but too few replicas have it */
    ITEM_SETTLED      /* accepted, rejected, or left for the next write */
};

struct item { /* a message of the batch */
    struct stream *stream;
    enum item_state state;
    size_t node;
};

/* In the stream since an earlier write, by that connection, but not confirmed by the replicas: it
 * is not written again as long as the connection lasts, because WAIT covers only its own writes. */
struct unconfirmed {
    uint64_t number; /* of the message */
    size_t node;
    uint64_t connection;
};

struct node { /* the part of one connection in a write */
    enum err failed;
    size_t sent;         /* in this turn */
    bool begun;          /* something of this turn or before waits for confirmation */
    uint64_t connection; /* the one that wrote it */
};

struct stream_writer {
    struct redis_router *router;
    struct redis_quota quota;
    struct streams streams;
    struct stream_entry entry;
    int64_t replicas_min, replicas_timeout_ms;
    uint64_t turn;
    struct item *items;              /* of the batch */
    struct unconfirmed *unconfirmed; /* in the order of the queue */
    size_t unconfirmed_count, capacity;
    struct node nodes[REDIS_ROUTER_NODES_MAX];
    enum err result;
    size_t settled; /* items of the batch */
};

/* ---- stream_writer.c ------------------------------------------------------------------------- */

/* The message is accepted, rejected, or left for the next write. */
void stream_writer_settle(struct stream_writer *writer, struct item *item);
/* The message is left for the next write, because of err. */
void stream_writer_leave(struct stream_writer *writer, struct item *item, enum err err);
/* The remaining messages of the stream are left. Returns err. */
enum err stream_writer_fail_stream(struct stream_writer *writer, struct sink_batch *batch,
                                   struct stream *stream, enum err err, const char *text);
/* The remaining messages for that connection are left. Returns err. */
enum err stream_writer_fail_node(struct stream_writer *writer, struct sink_batch *batch,
                                 size_t node, enum err err);

/* ---- stream_pipeline.c ----------------------------------------------------------------------- */

/* Sends waiting messages of this turn's streams, as many as there is room for. */
void stream_pipeline_send(struct stream_writer *writer, struct sink_batch *batch);
/* Reads all replies of the connection, so that it can be reused. */
void stream_pipeline_read(struct stream_writer *writer, struct sink_batch *batch, size_t node);

/* ---- stream_confirm.c ------------------------------------------------------------------------ */

/* Waits until the replicas of the node have what was written. If they do not in time, nothing is
 * accepted, and the next write only waits for them. */
void stream_confirm_await(struct stream_writer *writer, struct sink_batch *batch, size_t node);
/* At the beginning of a write: messages that only wait for the replicas. */
void stream_confirm_recognize(struct stream_writer *writer, const struct sink_batch *batch);
/* At its end: the messages that the next write may recognize. */
void stream_confirm_remember(struct stream_writer *writer, const struct sink_batch *batch);

#endif
