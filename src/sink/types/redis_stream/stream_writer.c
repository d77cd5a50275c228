/* Owns a batch on its way to Redis, and the connections. Runs on the sink's thread.
 *
 *   batch --> turn: check room, XADD XADD XADD ... in a pipeline to each node --> replies
 *               |      ^                                                            |
 *               |      '-- no room for more, or the stream is on another node ------'
 *               '--> WAIT for the replicas --> accepted
 *
 * Messages of one stream stay in order: after an error of one, the later ones of the stream are not
 * accepted, although they may be in the stream already. They are written again: at least once. */
#include "stream_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "stream_writer_internal.h"

/* --- life --- */

void stream_writer_destroy(struct stream_writer *writer) {
    streams_fini(&writer->streams);
    redis_router_destroy(writer->router);
    stream_entry_fini(&writer->entry);
    free(writer->items);
    free(writer->unconfirmed);
    free(writer);
}

static enum err stream_writer_connect(struct stream_writer *writer,
                                      const struct sink_environment *environment,
                                      const json_t *settings, char *fault) {
    const char *url = sink_settings_text(settings, "url");
    bool shared = *url == '\0' || strcmp(url, environment->redis_url) == 0;
    bool one = streams_is_one(&writer->streams);
    redis_quota_init(&writer->quota, one ? writer->streams.fixed[0]->key : NULL, shared, settings);
    writer->quota.sink = environment->sink;
    writer->router = redis_router_create(shared ? environment->redis_url : url,
                                         environment->redis_timeout_ms, one);
    if (!writer->router) {
        snprintf(fault, SINK_FAULT_LEN, "url is not a Redis address");
        return ERR_ARGUMENT;
    }
    if (!shared) {
        redis_router_restrict(writer->router,
                              &(struct redis_access){.allowed = environment->address_allowed,
                                                     .context = environment->address_context});
    }
    return ERR_OK;
}

enum err stream_writer_create(struct stream_writer **out,
                              const struct sink_environment *environment, const json_t *settings,
                              char *fault) {
    struct stream_writer *writer = calloc(1, sizeof *writer);
    if (!writer) {
        return ERR_MEMORY;
    }
    writer->entry.node = environment->node;
    writer->replicas_min = sink_settings_integer(settings, "min_replicas");
    writer->replicas_timeout_ms = environment->redis_replicas_timeout_ms;
    enum err err = streams_init(&writer->streams, environment, settings, fault);
    if (err != ERR_OK) {
        free(writer);
        return err;
    }
    err = stream_writer_connect(writer, environment, settings, fault);
    if (err != ERR_OK) {
        stream_writer_destroy(writer);
        return err;
    }
    *out = writer;
    return ERR_OK;
}

static enum err stream_writer_reserve(struct stream_writer *writer, size_t count) {
    if (count <= writer->capacity) {
        return ERR_OK;
    }
    struct item *items = realloc(writer->items, count * sizeof *items);
    writer->items = items ? items : writer->items;
    struct unconfirmed *list = items ? realloc(writer->unconfirmed, count * sizeof *list) : NULL;
    writer->unconfirmed = list ? list : writer->unconfirmed;
    writer->capacity = list ? count : writer->capacity;
    return list ? ERR_OK : ERR_MEMORY;
}

/* --- the end of a message in this write --- */

void stream_writer_settle(struct stream_writer *writer, struct item *item) {
    item->state = ITEM_SETTLED;
    writer->settled++;
}

void stream_writer_leave(struct stream_writer *writer, struct item *item, enum err err) {
    stream_writer_settle(writer, item);
    writer->result = writer->result == ERR_OK ? err : writer->result;
}

enum err stream_writer_fail_stream(struct stream_writer *writer, struct sink_batch *batch,
                                   struct stream *stream, enum err err, const char *text) {
    bool one = streams_is_one(&writer->streams);
    stream->failed = err;
    return sink_batch_fail(batch, err, "%s%.60s%s%s", one ? "" : "stream ", one ? "" : stream->key,
                           one ? "" : ": ", text);
}

enum err stream_writer_fail_node(struct stream_writer *writer, struct sink_batch *batch,
                                 size_t node, enum err err) {
    const char *text = redis_error(redis_router_at(writer->router, node));
    writer->nodes[node].failed = err;
    return sink_batch_fail(batch, err, "%s", err == ERR_MEMORY ? err_name(err) : text);
}

/* --- before a pipeline: the stream of each message, and its room --- */

/* False: there are too many streams for one turn. */
static bool stream_writer_assign(struct stream_writer *writer, struct sink_batch *batch, size_t i) {
    char missing[MESSAGE_FAULT_LEN] = "";
    struct item *item = &writer->items[i];
    enum err err = item->stream
                       ? ERR_OK
                       : streams_find(&writer->streams, batch->messages[i], &item->stream, missing);
    if (err == ERR_NOT_FOUND) {
        sink_batch_reject(batch, i, "key: %.140s", missing);
        stream_writer_settle(writer, item);
    } else if (err == ERR_MEMORY) {
        stream_writer_leave(writer, item, sink_batch_fail(batch, err, "%s", err_name(err)));
    }
    return err != ERR_FULL;
}

