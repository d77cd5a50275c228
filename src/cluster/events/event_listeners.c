/* Owns the table of the listeners of this node. Listeners are added by any thread; they are called
 * and removed by the event bus thread. */
#include "event_listeners.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "queued_event.h"

#define EVENT_LISTENERS_PAGES_MAX 16 /* of kept events, in one turn of the thread */

void event_listeners_init(struct event_listeners *listeners) {
    pthread_mutex_init(&listeners->lock, NULL);
}

void event_listeners_fini(struct event_listeners *listeners) {
    for (size_t i = 0; i < atomic_load(&listeners->count); i++) {
        const struct event_bus_listener *listener = &listeners->entries[i].listener;
        listener->release(listener->context);
    }
    pthread_mutex_destroy(&listeners->lock);
}

enum err event_listeners_add(struct event_listeners *listeners,
                             const struct event_bus_listener *listener,
                             const struct store_event_place *after, atomic_bool *in_use) {
    enum err err = ERR_FULL;
    pthread_mutex_lock(&listeners->lock);
    size_t n = atomic_load(&listeners->count);
    if (n < EVENT_BUS_LISTENERS_MAX) {
        listeners->entries[n] = (struct event_listener_entry){.listener = *listener};
        if (after) {
            listeners->entries[n].replays = true;
            listeners->entries[n].place = *after;
        }
        atomic_store(&listeners->count, n + 1);
        atomic_store(in_use, true);
        err = ERR_OK;
    }
    pthread_mutex_unlock(&listeners->lock);
    return err;
}

void event_listeners_update_use(struct event_listeners *listeners, bool others,
                                atomic_bool *in_use) {
    pthread_mutex_lock(&listeners->lock);
    atomic_store(in_use, others || atomic_load(&listeners->count) > 0);
    pthread_mutex_unlock(&listeners->lock);
}

size_t event_listeners_count(const struct event_listeners *listeners) {
    return atomic_load(&listeners->count);
}

/* Whether the listener gets the event now: one that replays gets it with its pages, if it is kept.
 */
static bool event_listener_takes(struct event_listener_entry *entry,
                                 const struct event_bus_event *event) {
    struct store_event_place place;
    if (event->kind >= EVENT_BUS_DROPPED) {
        return true;
    }
    if (entry->replays) {
        return false;
    }
    if (entry->has_place && event->id && store_event_place_parse(event->id, &place)) {
        entry->has_place = store_event_place_compare(place, entry->place) <= 0;
        return !entry->has_place;
    }
    return true;
}

void event_listeners_deliver(struct event_listeners *listeners,
                             const struct event_bus_event *event) {
    pthread_mutex_lock(&listeners->lock);
    for (size_t i = 0; i < atomic_load(&listeners->count); i++) {
        struct event_listener_entry *entry = &listeners->entries[i];
        if (event_listener_takes(entry, event)) {
            entry->listener.on_event(entry->listener.context, event);
        }
    }
    pthread_mutex_unlock(&listeners->lock);
}

void event_listeners_deliver_lost(struct event_listeners *listeners, int64_t count) {
    event_listeners_deliver(
        listeners,
        &(struct event_bus_event){
            .kind = EVENT_BUS_DROPPED, .subject = "", .state = "", .text = "", .count = count});
}

void event_listeners_deliver_status(struct event_listeners *listeners, const char *text) {
    event_listeners_deliver(
        listeners, &(struct event_bus_event){
                       .kind = EVENT_BUS_STATUS, .subject = "", .state = "", .text = text});
}

void event_listeners_deliver_coverage(struct event_listeners *listeners) {
    static const struct event_bus_event event = {.kind = EVENT_BUS_STATUS,
                                                 .subject = "",
                                                 .state = "",
                                                 .text = "listening to the whole fleet",
                                                 .covers_fleet = true};
    pthread_mutex_lock(&listeners->lock);
    for (size_t i = 0; i < atomic_load(&listeners->count); i++) {
        struct event_listener_entry *entry = &listeners->entries[i];
        if (!entry->coverage_sent) {
            entry->coverage_sent = true;
            entry->listener.on_event(entry->listener.context, &event);
        }
    }
    pthread_mutex_unlock(&listeners->lock);
}

