/* Owns what a profile is: its object, and how its fields and those of a client are merged. Uses the
 * table of fields, so a new field of a client is also one of profiles. Any thread. */
#include "mqtt/config/client_profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/text.h"
#include "client_config_fields.h"

/* The place for which the secrets of a profile are encrypted. No id of a client contains "/". */
#define SECRETS_OF "profile/"

bool client_profile_name_is_valid(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= CLIENT_PROFILE_NAME_MAX && strspn(name, "-_.") == 0 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

/* ---- the object ------------------------------------------------------------------------------ */

static void client_profile_destroy(struct client_profile *profile) {
    json_decref(profile->stored);
    json_decref(profile->fields);
    free(profile->name);
    free(profile);
}

struct client_profile *client_profile_create(const char *name, int64_t version,
                                             const json_t *stored, struct secret_box *box) {
    struct client_profile *profile = calloc(1, sizeof *profile);
    if (!profile) {
        return NULL;
    }
    atomic_init(&profile->references, 1);
    profile->version = version;
    profile->name = text_dup(name);
    profile->stored = json_whole_copy(stored);
    profile->fields = json_whole_copy(stored);
    if (!profile->name || !profile->stored || !profile->fields) {
        client_profile_destroy(profile);
        return NULL;
    }
    client_secrets_keys_of_document(profile->stored, &profile->keys);
    if (box) {
        client_profile_open(profile->fields, name, box);
    }
    return profile;
}

struct client_profile *client_profile_hold(struct client_profile *profile) {
    if (profile) {
        atomic_fetch_add(&profile->references, 1);
    }
    return profile;
}

void client_profile_release(struct client_profile *profile) {
    if (profile && atomic_fetch_sub(&profile->references, 1) == 1) {
        client_profile_destroy(profile);
    }
}

/* ---- secrets --------------------------------------------------------------------------------- */

static void client_profile_place(char place[sizeof SECRETS_OF + CLIENT_PROFILE_NAME_MAX],
                                 const char *name) {
    snprintf(place, sizeof SECRETS_OF + CLIENT_PROFILE_NAME_MAX, SECRETS_OF "%s", name);
}

enum err client_profile_seal(json_t *fields, const char *name, struct secret_box *box,
                             bool *changed, struct client_faults *faults) {
    char place[sizeof SECRETS_OF + CLIENT_PROFILE_NAME_MAX];
    client_profile_place(place, name);
    return client_secrets_seal(fields, place, box, changed, faults);
}

void client_profile_open(json_t *fields, const char *name, struct secret_box *box) {
    char place[sizeof SECRETS_OF + CLIENT_PROFILE_NAME_MAX];
    client_profile_place(place, name);
    client_secrets_open_document(fields, place, box);
}

/* ---- merging --------------------------------------------------------------------------------- */

const char *client_profile_of(const json_t *document) {
    const char *name = json_string_value(json_object_get(document, "profile"));
    return name && *name ? name : NULL;
}

/* Fields that describe one thing in several ways: any of `given` in the document replaces all of
 * `replaced`. */
static const struct {
    const char *given[3], *replaced[5];
} client_profile_alternatives[] = {
    {{"broker", "url", "urls"}, {"broker", "port", "url", "urls", "urls_order"}},
    {{"subscriptions", "sub_topic"}, {"subscriptions", "sub_topic"}},
    {{"payload", "payload_base64"}, {"payload", "payload_base64"}},
};

#define ALTERNATIVES (sizeof client_profile_alternatives / sizeof client_profile_alternatives[0])

static bool client_profile_gives(const json_t *object, const char *name) {
    const json_t *value = name ? json_object_get(object, name) : NULL;
    return value && !json_is_null(value);
}

static void client_profile_drop_replaced(json_t *into, const json_t *from) {
    for (size_t i = 0; i < ALTERNATIVES; i++) {
        bool given = false;
        for (size_t k = 0; k < 3; k++) {
            given = given || client_profile_gives(from, client_profile_alternatives[i].given[k]);
        }
        for (size_t k = 0; given && k < 5 && client_profile_alternatives[i].replaced[k]; k++) {
            (void)json_object_del(into, client_profile_alternatives[i].replaced[k]);
        }
    }
}

/* The table of the members; *map: they have any names instead. NULL and no map: not merged. */
static const struct client_field_table *client_profile_members(const struct client_field *field,
                                                               bool *map) {
    *map = field &&
           (field->read == client_field_read_headers || field->read == client_field_read_labels);
    bool object = field && (field->read == client_field_read_object ||
                            field->read == client_field_read_limits);
    return object ? field->members : NULL;
}

/* Recurses only as deep as the tables nest. table NULL: a map. False: out of memory. */
static bool client_profile_merge_object(json_t *into, const json_t *from,
                                        const struct client_field_table *table) {
    const char *name;
    json_t *value;
    client_profile_drop_replaced(into, table ? from : NULL);
    json_object_foreach((json_t *)from, name, value) {
        bool map, done = true;
        json_t *there = json_object_get(into, name);
        const struct client_field_table *members =
            client_profile_members(table ? client_field_find(table, name) : NULL, &map);
        if (json_is_null(value)) {
            (void)json_object_del(into, name); /* -1: there was none */
        } else if ((members || map) && json_is_object(value) && json_is_object(there)) {
            done = client_profile_merge_object(there, value, members);
        } else {
            done = json_object_set_new(into, name, json_whole_copy(value)) == 0;
        }
        if (!done) {
            return false;
        }
    }
    return true;
}

/* Filters that are to be unsubscribed: those of both. */
static bool client_profile_merge_retired(json_t *merged, const json_t *fields) {
    json_t *own = json_object_get(merged, "retired_filters");
    const json_t *more = json_object_get(fields, "retired_filters");
    size_t i;
    json_t *filter;
    bool done = true;
    if (!own || json_equal(own, more)) {
        return true;
    }
    json_array_foreach((json_t *)more, i, filter) {
        done = done && json_array_append_new(own, json_whole_copy(filter)) == 0;
    }
    return done;
}

json_t *client_profile_merge(const json_t *fields, const json_t *document) {
    json_t *merged = json_whole_copy(fields);
    if (merged && (!client_profile_merge_object(merged, document, &client_fields) ||
                   !client_profile_merge_retired(merged, fields))) {
        json_decref(merged);
        merged = NULL;
    }
    return merged;
}

static bool client_profile_has_text(const json_t *list, const char *text) {
    size_t i;
    const json_t *item;
    json_array_foreach((json_t *)list, i, item) {
        if (json_is_string(item) && strcmp(json_string_value(item), text) == 0) {
            return true;
        }
    }
    return false;
}

/* Every filter of the document once, after those of `list`. False: out of memory. */
static bool client_profile_add_filters(json_t *list, const json_t *document) {
    size_t i;
    const json_t *item;
    const char *single = json_string_value(json_object_get(document, "sub_topic"));
    bool done = !single || client_profile_has_text(list, single) ||
                json_array_append_new(list, json_string(single)) == 0;
    json_array_foreach(json_object_get(document, "subscriptions"), i, item) {
        const json_t *filter = json_is_object(item) ? json_object_get(item, "filter") : item;
        const char *text = json_string_value(filter);
        done = done && (!text || client_profile_has_text(list, text) ||
                        json_array_append_new(list, json_string(text)) == 0);
    }
    return done;
}

enum err client_profile_retire(json_t *fields, const json_t *before) {
    json_t *wanted = json_array(), *all = json_array(), *retired = json_array();
    size_t i;
    const json_t *item;
    bool done = wanted && all && retired && client_profile_add_filters(wanted, fields);
    json_array_foreach(json_object_get(before, "retired_filters"), i, item) {
        done = done && json_array_append_new(all, json_whole_copy(item)) == 0;
    }
    done = done && client_profile_add_filters(all, before);
    json_array_foreach(all, i, item) {
        const char *text = json_string_value(item);
        done = done && (!text || client_profile_has_text(wanted, text) ||
                        json_array_append_new(retired, json_string(text)) == 0);
    }
    while (json_array_size(retired) > CLIENT_RETIRED_MAX) {
        (void)json_array_remove(retired, 0);
    }
    done = done && (json_array_size(retired) == 0 ||
                    json_object_set(fields, "retired_filters", retired) == 0);
    json_decref(wanted);
    json_decref(all);
    json_decref(retired);
    return done ? ERR_OK : ERR_MEMORY;
}

/* ---- secrets that clients get ---------------------------------------------------------------- */

/* Whether a field with one of the flags comes from the profile. own NULL: nothing replaces it.
 * Recurses only as deep as the tables nest. */
static bool client_profile_gives_flagged(const json_t *fields, const json_t *own,
                                         const struct client_field_table *table, unsigned flags) {
    bool gives = false;
    for (size_t i = 0; !gives && i < table->count; i++) {
        const struct client_field *field = &table->rows[i];
        const json_t *value = json_object_get(fields, field->name);
        const json_t *other = json_object_get(own, field->name);
        if (!value || json_is_null(value)) {
            continue;
        }
        if (field->read == client_field_read_object) {
            gives = (!other || json_is_object(other)) &&
                    client_profile_gives_flagged(value, other, field->members, flags);
        } else if (field->flags & flags) {
            bool map = json_is_object(value) && field->read == client_field_read_headers;
            gives = map ? json_object_size(value) > 0 && (!other || json_is_object(other)) : !other;
        }
    }
    return gives;
}

bool client_profile_has_secrets(const struct client_profile *profile) {
    return client_profile_gives_flagged(profile->fields, NULL, &client_fields,
                                        CLIENT_FIELD_SECRET | CLIENT_FIELD_SECRET_PEM);
}

bool client_profile_sends_elsewhere(const json_t *fields, const json_t *document) {
    return client_profile_gives_flagged(fields, document, &client_fields, CLIENT_FIELD_SENT) &&
           !client_config_brokers_known(document, fields);
}

bool client_profile_has_label(const struct client_profile *profile, const char *name,
                              const char *value) {
    const json_t *label = json_object_get(json_object_get(profile->fields, "labels"), name);
    return json_is_string(label) && strcmp(json_string_value(label), value) == 0;
}

/* ---- checking -------------------------------------------------------------------------------- */

static const struct {
    const char *name, *why;
} client_profile_not_shared[] = {
    {"id", "it names one client"},
    {"client_id", "the clients of a profile would disconnect each other"},
    {"desired", "each client is paused and resumed on its own"},
    {"profile", "profiles cannot be nested"},
};

/* Without a broker beside it, anyone who may create a client could have it sent to a broker of
 * their own. */
static void client_profile_check_sent(const json_t *fields, struct reader *reader) {
    static const char *const brokers[] = {"broker", "url", "urls"};
    bool has_broker = false;
    for (size_t i = 0; i < sizeof brokers / sizeof brokers[0]; i++) {
        has_broker = has_broker || client_profile_gives(fields, brokers[i]);
    }
    if (!has_broker &&
        client_profile_gives_flagged(fields, NULL, &client_fields, CLIENT_FIELD_SENT)) {
        client_field_add_fault(reader, &(const struct client_field_place){.name = "url"},
                               "is missing: a profile with a password or WebSocket headers names "
                               "the broker that gets them");
    }
}

void client_profile_check(json_t *fields, struct client_faults *faults) {
    struct reader reader = {.faults = faults};
    client_config_check_members(fields, faults);
    client_profile_check_sent(fields, &reader);
    for (size_t i = 0; i < sizeof client_profile_not_shared / sizeof client_profile_not_shared[0];
         i++) {
        const struct client_field_place place = {.name = client_profile_not_shared[i].name};
        if (json_object_get(fields, place.name)) {
            client_field_add_fault(&reader, &place, "must be omitted in a profile: %s",
                                   client_profile_not_shared[i].why);
        }
    }
}
