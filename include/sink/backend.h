/* The interface of a kind of sink. One static table per kind in its own file, listed in sink.c. */
#ifndef MQFLEET_SINK_BACKEND_H
#define MQFLEET_SINK_BACKEND_H

#include "sink/sink.h"

struct sink_backend {
    const char *name;
    /* *state is passed to the other functions. ERR_ARGUMENT: fault names the setting. Does no I/O
     * that can fail temporarily. */
    enum err (*open)(void **state, const struct sink_config *config, char *fault);
    /* Writes the messages in order; *written: how many are stored, also on an error. `error` (160
     * bytes) is the reason. Bounded in time. Sink thread only. */
    enum err (*write)(void *state, struct message *const *messages, size_t n, size_t *written,
                      char *error);
    void (*close)(void *state);
    /* Called about once a second while the queue is empty. Sink thread. NULL: no maintenance. */
    void (*maintain)(void *state);
    /* Fills in paused, stream and the fields that begin with store_. Any thread. NULL: the backend
     * has no status. */
    void (*status)(void *state, struct sink_status *out);
};

extern const struct sink_backend sink_backend_redis_stream;
extern const struct sink_backend sink_backend_file;
extern const struct sink_backend sink_backend_null;

#endif
