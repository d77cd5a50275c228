/* Owns the messages that are in a stream but not yet confirmed by the replicas. Runs on the sink's
 * thread. */
#include "stream_writer_internal.h"

static enum err stream_confirm_wait(struct stream_writer *writer, struct sink_batch *batch,
                                    size_t node, bool *lost) {
    struct redis *redis = redis_router_at(writer->router, node);
    *lost = redis_fd(redis) < 0 || redis_connection_number(redis) != writer->nodes[node].connection;
    if (*lost) {
        *batch->error = '\0';
        return sink_batch_fail(batch, ERR_UNAVAILABLE,
                               "the connection was lost before the replicas confirmed");
    }
    enum err err = redis_wait_replicas(redis, writer->replicas_min, writer->replicas_timeout_ms);
    if (err != ERR_OK) {
        *batch->error = '\0';
        sink_batch_fail(batch, err, "%s", redis_error(redis));
    }
    return err;
}

static bool stream_confirm_is_due(const struct stream_writer *writer,
                                  const struct sink_batch *batch, size_t node) {
    for (size_t i = 0; i < batch->count; i++) {
        if (writer->items[i].state == ITEM_WRITTEN && writer->items[i].node == node) {
            return true;
        }
    }
    return false;
}

void stream_confirm_await(struct stream_writer *writer, struct sink_batch *batch, size_t node) {
    bool lost = false;
    if (writer->replicas_min == 0 || !stream_confirm_is_due(writer, batch, node)) {
        return;
    }
    enum err err = stream_confirm_wait(writer, batch, node, &lost);
    if (err == ERR_OK) {
        return;
    }
    writer->nodes[node].failed = err;
    for (size_t i = 0; i < batch->count; i++) {
        struct item *item = &writer->items[i];
        if (item->state == ITEM_WRITTEN && item->node == node) {
            stream_writer_leave(writer, item, err);
            item->state = lost ? ITEM_SETTLED : ITEM_UNCONFIRMED;
        }
    }
}

void stream_confirm_recognize(struct stream_writer *writer, const struct sink_batch *batch) {
    size_t next = 0;
    for (size_t i = 0; i < batch->count && next < writer->unconfirmed_count; i++) {
        size_t at = next;
        while (at < writer->unconfirmed_count &&
               writer->unconfirmed[at].number != batch->messages[i]->number) {
            at++;
        }
        if (at == writer->unconfirmed_count) {
            continue;
        }
        const struct unconfirmed *found = &writer->unconfirmed[at];
        struct redis *redis = redis_router_at(writer->router, found->node);
        if (redis_fd(redis) >= 0 && redis_connection_number(redis) == found->connection) {
            writer->items[i] = (struct item){.state = ITEM_WRITTEN, .node = found->node};
            writer->nodes[found->node].begun = true;
            writer->nodes[found->node].connection = found->connection;
        }
        next = at + 1;
    }
}

void stream_confirm_remember(struct stream_writer *writer, const struct sink_batch *batch) {
    writer->unconfirmed_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct item *item = &writer->items[i];
        if (item->state == ITEM_UNCONFIRMED) {
            writer->unconfirmed[writer->unconfirmed_count++] =
                (struct unconfirmed){.number = batch->messages[i]->number,
                                     .node = item->node,
                                     .connection = writer->nodes[item->node].connection};
        }
    }
}
