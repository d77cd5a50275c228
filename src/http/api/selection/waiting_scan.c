/* No state. */
#include "http/api/selection/waiting_scan.h"

#include <string.h>
#include "http/api/api.h"

#define SCAN_PAGES_MAX 10000 /* of about STORE_BATCH_MAX clients */

/* Whether one of the alternatives of the key is `value`, or any value will do. */
static bool waiting_scan_allows(const struct client_selector *selector,
                                enum client_selector_key key, const char *value) {
    size_t count;
    char *const *values = client_selector_values(selector, key, &count);
    for (size_t i = 0; values && i < count; i++) {
        if (strcmp(values[i], value) == 0) {
            return true;
        }
    }
    return !values;
}

bool waiting_scan_is_needed(const struct selection_query *query) {
    const struct client_selector *selector = query->selector;
    return !client_selector_has(selector, CLIENT_SELECTOR_NODE) &&
           (waiting_scan_allows(selector, CLIENT_SELECTOR_STATE, "waiting") ||
            waiting_scan_allows(selector, CLIENT_SELECTOR_STATE, "conflict")) &&
           waiting_scan_allows(selector, CLIENT_SELECTOR_DEGRADED, "false") &&
           waiting_scan_allows(selector, CLIENT_SELECTOR_SILENT, "false");
}

/* Parsing a configuration costs far more than the rest. Errors, also of an invalid configuration,
 * are recorded apart from it. */
static bool waiting_scan_needs_configs(const struct selection_query *query) {
    static const enum client_selector_key keys[] = {CLIENT_SELECTOR_BROKER, CLIENT_SELECTOR_LABEL,
                                                    CLIENT_SELECTOR_PROFILE};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (client_selector_has(query->selector, keys[i]) ||
            (query->grouped && query->by == keys[i])) {
            return true;
        }
    }
    return query->scope != NULL;
}

/* Whether the text may have one of the labels; without escapes it has their values as they are. */
static bool waiting_scan_may_match(const struct client_selector *selector, const char *config) {
    if (strchr(config, '\\')) {
        return true;
    }
    const char *label;
    size_t count;
    for (size_t term = 0; (label = client_selector_label(selector, term)); term++) {
        char *const *values = client_selector_label_values(selector, term, &count);
        bool has = false;
        for (size_t i = 0; !has && i < count; i++) {
            has = strpbrk(values[i], "\\\"") || strstr(config, values[i]);
        }
        if (!has) {
            return false;
        }
    }
    return true;
}

static void waiting_scan_add(struct selection *selection, const struct store_client *row,
                             bool with_config) {
    struct client_config *config = NULL;
    struct client_faults faults;
    char broker[CLIENT_BROKER_LEN];
    struct workers_visited client;
    if (with_config && row->config &&
        !waiting_scan_may_match(selection->query->selector, row->config)) {
        selection->seen++;
        return;
    }
    enum err err = with_config ? client_config_parse_text(row->config, row->config_len, row->id,
                                                          &config, &faults)
                               : ERR_OK;
    client_waiting_facts(row, config, err == ERR_ARGUMENT, broker, &client);
    if (err == ERR_MEMORY) {
        selection->out_of_memory = true;
    } else {
        selection_add(selection, &client);
    }
    client_config_destroy(config);
}

enum err waiting_scan_run(const struct http_request *request, struct selection *selection) {
    struct store *store = request->api->context.store;
    bool with_config = waiting_scan_needs_configs(selection->query);
    uint64_t cursor = 0;
    for (int pages = 0; pages < SCAN_PAGES_MAX; pages++) {
        struct store_client *rows;
        size_t n;
        enum err err = store_waiting_facts(store, with_config, &cursor, &rows, &n);
        for (size_t i = 0; err == ERR_OK && i < n; i++) {
            waiting_scan_add(selection, &rows[i], with_config);
        }
        store_clients_free(rows, n);
        if (err != ERR_OK || cursor == 0) {
            return err;
        }
        if (http_request_is_abandoned(request)) {
            return ERR_CANCELED;
        }
    }
    return ERR_TIMEOUT; /* more than a node can look at in one request */
}
