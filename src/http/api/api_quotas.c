/* /api/v1/quotas: how much the clients with a label may use in the whole fleet, and how much they
 * use. The handler threads. */
#include "http/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "cluster/resources/quota_shares.h"
#include "http/api/if_match.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "store/quotas.h"

#define QUOTA_CLIENTS_MAX 1000000000
#define QUOTA_COUNT_MS    5000 /* of comparing all clients; the leader does the rest */

/* ---- reading --------------------------------------------------------------------------------- */

struct quota_list {
    json_t *list;    /* as stored, never NULL on ERR_OK */
    json_t *reports; /* of nodes, about the use of rates; likewise */
    int64_t version;
    int64_t used[STORE_QUOTAS_MAX];
};

static void api_quotas_list_fini(struct quota_list *quotas) {
    json_decref(quotas->list);
    json_decref(quotas->reports);
    *quotas = (struct quota_list){0};
}

static enum err api_quotas_read_clients(struct store *store, struct quota_list *out) {
    const char *scopes[STORE_QUOTAS_MAX];
    char *again = NULL;
    int64_t version;
    size_t n = json_array_size(out->list);
    n = n < STORE_QUOTAS_MAX ? n : STORE_QUOTAS_MAX;
    for (size_t i = 0; i < n; i++) {
        const char *scope =
            json_string_value(json_object_get(json_array_get(out->list, i), "scope"));
        scopes[i] = scope ? scope : "";
    }
    enum err err = store_quotas(store, scopes, n, out->used, &again, &version);
    free(again);
    return err;
}

static enum err api_quotas_read_reports(struct store *store, struct quota_list *out) {
    struct store_quota_use *rows;
    size_t n;
    enum err err = store_quota_uses(store, &rows, &n);
    out->reports = json_array();
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        json_t *report =
            rows[i].report ? json_from_text(rows[i].report, strlen(rows[i].report), 0) : NULL;
        if (report) { /* otherwise it was written by hand */
            json_array_append_new(out->reports, report);
        }
    }
    store_quota_uses_free(rows, n);
    return err == ERR_OK && !out->reports ? ERR_MEMORY : err;
}

/* *out: api_quotas_list_fini, in any case. */
static enum err api_quotas_read(const struct http_request *request, struct quota_list *out) {
    struct store *store = request->api->context.store;
    char *text = NULL;
    *out = (struct quota_list){0};
    enum err err = store_quotas(store, NULL, 0, NULL, &text, &out->version);
    if (err == ERR_OK) {
        out->list = text ? json_from_text(text, strlen(text), 0) : json_array();
        err = out->list ? ERR_OK : ERR_MEMORY;
    }
    free(text);
    if (err == ERR_OK) {
        err = api_quotas_read_clients(store, out);
    }
    return err == ERR_OK ? api_quotas_read_reports(store, out) : err;
}

/* ---- showing --------------------------------------------------------------------------------- */

/* A caller with a scope sees its own quota. */
static bool api_quotas_is_shown(const struct http_request *request, const json_t *quota) {
    char own[SCOPE_TEXT_LEN];
    const char *scope = json_string_value(json_object_get(quota, "scope"));
    scope_format(&request->caller.scope, own);
    return own[0] == '\0' || (scope && strcmp(scope, own) == 0);
}

static json_t *api_quotas_rate_json(const struct quota_list *quotas, const char *scope,
                                    enum rate_quota_kind kind) {
    struct quota_use_sum sum = {0};
    const json_t *report;
    size_t i;
    json_array_foreach(quotas->reports, i, report) {
        quota_shares_add_use(report, scope, kind, &sum);
    }
    return json_pack("{s:I, s:f, s:I, s:I, s:I}", "nodes", (json_int_t)sum.nodes, "use", sum.use,
                     "allowed", (json_int_t)sum.allowed, "delayed", (json_int_t)sum.delayed,
                     "refused", (json_int_t)sum.refused);
}

