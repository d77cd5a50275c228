/* Shared by the handlers: their context, bodies, documents, and calls to other nodes. */
#ifndef MQFLEET_API_API_H
#define MQFLEET_API_API_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "http/server/request.h"
#include "http/server/response.h"
#include "http/server/server.h"
#include "mqtt/config/address_policy.h"
#include "mqtt/config/client_config.h"
#include "mqtt/workers/workers.h"
#include "store/store.h"

enum http_stop {
    HTTP_RUNNING,
    HTTP_STOPPING, /* waits with PENDING_ENDS_AT_STOP end */
    HTTP_ABORTING  /* all waits end */
};

struct http_api {
    struct http_context context;
    struct address_policy *address_policy;
    struct event_streams *streams;
    struct tail_follower *tail_follower;
    struct handler_pool *handler_pool;
    struct pendings *pendings;
    struct client_waits *client_waits;
    struct replay *replay;
    atomic_int stop_stage; /* enum http_stop */
};

#define HTTP_BATCH_MAX 10000
/* %s: the scope; %lld: the limit. */
#define QUOTA_CLIENTS_FAULT "the quota clients of %.256s is used up: at most %lld clients may exist"

/* ---- bodies -------------------------------------------------------------------------------- */

/* The body as JSON; false: answered with 400 or 413. *repaired: see http_json_parse. */
bool http_body_json(const struct http_request *request, struct http_response *response,
                    json_t **out, bool *repaired);
/* The same for an object with valid text; false: answered, also with 422. */
bool http_body_object(const struct http_request *request, struct http_response *response,
                      json_t **out);

/* A parameter that is true or false (the default). False: answered with 400. */
bool http_read_flag(const struct http_request *request, const char *name, bool *out,
                    struct http_response *response);

/* Writes as many of the client ids in a body (one client or an array) as fit into the audit line.
 */
void http_set_audit_subject(struct http_request *request, const json_t *document);

/* ---- a client's configuration as received (client_input.c) ----------------------------------- */

struct client_input {
    struct client_config *config;
    char *text; /* canonical, for the store */
    char *identity;
};

/* Checks fields, text, the broker (address policy) and the sink (of this node). Gives the document
 * the label of the caller's scope (never NULL). Encrypts the secrets of the document if this node
 * has a key. ERR_ARGUMENT: see `faults`. Caller: client_input_fini, after any result. */
enum err client_input_check(const struct http_api *api, const struct scope *scope, json_t *document,
                            enum client_source source, const char *id_hint, bool repaired,
                            struct client_input *out, struct client_faults *faults) MUST_CHECK;
/* The part of it that depends on the settings of this node. document: as given, for the pointers;
 * NULL is legal. */
void client_input_check_settings(const struct http_api *api, const json_t *document,
                                 const struct client_config *config, struct client_faults *faults);
void client_input_fini(struct client_input *input);
/* Whether the stored text is the same configuration, possibly in another spelling or with other
 * keys.
 */
bool client_input_is_same(const struct http_api *api, const struct store_client *stored,
                          const char *text);
/* A row for an id that has just been created. Borrows from its arguments. */
struct store_client client_input_row(const struct client_input *input, int64_t version);

/* ---- documents (client_view.c) -------------------------------------------------------------- */

/* A row and the content of its configuration. */
struct client_view {
    struct wait_reasons *wait_reasons;
    const struct store_client *row; /* borrowed */
    struct client_config *config;   /* NULL: the text is not a valid configuration */
    json_t *shown;                  /* the configuration without secrets, or null */
    char fault[256];
};
void client_view_open(struct client_view *view, const struct http_api *api,
                      const struct store_client *row);
void client_view_close(struct client_view *view);
/* What a selector sees of the client; status: of a document. Borrowed from the arguments. */
void client_view_facts(const struct client_view *view, const json_t *status,
                       char broker[CLIENT_BROKER_LEN], struct client_facts *out);
/* The client document; takes ownership of status (NULL: not known, derived from the row). */
json_t *client_view_document(const struct client_view *view, json_t *status);
/* Shows the configuration with the fields of its profile. */
void client_view_show_effective(struct client_view *view);
/* open, document, close. */
json_t *client_view_render(const struct http_api *api, const struct store_client *row,
                           json_t *status);

json_t *client_status_json(const struct http_api *api, const struct client_status *status);
/* The status of a client that no node owns. */
json_t *client_waiting_json(const struct store_client *row);
/* The facts about such a client; they borrow from the arguments. config NULL: the configuration was
 * not read, or is invalid. */
