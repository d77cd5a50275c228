/* Owns the list of who watches which client. Host threads bring messages, the streams' thread and
 * handlers bring watchers. Must not know what becomes of a message. */
#include "http/taps.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/json_memory.h"
#include "base/text.h"
#include "http/json.h"
#include "sink/properties.h"

struct watcher {
    char *id;
    struct event_stream *stream;
    struct watcher *prev, *next;
};

struct taps {
    _Atomic uint64_t watched; /* a bit per watched id, by its hash: others pass without the lock */
    pthread_mutex_t lock;     /* guards the rest */
    struct watcher *watchers;
    uint64_t sequence; /* of the last message shown */
};

struct tap_note {
    char *id;
    char *text; /* one JSON object */
};

struct taps *taps_create(void) {
    struct taps *taps = calloc(1, sizeof(*taps));
    if (taps != NULL) {
        pthread_mutex_init(&taps->lock, NULL);
    }
    return taps;
}

void taps_destroy(struct taps *taps) {
    if (taps != NULL) {
        pthread_mutex_destroy(&taps->lock);
        free(taps);
    }
}

/* ---- who watches ----------------------------------------------------------------------------- */

static uint64_t bit_of(const char *id) {
    uint64_t hash = 14695981039346656037ULL; /* FNV-1a */
    for (; *id != '\0'; id++) {
        hash = (hash ^ (unsigned char)*id) * 1099511628211ULL;
    }
    return 1ULL << (hash >> 58);
}

static void count_bits(struct taps *taps) {
    uint64_t watched = 0;
    struct watcher *watcher;
    DL_FOREACH(taps->watchers, watcher) {
        watched |= bit_of(watcher->id);
    }
    atomic_store_explicit(&taps->watched, watched, memory_order_relaxed);
}

enum err taps_add(struct taps *taps, const char *id, struct event_stream *stream) {
    struct watcher *watcher = calloc(1, sizeof(*watcher));
    char *copy = text_dup(id);
    if (watcher == NULL || copy == NULL) {
        free(watcher);
        free(copy);
        return ERR_MEMORY;
    }
    watcher->id = copy;
    watcher->stream = stream;
    pthread_mutex_lock(&taps->lock);
    DL_APPEND(taps->watchers, watcher);
    count_bits(taps);
    pthread_mutex_unlock(&taps->lock);
    return ERR_OK;
}

void taps_remove(struct taps *taps, struct event_stream *stream) {
    struct watcher *watcher, *next;
    pthread_mutex_lock(&taps->lock);
    DL_FOREACH_SAFE(taps->watchers, watcher, next) {
        if (watcher->stream == stream) {
            DL_DELETE(taps->watchers, watcher);
            free(watcher->id);
            free(watcher);
        }
    }
    count_bits(taps);
    pthread_mutex_unlock(&taps->lock);
}

static bool is_watched(struct taps *taps, const char *id) {
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

/* Where the payload is cut, not within a character of a text. */
static size_t cut_len(const struct message *message) {
    size_t len = message->payload_len;
    if (len <= TAPS_PAYLOAD_MAX) {
        return len;
    }
    for (size_t less = 0; less < 4; less++) {
        if (text_is_utf8(message->payload, TAPS_PAYLOAD_MAX - less)) {
            return TAPS_PAYLOAD_MAX - less;
        }
    }
    return TAPS_PAYLOAD_MAX;
}

static char *message_text(const struct message *message) {
    json_t *json = json_object();
    json_t *properties = properties_json(message);
    size_t len = cut_len(message);
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
    char *text = failed == 0 ? json_text(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

static void note_free(struct tap_note *note) {
    if (note != NULL) {
        free(note->id);
        free(note->text);
        free(note);
    }
}

struct tap_note *taps_note(struct taps *taps, const struct message *message) {
    uint64_t watched = atomic_load_explicit(&taps->watched, memory_order_relaxed);
    if (watched == 0 || (watched & bit_of(message->id)) == 0 || !is_watched(taps, message->id)) {
        return NULL;
    }
    struct tap_note *note = calloc(1, sizeof(*note));
    if (note != NULL) {
        note->id = text_dup(message->id);
        note->text = message_text(message);
    }
    if (note == NULL || note->id == NULL || note->text == NULL) {
        note_free(note);
        return NULL;
    }
    return note;
}

void taps_tell(struct taps *taps, struct tap_note *note, bool taken) {
    struct watcher *watcher;
    if (note != NULL && taken) {
        struct buffer event;
        buffer_init(&event);
        pthread_mutex_lock(&taps->lock);
        buffer_printf(&event,
                      "id: %llu\nevent: message\ndata: ", (unsigned long long)++taps->sequence);
        buffer_append_str(&event, note->text);
        buffer_append_str(&event, "\n\n");
        DL_FOREACH(taps->watchers, watcher) {
            if (!event.failed && strcmp(watcher->id, note->id) == 0) {
                (void)event_stream_put(watcher->stream, event.data, event.len);
            }
        }
        pthread_mutex_unlock(&taps->lock);
        buffer_fini(&event);
    }
    note_free(note);
}
