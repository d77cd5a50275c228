/* The part of the fleet that a token may use: the clients with one label. Pure functions; any
 * thread.
 *
 * What a token with a scope gets of a route is a column of the table in http/api/routes.c. */
#ifndef MQFLEET_AUTH_SCOPE_H
#define MQFLEET_AUTH_SCOPE_H

#include <jansson.h>
#include <stdbool.h>
#include "mqtt/config/client_config.h"

#define SCOPE_PREFIX "label."
#define SCOPE_TEXT_LEN                                                                             \
    (sizeof(SCOPE_PREFIX) + CLIENT_LABEL_NAME_MAX + 1 + 3 * CLIENT_LABEL_VALUE_MAX)

struct scope {
    char label[CLIENT_LABEL_NAME_MAX + 1]; /* "": the whole fleet */
    char value[CLIENT_LABEL_VALUE_MAX + 1];
};

bool scope_is_set(const struct scope *scope);
/* "label.NAME=VALUE", the value percent-encoded. False: it is not of this form; *out is empty. */
bool scope_parse(const char *text, struct scope *out);
/* The reverse; "" for the whole fleet. */
void scope_format(const struct scope *scope, char out[SCOPE_TEXT_LEN]);

/* config NULL: only the whole fleet includes it. */
bool scope_includes(const struct scope *scope, const struct client_config *config);
/* The same for a configuration as stored. */
bool scope_includes_text(const struct scope *scope, const char *id, const char *text, size_t len);
/* labels: an object of strings; NULL: none. */
bool scope_includes_labels(const struct scope *scope, const json_t *labels);
/* Gives the document of a client the label of the scope. False: it has another value. */
bool scope_force_label(const struct scope *scope, json_t *document);

#endif