void client_waiting_facts(const struct store_client *row, const struct client_config *config,
                          bool is_invalid, char broker[CLIENT_BROKER_LEN],
                          struct workers_visited *out);
/* The status of a client that its owner does not report. */
json_t *client_unknown_json(const struct store_client *row, const char *reason);
/* The status of a client whose owner cannot be reached. */
json_t *client_unreachable_json(const struct store_client *row);
/* {"broker","port","username","password","sub_topic","client_id"}, as Go IoT shows it. */
json_t *client_flat_json(const struct client_config *config);
bool client_state_is_known(const char *shown);

/* ---- other nodes (peer_proxy.c): the request may wait for them ---------------------------------
 */

/* Rows and their live statuses from the owners; NULL for rows without an owner. */
struct peer_proxy_rows {
    struct store_client *rows;
    json_t **statuses; /* one per row; set to NULL when ownership is taken */
    size_t n;
};

/* Frees the rows early. */
void peer_proxy_rows_fini(struct peer_proxy_rows *rows);

/* Continues the request; rows: borrowed. context: as given. */
typedef void peer_proxy_then(struct http_request *request, struct http_response *response,
                             struct peer_proxy_rows *rows, void *context);

/* Requests the statuses of the rows (malloc; owned from now on) from all owners concurrently, and
 * continues with `then`: at once if no other node must be asked. If an owner does not answer, the
 * status is unknown. context: owned, and freed with free_context (NULL: not freed) even if `then`
 * is not called. */
void peer_proxy_statuses(struct http_request *request, struct http_response *response,
                         struct store_client *rows, size_t n, peer_proxy_then *then, void *context,
                         void (*free_context)(void *context));
/* The same for one row, whose contents are owned from now on. */
void peer_proxy_status(struct http_request *request, struct http_response *response,
                       struct store_client *row, peer_proxy_then *then);

/* Forwards a request for /api/v1/clients/{id}/{action} to the node, and returns its answer. */
void peer_proxy_forward(struct http_request *request, const char *node, const char *method,
                        const char *id, const char *action, const char *body, size_t body_len,
                        int64_t timeout_ms, struct http_response *response);

/* For an action on a client that does not run here. True: row->owner.node is the node to forward
 * to. False: answered, because the client is unknown, waits, or is being moved. The caller always
 * calls store_client_fini for *row. */
bool peer_proxy_find_owner(const struct http_request *request, const char *id,
                           struct store_client *row, struct http_response *response);

/* {"checks","warnings"} as /readyz of this node shows them. */
json_t *api_readiness_json(const struct http_api *api);

/* ---- handlers -------------------------------------------------------------------------------- */

void api_clients_create(struct http_request *request, struct http_response *response);
void api_clients_apply(struct http_request *request, struct http_response *response);
void api_clients_reencrypt(struct http_request *request, struct http_response *response);
void api_summary(struct http_request *request, struct http_response *response);
void api_time_series(struct http_request *request, struct http_response *response);
void api_brokers(struct http_request *request, struct http_response *response);
void api_clients_list(struct http_request *request, struct http_response *response);
void api_clients_test(struct http_request *request, struct http_response *response);
void api_client_get(struct http_request *request, struct http_response *response);
void api_client_put(struct http_request *request, struct http_response *response);
void api_client_patch(struct http_request *request, struct http_response *response);
void api_client_delete(struct http_request *request, struct http_response *response);
void api_client_publish(struct http_request *request, struct http_response *response);
void api_client_publications(struct http_request *request, struct http_response *response);
void api_client_publications_drop(struct http_request *request, struct http_response *response);
void api_client_pause(struct http_request *request, struct http_response *response);
void api_client_resume(struct http_request *request, struct http_response *response);
void api_client_restart(struct http_request *request, struct http_response *response);
void api_client_release(struct http_request *request, struct http_response *response);
void api_client_events(struct http_request *request, struct http_response *response);

void api_changes(struct http_request *request, struct http_response *response);
void api_client_changes(struct http_request *request, struct http_response *response);

void api_client_messages(struct http_request *request, struct http_response *response);
void api_events(struct http_request *request, struct http_response *response);

void api_dead_letters_list(struct http_request *request, struct http_response *response);
void api_dead_letters_replay(struct http_request *request, struct http_response *response);
void api_dead_letters_drop(struct http_request *request, struct http_response *response);

void api_clients_bulk(struct http_request *request, struct http_response *response);
void api_operations_list(struct http_request *request, struct http_response *response);
void api_operation_get(struct http_request *request, struct http_response *response);
void api_operation_cancel(struct http_request *request, struct http_response *response);
void api_fleet_act(struct http_request *request, struct http_response *response);

