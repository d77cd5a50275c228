/* Owns the creation of an SSL_CTX from a client's TLS settings: trusted authorities and the
 * client's identity. Worker thread. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include "mqtt/reactor/stream/stream_fault.h"
#include "mqtt/tls_password.h"
#include "tls_internal.h"

#define ALPN_LEN 1024

static void tls_context_set_memory_fault(enum err *err, struct stream_fault *fault) {
    *err = ERR_MEMORY;
    stream_fault_format(fault, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for TLS");
}

/* Names the file if it is one; PEM text from the configuration must not be shown. */
static void tls_context_set_material_fault(enum err *err, struct stream_fault *fault,
                                           enum client_error error, const char *setting) {
    bool is_path = setting[0] == '/';
    *err = ERR_ARGUMENT;
    stream_fault_format(fault, error, "%s%s%.120s%s", client_error_text(error), is_path ? " (" : "",
                        is_path ? setting : "", is_path ? ")" : "");
}

static X509 *tls_context_next_certificate(BIO *bio) {
    struct tls_password none = {0};
    return PEM_read_bio_X509(bio, NULL, tls_password_callback, &none);
}

/* Whether the reader stopped at the end of the data, not at invalid data. */
static bool tls_context_is_end_of_pem(void) {
    unsigned long error = ERR_peek_last_error();
    bool end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return end;
}

/* Whether OpenSSL refused a certificate because its key or signature is too weak, not because it is
 * malformed. */
static bool tls_context_is_too_weak(void) {
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    return reason == SSL_R_EE_KEY_TOO_SMALL || reason == SSL_R_CA_KEY_TOO_SMALL ||
           reason == SSL_R_CA_MD_TOO_WEAK;
}

/* ---- authorities ---- */

/* The number of certificates; 0: none, or something else. */
static size_t tls_context_add_certificates(X509_STORE *store, BIO *bio) {
    size_t count = 0;
    for (X509 *certificate; (certificate = tls_context_next_certificate(bio)); count++) {
        int added = X509_STORE_add_cert(store, certificate);
        X509_free(certificate);
        if (added != 1) {
            return 0;
        }
    }
    return tls_context_is_end_of_pem() ? count : 0;
}

static void tls_context_add_own_authority(const struct conf *conf, X509_STORE *store,
                                          const char *ca, enum err *err,
                                          struct stream_fault *fault) {
    struct tls_material material;
    *err = tls_material_read(conf, TLS_MATERIAL_CA, ca, &material, fault);
    if (*err != ERR_OK) {
        return;
    }
    BIO *bio = BIO_new_mem_buf(material.text, (int)material.len);
    if (!bio) {
        tls_context_set_memory_fault(err, fault);
    } else if (tls_context_add_certificates(store, bio) == 0) {
        tls_context_set_material_fault(err, fault, CLIENT_ERROR_TLS_CA_INVALID, ca);
    } else if (X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) != 1) {
        tls_context_set_memory_fault(err, fault);
    }
    BIO_free(bio);
    tls_material_fini(&material);
}

X509_STORE *tls_load_authority(const struct conf *conf, const char *ca, enum err *err,
                               struct stream_fault *fault) {
    X509_STORE *store = X509_STORE_new();
    *err = ERR_OK;
    ERR_clear_error();
    if (!store) {
        tls_context_set_memory_fault(err, fault);
        return NULL;
    }
    if (ca) {
        tls_context_add_own_authority(conf, store, ca, err, fault);
    } else if (X509_STORE_set_default_paths(store) != 1) {
        tls_context_set_memory_fault(err, fault);
    }
    if (*err != ERR_OK) {
        X509_STORE_free(store);
        return NULL;
    }
    return store;
}

/* ---- the client's certificate ---- */

static enum err tls_context_use_certificates(SSL_CTX *ssl_ctx, BIO *bio) {
    X509 *certificate = tls_context_next_certificate(bio);
    if (!certificate) {
        return ERR_ARGUMENT;
    }
    long used = SSL_CTX_use_certificate(ssl_ctx, certificate);
    X509_free(certificate);
    while (used == 1 && (certificate = tls_context_next_certificate(bio))) {
        used = SSL_CTX_add0_chain_cert(ssl_ctx, certificate);
        if (used != 1) {
            X509_free(certificate);
        }
    }
    return used == 1 && tls_context_is_end_of_pem() ? ERR_OK : ERR_ARGUMENT;
}

