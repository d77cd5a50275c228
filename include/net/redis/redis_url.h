/* The address of a Redis. Pure; any thread.
 *
 *   redis://[user:pass@]host:port[,host:port...]/db         several: nodes of one Redis Cluster
 *   redis+sentinel://[user:pass@]host:port,.../master/db    the sentinels that watch the master
 *   rediss://, rediss+sentinel://                           the same over TLS
 *   unix:path
 */
#ifndef MQFLEET_REDIS_REDIS_URL_H
#define MQFLEET_REDIS_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

#define REDIS_URL_FAULT_LEN 256
#define REDIS_HOST_LEN      256
#define REDIS_ADDRESSES_MAX 16

struct redis_address {
    char host[REDIS_HOST_LEN]; /* without the brackets of an IPv6 address; "": none */
    int port;
};

struct redis_url {
    char *path;                      /* of a Unix socket, otherwise NULL */
    struct redis_address *addresses; /* of servers, or of sentinels if there is a master */
    size_t address_count;
    char *master; /* its name for the sentinels; NULL: no sentinels */
    bool tls;
    int db;
    char *user;     /* NULL: none */
    char *password; /* NULL: none */
};

/* User and password are percent-decoded (RFC 3986 section 2.1). On an error `out` is empty and
 * fault[REDIS_URL_FAULT_LEN] (may be NULL) is the reason, without the secret. The caller calls
 * redis_url_fini. */
enum err redis_url_parse(const char *text, struct redis_url *out, char *fault) MUST_CHECK;
void redis_url_fini(struct redis_url *url);

#endif
