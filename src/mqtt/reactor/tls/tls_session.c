/* Owns the TLS sessions that later connections resume: the latest one per context and broker, and
 * those of a bounded number of brokers without a connection. Worker thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "tls_internal.h"

#define IDLE_MAX               256 /* a session with its certificates has some KB */
#define TLS_SESSION_BROKER_LEN 600 /* two names of at most 253 bytes, a port */

static void tls_session_discard(struct tls_session *session) {
    HASH_DEL(session->context->sessions, session);
    SSL_SESSION_free(session->ssl_session);
    free(session);
}

static void tls_session_leave_idle(struct tls_session *session) {
    DL_DELETE(session->context->contexts->idle_sessions, session);
    session->context->contexts->idle_session_count--;
}

static void tls_session_enter_idle(struct tls_session *session) {
    struct tls_contexts *contexts = session->context->contexts;
    DL_APPEND(contexts->idle_sessions, session);
    contexts->idle_session_count++;
    if (contexts->idle_session_count > IDLE_MAX) {
        struct tls_session *oldest = contexts->idle_sessions;
        tls_session_leave_idle(oldest);
        tls_session_discard(oldest);
    }
}

/* OpenSSL has a new session: with TLS 1.3, a ticket of the server at any time after the handshake.
 * Returns 1: we now own its reference. */
static int tls_session_on_new_session(SSL *ssl, SSL_SESSION *ssl_session) {
    struct tls_session *session = SSL_get_app_data(ssl);
    if (!session) {
        return 0;
    }
    SSL_SESSION_free(session->ssl_session);
    session->ssl_session = ssl_session;
    return 1;
}

void tls_session_enable(SSL_CTX *ssl_ctx) {
    SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl_ctx, tls_session_on_new_session);
}

static struct tls_session *tls_session_find_or_create(struct tls_context *context,
                                                      const char *broker, size_t name_len) {
    struct tls_session *session;
    size_t len = strlen(broker);
    HASH_FIND(hh, context->sessions, broker, len, session);
    if (session) {
        return session;
    }
    session = calloc(1, sizeof *session + len + 1);
    if (!session) {
        return NULL;
    }
    session->context = context;
    memcpy(session->broker, broker, len + 1);
    session->name = session->broker + len - name_len;
    HASH_ADD(hh, context->sessions, broker, len, session);
    return session;
}

/* A resumed handshake verifies nothing, so a certificate that has expired meanwhile prevents it. */
static bool tls_session_is_usable(const SSL_SESSION *ssl_session) {
    if (!ssl_session || !SSL_SESSION_is_resumable(ssl_session)) {
        return false;
    }
    X509 *peer = SSL_SESSION_get0_peer((SSL_SESSION *)ssl_session);
    return !peer || X509_cmp_current_time(X509_get0_notAfter(peer)) > 0;
}

enum err tls_session_attach(struct tls_context *context, SSL *ssl,
                            const struct client_config *config, const char *name) {
    char broker[TLS_SESSION_BROKER_LEN];
    snprintf(broker, sizeof(broker), "%s:%u/%s", config->host, config->port, name);
    struct tls_session *session = tls_session_find_or_create(context, broker, strlen(name));
    if (!session) {
        return ERR_MEMORY;
    }
    if (session->references == 0 && session->prev) {
        tls_session_leave_idle(session);
        session->prev = NULL;
    }
    session->references++;
    SSL_set_app_data(ssl, session);
    if (tls_session_is_usable(session->ssl_session)) {
        /* A copy, because OpenSSL considers a TLS 1.3 session used up once it was resumed, while
         * other connections are about to resume it. Without a copy, the handshake is a full one. */
        SSL_SESSION *copy = SSL_SESSION_dup(session->ssl_session);
        if (copy) {
            SSL_set_session(ssl, copy);
            SSL_SESSION_free(copy);
        }
    }
    return ERR_OK;
}

void tls_session_detach(struct tls_session *session) {
    if (session && --session->references == 0) {
        tls_session_enter_idle(session);
    }
}

void tls_session_forget(struct tls_context *context) {
    struct tls_session *session, *next;
    HASH_ITER(hh, context->sessions, session, next) {
        tls_session_leave_idle(session);
        tls_session_discard(session);
    }
}
