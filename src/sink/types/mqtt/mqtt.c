/* The sink that publishes to another broker, by the engine `reactor`, which runs on the sink's
 * thread. A message is accepted when the broker has acknowledged it.
 *
 *   mqtt_access    settings to the configuration of a client
 *   mqtt_link      the connection        mqtt_outgoing   a message to a publication
 *   mqtt_flight    one write             mqtt_doubt      messages that end connections */
#include "sink/sink_type.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "mqtt_access.h"
#include "mqtt_flight.h"

#define LOG_PERIOD_MS 60000

static const struct sink_field mqtt_sink_fields[] = {
    {.name = "url",
     .kind = SINK_FIELD_URL,
     .required = true,
     .description = "address of the broker: mqtt://host:1883, mqtts://, ws:// or wss://"},
    {.name = "topic",
     .kind = SINK_FIELD_TEXT,
     .text = "{topic}",
     .description = "template of the topic"},
    {.name = "qos",
     .kind = SINK_FIELD_INTEGER,
     .number = 1,
     .min = 0,
     .max = 1,
     .description = "QoS of all publications; with 0, messages can be lost"},
    {.name = "retain",
     .kind = SINK_FIELD_CHOICE,
     .text = "keep",
     .choices = "keep|never",
     .description = "whether a message that was received as retained is published as retained"},
    {.name = "protocol_version",
     .kind = SINK_FIELD_INTEGER,
     .number = 5,
     .min = 4,
     .max = 5,
     .description =
         "5 is MQTT 5.0; 4 is MQTT 3.1.1, without properties and without the loop guard"},
    {.name = "client_id",
     .kind = SINK_FIELD_TEXT,
     .text = "mqfleet-{node}-{sink}-{random}",
     .description = "MQTT client identifier; nodes must not share one, which {node} or {random} "
                    "prevents"},
    {.name = "username", .kind = SINK_FIELD_TEXT, .description = "user name"},
    {.name = "password", .kind = SINK_FIELD_SECRET, .description = "password of the user"},
    {.name = "keepalive_s",
     .kind = SINK_FIELD_INTEGER,
     .number = 60,
     .min = 0,
     .max = 65535,
     .unit = "s",
     .description = "time without a packet after which a ping is sent; 0: never"},
    {.name = "timeout_ms",
     .kind = SINK_FIELD_INTEGER,
     .number = 10000,
     .min = 100,
     .max = 60000,
     .unit = "ms",
     .description = "limit for connecting, and for the next acknowledgement"},
    {.name = "tls_ca",
     .kind = SINK_FIELD_TEXT,
     .description = "CA certificates for the broker, path or PEM; empty: the system's"},
    {.name = "tls_cert", .kind = SINK_FIELD_TEXT, .description = "client certificate, path or PEM"},
    {.name = "tls_key",
     .kind = SINK_FIELD_SECRET,
     .description = "key of the client certificate, path or PEM"},
    {.name = "tls_verify",
     .kind = SINK_FIELD_BOOLEAN,
     .number = 1,
     .description = "whether the certificate of the broker is verified"},
    {0}};

struct mqtt_sink {
    const char *name;
    char *client_id;
    struct mqtt_link link;
    struct mqtt_outgoing outgoing;
    struct mqtt_flight flight;
    size_t unlogged_loops;
    int64_t next_log_ms;
};

/* ---- life ------------------------------------------------------------------------------------ */

static void mqtt_sink_close(void *state) {
    struct mqtt_sink *sink = state;
    mqtt_link_fini(&sink->link);
    mqtt_outgoing_fini(&sink->outgoing);
    free(sink->client_id);
    free(sink);
}

static enum err mqtt_sink_prepare(struct mqtt_sink *sink,
                                  const struct sink_environment *environment,
                                  const json_t *settings, char *fault) {
    struct client_config *config;
    enum err err = mqtt_access_client_id(environment, settings, &sink->client_id, fault);
    if (err == ERR_OK) {
        err = mqtt_access_check(settings, sink->client_id, &config, fault);
    }
    if (err == ERR_OK) {
        err = mqtt_outgoing_init(&sink->outgoing, environment, settings, config, fault);
        client_config_destroy(config);
    }
    return err;
}

static enum err mqtt_sink_open(void **state, const struct sink_environment *environment,
                               const json_t *settings, char *fault) {
    struct mqtt_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        return ERR_MEMORY;
    }
    enum err err = mqtt_sink_prepare(sink, environment, settings, fault);
    if (err != ERR_OK) {
        mqtt_sink_close(sink);
        return err;
    }
    sink->name = environment->sink;
    sink->link = (struct mqtt_link){.environment = environment,
                                    .settings = settings,
                                    .client_id = sink->client_id,
                                    .timeout_ms = sink_settings_integer(settings, "timeout_ms")};
    mqtt_flight_init(&sink->flight, &sink->link, &sink->outgoing);
    *state = sink;
    return ERR_OK;
}

/* Whether the broker lets the sink publish is only known after a message. */
static void mqtt_sink_test(const struct sink_environment *environment, const json_t *settings,
                           const struct sink_test_report *report) {
    char fault[SINK_FAULT_LEN] = "out of memory";
    void *state;
    if (mqtt_sink_open(&state, environment, settings, fault) != ERR_OK) {
        report->step(report->context, "open", false, fault, "correct this field");
        return;
    }
    struct mqtt_sink *sink = state;
    if (mqtt_link_ensure_open(&sink->link, NULL) == ERR_OK) {
        snprintf(fault, sizeof fault, "accepted as %.100s", sink->client_id);
        report->step(report->context, "connect", true, fault, NULL);
    } else {
        report->step(report->context, "connect", false, sink->link.error,
                     "check url, username, password, the tls_ fields, and whether this node can "
                     "reach the broker");
    }
    mqtt_sink_close(sink);
}

/* ---- the sink's thread ----------------------------------------------------------------------- */

/* At most once a period, however many there are. */
static void mqtt_sink_note_loops(struct mqtt_sink *sink) {
    int64_t now_ms = clock_ms();
    sink->unlogged_loops += sink->flight.loops;
    metric_add(METRIC_SINK_LOOPS, (int64_t)sink->flight.loops);
    if (sink->flight.loops == 0 || now_ms < sink->next_log_ms) {
        return;
    }
    log_event(LOG_WARN, "sink_loop", KS("sink", sink->name), KS("topic", sink->flight.loop_topic),
              KI("messages", sink->unlogged_loops));
    sink->unlogged_loops = 0;
    sink->next_log_ms = now_ms + LOG_PERIOD_MS;
}

static enum err mqtt_sink_write(void *state, struct sink_batch *batch) {
    struct mqtt_sink *sink = state;
    sink->flight.loops = 0;
    enum err err = mqtt_flight_write(&sink->flight, batch);
    mqtt_sink_note_loops(sink);
    return err;
}

/* Pings. */
static void mqtt_sink_maintain(void *state) {
    struct mqtt_sink *sink = state;
    mqtt_link_poll(&sink->link, 0);
}

const struct sink_type sink_type_mqtt = {.version = MQFLEET_VERSION,
                                         .name = "mqtt",
                                         .uses_broker = true,
                                         .fields = mqtt_sink_fields,
                                         .open = mqtt_sink_open,
                                         .write = mqtt_sink_write,
                                         .close = mqtt_sink_close,
                                         .test = mqtt_sink_test,
                                         .maintain = mqtt_sink_maintain};
