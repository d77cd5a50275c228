/* Owns the certificates in use. The main thread loads them, the MHD threads read them. Only this
 * file includes GnuTLS, the TLS library of libmicrohttpd. */
#include "http/server/certificate.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/secrets/secret_file.h"
#include "base/text.h"

#define CERTIFICATE_CHAIN_MAX  16
#define CERTIFICATE_RETIRED_MS 120000 /* longer than any handshake: MHD ends it earlier */

struct certificate {
    gnutls_pcert_st chain[CERTIFICATE_CHAIN_MAX];
    unsigned chain_len;
    gnutls_privkey_t key;
    int64_t retired_ms;
    struct certificate *next_older; /* replaced, but a handshake may still use it */
};

static pthread_mutex_t certificate_lock = PTHREAD_MUTEX_INITIALIZER; /* guards newest */
static struct certificate *certificate_newest;

static void certificate_destroy(struct certificate *certificate) {
    for (unsigned i = 0; i < certificate->chain_len; i++) {
        gnutls_pcert_deinit(&certificate->chain[i]);
    }
    if (certificate->key) {
        gnutls_privkey_deinit(certificate->key);
    }
    free(certificate);
}

/* ---- loading --------------------------------------------------------------------------------- */

static enum err certificate_set_fault(char *fault, const char *setting, const char *path,
                                      const char *why) {
    snprintf(fault, 256, "%s: %.120s: %s", setting, path, why);
    return ERR_ARGUMENT;
}

static enum err certificate_load_file(const char *setting, const char *path, gnutls_datum_t *out,
                                      char *fault) {
    char detail[SECRET_FAULT_LEN];
    size_t len;
    enum err err = secret_file_read(path, &out->data, &len, detail);
    if (err != ERR_OK) {
        snprintf(fault, 256, "%s: %.200s", setting, detail);
    }
    out->size = (unsigned)len;
    return err;
}

static enum err certificate_load_chain(struct certificate *certificate, const char *path,
                                       char *fault) {
    gnutls_datum_t data = {NULL, 0};
    enum err err = certificate_load_file("http.tls_cert_file", path, &data, fault);
    certificate->chain_len = CERTIFICATE_CHAIN_MAX;
    if (err == ERR_OK &&
        gnutls_pcert_list_import_x509_raw(certificate->chain, &certificate->chain_len, &data,
                                          GNUTLS_X509_FMT_PEM, 0) < 0) {
        err = certificate_set_fault(fault, "http.tls_cert_file", path,
                                    "must be PEM: the certificate, then its issuers");
    }
    if (err != ERR_OK) {
        certificate->chain_len = 0;
    }
    free(data.data);
    return err;
}

static enum err certificate_load_key(struct certificate *certificate, const char *path,
                                     char *fault) {
    gnutls_datum_t data = {NULL, 0};
    enum err err = certificate_load_file("http.tls_key_file", path, &data, fault);
    if (err == ERR_OK && (gnutls_privkey_init(&certificate->key) < 0 ||
                          gnutls_privkey_import_x509_raw(certificate->key, &data,
                                                         GNUTLS_X509_FMT_PEM, NULL, 0) < 0)) {
        err = certificate_set_fault(fault, "http.tls_key_file", path,
                                    "must be an unencrypted private key in PEM");
    }
    secret_wipe(data.data, data.size);
    free(data.data);
    return err;
}

/* Whether the key belongs to the first certificate. */
static bool certificate_matches_key(const struct certificate *certificate) {
    unsigned char of_certificate[64], of_key[64];
    size_t certificate_len = sizeof(of_certificate), key_len = sizeof(of_key);
    gnutls_pubkey_t public_key = NULL;
    bool same =
        gnutls_pubkey_init(&public_key) >= 0 &&
        gnutls_pubkey_get_key_id(certificate->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256,
                                 of_certificate, &certificate_len) >= 0 &&
        gnutls_pubkey_import_privkey(public_key, certificate->key, 0, 0) >= 0 &&
        gnutls_pubkey_get_key_id(public_key, GNUTLS_KEYID_USE_SHA256, of_key, &key_len) >= 0 &&
        certificate_len == key_len && secret_compare(of_certificate, of_key, key_len) == 0;
    if (public_key) {
        gnutls_pubkey_deinit(public_key);
    }
    return same;
}

