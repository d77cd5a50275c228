/* Owns the TLS contexts of one engine, one per distinct settings, and opens connections with them.
 * Worker thread. tls_context.c makes a context. */
#include "mqtt/reactor/tls/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>
#include "mqtt/reactor/stream/stream_fault.h"
#include "tls_internal.h"

#define IDLE_MAX 64 /* contexts without connections that are kept */
#define NAME_LEN 256

static enum err tls_memory_fault(struct stream_fault *fault) {
    ERR_clear_error();
    stream_fault_format(fault, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for TLS");
    return ERR_MEMORY;
}

/* ---- contexts ---- */

struct tls_contexts *tls_contexts_create(const struct conf *conf) {
    struct tls_contexts *contexts = calloc(1, sizeof *contexts);
    if (!contexts) {
        return NULL;
    }
    contexts->conf = conf;
    contexts->digest = EVP_MD_CTX_new();
    if (!contexts->digest) {
        free(contexts);
        return NULL;
    }
    return contexts;
}

size_t tls_contexts_count(const struct tls_contexts *contexts) {
    return HASH_COUNT(contexts->contexts);
}

static void tls_release_authority(struct tls_contexts *contexts, struct tls_authority *authority) {
    if (!authority || --authority->references > 0) {
        return;
    }
    HASH_DEL(contexts->authorities, authority);
    X509_STORE_free(authority->store);
    free(authority);
}

/* Removes an idle context from everywhere. */
static void tls_discard_context(struct tls_context *context) {
    struct tls_contexts *contexts = context->contexts;
    DL_DELETE(contexts->idle, context);
    contexts->idle_count--;
    HASH_DEL(contexts->contexts, context);
    tls_session_forget(context);
    SSL_CTX_free(context->ssl_ctx);
    tls_release_authority(contexts, context->authority);
    free(context);
}

void tls_contexts_destroy(struct tls_contexts *contexts) {
    if (!contexts) {
        return;
    }
    while (contexts->idle) {
        tls_discard_context(contexts->idle);
    }
    assert(!contexts->contexts); /* else a connection is still open */
    EVP_MD_CTX_free(contexts->digest);
    free(contexts);
}

static void tls_release_context(struct tls_context *context) {
    struct tls_contexts *contexts = context->contexts;
    if (--context->references > 0) {
        return;
    }
    DL_APPEND(contexts->idle, context);
    if (++contexts->idle_count > IDLE_MAX) {
        tls_discard_context(contexts->idle);
    }
}

/* ---- distinct settings ---- */

static bool tls_digest_begin(struct tls_contexts *contexts) {
    return EVP_DigestInit_ex(contexts->digest, EVP_sha256(), NULL) == 1;
}

static bool tls_digest_end(struct tls_contexts *contexts, struct tls_digest *out) {
    return EVP_DigestFinal_ex(contexts->digest, out->bytes, NULL) == 1;
}

/* The file with the system's authorities; NULL: there is none, but perhaps a folder. */
static const char *tls_system_authorities(void) {
    const char *path = secure_getenv(X509_get_default_cert_file_env());
    path = path ? path : X509_get_default_cert_file();
    return path[0] == '/' && access(path, R_OK) == 0 ? path : NULL;
}

static enum err tls_digest_authority(struct tls_contexts *contexts, const struct client_tls *tls,
                                     struct tls_digest *out, struct stream_fault *fault) {
    const char *origin = tls->ca ? "given" : "system";
    if (!tls_digest_begin(contexts) ||
        EVP_DigestUpdate(contexts->digest, origin, strlen(origin) + 1) != 1) {
        return tls_memory_fault(fault);
    }
    enum err err = tls->ca ? tls_material_digest(contexts, TLS_MATERIAL_CA, tls->ca, fault)
                           : tls_material_digest_system(contexts, tls_system_authorities(), fault);
    if (err == ERR_OK && !tls_digest_end(contexts, out)) {
        err = tls_memory_fault(fault);
    }
    return err;
}

/* authority: NULL without verification. */
static enum err tls_digest_settings(struct tls_contexts *contexts, const struct client_tls *tls,
                                    const struct tls_digest *authority, struct tls_digest *out,
                                    struct stream_fault *fault) {
    static const struct tls_digest no_authority;
    if (!tls_digest_begin(contexts) ||
        EVP_DigestUpdate(contexts->digest, authority ? authority : &no_authority,
                         sizeof *authority) != 1) {
        return tls_memory_fault(fault);
    }
    enum err err = tls_material_digest(contexts, "tls.cert", tls->cert, fault);
    if (err == ERR_OK) {
        err = tls_material_digest(contexts, "tls.key", tls->key, fault);
    }
    const char *password = tls->key_password ? tls->key_password : "";
    const uint8_t strength[] = {tls->key_password != NULL, tls->min_version, tls->security_level};
    if (err == ERR_OK &&
        (EVP_DigestUpdate(contexts->digest, strength, sizeof(strength)) != 1 ||
         EVP_DigestUpdate(contexts->digest, password, strlen(password) + 1) != 1)) {
        err = tls_memory_fault(fault);
    }
    for (size_t i = 0; err == ERR_OK && i < tls->alpn_count; i++) {
        if (EVP_DigestUpdate(contexts->digest, tls->alpn[i], strlen(tls->alpn[i]) + 1) != 1) {
            err = tls_memory_fault(fault);
        }
    }
    if (err == ERR_OK && !tls_digest_end(contexts, out)) {
        err = tls_memory_fault(fault);
    }
    return err;
}

/* ---- look-up and creation ---- */

static struct tls_authority *tls_acquire_authority(struct tls_contexts *contexts, const char *ca,
                                                   const struct tls_digest *digest, enum err *err,
                                                   struct stream_fault *fault) {
    struct tls_authority *authority;
    HASH_FIND(hh, contexts->authorities, digest, sizeof *digest, authority);
    if (authority) {
        authority->references++;
        return authority;
    }
    authority = calloc(1, sizeof *authority);
    if (!authority) {
        *err = tls_memory_fault(fault);
        return NULL;
    }
    authority->store = tls_load_authority(contexts->conf, ca, err, fault);
    if (!authority->store) {
        free(authority);
        return NULL;
    }
    authority->digest = *digest;
    authority->references = 1;
    HASH_ADD(hh, contexts->authorities, digest, sizeof *digest, authority);
    return authority;
}

static enum err tls_make_context(struct tls_contexts *contexts, const struct client_tls *tls,
                                 const struct tls_digest *authority_digest,
                                 const struct tls_digest *digest, struct tls_context **out,
                                 struct stream_fault *fault) {
    struct tls_context *context = calloc(1, sizeof *context);
    enum err err = !context ? tls_memory_fault(fault) : ERR_OK;
    if (err != ERR_OK) {
        return err;
    }
    if (!tls->insecure) {
        context->authority =
            tls_acquire_authority(contexts, tls->ca, authority_digest, &err, fault);
    }
    if (err == ERR_OK) {
        X509_STORE *store = context->authority ? context->authority->store : NULL;
        context->ssl_ctx = tls_make_ssl_ctx(contexts->conf, tls, store, &err, fault);
    }
    if (err != ERR_OK) {
        tls_release_authority(contexts, context->authority);
        free(context);
        return err;
    }
    context->contexts = contexts;
    context->digest = *digest;
    HASH_ADD(hh, contexts->contexts, digest, sizeof *digest, context);
    *out = context;
    return ERR_OK;
}

/* Each connection checks its settings again, because files change. */
static enum err tls_acquire_context(struct tls_contexts *contexts, const struct client_tls *tls,
                                    struct tls_context **out, struct stream_fault *fault) {
    struct tls_digest authority, digest;
    enum err err = tls->insecure ? ERR_OK : tls_digest_authority(contexts, tls, &authority, fault);
    if (err == ERR_OK) {
        err = tls_digest_settings(contexts, tls, tls->insecure ? NULL : &authority, &digest, fault);
    }
    if (err != ERR_OK) {
        return err;
    }
    HASH_FIND(hh, contexts->contexts, &digest, sizeof(digest), *out);
    if (!*out) {
        err = tls_make_context(contexts, tls, &authority, &digest, out, fault);
    } else if ((*out)->references == 0) {
        DL_DELETE(contexts->idle, *out);
        contexts->idle_count--;
    }
    if (err == ERR_OK) {
        (*out)->references++;
    }
    return err;
}

/* ---- connections ---- */

/* The name that the certificate must match. A final dot is only for the resolver. */
static void tls_certificate_name(const struct client_config *config, char name[NAME_LEN]) {
    const char *server_name = client_config_tls(config)->server_name;
    const char *given = server_name ? server_name : config->host;
    snprintf(name, NAME_LEN, "%s", given);
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '.') {
        name[len - 1] = '\0';
    }
}

