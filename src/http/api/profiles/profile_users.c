/* Owns the pass over all clients for one profile. The thread of a job. */
#include "http/api/profiles/profile_users.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "http/server/json.h"
#include "http/server/pending.h"
#include "mqtt/tls_check.h"

static void profile_users_add_fault(struct profile_users *users, const char *id,
                                    const char *detail) {
    users->fault_count++;
    if (json_array_size(users->faults) < PROFILE_USERS_SHOWN_MAX) {
        json_array_append_new(users->faults, json_pack("{s:o, s:o}", "id", http_json_string(id),
                                                       "detail", http_json_string(detail)));
    }
}

/* ---- identities ------------------------------------------------------------------------------ */

static bool profile_users_brokers_differ(const struct profile_users *users) {
    static const char *const names[] = {"broker", "port", "url", "urls"};
    for (size_t i = 0; users->before && i < sizeof names / sizeof names[0]; i++) {
        const json_t *before = json_object_get(users->before->fields, names[i]);
        const json_t *next = json_object_get(users->next->fields, names[i]);
        if ((before || next) && !json_equal(before, next)) {
            return true;
        }
    }
    return !users->before;
}

static void profile_users_add_collision(struct profile_users *users, const char *id,
                                        const char *identity, const char *owner) {
    char detail[768];
    snprintf(detail, sizeof detail, "%.400s (broker and client_id) belongs to client %.256s",
             identity, owner);
    profile_users_add_fault(users, id, detail);
}

/* Whether another client has it, of this profile or not. One that has this profile may get another
 * identity itself: that is known at the end. */