/* Makes it the newest, and frees those that no handshake can still use. */
static void certificate_install(struct certificate *certificate) {
    int64_t now_ms = clock_ms();
    pthread_mutex_lock(&certificate_lock);
    if (certificate_newest) {
        certificate_newest->retired_ms = now_ms;
    }
    certificate->next_older = certificate_newest;
    certificate_newest = certificate;
    for (struct certificate **at = &certificate->next_older; *at;) { /* one per reload */
        struct certificate *old = *at;
        if (now_ms - old->retired_ms > CERTIFICATE_RETIRED_MS) {
            *at = old->next_older;
            certificate_destroy(old);
        } else {
            at = &old->next_older;
        }
    }
    pthread_mutex_unlock(&certificate_lock);
}

static void certificate_log_expiry(const struct certificate *certificate, const char *path) {
    gnutls_x509_crt_t first = NULL;
    char text[CLOCK_RFC3339_LEN];
    if (gnutls_x509_crt_init(&first) < 0) {
        return;
    }
    if (gnutls_x509_crt_import(first, &certificate->chain[0].cert, GNUTLS_X509_FMT_DER) >= 0) {
        int64_t until_ms = (int64_t)gnutls_x509_crt_get_expiration_time(first) * 1000;
        log_event(until_ms < clock_wall_ms() ? LOG_WARN : LOG_INFO, "http_certificate",
                  KS("file", path), KS("expires", clock_rfc3339(until_ms, text)));
    }
    gnutls_x509_crt_deinit(first);
}

enum err http_certificate_load(const char *cert_file, const char *key_file, char *fault) {
    struct certificate *certificate = calloc(1, sizeof *certificate);
    if (!certificate) {
        snprintf(fault, 256, "out of memory");
        return ERR_MEMORY;
    }
    enum err err = certificate_load_chain(certificate, cert_file, fault);
    if (err == ERR_OK) {
        err = certificate_load_key(certificate, key_file, fault);
    }
    if (err == ERR_OK && !certificate_matches_key(certificate)) {
        err = certificate_set_fault(fault, "http.tls_key_file", key_file,
                                    "does not match the certificate in http.tls_cert_file");
    }
    if (err != ERR_OK) {
        certificate_destroy(certificate);
        return err;
    }
    certificate_log_expiry(certificate, cert_file);
    certificate_install(certificate);
    return ERR_OK;
}

void http_certificate_unload(void) {
    pthread_mutex_lock(&certificate_lock);
    while (certificate_newest) {
        struct certificate *next = certificate_newest->next_older;
        certificate_destroy(certificate_newest);
        certificate_newest = next;
    }
    pthread_mutex_unlock(&certificate_lock);
}

/* ---- handshakes ------------------------------------------------------------------------------ */

static int certificate_retrieve_newest(gnutls_session_t session, const gnutls_datum_t *authorities,
                                       int authority_count, const gnutls_pk_algorithm_t *algorithms,
                                       int algorithm_count, gnutls_pcert_st **chain,
                                       unsigned *chain_len, gnutls_privkey_t *key) {
    (void)session;
    (void)authorities;
    (void)authority_count;
    (void)algorithms;
    (void)algorithm_count;
    pthread_mutex_lock(&certificate_lock);
    struct certificate *certificate = certificate_newest;
    pthread_mutex_unlock(&certificate_lock);
    if (!certificate) {
        return -1;
    }
    *chain = certificate->chain;
    *chain_len = certificate->chain_len;
    *key = certificate->key;
    return 0;
}

void *http_certificate_callback(void) {
    gnutls_certificate_retrieve_function2 *function = certificate_retrieve_newest;
    void *out;
    _Static_assert(sizeof(out) == sizeof(function), "a function pointer fits into a pointer");
    __builtin_memcpy(&out, &function, sizeof(out));
    return out;
}
