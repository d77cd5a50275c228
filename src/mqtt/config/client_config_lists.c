/* Readers of fields with more than one value: nested objects, arrays, maps of names. The
 * configuration owns the allocated memory. Pure; any thread. */
#include "client_config_fields.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/secrets/secret_box.h"
#include "base/text.h"
#include "message/topic.h"

#define ALPN_NAME_MAX 255 /* RFC 7301 section 3.1 */

#define HEADER_NAME_MAX   128
#define HEADER_VALUE_MAX  8192
#define HEADER_SEALED_MAX 20000 /* encrypted */

void client_field_read_object(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    void *object = calloc(1, field->size);
    if (!object) {
        reader->out_of_memory = true;
        return;
    }
    *(void **)((char *)into + field->offset) = object; /* owned by the configuration from here on */
    (void)client_fields_read(reader, field->members, value, place, object);
}

bool client_field_is_array(struct reader *reader, const struct client_field *field,
                           const json_t *value, const struct client_field_place *place) {
    if (!json_is_array(value)) {
        client_field_add_type_fault(reader, place, "an array", value);
        return false;
    }
    if ((int64_t)json_array_size(value) > field->most) {
        client_field_add_fault(reader, place, "must have at most %lld elements, not %zu",
                               (long long)field->most, json_array_size(value));
        return false;
    }
    return true;
}

/* Texts in an array */

/* Room for n pointers; NULL: none, and out_of_memory is set. */
static void *config_list_allocate(struct reader *reader, size_t n, size_t size) {
    void *memory = calloc(n + 1, size);
    reader->out_of_memory |= !memory;
    return memory;
}

void client_field_read_alpn(struct reader *reader, const struct client_field *field, json_t *value,
                            const struct client_field_place *place, void *into) {
    static const struct client_field name_field = {.least = 1, .most = ALPN_NAME_MAX};
    struct client_tls *tls = into;
    if (!client_field_is_array(reader, field, value, place)) {
        return;
    }
    tls->alpn = config_list_allocate(reader, json_array_size(value), sizeof *tls->alpn);
    for (size_t i = 0; tls->alpn && i < json_array_size(value); i++) {
        const struct client_field_place here = {.up = place, .index = i};
        const char *text = client_field_text(reader, &name_field, json_array_get(value, i), &here);
        char *copy = text_dup(text);
        if (copy) {
            tls->alpn[tls->alpn_count++] = copy;
        }
        reader->out_of_memory |= text && !copy;
    }
}

/* Several brokers */

static bool config_list_is_another_broker(const struct client_config *config,
                                          const struct client_url *url) {
    uint16_t port = url->port != 0 ? url->port : client_scheme_port(url->scheme);
    for (size_t i = 0; i < config->url_count; i++) {
        if (config->urls[i].port == port && strcmp(config->urls[i].host, url->host) == 0) {
            return false;
        }
    }
    return true;
}

static void config_list_read_url_of(struct reader *reader, json_t *value,
                                    const struct client_field_place *place) {
    static const struct client_field url_field = {.least = 1, .most = CLIENT_URL_LEN_MAX};
    struct client_config *config = reader->config;
    struct client_url url = {0};
    const char *text = client_field_text(reader, &url_field, value, place);
    const char *fault = NULL;
    if (!text) {
        return;
    }
    enum err err = client_url_parse(&url, text, &fault);
    if (err == ERR_OK && !strstr(text, "://")) {
        client_field_add_fault(reader, place, "must begin with mqtt://, mqtts://, ws:// or wss://");
    } else if (err == ERR_OK && !config_list_is_another_broker(config, &url)) {
        client_field_add_fault(reader, place,
                               "is a duplicate: the same broker is earlier in the list");
    } else if (err == ERR_OK) {
        reader->out_of_memory |= !client_url_take(&url, &config->urls[config->url_count++]);
    } else if (err == ERR_ARGUMENT) {
        client_field_add_fault(reader, place, "%s", fault);
    } else {
        reader->out_of_memory = true;
    }
    client_url_fini(&url);
}

