/* Owns at which of its brokers (field urls) a client is. Host thread only.
 *
 * It stays where it came in, also over a loss; a try that fails, and a connection that ends before
 * it was stable, leads to the next. All of them once make a round; only after a round it waits. One
 * that has an incident is passed over while there is another. */
#include "base/text.h"
#include "mqtt/host.h"

static size_t urls_count(const struct client *client) {
    return client->config->config->url_count;
}

struct client_endpoint host_endpoint(const struct client *client) {
    const struct client_config *config = client->config->config;
    if (client->url_index < config->url_count) {
        return config->urls[client->url_index];
    }
    return (struct client_endpoint){
        .scheme = config->scheme, .port = config->port, .host = config->host, .path = config->path};
}

static void urls_go_to(struct client *client, size_t index) {
    if (client->url_index != index) {
        client->url_index = (uint8_t)index;
        client->server_keepalive_s = 0;
        host_forget_addresses(client);
    }
}

void host_urls_begin(struct client *client) {
    size_t count = urls_count(client);
    bool random = count > 1 && client->config->config->urls_order == URLS_RANDOM;
    client->urls_failed = 0;
    urls_go_to(client, random ? (size_t)text_random_between(0, (int64_t)count - 1) : 0);
}

bool host_urls_next(struct client *client) {
    size_t count = urls_count(client);
    if (count < 2) {
        return false;
    }
    urls_go_to(client, (client->url_index + 1u) % count);
    client->urls_failed = (uint8_t)((client->urls_failed + 1u) % count);
    return client->urls_failed != 0;
}

static bool urls_is_away(struct brokers *brokers, const struct client_endpoint *endpoint) {
    struct broker *broker = broker_acquire(brokers, endpoint->host, endpoint->port);
    bool away = broker != NULL && incident_is_open(broker->incident);
    broker_release(brokers, broker);
    return away;
}

bool host_urls_choose(struct client *client) {
    size_t count = urls_count(client);
    if (count < 2) {
        return !host_is_away(client);
    }
    for (size_t i = 0; i < count; i++) {
        size_t index = (client->url_index + i) % count;
        if (!urls_is_away(&client->host->brokers, &client->config->config->urls[index])) {
            urls_go_to(client, index);
            return true;
        }
    }
    return false;
}

struct shared_config *host_urls_config(const struct client *client, struct shared_config *config) {
    if (urls_count(client) == 0) {
        return shared_config_hold(config);
    }
    return shared_config_at(config, client->url_index);
}
