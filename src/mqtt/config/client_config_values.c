/* Readers of fields with a single value. The configuration owns the allocated memory. Pure; any
 * thread. */
#include "client_config_fields.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/secrets/secret_box.h"
#include "base/secrets/secret_source.h"
#include "base/shared_text.h"
#include "base/text.h"

#define SEALED_LEN_MAX 100000 /* of the longest secret, encrypted */

static void *config_value_member_of(const struct client_field *field, void *into) {
    return (char *)into + field->offset;
}

/* Stores an allocated string; NULL: out of memory. */
static void config_value_keep_text(struct reader *reader, char **member, char *text) {
    assert(!*member); /* a name occurs once in an object */
    *member = text;
    reader->out_of_memory |= !text;
}

void client_field_read_bool(struct reader *reader, const struct client_field *field, json_t *value,
                            const struct client_field_place *place, void *into) {
    if (!json_is_boolean(value)) {
        client_field_add_type_fault(reader, place, "true or false", value);
        return;
    }
    *(bool *)config_value_member_of(field, into) = json_is_true(value);
}

static void config_value_store_integer(void *member, size_t size, int64_t number) {
    switch (size) {
    case 1:
        *(uint8_t *)member = (uint8_t)number;
        break;
    case 2:
        *(uint16_t *)member = (uint16_t)number;
        break;
    case 4:
        *(uint32_t *)member = (uint32_t)number;
        break;
    default:
        assert(size == 8);
        *(int64_t *)member = number;
    }
}

void client_field_read_integer(struct reader *reader, const struct client_field *field,
                               json_t *value, const struct client_field_place *place, void *into) {
    char wanted[96];
    snprintf(wanted, sizeof(wanted), "a whole number from %lld to %lld", (long long)field->least,
             (long long)field->most);
    if (!json_is_integer(value)) {
        client_field_add_type_fault(reader, place, wanted, value);
        return;
    }
    int64_t number = json_integer_value(value);
    if (number < field->least || number > field->most) {
        client_field_add_fault(reader, place, "must be %s, not %lld", wanted, (long long)number);
        return;
    }
    config_value_store_integer(config_value_member_of(field, into), field->size, number);
}

/* Stores the value plus one, so that 0 means not given. */
void client_field_read_security_level(struct reader *reader, const struct client_field *field,
                                      json_t *value, const struct client_field_place *place,
                                      void *into) {
    uint8_t level = UINT8_MAX;
    const struct client_field plain = {
        .offset = 0, .size = sizeof(level), .least = field->least, .most = field->most};
    client_field_read_integer(reader, &plain, value, place, &level);
    *(uint8_t *)config_value_member_of(field, into) = (uint8_t)(level + 1); /* 0 after a fault */
}

/* Texts */

static bool config_value_length_is_valid(struct reader *reader, const struct client_field *field,
                                         size_t len, const struct client_field_place *place) {
    if ((int64_t)len > field->most) {
        client_field_add_fault(reader, place, "must have at most %lld bytes, not %zu",
                               (long long)field->most, len);
        return false;
    }
    if ((int64_t)len < field->least) {
        client_field_add_fault(reader, place, "must not be empty");
        return false;
    }
    return true;
}

