/* Tests settings of the type kafka with the brokers, without writing. */
#ifndef MQFLEET_KAFKA_TEST_H
#define MQFLEET_KAFKA_TEST_H

#include "sink/sink_type.h"

/* As sink_type.test. Bounded by some seconds. */
void kafka_test(const struct sink_environment *environment, const json_t *settings,
                const struct sink_test_report *report);

#endif
