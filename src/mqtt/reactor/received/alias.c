/* Owns the topic aliases that a server has set on a connection (MQTT 5.0 section 3.3.2.3.4). Worker
 * thread. */
#include <stdlib.h>
#include <string.h>
#include "mqtt/reactor/reactor.h"

uint16_t alias_maximum(const struct engine_connection *connection) {
    bool offered = (connection->workarounds & ENGINE_WORKAROUND_NO_ALIASES) == 0;
    return offered ? connection->config->topic_alias_maximum : 0;
}

void alias_forget_all(struct engine_connection *connection) {
    uint16_t maximum = connection->config->topic_alias_maximum;
    for (size_t i = 0; connection->aliases && i < maximum; i++) {
        free(connection->aliases[i]);
    }
    free(connection->aliases);
    connection->aliases = NULL;
    connection->alias_bytes = 0;
}

/* False: out of memory; the connection ended. */
static bool alias_keep(struct engine_connection *connection, size_t alias,
                       struct packet_slice topic) {
    if (!connection->aliases) {
        size_t maximum = connection->config->topic_alias_maximum;
        connection->aliases = calloc(maximum, sizeof(char *));
        connection->alias_bytes = (uint32_t)(maximum * sizeof(char *));
    }
    char *copy = connection->aliases ? strndup((const char *)topic.data, topic.len) : NULL;
    if (!copy) {
        connection_end(connection, &(struct engine_closed){.error = CLIENT_ERROR_OUT_OF_MEMORY,
                                                           .message = "out of memory",
                                                           .reason_code = -1});
        return false;
    }
    char **known = &connection->aliases[alias - 1];
    connection->alias_bytes += (uint32_t)(topic.len - (*known ? strlen(*known) : 0));
    free(*known);
    *known = copy;
    return true;
}

/* A server that continues to use aliases of an earlier connection would end every new one. So the
 * next connection offers no aliases. If that does not help, the message is skipped. */
static enum alias_result alias_refuse(struct engine_connection *connection,
                                      const struct packet_fault *fault) {
    if (connection->workarounds & ENGINE_WORKAROUND_SKIP_MALFORMED) {
        return ALIAS_UNKNOWN;
    }
    connection_refuse_with_workaround(connection, fault,
                                      alias_maximum(connection) > 0
                                          ? ENGINE_WORKAROUND_NO_ALIASES
                                          : ENGINE_WORKAROUND_SKIP_MALFORMED);
    return ALIAS_ENDED;
}

enum alias_result alias_topic(struct engine_connection *connection, const struct packet *packet,
                              struct packet_slice *topic) {
    static const struct packet_fault beyond = {
        .reason_code = REASON_TOPIC_ALIAS_INVALID,
        .message = "the broker used a topic alias above the Topic Alias Maximum of the client"};
    static const struct packet_fault unknown = {
        .reason_code = REASON_PROTOCOL_ERROR,
        .message = "the broker used a topic alias that it has not defined"};
    struct packet_property alias;
    *topic = packet->topic;
    if (packet->properties.len == 0 ||
        !packet_property_find(packet->properties, PROPERTY_TOPIC_ALIAS, &alias)) {
        return ALIAS_FOUND;
    }
    if (alias.number > alias_maximum(connection)) {
        enum alias_result verdict = alias_refuse(connection, &beyond);
        return verdict == ALIAS_UNKNOWN && topic->len > 0 ? ALIAS_FOUND : verdict;
    }
    if (topic->len > 0) {
        return alias_keep(connection, alias.number, *topic) ? ALIAS_FOUND : ALIAS_ENDED;
    }
    const char *known = connection->aliases ? connection->aliases[alias.number - 1] : NULL;
    if (!known) {
        return alias_refuse(connection, &unknown);
    }
    *topic = (struct packet_slice){(const uint8_t *)known, strlen(known)};
    return ALIAS_FOUND;
}