/* The quota, and beside it what is used. */
static json_t *api_quotas_quota_json(const struct quota_list *quotas, size_t index) {
    const json_t *quota = json_array_get(quotas->list, index);
    const char *scope = json_string_value(json_object_get(quota, "scope"));
    json_t *rates = json_object();
    json_t *shown =
        json_pack("{s:s, s:I, s:O*}", "scope", scope ? scope : "", "used",
                  (json_int_t)quotas->used[index], "clients", json_object_get(quota, "clients"));
    for (enum rate_quota_kind kind = 0; kind < RATE_QUOTA_COUNT; kind++) {
        const char *name = rate_quota_name(kind);
        json_t *per_s = json_object_get(quota, name);
        if (per_s && scope) {
            json_object_set(shown, name, per_s);
            json_object_set_new(rates, name, api_quotas_rate_json(quotas, scope, kind));
        }
    }
    json_object_set_new(shown, "rates", rates);
    return shown;
}

static void api_quotas_answer(const struct http_request *request, struct http_response *response) {
    struct quota_list quotas;
    enum err err = api_quotas_read(request, &quotas);
    if (err != ERR_OK) {
        api_quotas_list_fini(&quotas);
        http_problem_store(response, err);
        return;
    }
    json_t *shown = json_array();
    for (size_t i = 0; i < json_array_size(quotas.list) && i < STORE_QUOTAS_MAX; i++) {
        if (api_quotas_is_shown(request, json_array_get(quotas.list, i))) {
            json_array_append_new(shown, api_quotas_quota_json(&quotas, i));
        }
    }
    http_answer_json(
        response, 200,
        json_pack("{s:o, s:I}", "quotas", shown, "version", (json_int_t)quotas.version));
    http_answer_header(response, "ETag", "\"%lld\"", (long long)quotas.version);
    api_quotas_list_fini(&quotas);
}

