/* Owns TLS to Redis: the certificates, and the encrypted connections. It uses OpenSSL directly
 * because hiredis supports TLS only from 1.0 on. A connection is used by its owner's thread; any
 * thread may load certificates.
 *
 *   socket <--> OpenSSL <--redis_tls_send, redis_tls_receive--> redis_wire.c --> hiredis' reader
 */
#include "net/redis/redis_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include "base/system/clock.h"
#include "base/secrets/secret_file.h"
#include "redis_internal.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next line */
static SSL_CTX *shared_context; /* shared by all new connections; NULL: not created yet */

/* --- certificates --- */

/* OpenSSL would prompt on the terminal. */
static int redis_tls_refuse_password_prompt(char *buffer, int size, int writing, void *context) {
    (void)buffer;
    (void)size;
    (void)writing;
    (void)context;
    return -1;
}

/* The first error in OpenSSL's queue. */
static const char *redis_tls_error_reason(void) {
    unsigned long code = ERR_peek_error();
    if (ERR_SYSTEM_ERROR(code)) {
        return strerror(ERR_GET_REASON(code));
    }
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    return text ? text : "out of memory";
}

static enum err redis_tls_refuse_file(char *fault, const char *setting, const char *path,
                                      const char *why) {
    snprintf(fault, REDIS_TLS_FAULT_LEN, "%s: %.250s: %s", setting, path, why);
    return ERR_ARGUMENT;
}

static enum err redis_tls_set_trust(SSL_CTX *context, const char *path, char *fault) {
    if (path[0] == '\0') {
        SSL_CTX_set_default_verify_paths(
            context); /* no default certificates: each handshake reports it */
        return ERR_OK;
    }
    return SSL_CTX_load_verify_file(context, path) == 1
               ? ERR_OK
               : redis_tls_refuse_file(fault, "redis_config.tls_ca_file", path,
                                       redis_tls_error_reason());
}

static EVP_PKEY *redis_tls_read_key(const char *path, char *detail) {
    unsigned char *data = NULL;
    size_t len = 0;
    if (secret_file_read(path, &data, &len, detail) != ERR_OK) {
        return NULL;
    }
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(data, (int)len);
    EVP_PKEY *key =
        bio ? PEM_read_bio_PrivateKey(bio, NULL, redis_tls_refuse_password_prompt, NULL) : NULL;
    BIO_free(bio);
    secret_wipe(data, len);
    free(data);
    if (!key) {
        snprintf(detail, SECRET_FAULT_LEN, "%.150s: %.90s", path, redis_tls_error_reason());
    }
    return key;
}

static enum err redis_tls_set_certificate(SSL_CTX *context, const char *cert_file,
                                          const char *key_file, char *fault) {
    char detail[SECRET_FAULT_LEN] = "";
    if (cert_file[0] == '\0') {
        return ERR_OK;
    }
    if (SSL_CTX_use_certificate_chain_file(context, cert_file) != 1) {
        return redis_tls_refuse_file(fault, "redis_config.tls_cert_file", cert_file,
                                     redis_tls_error_reason());
    }
    EVP_PKEY *key = redis_tls_read_key(key_file, detail);
    if (!key) {
        snprintf(fault, REDIS_TLS_FAULT_LEN, "redis_config.tls_key_file: %.255s", detail);
        return ERR_ARGUMENT;
    }
    bool fits = SSL_CTX_use_PrivateKey(context, key) == 1;
    EVP_PKEY_free(key);
    return fits ? ERR_OK
                : redis_tls_refuse_file(fault, "redis_config.tls_key_file", key_file,
                                        "is not the key of redis_config.tls_cert_file");
}

/* The server requests a certificate and there is none. Some servers continue without one. Another
 * may close the connection before its reason arrives. */
static int redis_tls_on_certificate_request(SSL *ssl, X509 **certificate, EVP_PKEY **key) {
    static char asked;
    (void)certificate;
    (void)key;
    SSL_set_app_data(ssl, &asked);
    return 0;
}

