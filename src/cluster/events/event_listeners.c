/* Owns the table of the listeners of this node. Listeners are added by any thread; they are called
 * and removed by the event bus thread. */
#include "event_listeners.h"

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
                             const struct event_bus_listener *listener, atomic_bool *in_use) {
    enum err err = ERR_FULL;
    pthread_mutex_lock(&listeners->lock);
    size_t n = atomic_load(&listeners->count);
    if (n < EVENT_BUS_LISTENERS_MAX) {
        listeners->entries[n] = (struct event_listener_entry){.listener = *listener};
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

void event_listeners_deliver(struct event_listeners *listeners,
                             const struct event_bus_event *event) {
    pthread_mutex_lock(&listeners->lock);
    for (size_t i = 0; i < atomic_load(&listeners->count); i++) {
        const struct event_bus_listener *listener = &listeners->entries[i].listener;
        listener->on_event(listener->context, event);
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
