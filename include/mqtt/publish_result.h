/* How a publication ended. Pure; any thread. */
#ifndef MQFLEET_MQTT_PUBLISH_RESULT_H
#define MQFLEET_MQTT_PUBLISH_RESULT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "mqtt/give_up.h"
#include "mqtt/reason_codes.h"

/* Why nothing was acknowledged in time. */
enum publish_timeout {
    PUBLISH_TIMEOUT_SILENT,       /* the broker did not answer */
    PUBLISH_TIMEOUT_READ_BLOCKED, /* the client's sink is full, so its connection is not read */
};

/* ERR_OK: acknowledged, or written for QoS 0. ERR_REFUSED: given up. ERR_TIMEOUT: not acknowledged
 * in time. ERR_UNAVAILABLE: connection lost, outcome unknown. ERR_WRONG_STATE: not online. */
struct publish_result {
    enum err err;
    uint8_t reason_code;          /* ERR_OK: of PUBACK, PUBREC or PUBCOMP; 0 for MQTT 3.1.1 */
    enum give_up give_up;         /* ERR_REFUSED */
    enum publish_timeout timeout; /* ERR_TIMEOUT */
};

/* The broker has received and accepted it. */
static inline bool publish_result_is_success(const struct publish_result *result) {
    return result->err == ERR_OK && !reason_is_error(result->reason_code);
}

#endif
