/* TLS to Redis, where hiredis was built with it (hiredis_ssl). */
#ifndef MQFLEET_NET_REDIS_TLS_H
#define MQFLEET_NET_REDIS_TLS_H

#include <stddef.h>
#include <sys/types.h>

struct redisContext;

/* The handshake, on a socket that still blocks, within its timeouts. The server's certificate must
 * be of an authority that the system trusts (SSL_CERT_FILE and SSL_CERT_DIR name others) and name
 * `host`. NULL: `fault` says why. What comes back belongs to the context. */
void *redis_tls_start(struct redisContext *context, const char *host, char *fault,
                      size_t fault_size);
/* As send(2) on a non-blocking socket. */
ssize_t redis_tls_send(void *tls, const void *data, size_t len);

#endif