static bool tls_is_address(const char *name) {
    uint8_t address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* SNI contains only names (RFC 6066 section 3). */
static bool tls_set_name(SSL *ssl, const char *name) {
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (tls_is_address(name)) {
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    }
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, name) == 1;
}

static SSL *tls_open_ssl(struct tls_context *context, const struct client_config *config, int fd) {
    char name[NAME_LEN];
    tls_certificate_name(config, name);
    ERR_clear_error();
    SSL *ssl = SSL_new(context->ssl_ctx);
    if (!ssl || SSL_set_fd(ssl, fd) != 1 || !tls_set_name(ssl, name) ||
        tls_session_attach(context, ssl, config, name) != ERR_OK) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

enum err tls_open(struct tls_contexts *contexts, const struct client_config *config, int fd,
                  struct ssl_st **out, struct stream_fault *fault) {
    struct tls_context *context = NULL;
    enum err err = tls_acquire_context(contexts, client_config_tls(config), &context, fault);
    if (err != ERR_OK) {
        return err;
    }
    *out = tls_open_ssl(context, config, fd);
    if (!*out) {
        tls_release_context(context);
        return tls_memory_fault(fault);
    }
    return ERR_OK;
}

void tls_set_fd(struct ssl_st *tls, int fd) {
    (void)BIO_set_fd(SSL_get_rbio(tls), fd, BIO_NOCLOSE); /* the BIO for writing is the same */
}

void tls_close(struct ssl_st *tls) {
    if (!tls) {
        return;
    }
    struct tls_session *session = SSL_get_app_data(tls);
    struct tls_context *context = session->context;
    /* Otherwise OpenSSL assumes that a session without close_notify must not be resumed. */
    SSL_set_shutdown(tls, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls);
    ERR_clear_error();
    tls_session_detach(session);
    tls_release_context(context);
}

int64_t tls_certificate_expires_at_s(const struct ssl_st *tls) {
    struct tm at;
    X509 *peer = SSL_get0_peer_certificate(tls);
    if (!peer || ASN1_TIME_to_tm(X509_get0_notAfter(peer), &at) != 1) {
        return 0;
    }
    return (int64_t)timegm(&at);
}
