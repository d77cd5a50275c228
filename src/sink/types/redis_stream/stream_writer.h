/* Writes batches of messages to streams. One sink's thread, except stream_writer_status. */
#ifndef MQFLEET_REDIS_STREAM_STREAM_WRITER_H
#define MQFLEET_REDIS_STREAM_STREAM_WRITER_H

#include "base/err.h"
#include "sink/sink_type.h"
#include "streams.h"

struct stream_writer;

/* environment and settings: borrowed. ERR_ARGUMENT: fault names the field. */
enum err stream_writer_create(struct stream_writer **out,
                              const struct sink_environment *environment, const json_t *settings,
                              char *fault) MUST_CHECK;
void stream_writer_destroy(struct stream_writer *writer);
/* As sink_type.write. */
enum err stream_writer_write(struct stream_writer *writer, struct sink_batch *batch) MUST_CHECK;
void stream_writer_refresh(struct stream_writer *writer); /* as sink_type.maintain */
void stream_writer_status(struct stream_writer *writer, struct sink_status *out); /* any thread */

#endif
