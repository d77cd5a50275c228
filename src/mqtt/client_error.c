/* Owns the look-up in the table of errors. Pure; any thread. */
#include "mqtt/client_error.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define ROW(symbol, code, connect, loss, text, advice)                                             \
    {#symbol, code, text, advice, METRIC_CONNECT_##connect, METRIC_LOST_##loss},
static const struct client_error_row {
    const char *name, *code, *text, *advice;
    enum metric connect, loss;
} client_error_rows[CLIENT_ERROR_COUNT] = {CLIENT_ERRORS(ROW)};
#undef ROW

static const struct client_error_row *client_error_row_of(enum client_error error) {
    assert(error >= CLIENT_ERROR_NONE && error < CLIENT_ERROR_COUNT);
    return &client_error_rows[error];
}

const char *client_error_code(enum client_error error) {
    return client_error_row_of(error)->code;
}

const char *client_error_name(enum client_error error) {
    return client_error_row_of(error)->name;
}

const char *client_error_text(enum client_error error) {
    return client_error_row_of(error)->text;
}

const char *client_error_advice(enum client_error error) {
    return client_error_row_of(error)->advice;
}

enum metric client_error_connect_metric(enum client_error error) {
    return client_error_row_of(error)->connect;
}

enum metric client_error_loss_metric(enum client_error error) {
    return client_error_row_of(error)->loss;
}

enum client_error client_error_of_code(const char *code) {
    for (int i = CLIENT_ERROR_NONE + 1; code && i < CLIENT_ERROR_COUNT; i++) {
        if (strcmp(client_error_rows[i].code, code) == 0) {
            return (enum client_error)i;
        }
    }
    return CLIENT_ERROR_NONE;
}

enum client_error client_error_of_name(const char *name) {
    for (int i = CLIENT_ERROR_NONE + 1; name && i < CLIENT_ERROR_COUNT; i++) {
        if (strcmp(client_error_rows[i].name, name) == 0) {
            return (enum client_error)i;
        }
    }
    return CLIENT_ERROR_NONE;
}

bool client_error_is_conflict(enum client_error error) {
    return error == CLIENT_ERROR_MQTT_TAKEN_OVER || error == CLIENT_ERROR_CONFLICT;
}
