/* Owns the operations on the secrets of a configuration, in its document and in its struct: two
 * walks by the table of fields, so a new secret needs only its row. Any thread. */
#include "mqtt/config/client_secrets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/secrets/secret_source.h"
#include "base/text.h"
#include "mqtt/config/client_profile.h"
#include "client_config_fields.h"

#define POINTER_LEN     64
#define URL_POINTER     "/url" /* "broker" is another spelling of it */
#define HEADERS_POINTER "/websocket/headers"
#define URLS_POINTER    "/urls" /* of each element, so that they may change places */

static void client_secrets_wipe(char *secret) {
    if (secret) {
        explicit_bzero(secret, strlen(secret));
        free(secret);
    }
}

static bool client_secrets_is_object_row(const struct client_field *field) {
    return field->read == client_field_read_object;
}

/* Whether it must be hidden from readers of Redis. The path of a key need not be; neither must "",
 * which means none. */
static bool client_secrets_is_plain_secret(const struct client_field *field, const char *text) {
    bool is_path = (field->flags & CLIENT_FIELD_SECRET_PEM) && text[0] == '/';
    return text[0] != '\0' && !is_path && !secret_is_sealed(text);
}

/* The query of a URL, where brokers accept credentials; otherwise the whole text. NULL: nothing is
 * secret. */
static const char *client_secrets_part_of(const struct client_field *field, const char *text) {
    if (field->read == client_field_read_secret || field->read == client_field_read_headers) {
        return text;
    }
    const char *mark = field->flags & CLIENT_FIELD_URL ? strchr(text, '?') : NULL;
    return mark ? mark + 1 : NULL;
}

/* A text whose end, the secret part, is replaced. */
static char *client_secrets_with_part(const char *text, const char *part, const char *other) {
    char *whole;
    return asprintf(&whole, "%.*s%s", (int)(part - text), text, other) >= 0 ? whole : NULL;
}

static void client_secrets_add_fault(struct client_faults *faults, const char *pointer,
                                     const char *detail) {
    if (!faults || faults->count >= CLIENT_FAULTS_MAX) {
        return;
    }
    struct client_fault *fault = &faults->items[faults->count++];
    snprintf(fault->pointer, sizeof(fault->pointer), "%s", pointer);
    snprintf(fault->detail, sizeof(fault->detail), "%.255s", detail);
}

static void client_secrets_add_key(struct client_secret_keys *keys, const char *sealed) {
    char id[SECRET_KEY_ID_LEN];
    if (keys->count == SECRET_KEYS_MAX || !secret_key_id(sealed, id)) {
        return;
    }
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->ids[i], id) == 0) {
            return;
        }
    }
    memcpy(keys->ids[keys->count++], id, sizeof(id));
}

/* ---- documents ------------------------------------------------------------------------------- */

struct client_secrets_document_walk {
    const char *id;
    struct secret_box *box;
    bool changed;
    struct client_faults *faults;
    struct client_secret_keys *keys;
    enum err result;
    /* The operation on a text that holds a secret. Returns a new text, or NULL to keep the old one.
     */
    char *(*visit)(struct client_secrets_document_walk *walk, const struct client_field *field,
                   const char *pointer, const char *text);
};

/* The value that replaces a text; NULL: none. */
static json_t *client_secrets_walk_text(struct client_secrets_document_walk *walk,
                                        const struct client_field *field, const char *pointer,
                                        const char *text) {
    json_t *value = NULL;
    const char *part = client_secrets_part_of(field, text);
    char *other = part ? walk->visit(walk, field, pointer, part) : NULL;
    char *whole = other ? client_secrets_with_part(text, part, other) : NULL;
    if (other && (field->flags & CLIENT_FIELD_URL) && whole && strlen(whole) > CLIENT_URL_LEN_MAX) {
        client_secrets_add_fault(walk->faults, pointer,
                                 "is too long after its query has been encrypted");
        walk->result = ERR_ARGUMENT;
    } else if (other && (!whole || !(value = json_string(whole)))) {
        walk->result = ERR_MEMORY;
    }
    walk->changed |= other != NULL;
    client_secrets_wipe(other);
    client_secrets_wipe(whole);
    return value;
}

static void client_secrets_walk_urls(struct client_secrets_document_walk *walk,
                                     const struct client_field *field, json_t *urls) {
    size_t i;
    json_t *value;
    json_array_foreach(urls, i, value) {
        json_t *now = json_is_string(value) ? client_secrets_walk_text(walk, field, URLS_POINTER,
                                                                       json_string_value(value))
                                            : NULL;
        if (now && json_array_set_new(urls, i, now) != 0) {
            walk->result = ERR_MEMORY;
        }
    }
}

