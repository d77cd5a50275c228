/* Owns the tokens, the secret of the fleet, and the throttle for wrong tokens. Any thread. */
#include "http/auth/access.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/secrets/secret_file.h"
#include "cluster/peers/peers.h"
#include "http/auth/auth_throttle.h"
#include "http/server/listener.h"

#define SCHEME_TOKEN "Bearer "

struct access {
    const struct conf *conf;
    struct fleet_secret *secret;
    struct auth_throttle *throttle;
    pthread_rwlock_t lock; /* guards tokens */
    struct tokens *tokens; /* NULL: no token is required */
};

enum err access_reload(struct access *access, char *fault) {
    const char *path = access->conf->http_tokens_file;
    struct tokens *tokens = NULL;
    char detail[SECRET_FAULT_LEN];
    if (path[0] == '\0') {
        return ERR_OK;
    }
    enum err err = tokens_load(&tokens, path, detail);
    if (err != ERR_OK) {
        snprintf(fault, 256, "http.tokens_file: %.230s", detail);
        return err;
    }
    pthread_rwlock_wrlock(&access->lock);
    struct tokens *before = access->tokens;
    access->tokens = tokens;
    pthread_rwlock_unlock(&access->lock);
    free(before);
    return ERR_OK;
}

static enum err access_check_readable(const char *path, char *fault) {
    unsigned char *data = NULL;
    size_t len;
    enum err err = secret_file_read(path, &data, &len, fault);
    secret_wipe(data, len);
    free(data);
    return err;
}

enum err access_create(struct access **out, const struct conf *conf, char *fault) {
    *out = NULL;
    char detail[SECRET_FAULT_LEN];
    struct access *access = calloc(1, sizeof *access);
    if (!access) {
        snprintf(fault, 256, "out of memory");
        return ERR_MEMORY;
    }
    access->conf = conf;
    pthread_rwlock_init(&access->lock, NULL);
    access->throttle = auth_throttle_create();
    enum err err = ERR_OK;
    if (conf->fleet_ca_file[0] != '\0' &&
        access_check_readable(conf->fleet_ca_file, detail) != ERR_OK) {
        snprintf(fault, 256, "fleet.ca_file: %.230s", detail);
        access_destroy(access);
        return ERR_ARGUMENT;
    }
    err = fleet_secret_create(&access->secret, conf->fleet_secret_file, detail);
    if (err != ERR_OK) {
        snprintf(fault, 256, "fleet.secret_file: %.230s", detail);
    } else {
        err = access_reload(access, fault);
    }
    if (err == ERR_OK && !access->throttle) {
        snprintf(fault, 256, "out of memory");
        err = ERR_MEMORY;
    }
    if (err != ERR_OK) {
        access_destroy(access);
        return err;
    }
    *out = access;
    return ERR_OK;
}

void access_destroy(struct access *access) {
    if (!access) {
        return;
    }
    pthread_rwlock_destroy(&access->lock);
    fleet_secret_destroy(access->secret);
    auth_throttle_destroy(access->throttle);
    free(access->tokens);
    free(access);
}

bool access_requires_token(const struct access *access) {
    return access->conf->http_tokens_file[0] != '\0';
}

struct fleet_secret *access_fleet_secret(struct access *access) {
    return access->secret;
}

/* ---- one request ----------------------------------------------------------------------------- */

static void access_set_caller(struct caller *caller, const char *name, enum role role, bool node) {
    snprintf(caller->name, sizeof(caller->name), "%s", name);
    caller->role = role;
    caller->scope = (struct scope){0};
    caller->is_node = node;
}

/* Copies the word after the scheme, whose case does not matter (RFC 9110 section 11.1). False:
 * another scheme, no scheme, or more words. */
static bool access_read_credentials(const char *authorization, const char *scheme,
                                    char out[ACCESS_AUTHORIZATION_LEN + 1]) {
    size_t len = strlen(scheme);
    if (!authorization || strlen(authorization) > ACCESS_AUTHORIZATION_LEN ||
        strncasecmp(authorization, scheme, len) != 0) {
        return false;
    }
    authorization += len + strspn(authorization + len, " \t");
    len = strcspn(authorization, " \t");
    memcpy(out, authorization, len);
    out[len] = '\0';
    return authorization[len + strspn(authorization + len, " \t")] == '\0';
}

