/* Encrypts the secrets of the resources of the fleet with the newest key: a row for each kind. Each
 * is written on condition of the version that was read. */
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "cluster/resources/sink_document.h"
#include "reencrypt.h"
#include "http/server/json.h"

#define TRIES_MAX           3   /* while others change the same resource */
#define FAILURES_LISTED_MAX 100 /* listed; all are counted */

void reencrypt_note_failure(struct reencrypt_counts *counts, const char *id, const char *detail) {
    counts->failed++;
    if (json_array_size(counts->failures) < FAILURES_LISTED_MAX) {
        json_array_append_new(counts->failures, json_pack("{s:o, s:o}", "id", http_json_string(id),
                                                          "detail", http_json_string(detail)));
    }
}

/* ---- sinks ---- */

static enum err reencrypt_write_sink(const struct http_api *api, const struct store_sink *row,
                                     const json_t *document) {
    struct store_sink sink = {.name = row->name,
                              .type = row->type,
                              .document = json_to_text(document, JSON_COMPACT | JSON_SORT_KEYS)};
    char *other_type = NULL;
    bool created;
    enum err err = sink.document ? store_put_sink(api->context.store, &sink, row->version,
                                                  &sink.version, &created, &other_type)
                                 : ERR_MEMORY;
    free(sink.document);
    free(other_type);
    return err;
}

/* ERR_VERSION: another caller wrote in between. */
static enum err reencrypt_sink(const struct http_api *api, const struct store_sink *row,
                               struct reencrypt_counts *counts) {
    char id[SINK_NAME_MAX + 8], fault[SINK_DOCUMENT_FAULT_LEN] = "the document is not an object";
    bool changed = false;
    json_t *document = json_from_text(row->document, strlen(row->document), 0);
    enum err err =
        json_is_object(document)
            ? sink_document_reseal(document, row->name, api->context.secrets, &changed, fault)
            : ERR_ARGUMENT;
    snprintf(id, sizeof id, "sink:%.64s", row->name);
    if (err != ERR_OK) {
        reencrypt_note_failure(counts, id, fault);
        err = ERR_OK;
    } else if (changed) {
        err = reencrypt_write_sink(api, row, document);
        counts->reencrypted += err == ERR_OK;
    } else {
        counts->unchanged++;
    }
    json_decref(document);
    return err;
}

static enum err reencrypt_sink_with_retries(const struct http_api *api,
                                            const struct store_sink *row,
                                            struct reencrypt_counts *counts) {
    enum err err = reencrypt_sink(api, row, counts);
    for (int tries = 1; err == ERR_VERSION && tries < TRIES_MAX; tries++) {
        struct store_sink *now = NULL;
        size_t n = 0;
        err = store_sinks(api->context.store, row->name, &now, &n, NULL);
        err = err == ERR_OK && n > 0 ? reencrypt_sink(api, now, counts) : err;
        store_sinks_free(now, n);
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

static enum err reencrypt_sinks(const struct http_api *api, struct reencrypt_counts *counts) {
    struct store_sink *rows = NULL;
    size_t n = 0;
    json_int_t before = counts->reencrypted;
    enum err err = store_sinks(api->context.store, NULL, &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        err = reencrypt_sink_with_retries(api, &rows[i], counts);
    }
    store_sinks_free(rows, n);
    if (counts->reencrypted > before) {
        node_heartbeat_now(api->context.node);
    }
    return err;
}

/* ---- all kinds ---- */

enum err reencrypt_resources(const struct http_api *api, struct reencrypt_counts *counts) {
    static enum err (*const kinds[])(const struct http_api *api,
                                     struct reencrypt_counts *counts) = {reencrypt_sinks};
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < sizeof kinds / sizeof kinds[0]; i++) {
        err = kinds[i](api, counts);
    }
    return err;
}
