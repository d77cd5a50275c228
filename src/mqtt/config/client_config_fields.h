/* For client_config*.c and client_secrets.c only. Fields are rows of tables; a reader processes a
 * JSON object by a table and puts values into a struct, or faults into the list. */
#ifndef MQFLEET_CONFIG_CLIENT_CONFIG_FIELDS_H
#define MQFLEET_CONFIG_CLIENT_CONFIG_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "mqtt/config/client_config.h"

#define CLIENT_SECRET_SHOWN "***"

/* Whether the value is the mask that replaces a secret where a document is shown. */
static inline bool client_field_is_mask(const json_t *value) {
    return json_is_string(value) && strcmp(json_string_value(value), CLIENT_SECRET_SHOWN) == 0;
}

/* The place of a value, as a chain up to the document itself (NULL). */
struct client_field_place {
    const struct client_field_place *up;
    const char *name; /* NULL: an element of an array */
    size_t index;
};

/* The location of the broker, from one text. */
struct client_url {
    enum client_scheme scheme;
    char *host;    /* lower case, no brackets */
    uint16_t port; /* 0: not given */
    char *path;    /* NULL: none */
};

struct reader {
    json_t *document;
    enum client_source source;
    struct client_config *config;
    struct client_faults *faults;
    struct client_url url; /* from broker or url */
    uint16_t port;         /* from port; 0: not given */
    char *sub_topic;
    bool has_mqtt5; /* a field that exists only in MQTT 5 was found */
    bool partial;   /* a required field may be missing, except in elements of arrays */
    bool out_of_memory;
};

enum {
    CLIENT_FIELD_REQUIRED = 1,
    CLIENT_FIELD_MQTT5 = 2, /* MQTT 5 only */
    CLIENT_FIELD_SECRET =
        4, /* never shown; with members: they decide, unless the value is not an object */
    CLIENT_FIELD_SECRET_PEM = 8, /* shown only if it is the path of a file */
    CLIENT_FIELD_URL = 16, /* its query is secret; user information, which is not accepted, is never
                              shown; so for each URL in an array */
    CLIENT_FIELD_INTERNAL = 32, /* never accepted from nor shown to a user */
    CLIENT_FIELD_SENT = 64, /* a secret that is sent to the broker: not kept for another broker */
};

/* NULL: valid. Otherwise "must ...". */
typedef const char *client_text_check(const char *text, size_t len);

struct client_field {
    const char *name;
    /* Puts value (never null) into the struct `into`, or adds a fault. */
    void (*read)(struct reader *reader, const struct client_field *field, json_t *value,
                 const struct client_field_place *place, void *into);
    size_t offset, size; /* of the member in the struct; size of a number, or of the struct that an
                            object's member points to */
    size_t offset_from;  /* of the member for the reference to a secret */
    size_t offset_count; /* of the member that counts bytes (size_t) or pairs (uint8_t) */
    int64_t least, most; /* bounds of a number, of the bytes of a text, or of the elements */
    client_text_check *check;                 /* of texts */
    const char *const *choices;               /* of texts and enums, up to NULL */
    const struct client_field_table *members; /* of objects, also in arrays */
    unsigned flags;
};

struct client_field_table {
    const struct client_field *rows;
    size_t count;
};

/* client_config_tables.c */
extern const struct client_field_table client_fields;
extern const struct client_field_table client_subscription_fields;
extern const struct client_field_table client_pair_fields;

/* client_config.c: a document with all its fields, those of a profile too. */
enum err client_config_read(json_t *document, enum client_source source, const char *id_hint,
                            struct client_config **out, struct client_faults *faults) MUST_CHECK;
/* The fields one by one, without the rules between them. Out of memory: not all faults. */
void client_config_check_members(json_t *document, struct client_faults *faults);

/* client_config_document.c: whether every broker of the document is on a host of `stored`. */
bool client_config_brokers_known(const json_t *document, const json_t *stored);

/* client_config_walk.c: faults, and the walk over an object */
const struct client_field *client_field_find(const struct client_field_table *table,
                                             const char *name);
void client_field_add_fault(struct reader *reader, const struct client_field_place *place,
                            const char *format, ...) __attribute__((format(printf, 3, 4)));
/* "must be <wanted>, not a <type of value>" */
void client_field_add_type_fault(struct reader *reader, const struct client_field_place *place,
                                 const char *wanted, const json_t *value);
/* False: value is no object (a fault was added). */
bool client_fields_read(struct reader *reader, const struct client_field_table *table,
                        json_t *object, const struct client_field_place *place, void *into);

/* The readers of the rows: client_config_values.c, and client_config_lists.c for fields with more
 * than one value. */
typedef void client_field_read(struct reader *reader, const struct client_field *field,
                               json_t *value, const struct client_field_place *place, void *into);
client_field_read client_field_read_bool, client_field_read_integer, client_field_read_choice,
    client_field_read_text, client_field_read_shared_text, client_field_read_profile;
client_field_read client_field_read_secret;
client_field_read client_field_read_port, client_field_read_broker, client_field_read_url,
    client_field_read_urls;
client_field_read client_field_read_headers, client_field_read_security_level;
client_field_read client_field_read_payload, client_field_read_payload_base64,
    client_field_read_base64;
client_field_read client_field_read_object, client_field_read_alpn,
    client_field_read_user_properties;
client_field_read client_field_read_labels, client_field_read_limits, client_field_read_routes,
    client_field_read_sub_topic, client_field_read_subscriptions;
client_field_read client_field_read_retired_filters;

/* A string that satisfies the row's bounds, check and choices; NULL: a fault was added. Borrowed.
 */
const char *client_field_text(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place);
/* Whether value is an array of at most field->most elements; false: a fault was added. */
bool client_field_is_array(struct reader *reader, const struct client_field *field,
                           const json_t *value, const struct client_field_place *place);

/* client_config_url.c. Accepts a URL, host, or host:port. ERR_ARGUMENT: *fault says what is wrong,
 * without quoting. Call client_url_fini after an error too. */
enum err client_url_parse(struct client_url *out, const char *text, const char **fault);
void client_url_fini(struct client_url *url);
/* Moves url into an endpoint and adds the defaults of omitted fields. False: out of memory. */
bool client_url_take(struct client_url *url, struct client_endpoint *out);
uint16_t client_scheme_port(enum client_scheme scheme);
bool client_scheme_is_tls(enum client_scheme scheme);
bool client_scheme_has_path(enum client_scheme scheme);

/* Takes ownership of the filter, even if memory runs out (false). */
bool client_subscription_append(struct client_config *config,
                                const struct client_subscription *subscription);

/* NULL: valid. Otherwise why text cannot be a client's id. */
client_text_check client_id_fault;

#define CLIENT_SUBSCRIPTIONS_MAX 1000
#define CLIENT_URL_LEN_MAX       4096
#define CLIENT_RETIRED_MAX       100

#endif