static void client_secrets_walk_map(struct client_secrets_document_walk *walk,
                                    const struct client_field *field, json_t *map,
                                    const char *pointer) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        json_t *now = json_is_string(value)
                          ? client_secrets_walk_text(walk, field, pointer, json_string_value(value))
                          : NULL;
        if (now && json_object_set_new(map, name, now) != 0) {
            walk->result = ERR_MEMORY;
        }
    }
}

/* Recurses only as deep as the tables nest. */
static void client_secrets_walk_document(struct client_secrets_document_walk *walk,
                                         const struct client_field_table *table, json_t *object,
                                         const char *pointer) {
    for (size_t i = 0; i < table->count; i++) {
        const struct client_field *field = &table->rows[i];
        json_t *value = json_object_get(object, field->name);
        char here[POINTER_LEN];
        snprintf(here, sizeof(here), "%s/%s", pointer, field->name);
        if (client_secrets_is_object_row(field)) {
            client_secrets_walk_document(walk, field->members, value, here);
        } else if ((field->flags & CLIENT_FIELD_URL) && json_is_array(value)) {
            client_secrets_walk_urls(walk, field, value);
        } else if (field->read == client_field_read_headers && json_is_object(value)) {
            client_secrets_walk_map(walk, field, value, here);
        } else if (json_is_string(value)) {
            json_t *now = client_secrets_walk_text(
                walk, field, field->flags & CLIENT_FIELD_URL ? URL_POINTER : here,
                json_string_value(value));
            if (now && json_object_set_new(object, field->name, now) != 0) {
                walk->result = ERR_MEMORY;
            }
        }
    }
}

static char *client_secrets_seal_plain(struct client_secrets_document_walk *walk,
                                       const char *pointer, const char *secret) {
    char *sealed = NULL;
    enum err err = secret_seal(walk->box, walk->id, pointer, secret, &sealed);
    if (err != ERR_OK && err != ERR_UNSUPPORTED) {
        walk->result = err;
    }
    return sealed;
}

static char *client_secrets_seal_text(struct client_secrets_document_walk *walk,
                                      const struct client_field *field, const char *pointer,
                                      const char *text) {
    if (client_secrets_is_plain_secret(field, text)) {
        return client_secrets_seal_plain(walk, pointer, text);
    }
    if (!secret_is_sealed(text)) {
        return NULL;
    }
    char fault[SECRET_BOX_FAULT_LEN];
    char *secret = NULL, *sealed = NULL;
    bool newest = true;
    enum err err = secret_open(walk->box, walk->id, pointer, text, &secret, &newest, fault);
    if (err == ERR_ARGUMENT) {
        client_secrets_add_fault(walk->faults, pointer, fault);
    }
    if (err != ERR_OK) {
        walk->result = err;
    } else if (!newest) {
        sealed = client_secrets_seal_plain(walk, pointer, secret);
    }
    client_secrets_wipe(secret);
    return sealed;
}

enum err client_secrets_seal(json_t *document, const char *id, struct secret_box *box,
                             bool *changed, struct client_faults *faults) {
    struct client_secrets_document_walk walk = {.id = id,
                                                .box = box,
                                                .faults = faults,
                                                .result = ERR_OK,
                                                .visit = client_secrets_seal_text};
    client_secrets_walk_document(&walk, &client_fields, document, "");
    if (changed) {
        *changed = walk.changed;
    }
    return walk.result;
}

static char *client_secrets_unseal_text(struct client_secrets_document_walk *walk,
                                        const struct client_field *field, const char *pointer,
                                        const char *text) {
    (void)field;
    char fault[SECRET_BOX_FAULT_LEN];
    char *secret = NULL;
    bool newest;
    enum err err = secret_is_sealed(text)
                       ? secret_open(walk->box, walk->id, pointer, text, &secret, &newest, fault)
                       : ERR_OK;
    (void)err; /* then it stays as it is */
    return secret;
}

void client_secrets_open_document(json_t *document, const char *id, struct secret_box *box) {
    struct client_secrets_document_walk walk = {
        .id = id, .box = box, .result = ERR_OK, .visit = client_secrets_unseal_text};
    client_secrets_walk_document(&walk, &client_fields, document, "");
}

static char *client_secrets_note_key_of_text(struct client_secrets_document_walk *walk,
                                             const struct client_field *field, const char *pointer,
                                             const char *text) {
    (void)field;
    (void)pointer;
    client_secrets_add_key(walk->keys, text);
    return NULL;
}

