/* Owns the table of a client's states and events. Pure; any thread. */
#include "mqtt/client/client_state.h"

#include <assert.h>
#include <stddef.h>

/* One row per pair that has a meaning; every other pair is a late event. */
static const struct client_state_transition {
    enum client_state from;
    enum client_event event;
    enum client_state to;
} client_state_transitions[] = {
    {CLIENT_QUEUED, CLIENT_EV_ADMITTED, CLIENT_RESOLVING},
    {CLIENT_QUEUED, CLIENT_EV_FAILED, CLIENT_BACKOFF},
    {CLIENT_QUEUED, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_QUEUED, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_RESOLVING, CLIENT_EV_RESOLVED, CLIENT_OPENING},
    {CLIENT_RESOLVING, CLIENT_EV_FAILED, CLIENT_BACKOFF},
    {CLIENT_RESOLVING, CLIENT_EV_REQUEUE, CLIENT_QUEUED},
    {CLIENT_RESOLVING, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_RESOLVING, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_OPENING, CLIENT_EV_CONNECTED, CLIENT_SUBSCRIBING},
    {CLIENT_OPENING, CLIENT_EV_FAILED, CLIENT_BACKOFF},
    {CLIENT_OPENING, CLIENT_EV_TAKEN_OVER, CLIENT_CONFLICT},
    {CLIENT_OPENING, CLIENT_EV_REQUEUE, CLIENT_QUEUED},
    {CLIENT_OPENING, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_OPENING, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_SUBSCRIBING, CLIENT_EV_SUBSCRIBED, CLIENT_ONLINE},
    {CLIENT_SUBSCRIBING, CLIENT_EV_FAILED, CLIENT_BACKOFF},
    {CLIENT_SUBSCRIBING, CLIENT_EV_LOST, CLIENT_BACKOFF},
    {CLIENT_SUBSCRIBING, CLIENT_EV_TAKEN_OVER, CLIENT_CONFLICT},
    {CLIENT_SUBSCRIBING, CLIENT_EV_REQUEUE, CLIENT_QUEUED},
    {CLIENT_SUBSCRIBING, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_SUBSCRIBING, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_ONLINE, CLIENT_EV_LOST, CLIENT_BACKOFF},
    {CLIENT_ONLINE, CLIENT_EV_TAKEN_OVER, CLIENT_CONFLICT},
    {CLIENT_ONLINE, CLIENT_EV_REQUEUE, CLIENT_QUEUED},
    {CLIENT_ONLINE, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_ONLINE, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_BACKOFF, CLIENT_EV_TIMER, CLIENT_QUEUED},
    {CLIENT_BACKOFF, CLIENT_EV_REQUEUE, CLIENT_QUEUED},
    {CLIENT_BACKOFF, CLIENT_EV_TAKEN_OVER, CLIENT_CONFLICT},
    {CLIENT_BACKOFF, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_BACKOFF, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_CONFLICT, CLIENT_EV_RESUME, CLIENT_BACKOFF},
    {CLIENT_CONFLICT, CLIENT_EV_REQUEUE, CLIENT_QUEUED},
    {CLIENT_CONFLICT, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_CONFLICT, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_PAUSED, CLIENT_EV_RESUME, CLIENT_QUEUED},
    {CLIENT_PAUSED, CLIENT_EV_STOP, CLIENT_CLOSING},

    {CLIENT_CLOSING, CLIENT_EV_CLOSED, CLIENT_CLOSED},

    /* A new record, or a client started again while it was closing. */
    {CLIENT_CLOSED, CLIENT_EV_RESUME, CLIENT_QUEUED},
    {CLIENT_CLOSED, CLIENT_EV_PAUSE, CLIENT_PAUSED},
    {CLIENT_CLOSED, CLIENT_EV_STOP, CLIENT_CLOSING},
};

bool client_state_next(enum client_state state, enum client_event event, enum client_state *next) {
    for (size_t i = 0; i < sizeof(client_state_transitions) / sizeof(client_state_transitions[0]);
         i++) {
        if (client_state_transitions[i].from == state &&
            client_state_transitions[i].event == event) {
            *next = client_state_transitions[i].to;
            return true;
        }
    }
    return false;
}

const char *client_state_name(enum client_state state) {
    static const char *const names[] = {
#define CLIENT_STATE_NAME(symbol, name, shown) name,
        CLIENT_STATE_TABLE(CLIENT_STATE_NAME)
#undef CLIENT_STATE_NAME
    };
    assert((size_t)state < CLIENT_STATE_COUNT);
    return names[state];
}

const char *client_state_shown(enum client_state state) {
    static const char *const names[] = {
#define CLIENT_STATE_SHOWN(symbol, name, shown) shown,
        CLIENT_STATE_TABLE(CLIENT_STATE_SHOWN)
#undef CLIENT_STATE_SHOWN
    };
    assert((size_t)state < CLIENT_STATE_COUNT);
    return names[state];
}

const char *client_event_name(enum client_event event) {
    static const char *const names[] = {
#define CLIENT_EVENT_NAME(symbol, name) name,
        CLIENT_EVENT_TABLE(CLIENT_EVENT_NAME)
#undef CLIENT_EVENT_NAME
    };
    assert((size_t)event < CLIENT_EVENT_COUNT);
    return names[event];
}
