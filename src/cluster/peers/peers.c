/* URLs and headers of requests to other nodes. Read-only; any thread. */
#include "cluster/peers/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/secrets/secret_file.h"

struct peers {
    const struct conf *conf;
    struct fleet_secret *secret;
};

struct peers *peers_create(const struct conf *conf, struct fleet_secret *secret) {
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers) {
        *peers = (struct peers){conf, secret};
    }
    return peers;
}

void peers_destroy(struct peers *peers) {
    free(peers);
}

char *peers_url(const struct peers *peers, const char *host, int64_t port, const char *path) {
    struct buffer url;
    buffer_init(&url);
    const char *open = strchr(host, ':') ? "[" : "", *shut = *open ? "]" : "";
    const char *scheme = peers->conf->http_tls_cert_file[0] ? "https" : "http";
    buffer_printf(&url, "%s://%s%s%s:%lld%s", scheme, open, host, shut, (long long)port, path);
    return buffer_take(&url);
}

void peers_headers(const struct peers *peers, const struct peer_call *call,
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
    if (call->caller) {
        snprintf(out->caller, sizeof(out->caller), PEERS_CALLER_HEADER ": %s", call->caller);
        out->lines[n++] = out->caller;
    }
    if (call->request_id) {
        snprintf(out->request_id, sizeof(out->request_id), PEERS_REQUEST_HEADER ": %s",
                 call->request_id);
        out->lines[n++] = out->request_id;
    }
    if (call->incarnation) {
        snprintf(out->target, sizeof(out->target), PEERS_TARGET_HEADER ": %s", call->incarnation);
        out->lines[n++] = out->target;
    }
    if (call->scope && call->scope[0] != '\0') {
        snprintf(out->scope, sizeof(out->scope), PEERS_SCOPE_HEADER ": %s", call->scope);
        out->lines[n++] = out->scope;
    }
    _Static_assert(PEER_HEADERS_MAX >= 7, "all headers fit");
}
