/* Encrypts the secrets of the resources of the fleet with the newest key: a row for each kind. Each
 * is written on condition of the version that was read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/resources/sink_document.h"
#include "reencrypt.h"
#include "http/server/json.h"
#include "mqtt/config/client_profile.h"

#define TRIES_MAX           3   /* while others change the same resource */
#define FAILURES_LISTED_MAX 100 /* listed; all are counted */

void reencrypt_note_failure(struct reencrypt_counts *counts, const char *id, const char *detail) {
    counts->failed++;
    if (json_array_size(counts->failures) < FAILURES_LISTED_MAX) {
        json_array_append_new(counts->failures, json_pack("{s:o, s:o}", "id", http_json_string(id),
                                                          "detail", http_json_string(detail)));
    }
}

/* ---- kinds ---- */

/* Encrypts the secrets of a stored document. ERR_ARGUMENT: fault says why one cannot be read. */
typedef enum err reencrypt_reseal(const struct http_api *api, const char *name, json_t *document,
                                  bool *changed, char fault[SINK_DOCUMENT_FAULT_LEN]);

static enum err reencrypt_reseal_sink(const struct http_api *api, const char *name,
                                      json_t *document, bool *changed,
                                      char fault[SINK_DOCUMENT_FAULT_LEN]) {
    return sink_document_reseal(document, name, api->context.secrets, changed, fault);
}

static enum err reencrypt_reseal_profile(const struct http_api *api, const char *name,
                                         json_t *document, bool *changed,
                                         char fault[SINK_DOCUMENT_FAULT_LEN]) {
    struct client_faults faults = {.count = 0};
    enum err err = client_profile_seal(document, name, api->context.secrets, changed, &faults);
    if (faults.count > 0) {
        snprintf(fault, SINK_DOCUMENT_FAULT_LEN, "%.255s", faults.items[0].detail);
    }
    return err;
}

static const struct reencrypt_kind {
    enum store_resource_kind kind;
    const char *name;
    reencrypt_reseal *reseal;
} reencrypt_kinds[] = {{STORE_SINKS, "sink", reencrypt_reseal_sink},
                       {STORE_PROFILES, "profile", reencrypt_reseal_profile}};

/* ---- one resource ---- */

static enum err reencrypt_write(const struct http_api *api, const struct reencrypt_kind *kind,
                                const struct store_resource *row, const json_t *document) {
    struct store_put put = {.expected_version = row->version};
    struct store_resource resource = {.name = row->name,
                                      .type = row->type,
                                      .document =
                                          json_to_text(document, JSON_COMPACT | JSON_SORT_KEYS)};
    enum err err = resource.document
                       ? store_put_resource(api->context.store, kind->kind, &resource, &put)
                       : ERR_MEMORY;
    free(resource.document);
    free(put.other_type);
    return err;
}

/* ERR_VERSION: another caller wrote in between. */
static enum err reencrypt_resource(const struct http_api *api, const struct reencrypt_kind *kind,
                                   const struct store_resource *row,
                                   struct reencrypt_counts *counts) {
    char id[96], fault[SINK_DOCUMENT_FAULT_LEN] = "the document is not an object";
    bool changed = false;
    json_t *document = json_from_text(row->document, strlen(row->document), 0);
    enum err err = json_is_object(document)
                       ? kind->reseal(api, row->name, document, &changed, fault)
                       : ERR_ARGUMENT;
    snprintf(id, sizeof id, "%s:%.64s", kind->name, row->name);
    if (err != ERR_OK) {
        reencrypt_note_failure(counts, id, fault);
        err = ERR_OK;
    } else if (changed) {
        err = reencrypt_write(api, kind, row, document);
        counts->reencrypted += err == ERR_OK;
    } else {
        counts->unchanged++;
    }
    json_decref(document);
    return err;
}

static enum err reencrypt_resource_with_retries(const struct http_api *api,
                                                const struct reencrypt_kind *kind,
                                                const struct store_resource *row,
                                                struct reencrypt_counts *counts) {
    enum err err = reencrypt_resource(api, kind, row, counts);
    for (int tries = 1; err == ERR_VERSION && tries < TRIES_MAX; tries++) {
        struct store_resource *now = NULL;
        size_t n = 0;
        err = store_resources(api->context.store, kind->kind, row->name, &now, &n, NULL);
        err = err == ERR_OK && n > 0 ? reencrypt_resource(api, kind, now, counts) : err;
        store_resources_free(now, n);
    }
    if (err == ERR_NOT_FOUND || err == ERR_OK) { /* deleted meanwhile */
        return ERR_OK;
    }
    if (err == ERR_VERSION) {
        reencrypt_note_failure(counts, row->name, err_name(err));
        return ERR_OK;
    }
    return err;
}

/* ---- all of them ---- */

static enum err reencrypt_all_of(const struct http_api *api, const struct reencrypt_kind *kind,
                                 struct reencrypt_counts *counts) {
    struct store_resource *rows = NULL;
    size_t n = 0;
    json_int_t before = counts->reencrypted;
    enum err err = store_resources(api->context.store, kind->kind, NULL, &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        err = reencrypt_resource_with_retries(api, kind, &rows[i], counts);
    }
    store_resources_free(rows, n);
    if (counts->reencrypted > before) {
        node_heartbeat_now(api->context.node);
    }
    return err;
}

enum err reencrypt_resources(const struct http_api *api, struct reencrypt_counts *counts) {
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < sizeof reencrypt_kinds / sizeof reencrypt_kinds[0];
         i++) {
        err = reencrypt_all_of(api, &reencrypt_kinds[i], counts);
    }
    return err;
}
