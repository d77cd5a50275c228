/* What a kind of sink must do. One static table per kind in a file of its own, listed in sink.c. */
#ifndef MQFLEET_SINK_BACKEND_H
#define MQFLEET_SINK_BACKEND_H

#include "sink/sink.h"

struct sink_backend {
    const char *name;
    /* *state is passed to the others. ERR_ARGUMENT: fault names the setting. Does no I/O that can
     * fail for a passing reason. */
    enum err (*open)(void **state, const struct sink_config *config, char *fault);
    /* Writes the messages in order; *written: how many are safe, also on an error. `error` (160
     * bytes) explains. Bounded in time. Sink thread only. */
    enum err (*write)(void *state, struct message *const *messages, size_t n, size_t *written,
                      char *error);
    void (*close)(void *state);
    /* About once a second while nothing comes. Sink thread. NULL: nothing to tend. */
    void (*maintain)(void *state);
    /* Fills in paused and what begins with store_. Any thread. NULL: nothing to tell. */
    void (*status)(void *state, struct sink_status *out);
};

extern const struct sink_backend sink_backend_redis_stream;
extern const struct sink_backend sink_backend_file;
extern const struct sink_backend sink_backend_null;

#endif
