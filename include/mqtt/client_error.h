/* Why a client is not connected, or not fully working: one enum and one table with the code, the
 * metrics, the text and the advice of each error. Pure; any thread. */
#ifndef MQFLEET_MQTT_CLIENT_ERROR_H
#define MQFLEET_MQTT_CLIENT_ERROR_H

#include <stdbool.h>
#include "base/telemetry/metrics.h"
#include "mqtt/client_error_table.h"

#define CLIENT_ERROR_MEMBER(symbol, code, connect, loss, text, advice) CLIENT_ERROR_##symbol,
enum client_error { CLIENT_ERRORS(CLIENT_ERROR_MEMBER) CLIENT_ERROR_COUNT };
#undef CLIENT_ERROR_MEMBER

/* A stable snake_case code; several errors may share one: "tls_failed", "connection_refused" ...
 * NULL for CLIENT_ERROR_NONE. */
const char *client_error_code(enum client_error error);
/* The error's own name, which Redis keeps beside the code: "TLS_NO_NAME" ... */
const char *client_error_name(enum client_error error);
/* What happened. If details are known, callers show those instead. */
const char *client_error_text(enum client_error error);
/* Advice on what the user can change; NULL: none. */
const char *client_error_advice(enum client_error error);
/* The counters of a failed connect and of a lost connection with this error. */
enum metric client_error_connect_metric(enum client_error error);
enum metric client_error_loss_metric(enum client_error error);
/* The first error with that code, as received from Redis or another node. CLIENT_ERROR_NONE: code
 * is NULL or unknown. */
enum client_error client_error_of_code(const char *code);
/* CLIENT_ERROR_NONE: name is NULL or unknown. */
enum client_error client_error_of_name(const char *name);
/* Whether another client uses the identifier, as reported by the broker or inferred. */
bool client_error_is_conflict(enum client_error error);

#endif
