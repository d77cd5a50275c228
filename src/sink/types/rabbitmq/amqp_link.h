/* A connection to RabbitMQ with one channel in confirm mode. Each call is bounded by the timeout.
 * The sink's thread. */
#ifndef MQFLEET_RABBITMQ_AMQP_LINK_H
#define MQFLEET_RABBITMQ_AMQP_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "base/err.h"
#include "amqp_library.h"
#include "sink/sink.h"

#define AMQP_LINK_ERROR_LEN 160

struct amqp_link {
    const struct sink_environment *environment; /* borrowed, like the settings */
    const json_t *settings;
    int64_t timeout_ms;
    amqp_connection_state_t connection; /* NULL: not open */
    uint64_t published;                 /* delivery tag of the last message */
    char error[AMQP_LINK_ERROR_LEN];    /* of the last call that failed */
    bool refused;                       /* the broker refused a message for its content */
};

void amqp_link_init(struct amqp_link *link, const struct sink_environment *environment,
                    const json_t *settings);
void amqp_link_close(struct amqp_link *link);
/* ERR_ARGUMENT: fault (SINK_FAULT_LEN) says what is wrong with the url. Pure. */
enum err amqp_link_check_url(const char *url, char *fault) MUST_CHECK;

enum err amqp_link_ensure_open(struct amqp_link *link) MUST_CHECK;
enum err amqp_link_publish(struct amqp_link *link, const char *exchange, amqp_bytes_t routing_key,
                           const amqp_basic_properties_t *properties, amqp_bytes_t body) MUST_CHECK;

struct amqp_answers {
    void *context;
    /* Delivery tags from `from` to `to` were confirmed. */
    void (*confirmed)(void *context, uint64_t from, uint64_t to, bool accepted);
    /* No queue took the message of that id; its confirmation follows. */
    void (*returned)(void *context, const char *message_id, const char *why);
};

/* Reads one answer. ERR_TIMEOUT: none came until deadline_ms (clock_ms). */
enum err amqp_link_read(struct amqp_link *link, int64_t deadline_ms,
                        const struct amqp_answers *answers) MUST_CHECK;

#endif