void api_quotas_get(struct http_request *request, struct http_response *response) {
    api_quotas_answer(request, response);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void api_quotas_fault(struct client_faults *faults, size_t index, const char *member,
                             const char *detail) {
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/quotas/%zu%s", index, member);
    http_fault_add(faults, pointer, "%s", detail);
}

static bool api_quotas_has_scope(const json_t *checked, const char *scope) {
    for (size_t i = 0; i < json_array_size(checked); i++) {
        if (strcmp(json_string_value(json_object_get(json_array_get(checked, i), "scope")),
                   scope) == 0) {
            return true;
        }
    }
    return false;
}

/* False: the fault is noted. */
static bool api_quotas_check_number(const json_t *quota, size_t index, const char *name,
                                    json_int_t min, json_int_t max, struct client_faults *faults) {
    const json_t *number = json_object_get(quota, name);
    char member[32], detail[80];
    if (!number || (json_is_integer(number) && json_integer_value(number) >= min &&
                    json_integer_value(number) <= max)) {
        return true;
    }
    snprintf(member, sizeof member, "/%s", name);
    snprintf(detail, sizeof detail, "must be a whole number from %lld to %lld", (long long)min,
             (long long)max);
    api_quotas_fault(faults, index, member, detail);
    return false;
}

/* All that is limited. Copied to `checked`. False: the fault is noted. */
static bool api_quotas_check_limits(const json_t *quota, size_t index, json_t *checked,
                                    struct client_faults *faults) {
    size_t known = 1; /* the scope */
    bool right = api_quotas_check_number(quota, index, "clients", 0, QUOTA_CLIENTS_MAX, faults);
    json_t *clients = json_object_get(quota, "clients");
    if (right && clients) {
        json_object_set(checked, "clients", clients);
        known++;
    }
    for (enum rate_quota_kind kind = 0; right && kind < RATE_QUOTA_COUNT; kind++) {
        const char *name = rate_quota_name(kind);
        json_t *per_s = json_object_get(quota, name);
        right = api_quotas_check_number(quota, index, name, 1, RATE_QUOTA_MAX, faults);
        if (right && per_s) {
            json_object_set(checked, name, per_s);
            known++;
        }
    }
    if (right && (known == 1 || json_object_size(quota) != known)) {
        api_quotas_fault(faults, index, "",
                         "must have scope, and one or more of clients, connects_per_s, "
                         "messages_per_s and publications_per_s; nothing else");
        right = false;
    }
    return right;
}

/* Appends what the scripts and the nodes need of the quota. */
static void api_quotas_check(const json_t *quota, size_t index, json_t *checked,
                             struct client_faults *faults) {
    const char *text = json_string_value(json_object_get(quota, "scope"));
    char canonical[SCOPE_TEXT_LEN];
    struct scope scope;
    if (!text || !scope_parse(text, &scope)) {
        api_quotas_fault(faults, index, "/scope",
                         "must be label.NAME=VALUE, the value percent-encoded");
        return;
    }
    const char *label = json_string_value(json_object_get(json_array_get(checked, 0), "label"));
    scope_format(&scope, canonical);
    json_t *row = json_pack("{s:s, s:s, s:s}", "label", scope.label, "value", scope.value, "scope",
                            canonical);
    if (label && strcmp(label, scope.label) != 0) {
        api_quotas_fault(faults, index, "/scope",
                         "must have the same label as the other quotas: a client counts for one");
    } else if (api_quotas_has_scope(checked, canonical)) {
        api_quotas_fault(faults, index, "/scope", "is a duplicate");
    } else if (api_quotas_check_limits(quota, index, row, faults)) {
        json_array_append(checked, row);
    }
    json_decref(row);
}

/* Checks the body. Returns the document to store; NULL: answered. */
static json_t *api_quotas_check_all(const json_t *body, struct http_response *response) {
    const json_t *list = json_object_get(body, "quotas");
    struct client_faults faults = {.count = 0};
    json_t *checked = json_array();
    bool is_list = json_is_array(list) && json_array_size(list) <= STORE_QUOTAS_MAX &&
                   json_object_size(body) == 1;
    if (!is_list) {
        http_fault_add(&faults, "/quotas",
                       "must be an array of at most %d quotas, and the only member",
                       STORE_QUOTAS_MAX);
    }
    for (size_t i = 0; is_list && i < json_array_size(list); i++) {
        api_quotas_check(json_array_get(list, i), i, checked, &faults);
    }
    if (faults.count > 0) {
        http_problem_faults(response, &faults);
        json_decref(checked);
        return NULL;
    }
    return checked;
}

/* Counts the clients that exist already. */
static void api_quotas_count(struct store *store) {
    struct store_quota_scan scan = {0};
    int64_t end_ms = clock_ms() + QUOTA_COUNT_MS;
    enum err err = ERR_OK;
    while (err == ERR_OK && scan.hash < STORE_QUOTA_HASHES && clock_ms() < end_ms) {
        err = store_count_quotas(store, &scan);
    }
}

static void api_quotas_store(struct http_request *request, const json_t *checked, int64_t expected,
                             struct http_response *response) {
    struct store *store = request->api->context.store;
    char *text = json_to_text(checked, JSON_COMPACT);
    int64_t version;
    enum err err = text ? store_put_quotas(store, text, expected, &version) : ERR_MEMORY;
    free(text);
    if (err == ERR_VERSION) {
        http_problem(response, PROBLEM_VERSION, "the quotas have been changed; read them again");
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    } else {
        api_quotas_count(store);
        api_quotas_answer(request, response);
    }
}

void api_quotas_put(struct http_request *request, struct http_response *response) {
    json_t *body = NULL;
    int64_t expected;
    if (!if_match_read_single(request, "quotas", &expected, response) ||
        !http_body_object(request, response, &body)) {
        return;
    }
    json_t *checked = api_quotas_check_all(body, response);
    if (checked) {
        api_quotas_store(request, checked, expected, response);
    }
    json_decref(checked);
    json_decref(body);
}
