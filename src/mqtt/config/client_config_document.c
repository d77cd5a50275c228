/* Operations on the JSON document of a configuration: the text to store, the copy to show, and the
 * parts of the previous version that an update keeps. Pure; any thread. Uses the table of fields,
 * so the flag of a new row is enough to hide a new secret. */
#include "client_config_fields.h"

#include <stdlib.h>
#include <string.h>
#include "base/secrets/secret_source.h"
#include "base/system/json_memory.h"
#include "mqtt/config/client_profiles.h"

char *client_config_canonical(json_t *document) {
    return json_to_text(document, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
}

static bool config_document_is_object_row(const struct client_field *field) {
    return field->read == client_field_read_object;
}

/* Redaction */

/* The query of a URL, where brokers accept credentials; NULL: it has none. */
static const char *config_document_query_of(const json_t *value) {
    const char *text = json_string_value(value);
    const char *mark = text ? strchr(text, '?') : NULL;
    return mark ? mark + 1 : NULL;
}

/* A valid URL has no user information. */
static bool config_document_url_is_invalid(const json_t *value) {
    struct client_url url;
    const char *fault;
    if (!json_is_string(value)) {
        return true;
    }
    enum err err = client_url_parse(&url, json_string_value(value), &fault);
    client_url_fini(&url);
    return err != ERR_OK && strchr(json_string_value(value), '@');
}

/* A reference to a secret is not a secret. */
static bool config_document_is_reference(const json_t *value) {
    const char *why;
    char *source = json_is_object(value) ? secret_source_parse(value, &why) : NULL;
    free(source);
    return source != NULL;
}

/* field NULL: unknown. An unknown field occurs only in hand-written documents and may contain
 * anything. */
static bool config_document_is_hidden(const struct client_field *field, const json_t *value) {
    if (json_is_null(value)) {
        return false;
    }
    if (!field) {
        return true;
    }
    if (field->read == client_field_read_secret && config_document_is_reference(value)) {
        return false;
    }
    if (field->flags & CLIENT_FIELD_SECRET) {
        return !(config_document_is_object_row(field) && json_is_object(value));
    }
    if (field->flags & CLIENT_FIELD_SECRET_PEM) {
        return !json_is_string(value) || json_string_value(value)[0] != '/';
    }
    return (field->flags & CLIENT_FIELD_URL) &&
           (config_document_url_is_invalid(value) || config_document_query_of(value));
}

/* The part of a URL after its last "@" and before its query may be shown. */
static json_t *config_document_mask_of_url(const json_t *value) {
    const char *text = json_string_value(value), *query = config_document_query_of(value);
    size_t len = query ? (size_t)(query - text) : strlen(text);
    bool wrong = config_document_url_is_invalid(value);
    const char *at = wrong ? memrchr(text, '@', len) : text;
    int shown = at ? (int)(len - (size_t)(at - text)) : 0;
    return json_sprintf("%s%.*s%s", wrong ? CLIENT_SECRET_SHOWN : "", shown, at ? at : "",
                        query ? CLIENT_SECRET_SHOWN : "");
}

static json_t *config_document_mask_of(const struct client_field *field, const json_t *value) {
    bool is_url = field && (field->flags & CLIENT_FIELD_URL) && json_is_string(value);
    return is_url ? config_document_mask_of_url(value) : json_string(CLIENT_SECRET_SHOWN);
}

static bool config_document_is_map_of_secrets(const struct client_field *field) {
    return field->read == client_field_read_headers;
}

/* The names may be shown. False: out of memory. */
static bool config_document_hide_in_map(json_t *map) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        if (json_object_set_new(map, name, json_string(CLIENT_SECRET_SHOWN)) != 0) {
            return false;
        }
    }
    return true;
}

static void config_document_keep_map(json_t *given, json_t *kept) {
    const char *name;
    json_t *value;
    json_object_foreach(given, name, value) {
        json_t *stored = json_object_get(kept, name);
        if (client_field_is_mask(value) && stored) {
            (void)json_object_set(given, name, stored);
        }
    }
}

