/* Owns the check of PEM text, and of the names of PEM files, before they are stored. Any thread. */
#include "mqtt/tls_check.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/secrets/client_file.h"
#include "base/secrets/secret_box.h"
#include "mqtt/tls_password.h"

#define TLS_CHECK_PEM "-----BEGIN "
#define TLS_CHECK_KEY "PRIVATE KEY-----" /* the end of the first line, whatever the kind of key */

static void tls_check_add_fault(struct client_faults *faults, const char *pointer,
                                const char *format, ...) __attribute__((format(printf, 3, 4)));

static void tls_check_add_fault(struct client_faults *faults, const char *pointer,
                                const char *format, ...) {
    if (faults->count == CLIENT_FAULTS_MAX) {
        return;
    }
    struct client_fault *fault = &faults->items[faults->count++];
    va_list arguments;
    va_start(arguments, format);
    snprintf(fault->pointer, sizeof(fault->pointer), "%s", pointer);
    vsnprintf(fault->detail, sizeof(fault->detail), format, arguments);
    va_end(arguments);
}

/* Neither the path of a file nor encrypted. */
static bool tls_check_is_pem(const char *setting) {
    return setting && setting[0] != '/' && strstr(setting, TLS_CHECK_PEM);
}

static X509 *tls_check_next_certificate(BIO *bio) {
    struct tls_password none = {0};
    ERR_clear_error();
    return PEM_read_bio_X509(bio, NULL, tls_password_callback, &none);
}

/* The first of the certificates, if all are readable; NULL: a fault was added. */
static X509 *tls_check_certificates(const char *text, const char *pointer,
                                    struct client_faults *faults) {
    BIO *bio = BIO_new_mem_buf(text, -1);
    X509 *first = bio ? tls_check_next_certificate(bio) : NULL, *next = first;
    size_t count = 0;
    while (next) {
        count++;
        next = tls_check_next_certificate(bio);
        if (next) {
            X509_free(next);
        }
    }
    unsigned long error = ERR_peek_last_error();
    bool ended = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(bio);
    bool has_key = strstr(text, TLS_CHECK_KEY); /* it would be stored unencrypted, and shown */
    if (first && ended && !has_key) {
        return first;
    }
    bool has_certificate = first != NULL;
    X509_free(first);
    if (ended && has_certificate) {
        tls_check_add_fault(
            faults, pointer,
            "must contain only certificates: move the private key to tls.key, where it is kept "
            "secret");
    } else if (ended) {
        tls_check_add_fault(faults, pointer,
                            "must contain a certificate (-----BEGIN CERTIFICATE-----)");
    } else {
        tls_check_add_fault(faults, pointer,
                            "certificate %zu in it cannot be read: is it truncated or damaged?",
                            count + 1);
    }
    return NULL;
}

static EVP_PKEY *tls_check_key(const struct client_tls *tls, const char *pointer,
                               struct client_faults *faults) {
    struct tls_password password = {.text = tls->key_password};
    bool unknown =
        tls->key_password_from || (tls->key_password && secret_is_sealed(tls->key_password));
    BIO *bio = BIO_new_mem_buf(tls->key, -1);
    EVP_PKEY *key =
        bio ? PEM_read_bio_PrivateKey(bio, NULL, tls_password_callback, &password) : NULL;
    ERR_clear_error();
    BIO_free(bio);
    if (key || (password.asked && unknown)) {
        return key;
    }
    if (password.asked && password.text) {
        tls_check_add_fault(faults, "/tls/key_password", "does not decrypt tls.key");
    } else if (password.asked) {
        tls_check_add_fault(
            faults, pointer,
            "is protected by a passphrase: set tls.key_password, or remove the passphrase "
            "(openssl pkey -in KEY -out PLAIN)");
    } else if (!key) {
        tls_check_add_fault(faults, pointer,
                            "must contain a readable private key (-----BEGIN PRIVATE KEY-----)");
    }
    return key;
}

static void tls_check_pair(X509 *certificate, EVP_PKEY *key, struct client_faults *faults) {
    if (certificate && key && X509_check_private_key(certificate, key) != 1) {
        tls_check_add_fault(faults, "/tls/key", "must be the key of tls.cert");
    }
    ERR_clear_error();
}

static void tls_check_paths(const struct client_tls *tls, const struct conf *conf,
                            struct client_faults *faults) {
    const struct {
        const char *setting, *pointer;
        enum client_file_kind kind;
    } files[] = {{tls->ca, "/tls/ca", CLIENT_FILE_AUTHORITY},
                 {tls->cert, "/tls/cert", CLIENT_FILE_PRIVATE},
                 {tls->key, "/tls/key", CLIENT_FILE_PRIVATE}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = files[i].setting;
        const char *why =
            path && path[0] == '/' ? client_file_refusal(conf, files[i].kind, path) : NULL;
        if (why) {
            tls_check_add_fault(faults, files[i].pointer, "the file %.100s may not be read: %s",
                                path, why);
        }
    }
}

void tls_check(const struct client_config *config, const struct conf *conf,
               struct client_faults *faults) {
    const struct client_tls *tls = client_config_tls(config);
    tls_check_paths(tls, conf, faults);
    X509 *certificate = NULL;
    EVP_PKEY *key = NULL;
    if (tls_check_is_pem(tls->ca)) {
        X509_free(tls_check_certificates(tls->ca, "/tls/ca", faults));
    }
    if (tls_check_is_pem(tls->cert)) {
        certificate = tls_check_certificates(tls->cert, "/tls/cert", faults);
    }
    if (tls_check_is_pem(tls->key)) {
        key = tls_check_key(tls, "/tls/key", faults);
    }
    tls_check_pair(certificate, key, faults);
    X509_free(certificate);
    EVP_PKEY_free(key);
}