void client_field_read_urls(struct reader *reader, const struct client_field *field, json_t *value,
                            const struct client_field_place *place, void *into) {
    struct client_config *config = into;
    if (!client_field_is_array(reader, field, value, place)) {
        return;
    }
    if (json_array_size(value) < (size_t)field->least) {
        client_field_add_fault(reader, place, "must have at least one URL");
    }
    config->urls = config_list_allocate(reader, json_array_size(value), sizeof *config->urls);
    for (size_t i = 0; config->urls && i < json_array_size(value); i++) {
        const struct client_field_place here = {.up = place, .index = i};
        config_list_read_url_of(reader, json_array_get(value, i), &here);
    }
}

/* Limits and routes */

/* NULL: out of memory. */
static struct client_reception *config_list_reception(struct reader *reader,
                                                      struct client_config *config) {
    if (!config->reception) {
        config->reception = calloc(1, sizeof *config->reception);
        reader->out_of_memory |= !config->reception;
    }
    return config->reception;
}

void client_field_read_limits(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    struct client_reception *reception = config_list_reception(reader, into);
    if (reception) {
        reception->limited = true;
        (void)client_fields_read(reader, field->members, value, place, &reception->limits);
    }
}

static void config_list_add_route_fault(void *context, const char *pointer, const char *detail) {
    struct client_faults *faults = context;
    if (faults->count < CLIENT_FAULTS_MAX) {
        struct client_fault *fault = &faults->items[faults->count++];
        snprintf(fault->pointer, sizeof fault->pointer, "/routes%.200s", pointer);
        snprintf(fault->detail, sizeof fault->detail, "%s", detail);
    }
}

void client_field_read_routes(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    if (!client_field_is_array(reader, field, value, place) || json_array_size(value) == 0) {
        return;
    }
    struct client_reception *reception = config_list_reception(reader, into);
    if (reception) {
        enum err err = route_table_share(value, &reception->routes, config_list_add_route_fault,
                                         reader->faults);
        reader->out_of_memory |= err == ERR_MEMORY;
    }
}

/* We write this list, so it is valid. If a hand-written one is not, the invalid part is ignored. */
void client_field_read_retired_filters(struct reader *reader, const struct client_field *field,
                                       json_t *value, const struct client_field_place *place,
                                       void *into) {
    (void)place;
    struct client_config *config = into;
    size_t n = json_array_size(value);
    if (n > (size_t)field->most) {
        n = (size_t)field->most;
    }
    config->retired_filters = config_list_allocate(reader, n, sizeof *config->retired_filters);
    for (size_t i = 0; config->retired_filters && i < n; i++) {
        json_t *item = json_array_get(value, i);
        const char *text = json_string_value(item);
        if (!text || topic_filter_fault(text, json_string_length(item))) {
            continue;
        }
        char *copy = text_dup(text);
        if (copy) {
            config->retired_filters[config->retired_filter_count++] = copy;
        }
        reader->out_of_memory |= !copy;
    }
}

/* Pairs of name and value */

/* Takes ownership of both texts; if one is NULL, the pair is dropped. */
static void config_list_append_pair(struct client_pair *pairs, uint8_t *count,
                                    struct client_pair pair) {
    if (pair.name && pair.value) {
        pairs[(*count)++] = pair;
        return;
    }
    free(pair.name);
    free(pair.value);
}

/* An object of strings. The row limits their number, value_field their values. */
static void config_list_read_map(struct reader *reader, json_t *object,
                                 const struct client_field_place *place,
                                 const struct client_field *value_field,
                                 client_text_check *name_check, struct client_pair *pairs,
                                 uint8_t *count) {
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        const struct client_field_place here = {.up = place, .name = name};
        const char *fault = name_check(name, strlen(name));
        if (fault) {
            client_field_add_fault(reader, &here, "%s", fault);
            continue;
        }
        const char *text = client_field_text(reader, value_field, value, &here);
        struct client_pair pair = {text_dup(!text ? NULL : name), text_dup(text)};
        reader->out_of_memory |= text && (!pair.name || !pair.value);
        config_list_append_pair(pairs, count, pair);
    }
}