void api_nodes_health(struct http_request *request, struct http_response *response);
void api_nodes_list(struct http_request *request, struct http_response *response);
void api_node_get(struct http_request *request, struct http_response *response);
void api_node_drain(struct http_request *request, struct http_response *response);
void api_node_undrain(struct http_request *request, struct http_response *response);
void api_nodes_rebalance(struct http_request *request, struct http_response *response);
void api_problems(struct http_request *request, struct http_response *response);

/* The content of docs/openapi.json. */
extern const char openapi_json[];
void api_export(struct http_request *request, struct http_response *response);
void api_caller(struct http_request *request, struct http_response *response);
void api_openapi(struct http_request *request, struct http_response *response);
void api_metrics(struct http_request *request, struct http_response *response);
void api_pprof_slash(struct http_request *request, struct http_response *response);
void api_pprof_index(struct http_request *request, struct http_response *response);
void api_pprof_heap(struct http_request *request, struct http_response *response);
void api_pprof_allocs(struct http_request *request, struct http_response *response);
void api_pprof_profile(struct http_request *request, struct http_response *response);
void api_pprof_threads(struct http_request *request, struct http_response *response);
void api_pprof_mutex(struct http_request *request, struct http_response *response);
void api_pprof_cmdline(struct http_request *request, struct http_response *response);
void api_pprof_symbol(struct http_request *request, struct http_response *response);
void api_livez(struct http_request *request, struct http_response *response);
void api_readyz(struct http_request *request, struct http_response *response);

void api_profiles_list(struct http_request *request, struct http_response *response);
void api_profile_get(struct http_request *request, struct http_response *response);
void api_profile_put(struct http_request *request, struct http_response *response);
void api_profile_delete(struct http_request *request, struct http_response *response);

void api_sinks_list(struct http_request *request, struct http_response *response);
void api_sink_get(struct http_request *request, struct http_response *response);
void api_sink_put(struct http_request *request, struct http_response *response);
void api_sink_delete(struct http_request *request, struct http_response *response);
void api_sinks_test(struct http_request *request, struct http_response *response);
void api_routes_get(struct http_request *request, struct http_response *response);
void api_routes_put(struct http_request *request, struct http_response *response);
void api_routes_explain(struct http_request *request, struct http_response *response);
void api_sink_types(struct http_request *request, struct http_response *response);
void api_quotas_get(struct http_request *request, struct http_response *response);
void api_quotas_put(struct http_request *request, struct http_response *response);
void api_fleet_sinks(struct http_request *request, struct http_response *response);

void api_fleet_claim(struct http_request *request, struct http_response *response);
void api_fleet_select(struct http_request *request, struct http_response *response);
void api_fleet_brokers(struct http_request *request, struct http_response *response);
void api_fleet_scope_brokers(struct http_request *request, struct http_response *response);
void api_fleet_time_series(struct http_request *request, struct http_response *response);
void api_fleet_statuses(struct http_request *request, struct http_response *response);

void go_iot_heartbeat(struct http_request *request, struct http_response *response);
void go_iot_create(struct http_request *request, struct http_response *response);
void go_iot_public_create(struct http_request *request, struct http_response *response);
void go_iot_node_list(struct http_request *request, struct http_response *response);
void go_iot_node_using_status(struct http_request *request, struct http_response *response);
void go_iot_mqtt_config(struct http_request *request, struct http_response *response);
void go_iot_no_mqtt_config(struct http_request *request, struct http_response *response);
void go_iot_remove_client(struct http_request *request, struct http_response *response);
void go_iot_push_data(struct http_request *request, struct http_response *response);

/* ---- deleting, shared by the API and Go IoT's route (api_client.c) --------------------------- */

/* Deletes a client, with a record in its audit trail. As store_delete. */
enum err api_client_delete_stored(const struct http_request *request, const char *id,
                                  int64_t expected_version) MUST_CHECK;

/* ---- publishing, shared by the API and Go IoT's route (api_publish.c) ------------------------ */

/* Publishes `document` (the body of .../publish) through client `id`. Never blocks; the request may
 * wait. False: the client does not run here, and there is no answer; a handler thread must call
 * api_publish_remote. */
bool api_publish_document(struct http_request *request, const char *id, json_t *document,
                          struct http_response *response);
void api_publish_remote(struct http_request *request, const char *id, const json_t *document,
                        struct http_response *response);

#endif
