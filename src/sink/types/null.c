/* The sink that accepts and discards everything: for measurements, and for clients that only
 * publish. */
#include "sink/backend.h"

static enum err null_sink_open(void **state, const struct sink_config *config, char *fault) {
    (void)config;
    (void)fault;
    *state = NULL;
    return ERR_OK;
}

static enum err null_sink_write(void *state, struct message *const *messages, size_t n,
                                size_t *written, char *error) {
    (void)state;
    (void)messages;
    (void)error;
    *written = n;
    return ERR_OK;
}

static void null_sink_close(void *state) {
    (void)state;
}

const struct sink_backend sink_backend_null = {
    .name = "null", .open = null_sink_open, .write = null_sink_write, .close = null_sink_close};