/* Trims the stream if it is time to. A node that does not answer is not asked for each stream. */
static void stream_writer_check_stream(struct stream_writer *writer, struct sink_batch *batch,
                                       struct stream *stream) {
    char error[STREAM_TRIM_ERROR_LEN] = "";
    enum err err;
    size_t node;
    bool again;
    do { /* at most STREAM_MOVES_MAX turns */
        node = redis_router_find(writer->router, stream->slot);
        struct redis *redis = redis_router_at(writer->router, node);
        err = writer->nodes[node].failed;
        if (err == ERR_OK && !stream->untracked) {
            err = stream_trim_check(&stream->trim, redis, error);
        }
        again = err != ERR_OK && redis_router_learn(writer->router, node) &&
                ++stream->moves < STREAM_MOVES_MAX;
    } while (again);
    if (err != ERR_OK) {
        (void)stream_writer_fail_stream(writer, batch, stream, err, error);
        if (err != ERR_FULL && redis_fd(redis_router_at(writer->router, node)) < 0) {
            writer->nodes[node].failed = err;
        }
    }
}

static void stream_writer_leave_all(struct stream_writer *writer, const struct sink_batch *batch,
                                    enum err err) {
    for (size_t i = 0; i < batch->count; i++) {
        if (writer->items[i].state == ITEM_WAITING) {
            stream_writer_leave(writer, &writer->items[i], err);
        }
    }
}

/* While Redis has no room, the streams are trimmed as usual: that may make room. */
static enum err stream_writer_check_quota(struct stream_writer *writer, struct sink_batch *batch) {
    struct redis *redis = redis_router_at(writer->router, 0);
    if (!writer->quota.key) {
        int64_t entries, entries_max;
        streams_count_entries(&writer->streams, &entries, &entries_max);
        redis_quota_set_entries(&writer->quota, entries, entries_max);
    }
    enum err err = redis_quota_check(&writer->quota, redis, batch->error);
    if (err == ERR_FULL) {
        streams_refresh(&writer->streams, writer->router);
    }
    return err;
}

/* Afterwards, the streams of this turn may be written, or have failed. */
static void stream_writer_prepare(struct stream_writer *writer, struct sink_batch *batch) {
    enum err err = stream_writer_check_quota(writer, batch);
    if (err != ERR_OK) {
        stream_writer_leave_all(writer, batch, err);
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct item *item = &writer->items[i];
        if (item->state == ITEM_WAITING && !stream_writer_assign(writer, batch, i)) {
            return;
        }
        if (item->state == ITEM_WAITING && item->stream->turn != writer->turn) {
            item->stream->turn = writer->turn;
            item->stream->written = 0;
            item->stream->moved = false;
            if (item->stream->failed == ERR_OK) {
                stream_writer_check_stream(writer, batch, item->stream);
            }
        }
    }
}

/* --- a batch --- */

static void stream_writer_accept(struct stream_writer *writer, struct sink_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        if (writer->items[i].state == ITEM_WRITTEN) {
            sink_batch_accept(batch, i);
            stream_writer_settle(writer, &writer->items[i]);
        }
    }
}

/* One pipeline to each node. */
static void stream_writer_run_turn(struct stream_writer *writer, struct sink_batch *batch) {
    stream_writer_prepare(writer, batch);
    stream_pipeline_send(writer, batch);
    size_t count = redis_router_count(writer->router);
    for (size_t node = 0; node < count; node++) {
        if (writer->nodes[node].sent > 0) {
            stream_pipeline_read(writer, batch, node);
        }
        stream_confirm_await(writer, batch, node);
        writer->nodes[node].sent = 0;
        writer->nodes[node].begun = false;
    }
    stream_writer_accept(writer, batch);
}

static void stream_writer_begin(struct stream_writer *writer, const struct sink_batch *batch) {
    memset(writer->items, 0, batch->count * sizeof *writer->items);
    memset(writer->nodes, 0, sizeof writer->nodes);
    writer->result = ERR_OK;
    writer->settled = 0;
    streams_begin_write(&writer->streams);
    stream_confirm_recognize(writer, batch);
    if (!streams_is_one(&writer->streams)) {
        streams_refresh(&writer->streams, writer->router);
    }
}

enum err stream_writer_write(struct stream_writer *writer, struct sink_batch *batch) {
    enum err err = stream_writer_reserve(writer, batch->count);
    if (err != ERR_OK) {
        return sink_batch_fail(batch, err, "%s", err_name(err));
    }
    stream_writer_begin(writer, batch);
    unsigned stalled = 0;
    while (writer->settled < batch->count && stalled <= STREAM_MOVES_MAX) {
        size_t before = writer->settled;
        writer->turn++;
        stream_writer_run_turn(writer, batch);
        stalled = writer->settled > before ? 0 : stalled + 1;
    }
    if (writer->settled < batch->count) {
        stream_writer_leave_all(
            writer, batch,
            sink_batch_fail(batch, ERR_FULL, "the messages are for too many streams at once"));
    }
    stream_confirm_remember(writer, batch);
    streams_end_write(&writer->streams);
    return writer->result;
}

/* --- the rest --- */

void stream_writer_refresh(struct stream_writer *writer) {
    redis_quota_refresh(&writer->quota, redis_router_at(writer->router, 0));
    streams_refresh(&writer->streams, writer->router);
}

void stream_writer_status(struct stream_writer *writer, struct sink_status *out) {
    redis_quota_status(&writer->quota, out);
    streams_status(&writer->streams, out);
}
