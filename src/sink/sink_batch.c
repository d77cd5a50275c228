/* Owns the outcomes of one write. The sink's thread. */
#include "sink/sink_type.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include "base/system/clock.h"

bool sink_batch_is_over(const struct sink_batch *batch) {
    return batch->end_ms && clock_ms() >= atomic_load(batch->end_ms);
}

void sink_batch_accept(struct sink_batch *batch, size_t index) {
    batch->outcomes[index] = SINK_ACCEPTED;
}

void sink_batch_accept_range(struct sink_batch *batch, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        batch->outcomes[i] = SINK_ACCEPTED;
    }
}

/* Texts of targets go to logs and answers, where a line is a line. */
static void batch_format(char *out, size_t size, const char *format, va_list arguments) {
    vsnprintf(out, size, format, arguments);
    for (char *at = out; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = ' ';
        }
    }
}

void sink_batch_reject(struct sink_batch *batch, size_t index, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    batch_format(batch->reasons[index], SINK_REASON_LEN, format, arguments);
    va_end(arguments);
    batch->outcomes[index] = SINK_REJECTED;
}

enum err sink_batch_fail(struct sink_batch *batch, enum err err, const char *format, ...) {
    if (*batch->error == '\0') {
        va_list arguments;
        va_start(arguments, format);
        batch_format(batch->error, sizeof batch->error, format, arguments);
        va_end(arguments);
    }
    return err;
}