static bool config_list_is_object(struct reader *reader, const struct client_field *field,
                                  json_t *value, const struct client_field_place *place) {
    if (!json_is_object(value)) {
        client_field_add_type_fault(reader, place, "an object of strings", value);
        return false;
    }
    if ((int64_t)json_object_size(value) > field->most) {
        client_field_add_fault(reader, place, "must have at most %lld members, not %zu",
                               (long long)field->most, json_object_size(value));
        return false;
    }
    return true;
}

void client_field_read_labels(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    static const struct client_field value_field = {.most = CLIENT_LABEL_VALUE_MAX};
    struct client_config *config = into;
    if (!config_list_is_object(reader, field, value, place)) {
        return;
    }
    config->labels = config_list_allocate(reader, json_object_size(value), sizeof *config->labels);
    if (config->labels) {
        config_list_read_map(reader, value, place, &value_field, client_label_name_fault,
                             config->labels, &config->label_count);
    }
}

static void config_list_read_pair_array(struct reader *reader, const struct client_field *field,
                                        json_t *array, const struct client_field_place *place,
                                        struct client_pair *pairs, uint8_t *count) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        const struct client_field_place here = {.up = place, .index = i};
        struct client_pair pair = {0};
        (void)client_fields_read(reader, field->members, json_array_get(array, i), &here, &pair);
        config_list_append_pair(pairs, count, pair);
    }
}

void client_field_read_user_properties(struct reader *reader, const struct client_field *field,
                                       json_t *value, const struct client_field_place *place,
                                       void *into) {
    struct client_pair **pairs = (struct client_pair **)((char *)into + field->offset);
    uint8_t *count = (uint8_t *)((char *)into + field->offset_count);
    bool is_object = json_is_object(value);
    if (is_object ? !config_list_is_object(reader, field, value, place)
                  : !client_field_is_array(reader, field, value, place)) {
        return;
    }
    size_t n = is_object ? json_object_size(value) : json_array_size(value);
    *pairs = config_list_allocate(reader, n, sizeof **pairs);
    if (!*pairs) {
        return;
    }
    if (is_object) {
        const struct client_field *value_field = client_field_find(field->members, "value");
        config_list_read_map(reader, value, place, value_field, value_field->check, *pairs, count);
    } else {
        config_list_read_pair_array(reader, field, value, place, *pairs, count);
    }
}

/* Header fields of a WebSocket handshake */

static const char *config_list_header_name_fault(const char *name, size_t len) {
    static const char *const own[] = {"Host",           "Upgrade", "Connection",
                                      "Content-Length", "TE",      "Transfer-Encoding"};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strcasecmp(own[i], name) == 0) {
            return "must be omitted: it belongs to the handshake itself";
        }
    }
    if (strncasecmp(name, "Sec-WebSocket-", 14) == 0) {
        return "must be omitted: it belongs to the handshake (see subprotocol)";
    }
    bool right = len >= 1 && len <= HEADER_NAME_MAX;
    for (size_t i = 0; right && i < len; i++) {
        right = isalnum((unsigned char)name[i]) || strchr("!#$%&'*+-.^_`|~", name[i]);
    }
    return right ? NULL : "must have a name of 1 to 128 letters, digits and any of !#$%&'*+-.^_`|~";
}

static const char *config_list_header_value_fault(const char *text, size_t len) {
    if (secret_is_sealed(text)) {
        return NULL;
    }
    if (len > HEADER_VALUE_MAX) {
        return "must have at most 8192 bytes";
    }
    for (size_t i = 0; i < len; i++) {
        if ((text[i] < ' ' || text[i] > '~') && text[i] != '\t') {
            return "must be ASCII without control characters";
        }
    }
    return NULL;
}

static bool config_list_has_mask(struct reader *reader, json_t *object,
                                 const struct client_field_place *place) {
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        const struct client_field_place here = {.up = place, .name = name};
        if (reader->source == CLIENT_FROM_API && client_field_is_mask(value)) {
            client_field_add_fault(
                reader, &here,
                "stands for a stored secret, but none is stored for this broker: send the secret "
                "itself");
            return true;
        }
    }
    return false;
}

