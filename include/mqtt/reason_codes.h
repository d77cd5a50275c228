/* Names of MQTT reason codes: stable codes for the API and texts for people. Pure; any thread. */
#ifndef MQFLEET_MQTT_REASON_CODES_H
#define MQFLEET_MQTT_REASON_CODES_H

#include <stdbool.h>

struct reason_code {
    int value;
    const char *code; /* snake_case, stable */
    const char *text;
};

/* CONNACK: a return code of MQTT 3.1.1 section 3.2.2.3 (1 to 5) or a reason code of MQTT 5.0
 * section 3.2.2.2 (0x80 and above). Never NULL; unknown values share one row. */
const struct reason_code *reason_code_connack(int value);
/* A server's DISCONNECT, MQTT 5.0 section 3.14.2.1. */
const struct reason_code *reason_code_disconnect(int value);
/* Is the code one of these, that is, a broker's own word? */
bool reason_code_known(const char *code);
/* SUBACK, 3.9.3; for values of 0x80 and above. */
const struct reason_code *reason_code_suback(int value);

#endif
