/* The threads of the process: one row each, in the order of their start. Main thread. */
#ifndef MQFLEET_WIRING_THREADS_H
#define MQFLEET_WIRING_THREADS_H

#include "app.h"

enum thread_kind {
    THREAD_RESOLVER,
    THREAD_WORKER,
    THREAD_HEARTBEAT,
    THREAD_AGENT,
    THREAD_LEADER,
    THREAD_HTTP_HANDLER,
    THREAD_PEER_CALLS,
    THREAD_STREAMS,
    THREAD_EVENT_BUS,
    THREAD_STOP_PROGRESS
};

/* Starts all threads, except those that are started late. On an error `fault` (FAULT_LEN) is one
 * line. */
enum err threads_start(struct app *app, char *fault) MUST_CHECK;
/* Starts a thread that is needed only now. A failure is logged. */
void threads_start_late(struct app *app, enum thread_kind kind);
/* Waits until all of that kind have ended. */
void threads_join(enum thread_kind kind);

#endif
