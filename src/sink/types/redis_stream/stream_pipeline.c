/* Owns the commands and the replies of one turn. Runs on the sink's thread. */
#include <string.h>
#include "stream_writer_internal.h"

#define LARGE_BYTES 1048576 /* the smallest proto-max-bulk-len of a Redis; more may be refused */

/* Errors about the content of an entry; any other concerns the stream or the server. */
static const struct {
    const char *text; /* the reply begins with it */
    bool closes;      /* Redis then closes the connection */
} stream_pipeline_data_errors[] = {
    {"ERR Protocol error: invalid bulk length", true}, /* larger than proto-max-bulk-len */
    {"ERR Elements are too large to be stored", false},
};

/* --- commands --- */

static bool stream_pipeline_has_room(const struct stream *stream) {
    return stream->written == 0 || stream->untracked || stream_trim_may_write(&stream->trim);
}

static enum err stream_pipeline_send_one(struct stream_writer *writer, struct item *item,
                                         const struct message *message) {
    struct stream *stream = item->stream;
    struct node *node = &writer->nodes[item->node];
    struct redis *redis = redis_router_at(writer->router, item->node);
    int64_t entries_max =
        stream->untracked ? writer->streams.entries_max : stream_trim_xadd_maxlen(&stream->trim);
    enum err err = stream_entry_send(&writer->entry, redis, stream->key, entries_max, message);
    if (err != ERR_OK) {
        return err;
    }
    if (!node->begun) {
        node->begun = true;
        node->connection = redis_connection_number(redis);
    }
    node->sent++;
    stream->written++;
    stream_trim_consume(&stream->trim, message->size);
    redis_quota_consume(&writer->quota, message->size);
    item->state = ITEM_SENT;
    return ERR_OK;
}

/* Sends the message if there is room. False: the pipelines end before it. */
static bool stream_pipeline_offer(struct stream_writer *writer, struct sink_batch *batch, size_t i,
                                  bool first) {
    struct item *item = &writer->items[i];
    item->node = redis_router_find(writer->router, item->stream->slot);
    struct node *node = &writer->nodes[item->node];
    enum err err = item->stream->failed != ERR_OK ? item->stream->failed : node->failed;
    if (err != ERR_OK) {
        stream_writer_leave(writer, item, err);
        return true;
    }
    if (!stream_pipeline_has_room(item->stream)) {
        return true;
    }
    /* If Redis refuses a large message, the connection is lost, and with it the possibility to ask
     * the replicas for those before it. */
    bool alone = writer->replicas_min > 0 && batch->messages[i]->size >= LARGE_BYTES;
    if ((!first && !redis_quota_may_write(&writer->quota)) || (alone && node->sent > 0)) {
        return false;
    }
    err = stream_pipeline_send_one(writer, item, batch->messages[i]);
    if (err != ERR_OK) {
        stream_writer_leave(writer, item, stream_writer_fail_node(writer, batch, item->node, err));
    }
    return true;
}

void stream_pipeline_send(struct stream_writer *writer, struct sink_batch *batch) {
    bool first = true;
    for (size_t i = 0; i < batch->count; i++) {
        struct item *item = &writer->items[i];
        if (item->state != ITEM_WAITING) {
            continue;
        }
        if (!item->stream || item->stream->turn != writer->turn ||
            !stream_pipeline_offer(writer, batch, i, first)) {
            return;
        }
        first = first && item->state != ITEM_SENT;
    }
}

/* --- replies --- */

/* True: the reply rejects that message. *closes: and the connection with it. */
static bool stream_pipeline_rejects(struct sink_batch *batch, size_t index, const char *reply,
                                    bool *closes) {
    size_t count = sizeof stream_pipeline_data_errors / sizeof stream_pipeline_data_errors[0];
    for (size_t i = 0; i < count; i++) {
        const char *text = stream_pipeline_data_errors[i].text;
        if (strncmp(reply, text, strlen(text)) == 0) {
            sink_batch_reject(batch, index, "%s (payload of %zu bytes)", reply,
                              batch->messages[index]->payload_len);
            *closes = stream_pipeline_data_errors[i].closes;
            return true;
        }
    }
    return false;
}

/* The message is sent again, to the owner of the stream. */
static void stream_pipeline_redirect(struct stream_writer *writer, struct item *item) {
    struct stream *stream = item->stream;
    stream->moves += stream->moved ? 0 : 1;
    stream->moved = true;
    item->state = ITEM_WAITING;
    (void)redis_router_learn(writer->router, item->node);
}

/* The entry is in the stream; accepted only if those before it are. */
static void stream_pipeline_note_written(struct stream_writer *writer, struct item *item) {
    enum err err = writer->nodes[item->node].failed;
    err = err == ERR_OK ? item->stream->failed : err;
    if (err != ERR_OK) {
        stream_writer_leave(writer, item, err);
    } else {
        item->state = item->stream->moved ? ITEM_WAITING : ITEM_WRITTEN;
    }
}

/* False: the connection is closed, and the messages behind this one were not read by Redis. */
static bool stream_pipeline_read_one(struct stream_writer *writer, struct sink_batch *batch,
                                     size_t i) {
    struct item *item = &writer->items[i];
    struct redis *redis = redis_router_at(writer->router, item->node);
    struct redis_reply *reply = NULL;
    bool closes = false;
    enum err err = redis_read(redis, &reply);
    if (err != ERR_OK && redis_is_moved(redis) && item->stream->moves < STREAM_MOVES_MAX) {
        stream_pipeline_redirect(writer, item);
    } else if (err != ERR_OK) {
        stream_writer_leave(writer, item, stream_writer_fail_node(writer, batch, item->node, err));
    } else if (redis_reply_type(reply) != REDIS_ERROR) {
        stream_pipeline_note_written(writer, item);
    } else if (stream_pipeline_rejects(batch, i, redis_reply_str(reply, NULL), &closes)) {
        stream_writer_settle(writer, item);
    } else {
        stream_writer_leave(writer, item,
                            stream_writer_fail_stream(writer, batch, item->stream, ERR_PROTOCOL,
                                                      redis_error(redis)));
    }
    redis_reply_free(reply);
    return !closes;
}

void stream_pipeline_read(struct stream_writer *writer, struct sink_batch *batch, size_t node) {
    bool open = true;
    for (size_t i = 0; i < batch->count; i++) {
        struct item *item = &writer->items[i];
        if (item->state != ITEM_SENT || item->node != node) {
            continue;
        }
        if (!open) {
            item->state = ITEM_WAITING;
            continue;
        }
        open = stream_pipeline_read_one(writer, batch, i);
        if (!open) {
            redis_disconnect(redis_router_at(writer->router, node));
        }
    }
}
