/* The life of a client on this node: one table of states and events, pure. */
#ifndef MQFLEET_CLIENT_CLIENT_STATE_H
#define MQFLEET_CLIENT_CLIENT_STATE_H

#include <stdbool.h>

/* X(symbol, name, shown): name is used in logs, shown in the API. */
#define CLIENT_STATE_TABLE(X)                                                                      \
    X(CLIENT_QUEUED, "queued", "connecting")           /* waits for its turn to connect */         \
    X(CLIENT_RESOLVING, "resolving", "connecting")     /* waits for DNS */                         \
    X(CLIENT_OPENING, "opening", "connecting")         /* TCP, TLS, CONNECT sent */                \
    X(CLIENT_SUBSCRIBING, "subscribing", "connecting") /* CONNACK received, waits for SUBACK */    \
    X(CLIENT_ONLINE, "online", "online")                                                           \
    X(CLIENT_BACKOFF, "backoff", "backoff") /* waits for the next attempt */                       \
    X(CLIENT_CONFLICT, "conflict",                                                                 \
      "conflict") /* another client uses its identifier; to be released */                         \
    X(CLIENT_PAUSED, "paused", "paused")                                                           \
    X(CLIENT_CLOSING, "closing", "connecting") /* DISCONNECT in progress */                        \
    X(CLIENT_CLOSED, "closed", "waiting")      /* nothing is open; the record will be removed */

enum client_state {
#define CLIENT_STATE_SYMBOL(symbol, name, shown) symbol,
    CLIENT_STATE_TABLE(CLIENT_STATE_SYMBOL)
#undef CLIENT_STATE_SYMBOL
        CLIENT_STATE_COUNT
};

#define CLIENT_EVENT_TABLE(X)                                                                      \
    X(CLIENT_EV_ADMITTED, "admitted")     /* the connect limiter admitted it */                    \
    X(CLIENT_EV_RESOLVED, "resolved")     /* an allowed address is known */                        \
    X(CLIENT_EV_CONNECTED, "connected")   /* CONNACK 0x00 */                                       \
    X(CLIENT_EV_SUBSCRIBED, "subscribed") /* SUBACK for all, or nothing to subscribe to */         \
    X(CLIENT_EV_FAILED, "failed")         /* DNS, TCP, TLS or CONNACK failed or timed out */       \
    X(CLIENT_EV_LOST, "lost")             /* an open connection ended */                           \
    X(CLIENT_EV_TAKEN_OVER, "taken_over") /* 0x8E, or repeatedly lost soon after CONNACK */        \
    X(CLIENT_EV_TIMER, "timer")           /* the backoff is over */                                \
    X(CLIENT_EV_PAUSE, "pause")           /* desired: paused */                                    \
    X(CLIENT_EV_RESUME, "resume")         /* desired: running */                                   \
    X(CLIENT_EV_STOP, "stop")             /* to be closed and removed */                           \
    X(CLIENT_EV_CLOSED, "closed")         /* the engine has released the connection */             \
    X(CLIENT_EV_REQUEUE, "requeue") /* connect again, on request or because the lease has lapsed   \
                                     */

enum client_event {
#define CLIENT_EVENT_SYMBOL(symbol, name) symbol,
    CLIENT_EVENT_TABLE(CLIENT_EVENT_SYMBOL)
#undef CLIENT_EVENT_SYMBOL
        CLIENT_EVENT_COUNT
};

/* The state after `event`. False: the event has no meaning in that state (it is late), and *next is
 * unchanged. */
bool client_state_next(enum client_state state, enum client_event event, enum client_state *next);
const char *client_state_name(enum client_state state);
const char *client_state_shown(enum client_state state);
const char *client_event_name(enum client_event event);

#endif