void client_secrets_keys_of_document(json_t *document, struct client_secret_keys *out) {
    *out = (struct client_secret_keys){0};
    struct client_secrets_document_walk walk = {
        .keys = out, .result = ERR_OK, .visit = client_secrets_note_key_of_text};
    client_secrets_walk_document(&walk, &client_fields, document, "");
}

/* ---- configurations -------------------------------------------------------------------------- */

struct client_secrets_config_walk {
    const char *id;
    struct secret_box *box;
    const struct conf *conf;
    struct client_faults *faults;
    char *fault; /* CLIENT_SECRETS_FAULT_LEN */
    struct client_secret_keys *keys;
    /* secret and from: of the configuration that is changed; other: the secret of the other one. */
    enum err (*visit)(struct client_secrets_config_walk *walk, const struct client_field *field,
                      const char *pointer, char **secret, char *const *from, const char *other);
};

/* Processes a struct and another of the same kind beside it; stops at the first error. */
static enum err client_secrets_walk_config(struct client_secrets_config_walk *walk,
                                           const struct client_field_table *table, void *into,
                                           const void *beside, const char *pointer) {
    enum err err = ERR_OK;
    for (size_t i = 0; i < table->count && err == ERR_OK; i++) {
        const struct client_field *field = &table->rows[i];
        char here[POINTER_LEN];
        char *at = (char *)into + field->offset;
        const char *other = (const char *)beside + field->offset;
        snprintf(here, sizeof(here), "%s/%s", pointer, field->name);
        if (client_secrets_is_object_row(field)) {
            void *object = *(void **)at;
            const void *other_object = *(void *const *)other;
            err = object && other_object
                      ? client_secrets_walk_config(walk, field->members, object, other_object, here)
                      : ERR_OK;
        } else if (field->read == client_field_read_secret) {
            err = walk->visit(walk, field, here, (char **)at,
                              (char *const *)((char *)into + field->offset_from),
                              *(char *const *)other);
        }
    }
    return err;
}

static enum err client_secrets_open_one(struct client_secrets_config_walk *walk,
                                        const struct client_field *field, const char *pointer,
                                        char **secret, char *const *from, const char *other) {
    (void)field;
    (void)from;
    (void)other;
    char fault[SECRET_BOX_FAULT_LEN];
    char *plain = NULL;
    bool newest;
    if (!*secret || !secret_is_sealed(*secret)) {
        return ERR_OK;
    }
    enum err err = secret_open(walk->box, walk->id, pointer, *secret, &plain, &newest, fault);
    if (err == ERR_OK) {
        client_secrets_wipe(*secret);
        *secret = plain;
    } else {
        snprintf(walk->fault, CLIENT_SECRETS_FAULT_LEN, "%s: %s", pointer,
                 err == ERR_ARGUMENT ? fault : err_name(err));
    }
    return err;
}

/* The path contains the query of the URL. */
static enum err client_secrets_visit_query(struct client_secrets_config_walk *walk,
                                           const char *pointer, char **path) {
    char *mark = *path ? strchr(*path, '?') : NULL;
    if (!mark || !secret_is_sealed(mark + 1)) {
        return ERR_OK;
    }
    char *query = text_dup(mark + 1), *whole = NULL;
    enum err err = !query ? ERR_MEMORY : walk->visit(walk, NULL, pointer, &query, NULL, NULL);
    if (err == ERR_OK) {
        whole = client_secrets_with_part(*path, mark + 1, query);
        err = !whole ? ERR_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        free(*path);
        *path = whole;
    }
    client_secrets_wipe(query);
    return err;
}

/* Secrets that may be encrypted, wherever they are. */
static enum err client_secrets_walk_sealed(struct client_secrets_config_walk *walk,
                                           struct client_config *config) {
    enum err err = client_secrets_walk_config(walk, &client_fields, config, config, "");
    if (err == ERR_OK) {
        const char *pointer = config->url_count > 0 ? URLS_POINTER : URL_POINTER;
        err = client_secrets_visit_query(walk, pointer, &config->path);
    }
    for (size_t i = 0; err == ERR_OK && i < config->url_count; i++) {
        err = client_secrets_visit_query(walk, URLS_POINTER, &config->urls[i].path);
    }
    struct client_websocket *websocket = config->websocket;
    for (size_t i = 0; err == ERR_OK && websocket && i < websocket->header_count; i++) {
        err = walk->visit(walk, NULL, HEADERS_POINTER, &websocket->headers[i].value, NULL, NULL);
    }
    return err;
}

