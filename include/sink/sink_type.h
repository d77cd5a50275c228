/* The interface of a type of sink. A type is one folder, src/sink/types/<name>, with one constant
 * `sink_type_<name>`. docs/writing-a-sink.md shows how to write one.
 *
 *   settings --open--> state --write: messages in, one outcome each--> ... --close-->
 *
 * A type decides nothing about retries, queues or dead letters: it reports what became of each
 * message, and sink.c does the rest. */
#ifndef MQFLEET_SINK_SINK_TYPE_H
#define MQFLEET_SINK_SINK_TYPE_H

#include <stddef.h>
#include "base/err.h"
#include "message/message.h"
#include "sink/sink.h"
#include "sink/sink_settings.h"

#define SINK_REASON_LEN REJECTION_REASON_LEN

enum sink_outcome {
    SINK_RETRY,    /* stays in the queue, and is written again */
    SINK_ACCEPTED, /* the target has it */
    SINK_REJECTED  /* the target refuses this message because of its content, and always will */
};

/* Messages for one write, in the order received. All outcomes are SINK_RETRY at first. */
struct sink_batch {
    struct message *const *messages;
    size_t count;
    enum sink_outcome *outcomes;
    char (*reasons)[SINK_REASON_LEN]; /* of the rejected ones */
    char error[SINK_ERROR_LEN];       /* why messages must be written again, one line */
    const _Atomic int64_t *end_ms;    /* deadline of the stop, clock_ms; NULL: none */
};

/* The sink stops, and its time is up: what is not accepted yet will be canceled. */
bool sink_batch_is_over(const struct sink_batch *batch);

void sink_batch_accept(struct sink_batch *batch, size_t index);
/* From `begin` up to, but not including, `end`. */
void sink_batch_accept_range(struct sink_batch *batch, size_t begin, size_t end);
/* Control characters of the reason become spaces. */
void sink_batch_reject(struct sink_batch *batch, size_t index, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sets the error unless there is one; returns err. */
enum err sink_batch_fail(struct sink_batch *batch, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a test of settings reports: each step once, up to the first that fails. detail: one line
 * without secrets. advice: what to change; of a step that is not ok. */
struct sink_test_report {
    void *context;
    void (*step)(void *context, const char *step, bool ok, const char *detail, const char *advice);
};

struct sink_type {
    const char *version; /* MQFLEET_VERSION when it was compiled: a module must match the program */
    const char *name;    /* [a-z0-9_] */
    bool uses_broker;    /* of a message's client, even if no template names it */
    const struct sink_field *fields; /* ends with a row without a name */
    /* settings: all fields, with defaults, valid by the table; borrowed until close, like the
     * environment. ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the field. Does no I/O that can fail
     * temporarily. */
    enum err (*open)(void **state, const struct sink_environment *environment,
                     const json_t *settings, char *fault);
    /* Writes the messages and sets their outcomes. Otherwise than with ERR_OK, batch->error is the
     * reason. With ERR_OK, messages that are still SINK_RETRY were not attempted: a write ends
     * after about a second, also if the target is slow, and the next one continues. It ends soon
     * when sink_batch_is_over. Sink thread only. */
    enum err (*write)(void *state, struct sink_batch *batch);
    void (*close)(void *state);
    /* Tests settings without writing: resolve, connect, authenticate, permission, as far as that is
     * possible. Bounded in time; any thread. NULL: the type has no test. */
    void (*test)(const struct sink_environment *environment, const json_t *settings,
                 const struct sink_test_report *report);
    /* Called about once a second while the queue is empty. Sink thread. NULL: no maintenance. */
    void (*maintain)(void *state);
    /* Fills in paused, stream and what begins with store_. Any thread. NULL: nothing to report. */
    void (*status)(void *state, struct sink_status *out);
};

#endif
