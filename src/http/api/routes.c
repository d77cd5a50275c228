/* Owns the table of routes. Read-only; any thread. */
#include "http/api/routes.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "http/api/api.h"
#include "http/console/console.h"
#include "mqtt/client/client_selector.h"

#define ROUTE_PPROF (ROUTE_OPS | ROUTE_ADMIN)
#define ROUTE_BULK  (ROUTE_OPERATOR | ROUTE_SELECTOR)
#define BULK_QUERY  CLIENT_SELECTOR_KEYS " dry_run rate"

static const struct http_route route_table[] = {
    {"POST", "/api/v1/clients", api_clients_create, ROUTE_MAY_WAIT | ROUTE_OPERATOR, "wait_ms",
     SCOPE_FILTERED},
    {"GET", "/api/v1/clients", api_clients_list, ROUTE_SELECTOR,
     CLIENT_SELECTOR_KEYS " sort count limit cursor", SCOPE_FILTERED},
    {"GET", "/api/v1/brokers", api_brokers, 0, "limit", SCOPE_FILTERED},
    {"GET", "/api/v1/summary", api_summary, ROUTE_SELECTOR, CLIENT_SELECTOR_KEYS " by limit",
     SCOPE_FILTERED},
    {"GET", "/api/v1/time-series", api_time_series, 0, "", SCOPE_REFUSED},
    {"POST", "/api/v1/clients:apply", api_clients_apply, ROUTE_OPERATOR, "dry_run", SCOPE_FILTERED},
    {"POST", "/api/v1/clients:reencrypt", api_clients_reencrypt, ROUTE_ADMIN | ROUTE_OPERATOR,
     "cursor", SCOPE_REFUSED},
    {"POST", "/api/v1/clients:test", api_clients_test, ROUTE_OPERATOR, "timeout_ms",
     SCOPE_FILTERED},
    {"POST", "/api/v1/clients:pause", api_clients_bulk, ROUTE_BULK, BULK_QUERY, SCOPE_FILTERED},
    {"POST", "/api/v1/clients:resume", api_clients_bulk, ROUTE_BULK, BULK_QUERY, SCOPE_FILTERED},
    {"POST", "/api/v1/clients:restart", api_clients_bulk, ROUTE_BULK, BULK_QUERY, SCOPE_FILTERED},
    {"POST", "/api/v1/clients:release", api_clients_bulk, ROUTE_BULK, BULK_QUERY, SCOPE_FILTERED},
    {"POST", "/api/v1/clients:delete", api_clients_bulk, ROUTE_BULK, BULK_QUERY, SCOPE_FILTERED},
    {"POST", "/api/v1/clients:patch", api_clients_bulk, ROUTE_BULK, BULK_QUERY, SCOPE_FILTERED},
    {"GET", "/api/v1/operations", api_operations_list, 0, "", SCOPE_FILTERED},
    {"GET", "/api/v1/operations/{id}", api_operation_get, 0, "", SCOPE_FILTERED},
    {"POST", "/api/v1/operations/{id}:cancel", api_operation_cancel, ROUTE_OPERATOR, "",
     SCOPE_FILTERED},
    {"GET", "/api/v1/clients/{id}", api_client_get, 0, "effective", SCOPE_CLIENT},
    {"PUT", "/api/v1/clients/{id}", api_client_put, ROUTE_MAY_WAIT | ROUTE_OPERATOR, "wait_ms",
     SCOPE_CLIENT},
    {"PATCH", "/api/v1/clients/{id}", api_client_patch, ROUTE_MAY_WAIT | ROUTE_OPERATOR, "wait_ms",
     SCOPE_CLIENT},
    {"DELETE", "/api/v1/clients/{id}", api_client_delete, ROUTE_OPERATOR, "", SCOPE_CLIENT},
    {"POST", "/api/v1/clients/{id}/publish", api_client_publish, ROUTE_QUICK | ROUTE_OPERATOR, "",
     SCOPE_CLIENT},
    {"GET", "/api/v1/clients/{id}/publications", api_client_publications,
     ROUTE_QUICK | ROUTE_CONTENTS, "", SCOPE_CLIENT},
    {"DELETE", "/api/v1/clients/{id}/publications", api_client_publications_drop,
     ROUTE_QUICK | ROUTE_OPERATOR, "", SCOPE_CLIENT},
    {"POST", "/api/v1/clients/{id}/pause", api_client_pause, ROUTE_MAY_WAIT | ROUTE_OPERATOR,
     "wait_ms", SCOPE_CLIENT},
    {"POST", "/api/v1/clients/{id}/resume", api_client_resume, ROUTE_MAY_WAIT | ROUTE_OPERATOR,
     "wait_ms", SCOPE_CLIENT},
    {"POST", "/api/v1/clients/{id}/restart", api_client_restart, ROUTE_OPERATOR, "", SCOPE_CLIENT},
    {"POST", "/api/v1/clients/{id}/release", api_client_release, ROUTE_OPERATOR, "", SCOPE_CLIENT},
    {"GET", "/api/v1/clients/{id}/events", api_client_events, 0, "", SCOPE_CLIENT},
    {"GET", "/api/v1/clients/{id}/changes", api_client_changes, 0, "", SCOPE_CLIENT},
    {"GET", "/api/v1/changes", api_changes, 0, "id_prefix by action limit cursor", SCOPE_REFUSED},
    {"GET", "/api/v1/clients/{id}/messages", api_client_messages, ROUTE_CONTENTS, "", SCOPE_CLIENT},
    {"GET", "/api/v1/events", api_events, 0, "kind state client", SCOPE_FILTERED},
    {"GET", "/api/v1/dead-letters", api_dead_letters_list, ROUTE_CONTENTS,
     "entry sink client topic since until limit cursor", SCOPE_FILTERED},
    {"POST", "/api/v1/dead-letters:replay", api_dead_letters_replay, ROUTE_OPERATOR,
     "entry sink client topic since until all dry_run cursor", SCOPE_FILTERED},
    {"POST", "/api/v1/dead-letters:drop", api_dead_letters_drop, ROUTE_OPERATOR,
     "entry sink client topic since until all dry_run cursor", SCOPE_FILTERED},

    {"GET", "/api/v1/export", api_export, ROUTE_ADMIN | ROUTE_SELECTOR,
     CLIENT_SELECTOR_KEYS " secrets cursor", SCOPE_REFUSED},

    {"GET", "/api/v1/nodes", api_nodes_list, 0, "", SCOPE_REFUSED},
    {"POST", "/api/v1/nodes:rebalance", api_nodes_rebalance, ROUTE_OPERATOR, "rate", SCOPE_REFUSED},
    {"GET", "/api/v1/nodes:health", api_nodes_health, 0, "", SCOPE_REFUSED},
    {"GET", "/api/v1/nodes/{name}", api_node_get, 0, "", SCOPE_REFUSED},
    {"POST", "/api/v1/nodes/{name}/drain", api_node_drain, ROUTE_OPERATOR, "", SCOPE_REFUSED},
    {"POST", "/api/v1/nodes/{name}/undrain", api_node_undrain, ROUTE_OPERATOR, "", SCOPE_REFUSED},

    {"GET", "/api/v1/problems", api_problems, 0, "", SCOPE_REFUSED},
    {"GET", "/api/v1/client-profiles", api_profiles_list, 0, "", SCOPE_REFUSED},
    {"GET", "/api/v1/client-profiles/{name}", api_profile_get, 0, "", SCOPE_REFUSED},
    {"PUT", "/api/v1/client-profiles/{name}", api_profile_put, ROUTE_ADMIN | ROUTE_OPERATOR,
     "dry_run", SCOPE_REFUSED},
    {"DELETE", "/api/v1/client-profiles/{name}", api_profile_delete, ROUTE_ADMIN | ROUTE_OPERATOR,
     "", SCOPE_REFUSED},

    {"GET", "/api/v1/sinks", api_sinks_list, 0, "", SCOPE_REFUSED},
    {"POST", "/api/v1/sinks:test", api_sinks_test, ROUTE_ADMIN | ROUTE_OPERATOR, "name",
     SCOPE_REFUSED},
    {"GET", "/api/v1/sinks/{name}", api_sink_get, 0, "", SCOPE_REFUSED},
    {"PUT", "/api/v1/sinks/{name}", api_sink_put, ROUTE_ADMIN | ROUTE_OPERATOR, "dry_run",
     SCOPE_REFUSED},
    {"DELETE", "/api/v1/sinks/{name}", api_sink_delete, ROUTE_ADMIN | ROUTE_OPERATOR, "",
     SCOPE_REFUSED},
    {"GET", "/api/v1/sink-types", api_sink_types, 0, "", SCOPE_EVERYONE},
    {"GET", "/api/v1/routes", api_routes_get, 0, "", SCOPE_REFUSED},
    {"PUT", "/api/v1/routes", api_routes_put, ROUTE_ADMIN | ROUTE_OPERATOR, "dry_run",
     SCOPE_REFUSED},
    {"GET", "/api/v1/quotas", api_quotas_get, 0, "", SCOPE_FILTERED},
    {"PUT", "/api/v1/quotas", api_quotas_put, ROUTE_ADMIN | ROUTE_OPERATOR, "", SCOPE_REFUSED},
    {"POST", "/api/v1/routes:explain", api_routes_explain, ROUTE_OPERATOR, "", SCOPE_REFUSED},

    {"GET", "/api/v1/caller", api_caller, ROUTE_INLINE, "", SCOPE_EVERYONE},

    {"GET", "/console", console_page, ROUTE_INLINE | ROUTE_PUBLIC | ROUTE_LINKED, NULL,
     SCOPE_EVERYONE},
    {"GET", "/console/{file}", console_file, ROUTE_INLINE | ROUTE_PUBLIC, NULL, SCOPE_EVERYONE},

    {"GET", "/livez", api_livez, ROUTE_INLINE | ROUTE_PUBLIC, NULL, SCOPE_EVERYONE},
    {"GET", "/readyz", api_readyz, ROUTE_INLINE | ROUTE_PUBLIC, NULL, SCOPE_EVERYONE},
    {"GET", "/openapi.json", api_openapi, ROUTE_INLINE | ROUTE_PUBLIC, NULL, SCOPE_EVERYONE},

    {"GET", "/metrics", api_metrics, ROUTE_OPS, NULL, SCOPE_REFUSED},
    {"GET", "/debug/pprof", api_pprof_slash, ROUTE_PPROF, NULL, SCOPE_REFUSED},
    {"GET", "/debug/pprof/", api_pprof_index, ROUTE_PPROF, NULL, SCOPE_REFUSED},
    {"GET", "/debug/pprof/heap", api_pprof_heap, ROUTE_PPROF, "debug", SCOPE_REFUSED},
    {"GET", "/debug/pprof/allocs", api_pprof_allocs, ROUTE_PPROF, "debug", SCOPE_REFUSED},
    {"GET", "/debug/pprof/profile", api_pprof_profile, ROUTE_PPROF, "seconds debug", SCOPE_REFUSED},
    {"GET", "/debug/pprof/threads", api_pprof_threads, ROUTE_PPROF, "debug", SCOPE_REFUSED},
    {"GET", "/debug/pprof/goroutine", api_pprof_threads, ROUTE_PPROF, "debug", SCOPE_REFUSED},
    {"GET", "/debug/pprof/mutex", api_pprof_mutex, ROUTE_PPROF, NULL, SCOPE_REFUSED},
    {"GET", "/debug/pprof/cmdline", api_pprof_cmdline, ROUTE_PPROF, NULL, SCOPE_REFUSED},
    {"GET", "/debug/pprof/symbol", api_pprof_symbol, ROUTE_PPROF, NULL, SCOPE_REFUSED},
    {"POST", "/debug/pprof/symbol", api_pprof_symbol, ROUTE_PPROF, NULL, SCOPE_REFUSED},

    {"POST", "/fleet/act", api_fleet_act, ROUTE_FLEET, NULL, SCOPE_REFUSED},
    {"POST", "/fleet/claim", api_fleet_claim, ROUTE_FLEET, NULL, SCOPE_REFUSED},
    {"POST", "/fleet/brokers", api_fleet_brokers, ROUTE_FLEET, NULL, SCOPE_REFUSED},
    {"POST", "/fleet/scope-brokers", api_fleet_scope_brokers, ROUTE_FLEET, NULL, SCOPE_REFUSED},
    {"POST", "/fleet/select", api_fleet_select, ROUTE_FLEET, NULL, SCOPE_REFUSED},
    {"POST", "/fleet/sinks", api_fleet_sinks, ROUTE_FLEET, NULL, SCOPE_REFUSED},
    {"POST", "/fleet/time-series", api_fleet_time_series, ROUTE_FLEET, NULL, SCOPE_REFUSED},
    {"POST", "/fleet/statuses", api_fleet_statuses, ROUTE_QUICK | ROUTE_FLEET, NULL, SCOPE_REFUSED},

    {"GET", "/beat", go_iot_heartbeat, ROUTE_INLINE | ROUTE_PUBLIC, NULL, SCOPE_EVERYONE},
    {"POST", "/create_mqtt", go_iot_create, ROUTE_OPERATOR, NULL, SCOPE_REFUSED},
    {"POST", "/public_create_mqtt", go_iot_public_create, ROUTE_OPERATOR, NULL, SCOPE_REFUSED},
    {"GET", "/node_list", go_iot_node_list, 0, NULL, SCOPE_REFUSED},
    {"GET", "/node_using_status", go_iot_node_using_status, 0, NULL, SCOPE_REFUSED},
    {"GET", "/mqtt_config", go_iot_mqtt_config, 0, NULL, SCOPE_REFUSED},
    {"GET", "/no_mqtt_config", go_iot_no_mqtt_config, 0, NULL, SCOPE_REFUSED},
    {"GET", "/remove_mqtt_client", go_iot_remove_client, ROUTE_OPERATOR, NULL, SCOPE_REFUSED},
    {"POST", "/push_data", go_iot_push_data, ROUTE_QUICK | ROUTE_OPERATOR, NULL, SCOPE_REFUSED},
};

