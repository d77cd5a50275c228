/* Formats why a stream failed. Only src/mqtt/reactor includes this. */
#ifndef MQFLEET_STREAM_STREAM_FAULT_H
#define MQFLEET_STREAM_STREAM_FAULT_H

#include "mqtt/reactor/stream/stream.h"

/* With the error's own text. */
void stream_fault_set(struct stream_fault *fault, enum client_error error);
/* Cuts what does not fit, between characters. */
void stream_fault_format(struct stream_fault *fault, enum client_error error, const char *format,
                         ...) __attribute__((format(printf, 3, 4)));

#endif