/* Handles each URL of an array. False: out of memory. */
static bool config_document_hide_in_urls(json_t *urls, const struct client_field *field) {
    size_t i;
    json_t *value;
    json_array_foreach(urls, i, value) {
        if (config_document_is_hidden(field, value) &&
            json_array_set_new(urls, i, config_document_mask_of(field, value)) != 0) {
            return false;
        }
    }
    return true;
}

/* Recurses only as deep as the tables nest. False: out of memory. */
static bool config_document_hide_secrets(json_t *object, const struct client_field_table *table) {
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        const struct client_field *field = client_field_find(table, name);
        bool done = true;
        if (field && (field->flags & CLIENT_FIELD_URL) && json_is_array(value)) {
            done = config_document_hide_in_urls(value, field);
        } else if (field && config_document_is_map_of_secrets(field) && json_is_object(value)) {
            done = config_document_hide_in_map(value);
        } else if (config_document_is_hidden(field, value)) {
            done = json_object_set_new(object, name, config_document_mask_of(field, value)) == 0;
        } else if (field && config_document_is_object_row(field) && json_is_object(value)) {
            done = config_document_hide_secrets(value, field->members);
        }
        if (!done) {
            return false;
        }
    }
    for (size_t i = 0; i < table->count; i++) {
        if (table->rows[i].flags & CLIENT_FIELD_INTERNAL) {
            (void)json_object_del(object, table->rows[i].name); /* -1: it did not exist */
        }
    }
    return true;
}

json_t *client_config_redacted(json_t *document) {
    if (!json_is_object(document)) {
        return json_string(CLIENT_SECRET_SHOWN);
    }
    json_t *copy = json_whole_copy(document);
    if (copy && !config_document_hide_secrets(copy, &client_fields)) {
        json_decref(copy);
        copy = NULL;
    }
    return copy;
}

/* Updates */

/* Whether it is the shown form of this URL, which has a query. */
static bool config_document_is_masked_url(const struct client_field *field, const json_t *given,
                                          const json_t *kept) {
    if (!(field->flags & CLIENT_FIELD_URL) || !config_document_query_of(kept)) {
        return false;
    }
    json_t *mask = config_document_mask_of(field, kept);
    bool same = json_equal(mask, given) == 1;
    json_decref(mask);
    return same;
}

/* Matches by value, wherever it is in the list. */
static void config_document_keep_urls(const struct client_field *field, json_t *given,
                                      json_t *kept) {
    size_t i, j;
    json_t *shown, *stored;
    json_array_foreach(given, i, shown) {
        json_array_foreach(kept, j, stored) {
            if (config_document_is_masked_url(field, shown, stored)) {
                (void)json_array_set(given, i, stored);
                break;
            }
        }
    }
}

/* Calls `visit` for each readable broker of the document until it returns false. Returns the last
 * result. */
static bool config_document_each_broker(const json_t *document,
                                        bool (*visit)(const struct client_url *url,
                                                      const void *context),
                                        const void *context) {
    static const char *const names[] = {"broker", "url", "urls"};
    bool more = true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *given = json_object_get(document, names[i]);
        size_t count = json_is_array(given) ? json_array_size(given) : 1;
        for (size_t k = 0; more && k < count; k++) {
            const json_t *one = json_is_array(given) ? json_array_get(given, k) : given;
            struct client_url url = {0};
            const char *fault;
            if (json_is_string(one) &&
                client_url_parse(&url, json_string_value(one), &fault) == ERR_OK) {
                more = visit(&url, context);
            }
            client_url_fini(&url);
        }
    }
    return more;
}

/* The same host, and not plain text if it was TLS. */
static bool config_document_is_other_broker(const struct client_url *url, const void *context) {
    const struct client_url *wanted = context;
    return strcmp(url->host, wanted->host) != 0 ||
           (client_scheme_is_tls(url->scheme) && !client_scheme_is_tls(wanted->scheme));
}