static int config_value_choice_index(const char *const *choices, const char *text) {
    for (int i = 0; choices[i]; i++) {
        if (strcmp(choices[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

static void config_value_fault_choice(struct reader *reader, const struct client_field_place *place,
                                      const char *const *choices) {
    char list[128] = "";
    for (size_t i = 0; choices[i]; i++) {
        size_t at = strlen(list);
        const char *divider = i == 0 ? "" : !choices[i + 1] ? " or " : ", ";
        snprintf(list + at, sizeof(list) - at, "%s\"%s\"", divider, choices[i]);
    }
    client_field_add_fault(reader, place, "must be %s", list);
}

const char *client_field_text(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place) {
    if (!json_is_string(value)) {
        client_field_add_type_fault(reader, place, "a string", value);
        return NULL;
    }
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    if (!config_value_length_is_valid(reader, field, len, place)) {
        return NULL;
    }
    if (memchr(text, '\0', len)) {
        client_field_add_fault(reader, place, "must not contain U+0000");
        return NULL;
    }
    const char *fault = !field->check ? NULL : field->check(text, len);
    if (fault) {
        client_field_add_fault(reader, place, "%s", fault);
        return NULL;
    }
    if (field->choices && config_value_choice_index(field->choices, text) < 0) {
        config_value_fault_choice(reader, place, field->choices);
        return NULL;
    }
    return text;
}

void client_field_read_text(struct reader *reader, const struct client_field *field, json_t *value,
                            const struct client_field_place *place, void *into) {
    const char *text = client_field_text(reader, field, value, place);
    if (text) {
        config_value_keep_text(reader, config_value_member_of(field, into), text_dup(text));
    }
}

void client_field_read_shared_text(struct reader *reader, const struct client_field *field,
                                   json_t *value, const struct client_field_place *place,
                                   void *into) {
    const char *text = client_field_text(reader, field, value, place);
    if (text) {
        config_value_keep_text(reader, config_value_member_of(field, into), shared_text_hold(text));
    }
}

/* Only checked: the fields of the profile are merged before. */
void client_field_read_profile(struct reader *reader, const struct client_field *field,
                               json_t *value, const struct client_field_place *place, void *into) {
    (void)into;
    (void)client_field_text(reader, field, value, place);
}

/* The text as given, encrypted or not; the node that runs the client decrypts it. */
void client_field_read_secret(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    if (json_is_object(value)) {
        const char *why = NULL;
        char *source = secret_source_parse(value, &why);
        if (source || !why) {
            config_value_keep_text(reader, (char **)((char *)into + field->offset_from), source);
        } else {
            client_field_add_fault(reader, place, "%s", why);
        }
        return;
    }
    const char *text = json_string_value(value);
    if (text && secret_is_sealed(text)) {
        if (json_string_length(value) > SEALED_LEN_MAX ||
            strlen(text) != json_string_length(value)) {
            client_field_add_fault(reader, place,
                                   "begins with " SECRET_SEALED " but is not an encrypted secret");
        } else {
            config_value_keep_text(reader, config_value_member_of(field, into), text_dup(text));
        }
        return;
    }
    client_field_read_text(reader, field, value, place, into);
}

/* Reads an enum whose values are the indices of the choices. */
void client_field_read_choice(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    const char *text = client_field_text(reader, field, value, place);
    if (text) {
        config_value_store_integer(config_value_member_of(field, into), field->size,
                                   config_value_choice_index(field->choices, text));
    }
}

/* The broker: the rules of client_config.c check it as a whole */

/* A number, or a decimal string as form inputs send it, if hand-written. */
void client_field_read_port(struct reader *reader, const struct client_field *field, json_t *value,
                            const struct client_field_place *place, void *into) {
    (void)into;
    int64_t port = -1;
    if (json_is_integer(value)) {
        port = json_integer_value(value);
    } else if (json_is_string(value) && reader->source == CLIENT_FROM_STORE) {
        const char *text = json_string_value(value);
        size_t digits = strspn(text, "0123456789");
        bool is_number = digits >= 1 && digits <= 5 && digits == json_string_length(value);
        port = is_number ? strtol(text, NULL, 10) : -1;
    }
    if (port < field->least || port > field->most) {
        client_field_add_fault(reader, place, "must be a port, a number from 1 to 65535");
        return;
    }
    reader->port = (uint16_t)port;
}

static void config_value_read_address(struct reader *reader, const char *text,
                                      const struct client_field_place *place) {
    const char *fault = NULL;
    if (reader->url.host) {
        return; /* both broker and url: a fault of its own */
    }
    enum err err = client_url_parse(&reader->url, text, &fault);
    if (err == ERR_OK) {
        return;
    }
    client_url_fini(&reader->url);
    if (err == ERR_MEMORY) {
        reader->out_of_memory = true;
    } else {
        client_field_add_fault(reader, place, "%s", fault);
    }
}

void client_field_read_broker(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    (void)into;
    const char *text = client_field_text(reader, field, value, place);
    if (text) {
        config_value_read_address(reader, text, place);
    }
}

void client_field_read_url(struct reader *reader, const struct client_field *field, json_t *value,
                           const struct client_field_place *place, void *into) {
    (void)into;
    const char *text = client_field_text(reader, field, value, place);
    if (!text) {
        return;
    }
    if (!strstr(text, "://")) {
        client_field_add_fault(reader, place, "must begin with mqtt://, mqtts://, ws:// or wss://");
        return;
    }
    config_value_read_address(reader, text, place);
}

/* Bytes, as base64 */

/* NULL: a fault was added, or out of memory. */
static uint8_t *config_value_bytes_of(struct reader *reader, const struct client_field *field,
                                      const json_t *value, const struct client_field_place *place,
                                      size_t *len) {
    uint8_t *bytes = NULL;
    if (!json_is_string(value)) {
        client_field_add_type_fault(reader, place, "a string", value);
        return NULL;
    }
    enum err err =
        text_base64_decode(json_string_value(value), json_string_length(value), &bytes, len);
    if (err == ERR_ARGUMENT) {
        client_field_add_fault(reader, place, "must be base64 of RFC 4648 section 4, with padding");
    } else if (err != ERR_OK) {
        reader->out_of_memory = true;
    } else if ((int64_t)*len > field->most) {
        client_field_add_fault(reader, place, "must have at most %lld bytes, not %zu",
                               (long long)field->most, *len);
        free(bytes);
        bytes = NULL;
    }
    return bytes;
}

void client_field_read_base64(struct reader *reader, const struct client_field *field,
                              json_t *value, const struct client_field_place *place, void *into) {
    size_t len = 0;
    uint8_t *bytes = config_value_bytes_of(reader, field, value, place, &len);
    if (bytes) {
        *(uint8_t **)config_value_member_of(field, into) = bytes;
        *(size_t *)((char *)into + field->offset_count) = len;
    }
}

/* The payload of a will, as text or as base64 */

static bool config_value_payload_is_first(struct reader *reader, const struct client_will *will,
                                          const struct client_field_place *place) {
    if (will->payload) {
        client_field_add_fault(reader, place,
                               "must be the only one: set either payload or payload_base64");
    }
    return !will->payload;
}

void client_field_read_payload(struct reader *reader, const struct client_field *field,
                               json_t *value, const struct client_field_place *place, void *into) {
    struct client_will *will = into;
    const char *text = client_field_text(reader, field, value, place);
    if (text && config_value_payload_is_first(reader, will, place)) {
        will->payload = (uint8_t *)text_dup(text);
        will->payload_len = strlen(text);
        reader->out_of_memory |= !will->payload;
    }
}

void client_field_read_payload_base64(struct reader *reader, const struct client_field *field,
                                      json_t *value, const struct client_field_place *place,
                                      void *into) {
    struct client_will *will = into;
    size_t len = 0;
    uint8_t *payload = config_value_bytes_of(reader, field, value, place, &len);
    if (!payload || !config_value_payload_is_first(reader, will, place)) {
        free(payload);
        return;
    }
    will->payload = payload;
    will->payload_len = len;
}