static SSL_CTX *redis_tls_create_context(void) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context) {
        SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
        SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_default_passwd_cb(context, redis_tls_refuse_password_prompt);
        SSL_CTX_set_client_cert_cb(context, redis_tls_on_certificate_request);
        SSL_CTX_set_mode(context,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    return context;
}

enum err redis_tls_load(const char *ca_file, const char *cert_file, const char *key_file,
                        char fault[REDIS_TLS_FAULT_LEN]) {
    ERR_clear_error();
    SSL_CTX *context = redis_tls_create_context();
    if (!context) {
        snprintf(fault, REDIS_TLS_FAULT_LEN, "TLS to Redis: %s", redis_tls_error_reason());
        return ERR_MEMORY;
    }
    enum err err = redis_tls_set_trust(context, ca_file, fault);
    if (err == ERR_OK) {
        err = redis_tls_set_certificate(context, cert_file, key_file, fault);
    }
    if (err == ERR_OK) {
        pthread_mutex_lock(&lock);
        SSL_CTX *before = shared_context;
        shared_context = context;
        context = before;
        pthread_mutex_unlock(&lock);
    }
    SSL_CTX_free(context); /* open connections keep theirs */
    return err;
}

static SSL *redis_tls_create_connection(void) {
    char fault[REDIS_TLS_FAULT_LEN];
    pthread_mutex_lock(&lock);
    bool have = shared_context != NULL;
    pthread_mutex_unlock(&lock);
    if (!have && redis_tls_load("", "", "", fault) != ERR_OK) {
        return NULL;
    }
    pthread_mutex_lock(&lock);
    SSL *ssl = SSL_new(shared_context);
    pthread_mutex_unlock(&lock);
    return ssl;
}

/* --- a connection --- */

/* RFC 9525: the certificate names the requested host. */
static bool redis_tls_expect_host(SSL *ssl, const char *host) {
    unsigned char address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

/* The reason why the call that returned `result` failed; NULL: it must wait for the socket. */
static const char *redis_tls_failure_of(SSL *ssl, int result) {
    int error_number = errno;
    int kind = SSL_get_error(ssl, result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        return NULL;
    }
    long verified = SSL_get_verify_result(ssl);
    unsigned long code = ERR_peek_error();
    if (verified != X509_V_OK) {
        return X509_verify_cert_error_string(verified);
    }
    if (SSL_get_app_data(ssl)) {
        return "the server requests a certificate: redis_config.tls_cert_file";
    }
    if (code != 0 && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER) {
        return "the server does not use TLS on this port";
    }
    if (kind == SSL_ERROR_SYSCALL && error_number != 0) {
        return strerror(error_number);
    }
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    return text ? text : "the server closed the connection";
}

static const char *redis_tls_wait_socket(SSL *ssl, int64_t deadline_ms) {
    int64_t left_ms = deadline_ms - clock_ms();
    struct pollfd polled = {.fd = SSL_get_fd(ssl),
                            .events = SSL_want_write(ssl) ? POLLOUT : POLLIN};
    int ready = left_ms > 0 ? poll(&polled, 1, (int)left_ms) : 0;
    return ready > 0 || (ready < 0 && errno == EINTR) ? NULL : "the handshake timed out";
}

void *redis_tls_start(int fd, const char *host, int64_t deadline_ms, char *fault,
                      size_t fault_size) {
    SSL *ssl = redis_tls_create_connection();
    if (!ssl || !redis_tls_expect_host(ssl, host) || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        snprintf(fault, fault_size, "TLS: cannot be set up for %.80s", host);
        return NULL;
    }
    const char *failure = NULL;
    int result = 0;
    while (result != 1 && !failure) { /* bounded by the deadline */
        ERR_clear_error();
        errno = 0;
        result = SSL_connect(ssl);
        failure = result == 1 ? NULL : redis_tls_failure_of(ssl, result);
        if (result != 1 && !failure) {
            failure = redis_tls_wait_socket(ssl, deadline_ms);
        }
    }
    if (failure) {
        snprintf(fault, fault_size, "TLS: %.120s", failure);
        SSL_free(ssl);
        return NULL;
    }
    return ssl;
}

void redis_tls_stop(void *tls) {
    if (tls) {
        ERR_clear_error();
        SSL_set_quiet_shutdown(tls, 1);
        SSL_free(tls);
    }
}

/* -1 with errno EAGAIN: retry later. */
static ssize_t redis_tls_io_result(SSL *ssl, int result, size_t len, const char **failure) {
    *failure = NULL;
    if (result == 1) {
        return (ssize_t)len;
    }
    *failure = redis_tls_failure_of(ssl, result);
    errno = *failure ? ECONNRESET : EAGAIN;
    return -1;
}

ssize_t redis_tls_send(void *tls, const void *data, size_t len, const char **failure) {
    size_t written = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(tls, data, len, &written);
    return redis_tls_io_result(tls, result, written, failure);
}

ssize_t redis_tls_receive(void *tls, void *data, size_t size, const char **failure) {
    size_t got = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(tls, data, size, &got);
    if (result == 1) {
        SSL_set_app_data((SSL *)tls, NULL); /* continues without */
    }
    return redis_tls_io_result(tls, result, got, failure);
}
