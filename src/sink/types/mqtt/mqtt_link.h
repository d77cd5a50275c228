/* A connection to the target broker by the engine `reactor`, one engine for each sink. Its events
 * arrive during mqtt_link_poll. The sink's thread.
 *
 *   down --ensure_open--> opening --CONNACK--> up --closed--> down */
#ifndef MQFLEET_SINK_MQTT_LINK_H
#define MQFLEET_SINK_MQTT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "mqtt/broker/address_list.h"
#include "mqtt/config/client_config.h"
#include "mqtt/engine.h"
#include "sink/sink_type.h"

/* Once for each accepted publication, at the latest when the connection has ended. */
typedef void mqtt_link_answered(void *context, size_t index, const struct publish_result *result);

enum mqtt_link_state { MQTT_LINK_DOWN, MQTT_LINK_OPENING, MQTT_LINK_UP };

struct mqtt_link {
    const struct sink_environment *environment;
    const json_t *settings;
    const char *client_id;
    int64_t timeout_ms;
    mqtt_link_answered *answered;
    void *context;

    struct engine *engine;        /* NULL until the first connection */
    struct client_config *config; /* of the connection; NULL: none */
    struct engine_session *session;
    struct engine_connection *connection; /* NULL: none, or ended */
    enum mqtt_link_state state;
    uint16_t receive_maximum;   /* of the broker */
    bool accuses;               /* the last connection ended as if because of a publication */
    char error[SINK_ERROR_LEN]; /* why the last connection ended or could not be made */
    struct address_list addresses;
    union socket_address failed; /* the last address that TCP reached in vain; tried last */
    bool has_failed;
};

/* Ends the connection and frees; waits up to about a second for the broker to close. */
void mqtt_link_fini(struct mqtt_link *link);

/* Connects unless there is a connection. Takes at most a DNS lookup and timeout_ms, less if the
 * batch is over (NULL: none). Otherwise see error. */
enum err mqtt_link_ensure_open(struct mqtt_link *link, const struct sink_batch *batch) MUST_CHECK;
/* As engine_ops.publish. */
enum err mqtt_link_publish(struct mqtt_link *link, const struct engine_publication *publication,
                           size_t index) MUST_CHECK;
/* Waits at most wait_ms for events, and delivers them. */
void mqtt_link_poll(struct mqtt_link *link, int64_t wait_ms);
/* Ends the connection at once: publications without an answer get it now. */
void mqtt_link_abort(struct mqtt_link *link);

#endif