static enum access_result access_refuse_credentials(struct access *access,
                                                    const struct access_attempt *attempt,
                                                    int64_t *wait_ms) {
    *wait_ms = auth_throttle_record_failure(access->throttle, attempt->address);
    return *wait_ms == 0 ? ACCESS_WRONG_TOKEN : ACCESS_TOO_MANY;
}

static enum access_result access_check_token(struct access *access,
                                             const struct access_attempt *attempt,
                                             struct caller *caller, int64_t *wait_ms) {
    char presented[ACCESS_AUTHORIZATION_LEN + 1];
    if (!access_read_credentials(attempt->authorization, SCHEME_TOKEN, presented)) {
        return ACCESS_NO_TOKEN;
    }
    pthread_rwlock_rdlock(&access->lock);
    const struct token *token = tokens_find(access->tokens, presented);
    if (token) {
        access_set_caller(caller, token->name, token->role, false);
        caller->scope = token->scope;
    }
    pthread_rwlock_unlock(&access->lock);
    if (!token) {
        return access_refuse_credentials(access, attempt, wait_ms);
    }
    if (attempt->node_only) {
        return ACCESS_NODE_ONLY;
    }
    return caller->role >= attempt->needed ? ACCESS_GRANTED : ACCESS_ROLE;
}

/* The forwarding node has already checked the role of its caller. */
static enum access_result access_set_node_caller(const struct access_attempt *attempt,
                                                 struct caller *caller) {
    const char *name = attempt->forwarded_for;
    access_set_caller(caller, name && name[0] != '\0' ? name : "node", ROLE_ADMIN, true);
    return !attempt->scope || scope_parse(attempt->scope, &caller->scope) ? ACCESS_GRANTED
                                                                          : ACCESS_SCOPE;
}

enum access_result access_check(struct access *access, const struct access_attempt *attempt,
                                struct caller *caller, int64_t *wait_ms) {
    char presented[ACCESS_AUTHORIZATION_LEN + 1];
    bool shown =
        access_read_credentials(attempt->authorization, PEERS_SECRET_SCHEME " ", presented);
    bool secret = fleet_secret_exists(access->secret);
    access_set_caller(caller, "", ROLE_NONE, false);
    *wait_ms = 0;
    if (secret && shown) {
        if (!fleet_secret_matches(access->secret, presented)) {
            return access_refuse_credentials(access, attempt, wait_ms);
        }
        return access_set_node_caller(attempt, caller);
    }
    if (access_requires_token(access)) {
        return access_check_token(access, attempt, caller, wait_ms);
    }
    if (attempt->node_only && secret) {
        return ACCESS_NODE_ONLY;
    }
    /* Without a secret, any caller can claim to be a node, but gains no rights by it. */
    access_set_caller(caller, "anonymous", ROLE_ADMIN, !secret && attempt->forwarded_for);
    return ACCESS_GRANTED;
}

/* ---- pages ----------------------------------------------------------------------------------- */

bool access_origin_is_allowed(const struct access *access, const char *origin) {
    size_t origin_len = strlen(origin);
    for (const char *at = access->conf->http_cors_origins; *at != '\0';) {
        size_t len = strcspn(at, ",");
        if (len == origin_len && strncasecmp(at, origin, len) == 0) {
            return true;
        }
        at += len + (at[len] == ',');
    }
    return false;
}

bool access_host_is_allowed(const struct access *access, const char *host) {
    if (!host || access_requires_token(access) || access->conf->http_insecure ||
        !http_address_is_loopback(access->conf->http_listen)) {
        return true;
    }
    char name[256];
    struct in6_addr address;
    bool bracket = host[0] == '[';
    size_t len = strcspn(host + bracket, bracket ? "]" : ":");
    if (len >= sizeof(name)) {
        return false;
    }
    memcpy(name, host + bracket, len);
    name[len] = '\0';
    return !strchr(name, '.') || inet_pton(AF_INET, name, &address) == 1 ||
           inet_pton(AF_INET6, name, &address) == 1;
}