static bool config_document_is_known_broker(const struct client_url *url, const void *stored) {
    return !config_document_each_broker(stored, config_document_is_other_broker, url);
}

static void config_document_keep_members(json_t *document, json_t *stored,
                                         const struct client_field_table *table, unsigned without) {
    for (size_t i = 0; i < table->count; i++) {
        const struct client_field *field = &table->rows[i];
        json_t *given = json_object_get(document, field->name);
        json_t *kept = json_object_get(stored, field->name);
        bool is_secret = (field->flags & (CLIENT_FIELD_SECRET | CLIENT_FIELD_SECRET_PEM)) != 0;
        if (field->flags & without) {
            continue;
        }
        if (config_document_is_object_row(field) && json_is_object(given) && json_is_object(kept)) {
            config_document_keep_members(given, kept, field->members, without);
        } else if ((field->flags & CLIENT_FIELD_URL) && json_is_array(given)) {
            config_document_keep_urls(field, given, kept);
        } else if (config_document_is_map_of_secrets(field) && json_is_object(given) &&
                   json_is_object(kept)) {
            config_document_keep_map(given, kept);
        } else if ((is_secret && client_field_is_mask(given) && kept) ||
                   config_document_is_masked_url(field, given, kept)) {
            /* On a failure the mask stays, and is refused like that of a secret that is not stored.
             */
            (void)json_object_set(document, field->name, kept);
        }
    }
}

bool client_config_brokers_known(const json_t *document, const json_t *stored) {
    return config_document_each_broker(document, config_document_is_known_broker, stored);
}

void client_config_keep_secrets(json_t *document, json_t *stored) {
    json_t *now = client_profile_effective(document), *before = client_profile_effective(stored);
    bool known = now && before && client_config_brokers_known(now, before);
    json_decref(now);
    json_decref(before);
    config_document_keep_members(document, stored, &client_fields, known ? 0 : CLIENT_FIELD_SENT);
}

/* Appends filter unless `known` has it, and adds it to `known`. False: out of memory. */
static bool config_document_retire_filter(json_t *retired, json_t *known, const char *filter) {
    if (json_object_get(known, filter)) {
        return true;
    }
    return json_object_set_new(known, filter, json_true()) == 0 &&
           json_array_append_new(retired, json_string(filter)) == 0;
}

/* Oldest first: those of earlier versions, then the subscriptions of `stored`. */
static bool config_document_retire_all(json_t *retired, json_t *known,
                                       const struct client_config *config,
                                       const struct client_config *stored) {
    bool done = true;
    for (size_t i = 0; done && i < config->subscription_count; i++) {
        done = json_object_set_new(known, config->subscriptions[i].filter, json_true()) == 0;
    }
    for (size_t i = 0; done && i < stored->retired_filter_count; i++) {
        done = config_document_retire_filter(retired, known, stored->retired_filters[i]);
    }
    for (size_t i = 0; done && i < stored->subscription_count; i++) {
        done = config_document_retire_filter(retired, known, stored->subscriptions[i].filter);
    }
    return done;
}

enum err client_config_retire(json_t *document, const struct client_config *config,
                              const struct client_config *stored) {
    json_t *retired = json_array();
    json_t *known = json_object();
    enum err err = ERR_MEMORY;
    if (!retired || !known || !config_document_retire_all(retired, known, config, stored)) {
        goto out;
    }
    while (json_array_size(retired) > CLIENT_RETIRED_MAX) {
        (void)json_array_remove(retired, 0);
    }
    if (json_array_size(retired) == 0) {
        (void)json_object_del(document, "retired_filters");
    } else if (json_object_set(document, "retired_filters", retired) != 0) {
        goto out;
    }
    err = ERR_OK;
out:
    json_decref(retired);
    json_decref(known);
    return err;
}
