/* Owns the table of streams. Runs on the sink's thread, except streams_status. */
#include "streams.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/text.h"

#define REFRESH_PERIOD_MS 1000
#define REFRESH_MAX       64    /* streams at once: all within STALE_MS of stream_trim.c */
#define BUSY_MS           10000 /* a stream that was used since is not forgotten */
#define WARN_PERIOD_MS    600000

/* --- life --- */

static void streams_free(struct stream *stream) {
    stream_trim_fini(&stream->trim);
    free(stream->key);
    free(stream);
}

static enum err streams_create(const struct streams *streams, const char *key, bool untracked,
                               struct stream **out, char *fault) {
    struct stream *stream = calloc(1, sizeof *stream);
    char *copy = text_dup(key);
    if (!stream || !copy) {
        free(stream);
        free(copy);
        return ERR_MEMORY;
    }
    stream->key = copy;
    stream->slot = redis_router_slot(copy);
    stream->untracked = untracked;
    enum err err = stream_trim_init(&stream->trim, copy, streams->settings, fault);
    if (err != ERR_OK) {
        free(copy);
        free(stream);
        return err;
    }
    stream->trim.sink = streams->sink;
    stream->trim.shows_key = !streams_is_one(streams);
    *out = stream;
    return ERR_OK;
}

static enum err streams_add(struct streams *streams, const char *key, bool untracked,
                            struct stream **out, char *fault) {
    enum err err = streams_create(streams, key, untracked, out, fault);
    if (err == ERR_OK) {
        pthread_mutex_lock(&streams->lock);
        HASH_ADD_KEYPTR(hh, streams->table, (*out)->key, strlen((*out)->key), *out);
        pthread_mutex_unlock(&streams->lock);
        *(untracked ? &streams->untracked : &streams->tracked) += 1;
    }
    return err;
}

static void streams_remove(struct streams *streams, struct stream *stream) {
    if (streams->refresh_next == stream) {
        streams->refresh_next = stream->hh.next;
    }
    pthread_mutex_lock(&streams->lock);
    HASH_DEL(streams->table, stream);
    pthread_mutex_unlock(&streams->lock);
    *(stream->untracked ? &streams->untracked : &streams->tracked) -= 1;
    streams_free(stream);
}

static enum err streams_compile(struct streams *streams, char *fault) {
    enum err err = sink_template_compile(&streams->template, "key",
                                         sink_settings_text(streams->settings, "key"), fault);
    streams->constant = err == ERR_OK ? template_constant(streams->template) : NULL;
    return err;
}

/* Appends the number of the shard, if there are several. */
static void streams_put_shard(struct streams *streams, size_t shard) {
    if (streams->shards > 1) {
        buffer_printf(&streams->key, ":%zu", shard);
    }
}

static enum err streams_add_fixed(struct streams *streams, char *fault) {
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && streams->constant && i < streams->shards; i++) {
        buffer_clear(&streams->key);
        buffer_append_str(&streams->key, streams->prefix);
        buffer_append_str(&streams->key, streams->constant);
        streams_put_shard(streams, i);
        err = streams->key.failed
                  ? ERR_MEMORY
                  : streams_add(streams, streams->key.data, false, &streams->fixed[i], fault);
    }
    return err;
}

enum err streams_init(struct streams *streams, const struct sink_environment *environment,
                      const json_t *settings, char *fault) {
    *streams = (struct streams){.settings = settings,
                                .sink = environment->sink,
                                .node = environment->node,
                                .prefix = text_dup(environment->key_prefix),
                                .shards = (size_t)sink_settings_integer(settings, "shards"),
                                .mode = stream_trim_mode_of(settings),
                                .entries_max = sink_settings_integer(settings, "maxlen")};
    pthread_mutex_init(&streams->lock, NULL);
    buffer_init(&streams->key);
    enum err err = streams->prefix ? streams_compile(streams, fault) : ERR_MEMORY;
    if (err == ERR_OK) {
        err = streams_add_fixed(streams, fault);
    }
    if (err != ERR_OK) {
        streams_fini(streams);
    }
    return err;
}

void streams_fini(struct streams *streams) {
    while (streams->table) { /* each turn removes one */
        streams_remove(streams, streams->table);
    }
    template_destroy(streams->template);
    buffer_fini(&streams->key);
    pthread_mutex_destroy(&streams->lock);
    free(streams->prefix);
}

bool streams_is_one(const struct streams *streams) {
    return streams->constant && streams->shards == 1;
}

/* --- the stream of a message --- */

void streams_begin_write(struct streams *streams) {
    streams->write++;
}

/* The tracked ones that a write may change come first: they are older than the others. */
void streams_end_write(struct streams *streams) {
    struct stream *stream, *next;
    if (streams->untracked == 0) {
        return;
    }
    HASH_ITER(hh, streams->table, stream, next) {
        if (stream->untracked) {
            streams_remove(streams, stream);
        }
    }
}

/* FNV-1a, so that a client stays in its shard whatever the node and the version. */
static size_t streams_shard_of(const struct streams *streams, const char *id) {
    uint64_t hash = 14695981039346656037ULL;
    for (const char *at = id; *at; at++) {
        hash = (hash ^ (uint8_t)*at) * 1099511628211ULL;
    }
    return (size_t)((hash ^ (hash >> 32)) % streams->shards);
}

