/* Why a client is not connected, or not as it should be: one enum, and one table with what is told
 * of each, to programs (code, metrics) and to people (text, advice). Pure; any thread. */
#ifndef MQFLEET_MQTT_CLIENT_ERROR_H
#define MQFLEET_MQTT_CLIENT_ERROR_H

#include <stdbool.h>
#include "base/telemetry/metrics.h"
#include "mqtt/client_error_table.h"

#define CLIENT_ERROR_MEMBER(symbol, code, connect, loss, text, advice) CLIENT_ERROR_##symbol,
enum client_error { CLIENT_ERRORS(CLIENT_ERROR_MEMBER) CLIENT_ERROR_COUNT };
#undef CLIENT_ERROR_MEMBER

/* Stable, snake_case; several errors may share one: "tls_failed", "connection_refused" ... NULL for
 * CLIENT_ERROR_NONE. */
const char *client_error_code(enum client_error error);
/* The error's own name, as Redis keeps it beside the code: "TLS_NO_NAME" ... */
const char *client_error_name(enum client_error error);
/* What happened; where a detail is known, that is told instead. */
const char *client_error_text(enum client_error error);
/* What to change; NULL: nothing is known to help. */
const char *client_error_advice(enum client_error error);
/* Which counter a connect that failed so, and a connection that was lost so, belongs to. */
enum metric client_error_connect_metric(enum client_error error);
enum metric client_error_loss_metric(enum client_error error);
/* The first error with that code, as it came from Redis or another node; CLIENT_ERROR_NONE: NULL or
 * no such code. */
enum client_error client_error_of_code(const char *code);
/* CLIENT_ERROR_NONE: NULL or no such name. */
enum client_error client_error_of_name(const char *name);
/* Another client uses the identifier, as the broker said or as is to be supposed. */
bool client_error_is_conflict(enum client_error error);

#endif
