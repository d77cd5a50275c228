/* Owns the list of streams that tail a client. Messages come from worker threads, streams from
 * handler threads and the streams thread. */
#include "http/streams/message_taps.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/buffer.h"
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/text.h"
#include "http/server/json.h"
#include "sink/properties.h"

struct watcher {
    char *id;
    struct scope scope;
    struct event_stream *stream;
    struct watcher *prev, *next;
};

struct message_taps {
    _Atomic uint64_t
        watched_bits;     /* a bit per watched id, by its hash: others pass without the lock */
    pthread_mutex_t lock; /* guards the rest */
    struct watcher *watchers;
    uint64_t sequence; /* of the last message shown */
};

struct tapped_message {
    char *id;
    struct message_origin *origin; /* the labels of the client */
    char *text;                    /* one JSON object */
};

struct message_taps *message_taps_create(void) {
    struct message_taps *taps = calloc(1, sizeof *taps);
    if (taps) {
        pthread_mutex_init(&taps->lock, NULL);
    }
    return taps;
}

void message_taps_destroy(struct message_taps *taps) {
    if (taps) {
        pthread_mutex_destroy(&taps->lock);
        free(taps);
    }
}

/* ---- watchers -------------------------------------------------------------------------------- */

static uint64_t message_taps_id_bit(const char *id) {
    uint64_t hash = 14695981039346656037ULL; /* FNV-1a */
    for (; *id != '\0'; id++) {
        hash = (hash ^ (unsigned char)*id) * 1099511628211ULL;
    }
    return 1ULL << (hash >> 58);
}

static void message_taps_update_filter(struct message_taps *taps) {
    uint64_t watched = 0;
    struct watcher *watcher;
    DL_FOREACH(taps->watchers, watcher) {
        watched |= message_taps_id_bit(watcher->id);
    }
    atomic_store_explicit(&taps->watched_bits, watched, memory_order_relaxed);
}

enum err message_taps_add(struct message_taps *taps, const char *id, const struct scope *scope,
                          struct event_stream *stream) {
    struct watcher *watcher = calloc(1, sizeof *watcher);
    char *copy = text_dup(id);
    if (!watcher || !copy) {
        free(watcher);
        free(copy);
        return ERR_MEMORY;
    }
    watcher->id = copy;
    watcher->scope = *scope;
    watcher->stream = stream;
    pthread_mutex_lock(&taps->lock);
    DL_APPEND(taps->watchers, watcher);
    message_taps_update_filter(taps);
    pthread_mutex_unlock(&taps->lock);
    return ERR_OK;
}

void message_taps_remove(struct message_taps *taps, struct event_stream *stream) {
    struct watcher *watcher, *next;
    pthread_mutex_lock(&taps->lock);
    DL_FOREACH_SAFE(taps->watchers, watcher, next) {
        if (watcher->stream == stream) {
            DL_DELETE(taps->watchers, watcher);
            free(watcher->id);
            free(watcher);
        }
    }
    message_taps_update_filter(taps);
    pthread_mutex_unlock(&taps->lock);
}

static bool message_taps_is_watched(struct message_taps *taps, const char *id) {
    struct watcher *watcher;
    bool found = false;
    pthread_mutex_lock(&taps->lock);
    DL_FOREACH(taps->watchers, watcher) {
        found = found || strcmp(watcher->id, id) == 0;
    }
    pthread_mutex_unlock(&taps->lock);
    return found;
}

/* ---- a message ------------------------------------------------------------------------------- */

/* How much of the payload is shown; a UTF-8 text is not cut within a character. */
static size_t message_taps_shown_len(const struct message *message) {
    size_t len = message->payload_len;
    if (len <= MESSAGE_TAPS_PAYLOAD_BYTES_MAX) {
        return len;
    }
    for (size_t less = 0; less < 4; less++) {
        if (text_is_utf8(message->payload, MESSAGE_TAPS_PAYLOAD_BYTES_MAX - less)) {
            return MESSAGE_TAPS_PAYLOAD_BYTES_MAX - less;
        }
    }
    return MESSAGE_TAPS_PAYLOAD_BYTES_MAX;
}

static char *message_taps_render(const struct message *message) {
    json_t *json = json_object();
    json_t *properties = properties_json(message);
    size_t len = message_taps_shown_len(message);
    json_object_set_new(json, "received_at", http_json_time(message->received_at_ms));
    json_object_set_new(json, "topic", http_json_string(message->topic));
    int failed = properties_set_bytes(json, "payload", message->payload, len);
    json_object_set_new(json, "size", json_integer((json_int_t)message->payload_len));
    if (len < message->payload_len) {
        json_object_set_new(json, "truncated", json_true());
    }
    json_object_set_new(json, "qos", json_integer(message->qos));
    json_object_set_new(json, "retain", json_boolean(message->retain));
    failed |= json_object_set_new(json, "properties", properties);
    char *text = failed == 0 ? json_to_text(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

static void message_taps_tapped_free(struct tapped_message *note) {
    if (note) {
        free(note->id);
        free(note->text);
        message_origin_release(note->origin);
        free(note);
    }
}

struct tapped_message *message_taps_prepare(struct message_taps *taps,
                                            const struct message *message) {
    uint64_t watched = atomic_load_explicit(&taps->watched_bits, memory_order_relaxed);
    if (watched == 0 || (watched & message_taps_id_bit(message->id)) == 0 ||
        !message_taps_is_watched(taps, message->id)) {
        return NULL;
    }
    struct tapped_message *note = calloc(1, sizeof *note);
    if (note) {
        note->id = text_dup(message->id);
        note->text = message_taps_render(message);
        note->origin = message_origin_retain(message->origin);
    }
    if (!note || !note->id || !note->text) {
        message_taps_tapped_free(note);
        return NULL;
    }
    return note;
}

static bool message_taps_may_see(const struct watcher *watcher, const struct tapped_message *note) {
    const char *value = message_origin_label(note->origin, watcher->scope.label);
    return !scope_is_set(&watcher->scope) || (value && strcmp(value, watcher->scope.value) == 0);
}

void message_taps_deliver(struct message_taps *taps, struct tapped_message *note, bool taken) {
    struct watcher *watcher;
    if (note && taken) {
        struct buffer event;
        buffer_init(&event);
        pthread_mutex_lock(&taps->lock);
        buffer_printf(&event,
                      "id: %llu\nevent: message\ndata: ", (unsigned long long)++taps->sequence);
        buffer_append_str(&event, note->text);
        buffer_append_str(&event, "\n\n");
        DL_FOREACH(taps->watchers, watcher) {
            if (!event.failed && strcmp(watcher->id, note->id) == 0 &&
                message_taps_may_see(watcher, note)) {
                (void)event_stream_put(watcher->stream, event.data, event.len);
            }
        }
        pthread_mutex_unlock(&taps->lock);
        buffer_fini(&event);
    }
    message_taps_tapped_free(note);
}
