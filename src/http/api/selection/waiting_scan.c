/* No state. */
#include "http/api/selection/waiting_scan.h"

#include <string.h>
#include "base/system/json_memory.h"
#include "http/api/api.h"
#include "mqtt/config/client_profile.h"

#define SCAN_PAGES_MAX 10000 /* of about STORE_BATCH_MAX clients */
#define LABELS_MAX     64    /* of a client; with more, its whole configuration is read */

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

/* What of the configurations is needed. Each costs far more than the one before. Errors, also of an
 * invalid configuration, are recorded apart from it. */
enum waiting_scan_need { NEED_NO_CONFIG, NEED_LABELS, NEED_CONFIG };

static bool waiting_scan_asks_for(const struct selection_query *query,
                                  enum client_selector_key key) {
    return client_selector_has(query->selector, key) || (query->grouped && query->by == key);
}

static enum waiting_scan_need waiting_scan_need(const struct selection_query *query) {
    if (waiting_scan_asks_for(query, CLIENT_SELECTOR_BROKER) ||
        waiting_scan_asks_for(query, CLIENT_SELECTOR_PROFILE)) {
        return NEED_CONFIG;
    }
    return query->scope || waiting_scan_asks_for(query, CLIENT_SELECTOR_LABEL) ? NEED_LABELS
                                                                               : NEED_NO_CONFIG;
}

/* Whether the text may have one of the labels; without escapes it has their values as they are, or
 * they are those of its profile. */
static bool waiting_scan_may_match(const struct client_selector *selector, const char *config) {
    if (strchr(config, '\\') || strstr(config, "\"profile\"")) {
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

/* The labels of a configuration without a profile, which borrow from it. False: this cannot be told
 * without checking all of it. */
static bool waiting_scan_read_labels(const json_t *config, struct client_facts *facts,
                                     struct client_pair pairs[LABELS_MAX]) {
    json_t *labels = json_object_get(config, "labels"), *value;
    const char *name;
    bool is_plain = json_is_object(config) && !client_profile_of(config) &&
                    (!labels || json_is_object(labels)) && json_object_size(labels) <= LABELS_MAX;
    facts->labels = pairs;
    json_object_foreach(labels, name, value) {
        is_plain = is_plain && json_is_string(value);
        if (is_plain) {
            pairs[facts->label_count++] = (struct client_pair){
                (char *)(uintptr_t)name, (char *)(uintptr_t)json_string_value(value)};
        }
    }
    return is_plain;
}

/* False: the whole configuration is needed. */
static bool waiting_scan_add_labelled(struct selection *selection, const struct store_client *row) {
    struct client_pair pairs[LABELS_MAX];
    struct workers_visited client;
    json_t *config = json_from_text(row->config, row->config_len, JSON_REJECT_DUPLICATES);
    client_waiting_facts(row, NULL, false, NULL, &client);
    bool known = waiting_scan_read_labels(config, &client.facts, pairs);
    if (known) {
        selection_add(selection, &client);
    }
    json_decref(config);
    return known;
}

static void waiting_scan_add_parsed(struct selection *selection, const struct store_client *row) {
    struct client_config *config = NULL;
    struct client_faults faults;
    char broker[CLIENT_BROKER_LEN];
    struct workers_visited client;
    enum err err =
        client_config_parse_text(row->config, row->config_len, row->id, &config, &faults);
    client_waiting_facts(row, config, err == ERR_ARGUMENT, broker, &client);
    if (err == ERR_MEMORY) {
        selection->out_of_memory = true;
    } else {
        selection_add(selection, &client);
    }
    client_config_destroy(config);
}

static void waiting_scan_add(struct selection *selection, const struct store_client *row,
                             enum waiting_scan_need need) {
    struct workers_visited client;
    if (need == NEED_NO_CONFIG || !row->config) {
        client_waiting_facts(row, NULL, need != NEED_NO_CONFIG, NULL, &client);
        selection_add(selection, &client);
    } else if (!waiting_scan_may_match(selection->query->selector, row->config)) {
        selection->seen++;
    } else if (need != NEED_LABELS || !waiting_scan_add_labelled(selection, row)) {
        waiting_scan_add_parsed(selection, row);
    }
}

enum err waiting_scan_run(const struct http_request *request, struct selection *selection) {
    struct store *store = request->api->context.store;
    enum waiting_scan_need need = waiting_scan_need(selection->query);
    unsigned wanted = (need != NEED_NO_CONFIG ? STORE_FACTS_CONFIGS : 0U) |
                      (selection->query->sort == SELECTION_BY_CHANGED ? STORE_FACTS_VERSIONS : 0U);
    uint64_t cursor = 0;
    for (int pages = 0; pages < SCAN_PAGES_MAX; pages++) {
        struct store_client *rows;
        size_t n;
        enum err err = store_waiting_facts(store, wanted, &cursor, &rows, &n);
        for (size_t i = 0; err == ERR_OK && i < n; i++) {
            waiting_scan_add(selection, &rows[i], need);
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