const struct http_route *http_routes(size_t *count) {
    *count = sizeof(route_table) / sizeof(route_table[0]);
    return route_table;
}

bool http_route_knows_parameter(const struct http_route *route, const char *name) {
    const char *known = route->query;
    size_t name_len = strlen(name);
    for (size_t len; *known != '\0'; known += len + (known[len] == ' ')) {
        len = strcspn(known, " ");
        bool open = known[len - 1] == '*';
        if (open ? strncmp(known, name, len - 1) == 0
                 : len == name_len && memcmp(known, name, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the parameters are checked here, and not by select_query_parse. */
static bool routes_check_parameters(const struct http_route *route) {
    return route->query && (route->flags & ROUTE_SELECTOR) == 0;
}

const char *http_route_unknown_parameter(const struct http_route *route,
                                         const struct http_query *query) {
    for (size_t i = 0; routes_check_parameters(route) && i < query->count; i++) {
        if (!http_route_knows_parameter(route, query->items[i].name)) {
            return query->items[i].name;
        }
    }
    return NULL;
}

const char *http_route_repeated_parameter(const struct http_route *route,
                                          const struct http_query *query) {
    for (size_t i = 0; routes_check_parameters(route) && i < query->count; i++) {
        if (http_query_is_repeated(query, i)) {
            return query->items[i].name;
        }
    }
    return NULL;
}

/* Whether "{name}" or "{name}:verb" matches the segment. *parameter_len: without the verb. */
static bool routes_parameter_matches(const char *pattern, size_t pattern_len, const char *segment,
                                     size_t segment_len, size_t *parameter_len) {
    const char *verb = memchr(pattern, '}', pattern_len);
    size_t verb_len = verb ? pattern_len - (size_t)(verb + 1 - pattern) : 0;
    if (!verb || segment_len <= verb_len ||
        memcmp(verb + 1, segment + segment_len - verb_len, verb_len) != 0) {
        return false;
    }
    *parameter_len = segment_len - verb_len;
    return true;
}

/* Compares segment by segment; "{...}" matches any non-empty segment. */
static bool routes_path_matches(const char *pattern, const char *path, const char **parameter,
                                size_t *parameter_len) {
    *parameter = NULL;
    *parameter_len = 0;
    while (*pattern == '/' && *path == '/') {
        pattern++;
        path++;
        size_t pattern_len = strcspn(pattern, "/");
        size_t path_len = strcspn(path, "/");
        if (*pattern == '{') {
            if (!routes_parameter_matches(pattern, pattern_len, path, path_len, parameter_len)) {
                return false;
            }
            *parameter = path;
        } else if (pattern_len != path_len || memcmp(pattern, path, path_len) != 0) {
            return false;
        }
        pattern += pattern_len;
        path += path_len;
    }
    return *pattern == '\0' && *path == '\0';
}

static bool routes_method_matches(const struct http_route *route, const char *method) {
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

static void routes_add_allowed_method(char allow[HTTP_ALLOW_LEN], const char *method) {
    size_t len = strlen(allow);
    snprintf(allow + len, HTTP_ALLOW_LEN - len, "%s%s%s", len > 0 ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

enum http_route_result http_route_find(const char *method, const char *path,
                                       const struct http_route **route, const char **parameter,
                                       size_t *parameter_len, char allow[HTTP_ALLOW_LEN]) {
    enum http_route_result result = HTTP_ROUTE_NO_PATH;
    allow[0] = '\0';
    for (size_t i = 0; i < sizeof(route_table) / sizeof(route_table[0]); i++) {
        if (!routes_path_matches(route_table[i].pattern, path, parameter, parameter_len)) {
            continue;
        }
        if (routes_method_matches(&route_table[i], method)) {
            *route = &route_table[i];
            return HTTP_ROUTE_FOUND;
        }
        routes_add_allowed_method(allow, route_table[i].method);
        result = HTTP_ROUTE_NO_METHOD;
    }
    *parameter = NULL;
    return result;
}