void client_field_read_headers(struct reader *reader, const struct client_field *field,
                               json_t *value, const struct client_field_place *place, void *into) {
    static const struct client_field value_field = {.most = HEADER_SEALED_MAX,
                                                    .check = config_list_header_value_fault};
    struct client_websocket *websocket = into;
    if (!config_list_is_object(reader, field, value, place) ||
        config_list_has_mask(reader, value, place)) {
        return;
    }
    websocket->headers =
        config_list_allocate(reader, json_object_size(value), sizeof *websocket->headers);
    if (websocket->headers) {
        config_list_read_map(reader, value, place, &value_field, config_list_header_name_fault,
                             websocket->headers, &websocket->header_count);
    }
}

/* Subscriptions */

bool client_subscription_append(struct client_config *config,
                                const struct client_subscription *subscription) {
    struct client_subscription *grown = reallocarray(
        config->subscriptions, config->subscription_count + 1, sizeof *config->subscriptions);
    if (!grown || !subscription->filter) {
        config->subscriptions = !grown ? config->subscriptions : grown;
        free(subscription->filter);
        return false;
    }
    config->subscriptions = grown;
    config->subscriptions[config->subscription_count++] = *subscription;
    return true;
}

/* client_config.c merges it with the other subscriptions once all fields are read. "": none. */
void client_field_read_sub_topic(struct reader *reader, const struct client_field *field,
                                 json_t *value, const struct client_field_place *place,
                                 void *into) {
    (void)into;
    if (json_is_string(value) && json_string_length(value) == 0) {
        return;
    }
    const char *text = client_field_text(reader, field, value, place);
    reader->sub_topic = text_dup(text);
    reader->out_of_memory |= text && !reader->sub_topic;
}

/* A filter alone, or an object. After a fault, filter stays NULL. */
static struct client_subscription
config_list_read_subscription(struct reader *reader, const struct client_field *field, json_t *item,
                              const struct client_field_place *place) {
    struct client_subscription subscription = {.qos = 1,
                                               .retain_handling = RETAIN_HANDLING_STANDARD};
    if (json_is_string(item)) {
        const struct client_field *filter = client_field_find(field->members, "filter");
        filter->read(reader, filter, item, place, &subscription);
    } else if (json_is_object(item)) {
        (void)client_fields_read(reader, field->members, item, place, &subscription);
    } else {
        client_field_add_type_fault(reader, place, "a topic filter, or an object that contains one",
                                    item);
    }
    return subscription;
}

static void config_list_check_subscription(struct reader *reader,
                                           const struct client_subscription *item, json_t *seen,
                                           bool is_text, const struct client_field_place *place) {
    const struct client_field_place filter = {.up = place, .name = "filter"};
    const struct client_field_place no_local = {.up = place, .name = "no_local"};
    if (item->no_local && topic_filter_is_shared(item->filter)) { /* MQTT 5.0 3.8.3.1 */
        client_field_add_fault(reader, &no_local,
                               "must be false for a shared subscription ($share/...)");
    }
    if (json_object_get(seen, item->filter)) {
        client_field_add_fault(reader, is_text ? place : &filter,
                               "is a duplicate: the same filter is earlier in the list");
    }
    reader->out_of_memory |= json_object_set_new(seen, item->filter, json_true()) != 0;
}

void client_field_read_subscriptions(struct reader *reader, const struct client_field *field,
                                     json_t *value, const struct client_field_place *place,
                                     void *into) {
    struct client_config *config = into;
    if (!client_field_is_array(reader, field, value, place)) {
        return;
    }
    json_t *seen = json_object();
    reader->out_of_memory |= !seen;
    for (size_t i = 0; !reader->out_of_memory && i < json_array_size(value); i++) {
        const struct client_field_place here = {.up = place, .index = i};
        json_t *item = json_array_get(value, i);
        struct client_subscription subscription =
            config_list_read_subscription(reader, field, item, &here);
        if (!subscription.filter) {
            continue;
        }
        config_list_check_subscription(reader, &subscription, seen, json_is_string(item), &here);
        reader->out_of_memory |= !client_subscription_append(config, &subscription);
    }
    json_decref(seen);
}