void event_listeners_drop_closed(struct event_listeners *listeners) {
    pthread_mutex_lock(&listeners->lock);
    size_t n = atomic_load(&listeners->count);
    for (size_t i = n; i > 0; i--) {
        struct event_bus_listener *listener = &listeners->entries[i - 1].listener;
        if (listener->is_closed(listener->context)) {
            listener->release(listener->context);
            listeners->entries[i - 1] = listeners->entries[--n];
        }
    }
    atomic_store(&listeners->count, n);
    pthread_mutex_unlock(&listeners->lock);
}

/* ---- kept events ----------------------------------------------------------------------------- */

static void event_listener_put(const struct event_bus_listener *listener, const char *id,
                               const char *text) {
    json_t *json = json_from_text(text, strlen(text), 0);
    if (json_is_object(json)) {
        const struct event_bus_event event = queued_event_from_json(json, text, id);
        listener->on_event(listener->context, &event);
    }
    json_decref(json);
}

static void event_listener_put_gap(const struct event_bus_listener *listener, const char *after,
                                   const char *first) {
    char text[2 * STORE_EVENT_ID_LEN + 40];
    snprintf(text, sizeof text, "{\"after\":\"%s\",\"first\":%s%s%s}", after,
             first[0] != '\0' ? "\"" : "null", first, first[0] != '\0' ? "\"" : "");
    listener->on_event(
        listener->context,
        &(struct event_bus_event){.kind = EVENT_BUS_GAP, .subject = "", .state = "", .text = text});
}

/* A place of 0 asks for everything that is kept. Another one is the id of an event: if it is still
 * kept, so are all that follow it. It may be removed while a slow reader gets its pages. */
static bool event_listener_has_gap(const struct event_listener_entry *entry,
                                   const struct store_event_page *page) {
    return !page->known && (entry->place.ms > 0 || entry->place.sequence > 0);
}

/* As many of the page as the listener has room for. Returns how many. */
static size_t event_listener_put_page(struct event_listener_entry *entry,
                                      const struct store_event_page *page) {
    const struct event_bus_listener *listener = &entry->listener;
    size_t i = 0;
    for (; i < page->n && listener->has_room(listener->context); i++) {
        const char *id = store_event_page_id(page, i);
        if (store_event_place_parse(id, &entry->place)) {
            event_listener_put(listener, id, store_event_page_text(page, i));
            entry->has_place = true;
        }
    }
    return i;
}

/* *more: another page is to be read. */
static enum err event_listener_replay_page(struct event_listener_entry *entry, struct store *store,
                                           bool live, bool *more) {
    char after[STORE_EVENT_ID_LEN];
    struct store_event_page page;
    snprintf(after, sizeof after, "%" PRIu64 "-%" PRIu64, entry->place.ms, entry->place.sequence);
    enum err err = store_read_events(store, after, EVENT_BUS_PAGE_EVENTS, &page);
    if (err != ERR_OK) {
        log_event(LOG_DEBUG, "events_not_read", KS("error", err_name(err)));
        store_event_page_fini(&page);
        return err;
    }
    bool gap = event_listener_has_gap(entry, &page);
    bool again = gap && page.n == 0; /* the stream is another one: all of it is new */
    if (gap) {
        event_listener_put_gap(&entry->listener, after, page.first);
    }
    if (again) {
        entry->place = (struct store_event_place){0};
    }
    size_t taken = event_listener_put_page(entry, &page);
    *more = *more || again || page.n == EVENT_BUS_PAGE_EVENTS || taken < page.n;
    entry->replays = again || page.n == EVENT_BUS_PAGE_EVENTS || taken < page.n || !live;
    store_event_page_fini(&page);
    return ERR_OK;
}

/* Without the lock, which is not held during I/O: only this thread removes entries. The listeners
 * take turns; after an error, none of them asks Redis again in this turn. */
bool event_listeners_replay(struct event_listeners *listeners, struct store *store, bool live) {
    size_t n = event_listeners_count(listeners), pages = 0, i = 0;
    enum err err = ERR_OK;
    bool more = false;
    for (; i < n && err == ERR_OK && pages < EVENT_LISTENERS_PAGES_MAX; i++) {
        struct event_listener_entry *entry = &listeners->entries[(listeners->replay_next + i) % n];
        const struct event_bus_listener *listener = &entry->listener;
        if (entry->replays && !listener->is_closed(listener->context) &&
            listener->has_room(listener->context)) {
            err = event_listener_replay_page(entry, store, live, &more);
            pages++;
        }
    }
    listeners->replay_next = n > 0 ? (listeners->replay_next + i) % n : 0;
    return err == ERR_OK && (more || i < n);
}
