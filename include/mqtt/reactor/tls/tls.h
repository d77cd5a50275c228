/* TLS settings and sessions, shared by all connections of one engine that have the same settings:
 * one SSL_CTX for ten thousand clients. One thread: its host's. OpenSSL 3. */
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

/* conf tells which files clients may name; it is borrowed. NULL: out of memory. */
struct tls_contexts *tls_contexts_create(const struct conf *conf);
void tls_contexts_destroy(struct tls_contexts *contexts); /* after all its connections */
/* How many contexts there are, for tests and statistics. */
size_t tls_contexts_count(const struct tls_contexts *contexts);

/* A TLS connection over `fd`, ready for its handshake: verification (host name or address), SNI,
 * ALPN, client certificate, resumption of an earlier session with the same broker. Files are read
 * anew when they change; only regular ones that clients may name (base/client_file.h). ERR_IO: a
 * file cannot be read, ERR_ARGUMENT: PEM that is none, a key that does not fit; see fault (never a
 * secret). */
enum err tls_open(struct tls_contexts *contexts, const struct client_config *config, int fd,
                  struct ssl_st **out, struct stream_fault *fault) MUST_CHECK;
/* Gives one that was opened with fd -1 its descriptor. */
void tls_set_fd(struct ssl_st *tls, int fd);
enum tls_phase {
    TLS_HANDSHAKING, /* the connection is not ready yet */
    TLS_READY,       /* but the broker may still refuse the client's certificate (TLS 1.3) */
    TLS_ESTABLISHED, /* nothing is refused any more: an alert is a loss like any other */
};
/* Says why a call on `tls` failed for good, from its SSL_get_error, errno and OpenSSL's queue right
 * after it. */
void tls_explain(struct ssl_st *tls, int ssl_error, int error_number, enum tls_phase phase,
                 struct stream_fault *fault);
/* The end of the peer certificate's validity, seconds since 1970; 0: unknown. */
int64_t tls_certificate_expires_at_s(const struct ssl_st *tls);
/* Frees it and lets go of its context; its session may be resumed. NULL is legal. */
void tls_close(struct ssl_st *tls);

#endif
