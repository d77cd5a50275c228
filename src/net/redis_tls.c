/* Owns what TLS adds to a connection. Runs on the thread of the connection's owner. */
#include "redis_tls.h"

#include <stdio.h>

#ifdef HAVE_HIREDIS_SSL

#include <errno.h>
#include <pthread.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static SSL_CTX *settings; /* made once, shared by all connections */

static void make_settings(void) {
    settings = SSL_CTX_new(TLS_client_method());
    if (settings) {
        SSL_CTX_set_min_proto_version(settings, TLS1_2_VERSION);
        SSL_CTX_set_default_verify_paths(settings);
        SSL_CTX_set_verify(settings, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(settings,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
}

/* RFC 9525: the certificate names the very host that was asked for. */
static int expect_host(SSL *ssl, const char *host) {
    unsigned char address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
    }
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

void *redis_tls_start(struct redisContext *context, const char *host, char *fault,
                      size_t fault_size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_settings);
    SSL *ssl = settings ? SSL_new(settings) : NULL;
    if (!ssl || !expect_host(ssl, host)) {
        SSL_free(ssl);
        snprintf(fault, fault_size, "TLS: cannot be set up for %.80s", host);
        return NULL;
    }
    if (redisInitiateSSL(context, ssl) == REDIS_OK) {
        return ssl;
    }
    long verified = SSL_get_verify_result(ssl);
    snprintf(fault, fault_size, "TLS: %.120s",
             verified == X509_V_OK ? context->errstr : X509_verify_cert_error_string(verified));
    SSL_free(ssl);
    return NULL;
}

ssize_t redis_tls_send(void *tls, const void *data, size_t len) {
    size_t written = 0;
    ERR_clear_error();
    if (SSL_write_ex(tls, data, len, &written) == 1) {
        return (ssize_t)written;
    }
    int reason = SSL_get_error(tls, 0);
    errno = reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

#else

void *redis_tls_start(struct redisContext *context, const char *host, char *fault,
                      size_t fault_size) {
    (void)context;
    (void)host;
    snprintf(fault, fault_size, "TLS is not built in");
    return NULL;
}

ssize_t redis_tls_send(void *tls, const void *data, size_t len) {
    (void)tls;
    (void)data;
    (void)len;
    return -1;
}

#endif
