/* A bounded pool of http_clients for calls to other nodes. Owns the pool; any thread calls. */
#include "cluster/peers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/condition.h"
#include "base/metrics.h"
#include "base/pulse.h"
#include "base/secret_file.h"
#include "net/http_client.h"

#define PEERS_ANSWER_BYTES_MAX (16 * 1024 * 1024)

struct peers {
    const struct conf *conf;
    struct fleet_secret *secret;
    size_t count;
    pthread_mutex_t lock; /* guards free_clients, free_count */
    pthread_cond_t returned;
    struct http_client **free_clients;
    size_t free_count;
};

struct peers *peers_create(const struct conf *conf, struct fleet_secret *secret, size_t clients) {
    struct peers *peers = calloc(1, sizeof(*peers));
    if (!peers) {
        return NULL;
    }
    peers->conf = conf;
    peers->secret = secret;
    pthread_mutex_init(&peers->lock, NULL);
    condition_init(&peers->returned);
    peers->free_clients = calloc(clients, sizeof(*peers->free_clients));
    for (size_t i = 0; peers->free_clients && i < clients; i++) {
        struct http_client *client =
            http_client_create(conf->peer_timeout_ms, PEERS_ANSWER_BYTES_MAX, conf->fleet_ca_file);
        if (!client) {
            peers_destroy(peers);
            return NULL;
        }
        peers->free_clients[peers->free_count++] = client;
    }
    if (!peers->free_clients) {
        peers_destroy(peers);
        return NULL;
    }
    peers->count = clients;
    return peers;
}

void peers_destroy(struct peers *peers) {
    if (!peers) {
        return;
    }
    for (size_t i = 0; i < peers->free_count; i++) {
        http_client_destroy(peers->free_clients[i]);
    }
    free(peers->free_clients);
    pthread_cond_destroy(&peers->returned);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}

/* NULL: none came free within timeout_ms. */
static struct http_client *peers_borrow(struct peers *peers, int64_t timeout_ms) {
    struct timespec until = condition_deadline(timeout_ms);
    struct http_client *client = NULL;
    int failed = 0;
    pthread_mutex_lock(&peers->lock);
    while (peers->free_count == 0 && failed == 0) {
        failed = pthread_cond_timedwait(&peers->returned, &peers->lock, &until);
    }
    if (peers->free_count > 0) {
        client = peers->free_clients[--peers->free_count];
    }
    pthread_mutex_unlock(&peers->lock);
    return client;
}

static void peers_return(struct peers *peers, struct http_client *client) {
    pthread_mutex_lock(&peers->lock);
    peers->free_clients[peers->free_count++] = client;
    pthread_cond_signal(&peers->returned);
    pthread_mutex_unlock(&peers->lock);
}

char *peers_url(const struct peers *peers, const char *host, int64_t port, const char *path) {
    struct buffer url;
    buffer_init(&url);
    const char *open = strchr(host, ':') ? "[" : "", *shut = *open ? "]" : "";
    const char *scheme = peers->conf->http_tls_cert_file[0] ? "https" : "http";
    buffer_printf(&url, "%s://%s%s%s:%lld%s", scheme, open, host, shut, (long long)port, path);
    return buffer_take(&url);
}

void peers_headers(const struct peers *peers, const char *caller, const char *request_id,
                   struct peer_headers *out) {
    char secret[FLEET_SECRET_LEN_MAX + 1];
    size_t n = 0;
    *out = (struct peer_headers){0};
    out->lines[n++] = "Content-Type: application/json";
    out->lines[n++] = PEERS_FORWARDED_HEADER ": 1";
    if (fleet_secret_current(peers->secret, secret)) {
        snprintf(out->authorization, sizeof(out->authorization),
                 "Authorization: " PEERS_SECRET_SCHEME " %s", secret);
        secret_wipe(secret, sizeof(secret));
        out->lines[n++] = out->authorization;
    }
    if (caller) {
        snprintf(out->caller, sizeof(out->caller), PEERS_CALLER_HEADER ": %s", caller);
        out->lines[n++] = out->caller;
    }
    if (request_id) {
        snprintf(out->request_id, sizeof(out->request_id), PEERS_REQUEST_HEADER ": %s", request_id);
        out->lines[n++] = out->request_id;
    }
    _Static_assert(PEER_HEADERS_MAX >= 5, "all of them fit");
}

/* What is left of the time after waiting for a client is the exchanges'. */
static enum err exchange(struct peers *peers, struct http_exchange *exchanges, size_t n,
                         int64_t timeout_ms) {
    int64_t deadline_ms = clock_ms() + timeout_ms;
    struct http_client *client = peers_borrow(peers, timeout_ms);
    if (!client) {
        return ERR_TIMEOUT;
    }
    int64_t left_ms = deadline_ms - clock_ms();
    http_client_set_timeout(client, left_ms > 0 ? left_ms : 1);
    http_client_run(client, exchanges, n);
    peers_return(peers, client);
    return ERR_OK;
}

void peers_run(struct peers *peers, struct peer_call *calls, size_t n, int64_t timeout_ms) {
    struct http_exchange *exchanges = calloc(n ? n : 1, sizeof(*exchanges));
    struct peer_headers *headers = calloc(n ? n : 1, sizeof(*headers));
    size_t built = 0;
    for (size_t i = 0; exchanges && headers && i < n; i++, built++) {
        peers_headers(peers, calls[i].caller, calls[i].request_id, &headers[i]);
        exchanges[i] = (struct http_exchange){
            .method = calls[i].method,
            .url = peers_url(peers, calls[i].host, calls[i].port, calls[i].path),
            .headers = headers[i].lines,
            .body = calls[i].body,
            .body_len = calls[i].body_len};
        if (!exchanges[i].url) {
            break;
        }
    }
    enum err run = ERR_MEMORY;
    if (built == n && exchanges && headers) {
        int64_t begun_us = clock_us();
        run = exchange(peers, exchanges, n, timeout_ms ? timeout_ms : peers->conf->peer_timeout_ms);
        histogram_add(HISTOGRAM_PEER, clock_us() - begun_us, 1);
    }
    pulse(); /* however it ended: it had a bound */
    for (size_t i = 0; i < n; i++) {
        calls[i].result = run == ERR_OK ? exchanges[i].result : run;
        calls[i].status = run == ERR_OK ? exchanges[i].status : 0;
        buffer_init(&calls[i].answer);
        if (run == ERR_OK) {
            calls[i].answer = exchanges[i].answer;
        }
        if (calls[i].result != ERR_OK) {
            metric_add(METRIC_PEER_ERRORS, 1);
        }
    }
    for (size_t i = 0; exchanges && i < n && i <= built; i++) {
        free((char *)exchanges[i].url);
    }
    secret_wipe(headers, headers ? n * sizeof(*headers) : 0);
    free(headers);
    free(exchanges);
}
