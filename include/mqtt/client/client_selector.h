/* A selector: the one grammar that selects clients, in lists, sums, bulk operations and the scopes
 * of tokens. Pure; any thread.
 *
 *   state=backoff,conflict&broker=b1.example.com:1883&label.tenant=acme
 *
 * All keys must match (AND). The values of one key are alternatives, separated by commas; in a
 * value, "\," is a comma and "\\" a backslash. "label[tenant]" is the same as "label.tenant", for
 * generated clients. A selector without keys selects every client. */
#ifndef MQFLEET_CLIENT_CLIENT_SELECTOR_H
#define MQFLEET_CLIENT_CLIENT_SELECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "mqtt/client/client_facts.h"

#define CLIENT_SELECTOR_KEYS_MAX   32
#define CLIENT_SELECTOR_VALUES_MAX 100 /* of one key */
#define CLIENT_SELECTOR_FAULT_LEN  384
/* The names of all keys, for the text of a fault and for the table of routes. */
#define CLIENT_SELECTOR_KEYS "state error broker node label.* id_prefix profile silent degraded"

struct client_selector;

/* Any text as one value of a key. NULL: out of memory. free(). */
char *client_selector_escape(const char *value);

/* Whether the name is that of a key; the name of a label is not checked. */
bool client_selector_is_key(const char *name);
/* The key "state", "label.tenant" ... *label: the name of a label, or NULL; points into name.
 * CLIENT_SELECTOR_KEY_COUNT: none. */
enum client_selector_key client_selector_key_of(const char *name, const char **label);
const char *client_selector_key_name(enum client_selector_key key); /* "state" "label." ... */
/* ERR_ARGUMENT: a repeated or unknown key, or an empty or illegal value; `fault` says what would be
 * right. *out: client_selector_destroy. */
enum err client_selector_parse(const struct client_pair *pairs, size_t count,
                               struct client_selector **out,
                               char fault[CLIENT_SELECTOR_FAULT_LEN]) MUST_CHECK;
/* The same for "key=value&key=value", percent-encoded. */
enum err client_selector_parse_query(const char *query, struct client_selector **out,
                                     char fault[CLIENT_SELECTOR_FAULT_LEN]) MUST_CHECK;
void client_selector_destroy(struct client_selector *selector); /* NULL is legal */

/* Without keys, or NULL. */
bool client_selector_is_empty(const struct client_selector *selector);
bool client_selector_matches(const struct client_selector *selector,
                             const struct client_facts *facts);
bool client_selector_has(const struct client_selector *selector, enum client_selector_key key);
/* The alternatives of a key other than "label."; NULL: any value. Borrowed. */
char *const *client_selector_values(const struct client_selector *selector,
                                    enum client_selector_key key, size_t *count);
/* The labels of a selector by index: the name, and the alternatives. NULL: there are fewer. */
const char *client_selector_label(const struct client_selector *selector, size_t index);
char *const *client_selector_label_values(const struct client_selector *selector, size_t index,
                                          size_t *count);
/* The selector as a query, percent-encoded, the keys in the order of the table; "" if empty. Equal
 * selectors give equal text if their values have the same order. NULL: out of memory. free(). */
char *client_selector_query(const struct client_selector *selector);

#endif
