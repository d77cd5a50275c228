/* Owns which of its brokers (field urls) a client uses. Worker thread only.
 *
 * A client stays at a broker that accepted it, even after a loss. A failed connect, and a
 * connection that ends before it is stable, leads to the next broker. Each broker once is a round;
 * the client waits only after a round. A broker with an incident is skipped if there is another. */
#include "base/text.h"
#include "mqtt/worker/worker.h"

static size_t worker_url_count(const struct client *client) {
    return client->config->config->url_count;
}

struct client_endpoint worker_endpoint(const struct client *client) {
    const struct client_config *config = client->config->config;
    if (client->url_index < config->url_count) {
        return config->urls[client->url_index];
    }
    return (struct client_endpoint){
        .scheme = config->scheme, .port = config->port, .host = config->host, .path = config->path};
}

static void worker_url_select(struct client *client, size_t index) {
    if (client->url_index != index) {
        client->url_index = (uint8_t)index;
        client->server_keepalive_s = 0;
        worker_forget_addresses(client);
    }
}

void worker_urls_begin(struct client *client) {
    size_t count = worker_url_count(client);
    bool random = count > 1 && client->config->config->urls_order == URLS_RANDOM;
    client->urls_failed = 0;
    worker_url_select(client, random ? (size_t)text_random_between(0, (int64_t)count - 1) : 0);
}

bool worker_urls_next(struct client *client) {
    size_t count = worker_url_count(client);
    if (count < 2) {
        return false;
    }
    worker_url_select(client, (client->url_index + 1u) % count);
    client->urls_failed = (uint8_t)((client->urls_failed + 1u) % count);
    return client->urls_failed != 0;
}

static bool worker_url_is_unreachable(struct brokers *brokers,
                                      const struct client_endpoint *endpoint) {
    struct broker *broker = broker_acquire(brokers, endpoint->host, endpoint->port);
    bool away = broker && incident_is_open(broker->incident);
    broker_release(brokers, broker);
    return away;
}

bool worker_urls_choose(struct client *client) {
    size_t count = worker_url_count(client);
    if (count < 2) {
        return !worker_broker_is_unreachable(client);
    }
    for (size_t i = 0; i < count; i++) {
        size_t index = (client->url_index + i) % count;
        if (!worker_url_is_unreachable(&client->worker->brokers,
                                       &client->config->config->urls[index])) {
            worker_url_select(client, index);
            return true;
        }
    }
    return false;
}

struct shared_config *worker_urls_config(const struct client *client,
                                         struct shared_config *config) {
    if (worker_url_count(client) == 0) {
        return shared_config_hold(config);
    }
    return shared_config_at(config, client->url_index);
}
