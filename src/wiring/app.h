/* The parts of a node, and the steps of main.c. Main thread. */
#ifndef MQFLEET_WIRING_APP_H
#define MQFLEET_WIRING_APP_H

#include <stddef.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "base/telemetry/log.h"
#include "base/telemetry/time_series.h"
#include "base/secrets/secret_box.h"
#include "cluster/membership/agent.h"
#include "cluster/membership/leader.h"
#include "cluster/events/event_bus.h"
#include "cluster/membership/node.h"
#include "cluster/operations/operations.h"
#include "cluster/placement/wait_reasons.h"
#include "cluster/peers/peer_calls.h"
#include "cluster/peers/peers.h"
#include "http/auth/access.h"
#include "http/server/server.h"
#include "mqtt/config/address_policy.h"
#include "mqtt/workers/workers.h"
#include "net/redis/redis_server.h"
#include "sink/sinks.h"
#include "store/store.h"
#include "stop_progress.h"

#define EXIT_BAD_CONF    2
#define EXIT_NAME_IN_USE 3
#define EXIT_OTHER_FLEET 4
#define FAULT_LEN        512

/* Sources of the settings, read again on SIGHUP. */
struct conf_origin {
    const char *config;
    const char **sets;
    size_t set_count;
};

struct app {
    struct conf_origin origin;
    struct conf *conf;
    struct conf *reloaded; /* the last settings that SIGHUP read without a fault; NULL: none since
                              the start */
    struct access *access;
    struct redis_server *redis_server;
    const char *redis_url;
    struct secret_box *secrets;
    struct store *heartbeat_store, *agent_store, *api_store;
    struct router *router;
    struct address_policy *sink_policy; /* of sinks of the fleet */
    struct sinks *sinks;
    struct node *node;
    struct workers *workers;
    struct peers *peers;           /* urls and headers of all calls */
    struct peer_calls *peer_calls; /* of the API */
    struct agent *agent;
    struct leader *leader;
    struct operations *operations;
    struct wait_reasons *wait_reasons;
    struct http_server *http;
    struct event_bus *event_bus;
    struct message_taps *message_taps;
    struct time_series *time_series; /* the main thread adds its samples */
    struct stop_progress *stop_progress;
};

/* wiring.c. Creates everything in order, and starts the parts whose threads are not ours. On an
 * error `fault` (FAULT_LEN) is one line. */
enum err app_create(struct app *app, char *fault) MUST_CHECK;
/* After all threads have ended. */
void app_destroy(struct app *app);

/* maintenance.c. Periodic work of the main thread. turn_ms: between two calls. */
void app_maintain(struct app *app, int64_t turn_ms);

/* reload.c. SIGHUP: applies the settings that can change while the node runs, and logs the
 * others. */
void app_reload(struct app *app);
/* Sets level and format of the log. */
void app_set_logging(const struct conf *level_of, const struct conf *format_of);

#endif
