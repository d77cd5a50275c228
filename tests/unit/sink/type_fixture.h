/* One type of sink by itself, without queue and thread. Header-only. */
#ifndef MQFLEET_TEST_TYPE_FIXTURE_H
#define MQFLEET_TEST_TYPE_FIXTURE_H

#include <check.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "sink/sink_type.h"

#define TYPE_BATCH_MAX 1000

static struct sink_environment type_environment = {.node = "node-1",
                                                   .redis_url = "",
                                                   .key_prefix = "",
                                                   .redis_timeout_ms = 300,
                                                   .redis_replicas_timeout_ms = 1000};
static json_t *type_settings;
static void *type_state;
static enum sink_outcome type_outcomes[TYPE_BATCH_MAX];
static char type_reasons[TYPE_BATCH_MAX][SINK_REASON_LEN];
static char type_error[SINK_ERROR_LEN]; /* of the last write */
static char type_fault[SINK_FAULT_LEN]; /* the first of the last settings */

static inline void type_note_fault(void *context, const char *field, const char *fault) {
    (void)context;
    if (*type_fault == '\0') {
        snprintf(type_fault, sizeof type_fault, "%.60s %.180s", field, fault);
    }
}

/* All fields of the type and the common ones. format: as json_pack, "{}" for the defaults. NULL:
 * type_fault says why. */
static inline json_t *type_complete(const struct sink_type *type, const char *format, ...) {
    const struct sink_field *const tables[] = {sink_common_fields, type->fields, NULL};
    va_list arguments;
    va_start(arguments, format);
    json_t *given = json_vpack_ex(NULL, 0, format, arguments);
    va_end(arguments);
    ck_assert_ptr_nonnull(given);
    *type_fault = '\0';
    json_t *settings = sink_settings_complete(tables, given, type_note_fault, NULL);
    json_decref(given);
    return settings;
}

/* Takes ownership of the settings. */
static inline void type_open(const struct sink_type *type, json_t *settings) {
    ck_assert_msg(settings != NULL, "%s", type_fault);
    type_settings = settings;
    enum err err = type->open(&type_state, &type_environment, settings, type_fault);
    ck_assert_msg(err == ERR_OK, "%s", type_fault);
}

static inline void type_close(const struct sink_type *type) {
    type->close(type_state);
    json_decref(type_settings);
}

/* *written: how many from the beginning were accepted. */
static inline enum err type_write(const struct sink_type *type, struct message *const *messages,
                                  size_t n, size_t *written) {
    ck_assert_uint_le(n, TYPE_BATCH_MAX);
    memset(type_outcomes, 0, sizeof type_outcomes);
    struct sink_batch batch = {
        .messages = messages, .count = n, .outcomes = type_outcomes, .reasons = type_reasons};
    enum err err = type->write(type_state, &batch);
    memcpy(type_error, batch.error, sizeof type_error);
    *written = 0;
    while (*written < n && type_outcomes[*written] == SINK_ACCEPTED) {
        ++*written;
    }
    ck_assert_int_eq(*type_error == '\0', err == ERR_OK);
    return err;
}

#endif