static void streams_warn_untracked(struct streams *streams) {
    int64_t now_ms = clock_ms();
    if (streams->untracked_ms == 0 || now_ms - streams->untracked_ms >= WARN_PERIOD_MS) {
        log_event(LOG_WARN, "sink_streams_untracked", KS("sink", streams->sink),
                  KS("prefix", streams->prefix),
                  KS("key", sink_settings_text(streams->settings, "key")),
                  KI("measured", STREAMS_MAX),
                  KS("effect", "further streams are trimmed by XADD, and not measured"));
    }
    pthread_mutex_lock(&streams->lock);
    streams->untracked_ms = now_ms;
    pthread_mutex_unlock(&streams->lock);
}

/* The stream that was not used for the longest time. NULL: the current write uses all. */
static struct stream *streams_find_oldest(const struct streams *streams) {
    struct stream *oldest = NULL;
    for (struct stream *stream = streams->table; stream; stream = stream->hh.next) {
        if (!stream->untracked && stream->write != streams->write &&
            (!oldest || stream->used_ms < oldest->used_ms)) {
            oldest = stream;
        }
    }
    return oldest;
}

/* XADD cannot trim with regard to groups, so the other modes give up what they knew instead. */
static enum err streams_make_room(struct streams *streams, bool *untracked) {
    *untracked = false;
    if (streams->tracked < STREAMS_MAX) {
        return ERR_OK;
    }
    struct stream *oldest = streams_find_oldest(streams);
    bool may_forget =
        oldest && (streams->mode != STREAM_TRIM_MAXLEN || clock_ms() - oldest->used_ms >= BUSY_MS);
    if (may_forget) {
        streams_remove(streams, oldest);
        return ERR_OK;
    }
    if (streams->mode != STREAM_TRIM_MAXLEN) {
        return ERR_FULL;
    }
    streams_warn_untracked(streams);
    *untracked = true;
    return ERR_OK;
}

static enum err streams_find_or_add(struct streams *streams, struct stream **out) {
    char fault[SINK_FAULT_LEN];
    bool untracked;
    HASH_FIND(hh, streams->table, streams->key.data, streams->key.len, *out);
    if (*out) {
        return ERR_OK;
    }
    enum err err = streams_make_room(streams, &untracked);
    return err == ERR_OK ? streams_add(streams, streams->key.data, untracked, out, fault) : err;
}

static enum err streams_render(struct streams *streams, const struct message *message,
                               char *missing) {
    struct message_view view;
    buffer_clear(&streams->key);
    buffer_append_str(&streams->key, streams->prefix);
    message_view_init(&view, message, streams->node);
    enum err err = template_render(streams->template, &view, &streams->key, missing);
    message_view_fini(&view);
    if (err == ERR_OK && strlen(streams->key.data) != streams->key.len) {
        snprintf(missing, MESSAGE_FAULT_LEN, "the key of the stream has the character U+0000");
        return ERR_NOT_FOUND;
    }
    return err;
}

enum err streams_find(struct streams *streams, const struct message *message, struct stream **out,
                      char *missing) {
    size_t shard = streams->shards > 1 ? streams_shard_of(streams, message->id) : 0;
    enum err err = ERR_OK;
    if (streams->constant) {
        *out = streams->fixed[shard];
    } else {
        err = streams_render(streams, message, missing);
        streams_put_shard(streams, shard);
        err = err == ERR_OK && streams->key.failed ? ERR_MEMORY : err;
        err = err == ERR_OK ? streams_find_or_add(streams, out) : err;
    }
    if (err == ERR_OK && (*out)->write != streams->write) {
        (*out)->write = streams->write;
        (*out)->used_ms = clock_ms();
        (*out)->failed = ERR_OK;
        (*out)->moves = 0;
    }
    return err;
}

/* --- all of them --- */

void streams_refresh(struct streams *streams, struct redis_router *router) {
    int64_t now_ms = clock_ms();
    if (now_ms - streams->refreshed_ms < REFRESH_PERIOD_MS) {
        return;
    }
    streams->refreshed_ms = now_ms;
    struct stream *stream = streams->refresh_next ? streams->refresh_next : streams->table;
    size_t due = 0;
    for (; stream && due < REFRESH_MAX; stream = stream->hh.next) {
        size_t node = redis_router_find(router, stream->slot);
        if (!stream->untracked) {
            due += stream_trim_refresh(&stream->trim, redis_router_at(router, node));
            (void)redis_router_learn(router, node); /* the next time it is asked there */
        }
    }
    streams->refresh_next = stream;
}

void streams_count_entries(struct streams *streams, int64_t *entries, int64_t *entries_max) {
    *entries = -1;
    *entries_max = 0;
    for (struct stream *stream = streams->table; stream; stream = stream->hh.next) {
        if (stream->trim.measured_ms > 0) {
            *entries = (*entries < 0 ? 0 : *entries) + stream->trim.status.entries;
            *entries_max += streams->entries_max;
        }
    }
}

void streams_status(struct streams *streams, struct sink_status *out) {
    out->stream = (struct stream_status){0};
    pthread_mutex_lock(&streams->lock);
    for (struct stream *stream = streams->table; stream; stream = stream->hh.next) {
        if (!stream->untracked) {
            stream_trim_status(&stream->trim, out);
        }
    }
    out->stream.untracked =
        streams->untracked_ms > 0 && clock_ms() - streams->untracked_ms < WARN_PERIOD_MS;
    pthread_mutex_unlock(&streams->lock);
}
