/* The sink that accepts and discards everything: for measurements, and for clients that only
 * publish. */
#include "sink/sink_type.h"

static const struct sink_field null_sink_fields[] = {{0}};

static enum err null_sink_open(void **state, const struct sink_environment *environment,
                               const json_t *settings, char *fault) {
    (void)environment;
    (void)settings;
    (void)fault;
    *state = NULL;
    return ERR_OK;
}

static enum err null_sink_write(void *state, struct sink_batch *batch) {
    (void)state;
    sink_batch_accept_range(batch, 0, batch->count);
    return ERR_OK;
}

static void null_sink_close(void *state) {
    (void)state;
}

const struct sink_type sink_type_null = {.version = MQFLEET_VERSION,
                                         .name = "null",
                                         .fields = null_sink_fields,
                                         .open = null_sink_open,
                                         .write = null_sink_write,
                                         .close = null_sink_close};