static void tls_context_use_key(SSL_CTX *ssl_ctx, BIO *bio, const struct client_tls *tls,
                                enum err *err, struct stream_fault *fault) {
    const char *setting = tls->key ? tls->key : tls->cert;
    struct tls_password password = {.text = tls->key_password};
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, tls_password_callback, &password);
    if (!key && password.asked && password.text) {
        tls_context_set_material_fault(err, fault, CLIENT_ERROR_TLS_KEY_PASSWORD, setting);
    } else if (!key && password.asked) {
        tls_context_set_material_fault(err, fault, CLIENT_ERROR_TLS_KEY_ENCRYPTED, setting);
    } else if (!key) {
        tls_context_set_material_fault(err, fault, CLIENT_ERROR_TLS_KEY_INVALID, setting);
    } else if (SSL_CTX_use_PrivateKey(ssl_ctx, key) != 1 ||
               SSL_CTX_check_private_key(ssl_ctx) != 1) {
        tls_context_set_material_fault(err, fault, CLIENT_ERROR_TLS_KEY_MISMATCH, setting);
    }
    EVP_PKEY_free(key);
}

static void tls_context_use_identity(const struct conf *conf, SSL_CTX *ssl_ctx,
                                     const struct client_tls *tls, enum err *err,
                                     struct stream_fault *fault) {
    struct tls_material cert, key = {0};
    BIO *cert_bio = NULL, *key_bio = NULL;
    *err = tls_material_read(conf, "tls.cert", tls->cert, &cert, fault);
    if (*err == ERR_OK) {
        *err = tls_material_read(conf, "tls.key", tls->key ? tls->key : tls->cert, &key, fault);
    }
    if (*err != ERR_OK) {
        goto out;
    }
    cert_bio = BIO_new_mem_buf(cert.text, (int)cert.len);
    key_bio = BIO_new_mem_buf(key.text, (int)key.len);
    if (!cert_bio || !key_bio) {
        tls_context_set_memory_fault(err, fault);
        goto out;
    }
    if (tls_context_use_certificates(ssl_ctx, cert_bio) != ERR_OK) {
        tls_context_set_material_fault(err, fault,
                                       tls_context_is_too_weak() ? CLIENT_ERROR_TLS_CERT_TOO_WEAK
                                                                 : CLIENT_ERROR_TLS_CERT_INVALID,
                                       tls->cert);
        goto out;
    }
    tls_context_use_key(ssl_ctx, key_bio, tls, err, fault);
out:
    BIO_free(cert_bio);
    BIO_free(key_bio);
    tls_material_fini(&cert);
    tls_material_fini(&key);
}

/* ---- the context ---- */

/* The wire format of RFC 7301: each name after its length. */
static bool tls_context_set_alpn(SSL_CTX *ssl_ctx, const struct client_tls *tls) {
    unsigned char names[ALPN_LEN];
    size_t at = 0;
    for (size_t i = 0; i < tls->alpn_count; i++) {
        size_t len = strlen(tls->alpn[i]);
        if (len > 0 && len <= 255 && at + 1 + len <= sizeof(names)) {
            names[at++] = (unsigned char)len;
            memcpy(names + at, tls->alpn[i], len);
            at += len;
        }
    }
    return at == 0 || SSL_CTX_set_alpn_protos(ssl_ctx, names, (unsigned)at) == 0;
}

static bool tls_context_set_strength(SSL_CTX *ssl_ctx, const struct client_tls *tls) {
    static const int versions[] = {[TLS_FROM_1_2] = TLS1_2_VERSION,
                                   [TLS_FROM_1_0] = TLS1_VERSION,
                                   [TLS_FROM_1_1] = TLS1_1_VERSION,
                                   [TLS_FROM_1_3] = TLS1_3_VERSION};
    if (tls->security_level > 0) {
        SSL_CTX_set_security_level(ssl_ctx, tls->security_level - 1);
    }
    return SSL_CTX_set_min_proto_version(ssl_ctx, versions[tls->min_version]) == 1;
}

SSL_CTX *tls_make_ssl_ctx(const struct conf *conf, const struct client_tls *tls, X509_STORE *store,
                          enum err *err, struct stream_fault *fault) {
    *err = ERR_OK;
    ERR_clear_error();
    SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_client_method());
    if (!ssl_ctx || !tls_context_set_alpn(ssl_ctx, tls) ||
        !tls_context_set_strength(ssl_ctx, tls)) {
        tls_context_set_memory_fault(err, fault);
        goto out;
    }
    SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    /* An idle connection holds no buffer. If data is available, one recv() reads all available
     * records. */
    SSL_CTX_set_mode(ssl_ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ssl_ctx, 1);
    if (store) {
        SSL_CTX_set1_cert_store(ssl_ctx, store);
    }
    SSL_CTX_set_verify(ssl_ctx, store ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    tls_session_enable(ssl_ctx);
    if (tls->cert) {
        tls_context_use_identity(conf, ssl_ctx, tls, err, fault);
    }
out:
    ERR_clear_error();
    if (*err != ERR_OK) {
        SSL_CTX_free(ssl_ctx);
        return NULL;
    }
    return ssl_ctx;
}
