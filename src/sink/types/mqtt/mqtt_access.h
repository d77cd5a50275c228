/* The configuration of the connection to the target broker, from the settings of the sink: that of
 * a client without subscriptions, checked by the same rules. Any thread. */
#ifndef MQFLEET_SINK_MQTT_ACCESS_H
#define MQFLEET_SINK_MQTT_ACCESS_H

#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "sink/sink.h"

/* The MQTT client identifier: the field client_id with its placeholders replaced. {random} differs
 * in each call, so that two instances never share an identifier. ERR_ARGUMENT: fault
 * (SINK_FAULT_LEN) says what is wrong. */
enum err mqtt_access_client_id(const struct sink_environment *environment, const json_t *settings,
                               char **out, char *fault) MUST_CHECK;

/* Checks the settings without reading a file. The caller frees *out with client_config_destroy.
 * ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the field. */
enum err mqtt_access_check(const json_t *settings, const char *client_id,
                           struct client_config **out, char *fault) MUST_CHECK;
/* The same with the present content of the files that the fields of TLS name. ERR_IO: one cannot be
 * read. */
enum err mqtt_access_load(const json_t *settings, const char *client_id, struct client_config **out,
                          char *fault) MUST_CHECK;

#endif