static enum err profile_users_check_identity(struct profile_users *users, const char *id,
                                             const char *identity) {
    const char *same = json_string_value(json_object_get(users->moved, identity));
    char *owner = NULL;
    if (same) {
        profile_users_add_collision(users, id, identity, same);
        return ERR_OK;
    }
    json_object_set_new(users->moved, identity, http_json_string(id));
    enum err err = store_identity_owner(users->request->api->context.store, identity, &owner);
    if (err == ERR_OK && strcmp(owner, id) != 0) {
        json_array_append_new(users->conflicts, json_pack("[s, s, s]", id, identity, owner));
    }
    free(owner);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err profile_users_check_identities(struct profile_users *users,
                                               const struct client_config *config) {
    char *all = client_config_identity(config), *rest = all;
    enum err err = all ? ERR_OK : ERR_MEMORY;
    for (char *one = strsep(&rest, "\n"); err == ERR_OK && one; one = strsep(&rest, "\n")) {
        err = profile_users_check_identity(users, config->id, one);
    }
    free(all);
    return err;
}

static void profile_users_settle_conflicts(struct profile_users *users) {
    size_t i;
    const json_t *conflict;
    json_array_foreach(users->conflicts, i, conflict) {
        const char *owner = json_string_value(json_array_get(conflict, 2));
        if (!json_object_get(users->seen, owner)) {
            profile_users_add_collision(users, json_string_value(json_array_get(conflict, 0)),
                                        json_string_value(json_array_get(conflict, 1)), owner);
        }
    }
}

/* ---- one client ------------------------------------------------------------------------------ */

static bool profile_users_same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Most clients have the certificates of the profile: they are parsed once. */
static bool profile_users_tls_is_known(const struct profile_users *users,
                                       const struct client_config *config) {
    if (!users->last) {
        return false;
    }
    const struct client_tls *a = client_config_tls(config), *b = client_config_tls(users->last);
    return profile_users_same_text(a->ca, b->ca) && profile_users_same_text(a->cert, b->cert) &&
           profile_users_same_text(a->key, b->key) &&
           profile_users_same_text(a->key_password, b->key_password);
}

static void profile_users_check_settings(struct profile_users *users, struct client_config *config,
                                         struct client_faults *faults) {
    const struct http_api *api = users->request->api;
    faults->count = 0;
    client_input_check_settings(api, NULL, config, faults);
    if (!profile_users_tls_is_known(users, config)) {
        tls_check(config, api->context.conf, faults);
    }
}

static enum err profile_users_check(struct profile_users *users, const struct store_client *row) {
    struct client_config *config = NULL;
    struct client_faults faults;
    char detail[600];
    enum err err = client_config_parse_text_with(row->config, row->config_len, row->id, users->next,
                                                 &config, &faults);
    if (err == ERR_OK) {
        profile_users_check_settings(users, config, &faults);
    }
    if (err == ERR_ARGUMENT || (err == ERR_OK && faults.count > 0)) {
        snprintf(detail, sizeof detail, "%s: %s", faults.items[0].pointer, faults.items[0].detail);
        profile_users_add_fault(users, row->id, detail);
        client_config_destroy(config);
        return ERR_OK;
    }
    if (err == ERR_OK && users->moves) {
        err = profile_users_check_identities(users, config);
    }
    if (config) {
        client_config_destroy(users->last);
        users->last = config;
    }
    return err;
}

static bool profile_users_row_names(const struct profile_users *users,
                                    const struct store_client *row) {
    if (!row->config || !strstr(row->config, users->name)) {
        return false;
    }
    json_t *document = json_from_text(row->config, row->config_len, 0);
    const char *name = client_profile_of(document);
    bool named = name && strcmp(name, users->name) == 0;
    json_decref(document);
    return named;
}

static enum err profile_users_visit(struct profile_users *users, const struct store_client *row) {
    if (!profile_users_row_names(users, row) || json_object_get(users->seen, row->id)) {
        return ERR_OK;
    }
    json_object_set_new(users->seen, row->id, json_true());
    users->count++;
    if (json_array_size(users->ids) < PROFILE_USERS_SHOWN_MAX) {
        json_array_append_new(users->ids, http_json_string(row->id));
    }
    return users->next ? profile_users_check(users, row) : ERR_OK;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool profile_users_may_continue(const struct profile_users *users) {
    return atomic_load(&users->request->api->stop_stage) == HTTP_RUNNING &&
           !http_request_is_cancelled(users->request);
}

static enum err profile_users_scan(struct profile_users *users, enum store_client_state where) {
    uint64_t cursor = 0;
    enum err err = ERR_OK;
    do { /* ends with the scan */
        struct store_client *rows = NULL;
        size_t n = 0;
        err = profile_users_may_continue(users)
                  ? store_page(users->request->api->context.store, where, &cursor, STORE_BATCH_MAX,
                               &rows, &n, NULL)
                  : ERR_CANCELED;
        for (size_t i = 0; err == ERR_OK && i < n; i++) {
            err = profile_users_visit(users, &rows[i]);
        }
        store_clients_free(rows, n);
    } while (err == ERR_OK && cursor != 0);
    return err;
}

/* A client that is assigned meanwhile is found as an owned one. */
enum err profile_users_find(struct profile_users *users) {
    users->ids = json_array();
    users->faults = json_array();
    users->conflicts = json_array();
    users->seen = json_object();
    users->moved = json_object();
    users->moves = users->next && profile_users_brokers_differ(users);
    enum err err = users->ids && users->faults && users->conflicts && users->seen && users->moved
                       ? ERR_OK
                       : ERR_MEMORY;
    if (err == ERR_OK) {
        err = profile_users_scan(users, STORE_WAITING);
    }
    if (err == ERR_OK) {
        err = profile_users_scan(users, STORE_OWNED);
    }
    if (err == ERR_OK) {
        profile_users_settle_conflicts(users);
    }
    client_config_destroy(users->last);
    users->last = NULL;
    return err;
}

void profile_users_fini(struct profile_users *users) {
    json_decref(users->ids);
    json_decref(users->faults);
    json_decref(users->conflicts);
    json_decref(users->seen);
    json_decref(users->moved);
}
