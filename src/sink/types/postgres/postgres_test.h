/* Tests the settings of a sink: resolve, connect, and the rights on the table. Writes nothing. */
#ifndef MQFLEET_SINK_POSTGRES_TEST_H
#define MQFLEET_SINK_POSTGRES_TEST_H

#include "sink/sink_type.h"

void postgres_test(const struct sink_environment *environment, const json_t *settings,
                   const struct sink_test_report *report);

#endif