enum err client_secrets_open(struct client_config *config, struct secret_box *box,
                             char fault[CLIENT_SECRETS_FAULT_LEN]) {
    struct client_secrets_config_walk walk = {
        .id = config->id, .box = box, .fault = fault, .visit = client_secrets_open_one};
    enum err err = client_secrets_walk_sealed(&walk, config);
    if (err == ERR_MEMORY) {
        snprintf(fault, CLIENT_SECRETS_FAULT_LEN, "out of memory");
    }
    return err;
}

static enum err client_secrets_note_key(struct client_secrets_config_walk *walk,
                                        const struct client_field *field, const char *pointer,
                                        char **secret, char *const *from, const char *other) {
    (void)field;
    (void)pointer;
    (void)from;
    (void)other;
    if (*secret) {
        client_secrets_add_key(walk->keys, *secret);
    }
    return ERR_OK;
}

enum err client_secrets_keys(struct client_config *config, struct client_secret_keys *out) {
    *out = (struct client_secret_keys){0};
    struct client_secrets_config_walk walk = {
        .id = config->id, .keys = out, .visit = client_secrets_note_key};
    if (config->profile) { /* its secrets are open already, if they can be */
        *out = config->profile->keys;
    }
    return client_secrets_walk_sealed(&walk, config);
}

bool client_secrets_on_other_node(const struct client_config *config) {
    const struct client_tls *tls = client_config_tls(config);
    return config->password_from || tls->key_from || tls->key_password_from;
}

static enum err client_secrets_check_one(struct client_secrets_config_walk *walk,
                                         const struct client_field *field, const char *pointer,
                                         char **secret, char *const *from, const char *other) {
    (void)field;
    (void)secret;
    (void)other;
    char fault[SECRET_BOX_FAULT_LEN];
    if (*from && !secret_source_allowed(walk->conf, *from, fault)) {
        client_secrets_add_fault(walk->faults, pointer, fault);
    }
    return ERR_OK;
}

void client_secrets_check(const struct client_config *config, const struct conf *conf,
                          struct client_faults *faults) {
    struct client_secrets_config_walk walk = {
        .conf = conf, .faults = faults, .visit = client_secrets_check_one};
    /* client_secrets_check_one changes nothing. */
    enum err err = client_secrets_walk_config(&walk, &client_fields, (struct client_config *)config,
                                              config, "");
    (void)err;
}

/* The secret of the running configuration, already decrypted, or the one read from its source. */
static enum err client_secrets_read_one(struct client_secrets_config_walk *walk,
                                        const struct client_field *field, const char *pointer,
                                        char **secret, char *const *from, const char *other) {
    (void)field;
    char fault[SECRET_BOX_FAULT_LEN];
    client_secrets_wipe(*secret);
    *secret = text_dup(other);
    if (!*from) {
        return other && !*secret ? ERR_MEMORY : ERR_OK;
    }
    enum err err = secret_source_read(walk->conf, *from, secret, fault);
    if (err != ERR_OK) {
        snprintf(walk->fault, CLIENT_SECRETS_FAULT_LEN, "%s: %s", pointer,
                 err == ERR_MEMORY ? err_name(err) : fault);
    }
    return err;
}

/* As decrypted. */
static enum err client_secrets_copy(char **path, const char *from) {
    if (!from) {
        return ERR_OK;
    }
    client_secrets_wipe(*path);
    *path = text_dup(from);
    return *path ? ERR_OK : ERR_MEMORY;
}

enum err client_secrets_read(const struct client_config *config, const struct conf *conf,
                             struct client_config **out, char fault[CLIENT_SECRETS_FAULT_LEN]) {
    struct client_faults faults;
    *out = NULL;
    snprintf(fault, CLIENT_SECRETS_FAULT_LEN, "out of memory");
    if (!config->source ||
        client_config_parse_text_with(config->source, strlen(config->source), config->id,
                                      config->profile, out, &faults) != ERR_OK) {
        return ERR_MEMORY; /* it was parsed before, so this is memory */
    }
    struct client_secrets_config_walk walk = {
        .conf = conf, .fault = fault, .visit = client_secrets_read_one};
    enum err err = client_secrets_walk_config(&walk, &client_fields, *out, config, "");
    if (err == ERR_OK) {
        err = client_secrets_copy(&(*out)->path, config->path);
    }
    struct client_websocket *websocket = (*out)->websocket;
    for (size_t i = 0; err == ERR_OK && websocket && i < websocket->header_count; i++) {
        err =
            client_secrets_copy(&websocket->headers[i].value, config->websocket->headers[i].value);
    }
    for (size_t i = 0; err == ERR_OK && i < config->url_count; i++) {
        err = client_secrets_copy(&(*out)->urls[i].path, config->urls[i].path);
    }
    if (err != ERR_OK) {
        client_config_destroy(*out);
        *out = NULL;
    }
    return err;
}
