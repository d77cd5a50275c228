/* Why a stream failed, put into words. Only src/mqtt/reactor includes this. */
#ifndef MQFLEET_MQTT_REACTOR_FAULT_H
#define MQFLEET_MQTT_REACTOR_FAULT_H

#include "mqtt/reactor/stream.h"

/* What does not fit is cut between characters. code: static. */
void fault_set(struct stream_fault *fault, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
