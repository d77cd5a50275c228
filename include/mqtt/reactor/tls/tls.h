/* TLS settings and sessions of one engine. Connections with the same settings share one SSL_CTX.
 * Runs on the worker thread. Requires OpenSSL 3. */
#ifndef MQFLEET_TLS_TLS_H
#define MQFLEET_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "mqtt/config/client_config.h"
#include "mqtt/reactor/stream/stream.h"

struct tls_contexts;

/* conf determines which files clients may name; it is borrowed. NULL: out of memory. */
struct tls_contexts *tls_contexts_create(const struct conf *conf);
void tls_contexts_destroy(struct tls_contexts *contexts); /* after all its connections are closed */
/* The number of contexts, for tests and statistics. */
size_t tls_contexts_count(const struct tls_contexts *contexts);

/* Creates a TLS connection over `fd`, ready for its handshake: verification (host name or address),
 * SNI, ALPN, client certificate, resumption of an earlier session with the same broker. Files are
 * read again when they change; only regular files that clients may name are read
 * (base/config/client_file.h). ERR_IO: a file cannot be read. ERR_ARGUMENT: invalid PEM, or a key
 * that does not match. See fault, which never contains a secret. */
enum err tls_open(struct tls_contexts *contexts, const struct client_config *config, int fd,
                  struct ssl_st **out, struct stream_fault *fault) MUST_CHECK;
/* Sets the descriptor of a connection that was opened with fd -1. */
void tls_set_fd(struct ssl_st *tls, int fd);
enum tls_phase {
    TLS_HANDSHAKING, /* the connection is not ready yet */
    TLS_READY,       /* ready, but the broker may still refuse the client's certificate (TLS 1.3) */
    TLS_ESTABLISHED, /* accepted: an alert is now an ordinary loss */
};
/* Explains why a call on `tls` failed permanently, from its SSL_get_error, errno and OpenSSL's
 * error queue. Call it directly after the failed call. */
void tls_explain(struct ssl_st *tls, int ssl_error, int error_number, enum tls_phase phase,
                 struct stream_fault *fault);
/* When the peer certificate expires, in seconds since 1970; 0: unknown. */
int64_t tls_certificate_expires_at_s(const struct ssl_st *tls);
/* Frees the connection and releases its context. Its session may be resumed later. NULL is legal.
 */
void tls_close(struct ssl_st *tls);

#endif
