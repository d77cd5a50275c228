/* Internals of the TLS module, shared by its files. No other file includes this.
 *
 *   tls_contexts --by settings--> tls_context (SSL_CTX) --by broker--> tls_session (SSL_SESSION)
 *        |                             | references                         | references
 *        +-------by tls.ca-----> tls_authority (X509_STORE)                 SSL of a connection
 *
 * An SSL refers to its tls_session (app data), and that to its tls_context. Unreferenced objects
 * are kept for a while in a list, oldest first, so that a client that reconnects finds them again.
 */
#ifndef MQFLEET_TLS_TLS_INTERNAL_H
#define MQFLEET_TLS_TLS_INTERNAL_H

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <uthash.h>
#include "mqtt/reactor/tls/tls.h"

#define TLS_DIGEST_LEN 32

struct tls_digest {
    uint8_t bytes[TLS_DIGEST_LEN];
};

/* Trusted certificates, shared by all contexts that have the same ones: those of a system take 800
 * KB. */
struct tls_authority {
    struct tls_digest digest;
    X509_STORE *store;
    size_t references; /* contexts */
    UT_hash_handle hh;
};

struct tls_context {
    struct tls_digest digest;
    struct tls_contexts *contexts;
    SSL_CTX *ssl_ctx;
    struct tls_authority *authority; /* NULL: no verification */
    struct tls_session *sessions;
    size_t references;               /* connections */
    struct tls_context *prev, *next; /* in contexts->idle while references is 0 */
    UT_hash_handle hh;
};

/* The latest session with a broker, which the next connection resumes. */
struct tls_session {
    struct tls_context *context;
    SSL_SESSION *ssl_session;        /* NULL: none yet */
    size_t references;               /* connections */
    struct tls_session *prev, *next; /* in contexts->idle_sessions while references is 0 */
    const char *name; /* the end of `broker`: the name that the certificate must match */
    UT_hash_handle hh;
    char broker[]; /* "host:port/name": includes the name that the certificate was verified for */
};

struct tls_contexts {
    const struct conf *conf;
    EVP_MD_CTX *digest;
    struct tls_context *contexts;
    struct tls_authority *authorities;
    struct tls_context *idle;
    struct tls_session *idle_sessions;
    size_t idle_count, idle_session_count;
};

/* tls_material.c: PEM text, or the content of a file. */
struct tls_material {
    char *text;
    size_t len;
};
#define TLS_MATERIAL_CA "tls.ca"
/* Adds to the digest what distinguishes this material: the text, or the path, identity and times of
 * a file, so that a replaced file is a different one. name: "tls.ca" ... ERR_IO: see fault. */
enum err tls_material_digest(const struct tls_contexts *contexts, const char *name,
                             const char *setting, struct stream_fault *fault) MUST_CHECK;
/* The same for a file that is not named by a client; NULL: there is none. */
enum err tls_material_digest_system(const struct tls_contexts *contexts, const char *path,
                                    struct stream_fault *fault) MUST_CHECK;
enum err tls_material_read(const struct conf *conf, const char *name, const char *setting,
                           struct tls_material *out, struct stream_fault *fault) MUST_CHECK;
void tls_material_fini(struct tls_material *material); /* wipes it */

/* tls_context.c: the OpenSSL objects of a context. */
/* ca NULL: the authorities of the system. NULL: see fault and *result. */
X509_STORE *tls_load_authority(const struct conf *conf, const char *ca, enum err *err,
                               struct stream_fault *fault);
/* store NULL: no verification. The caller frees; NULL: see fault and *result. */
SSL_CTX *tls_make_ssl_ctx(const struct conf *conf, const struct client_tls *tls, X509_STORE *store,
                          enum err *err, struct stream_fault *fault);

/* tls_peer.c: the description of a certificate, in printable ASCII. */
/* Writes some of the DNS names and addresses of its subject alternative name; returns how many it
 * has. */
size_t tls_peer_names(X509 *certificate, char *out, size_t size);
/* False: its subject has none. size: at least 4. */
bool tls_peer_common_name(X509 *certificate, char *out, size_t size);
/* The common name of the issuer, or else the name of a unit or an organization. */
bool tls_peer_issuer(X509 *certificate, char *out, size_t size);
/* The strength of its key and of its signature, as OpenSSL rates them. */
void tls_peer_security_bits(X509 *certificate, int *key_bits, int *signature_bits);
/* "RSA key of 1024 bits, signed with SHA1". */
void tls_peer_strength(X509 *certificate, char *out, size_t size);

/* tls_session.c */
/* Lets the context keep new sessions. */
void tls_session_enable(SSL_CTX *ssl_ctx);
/* The connection resumes, and renews, the session with this broker. */
enum err tls_session_attach(struct tls_context *context, SSL *ssl,
                            const struct client_config *config, const char *name) MUST_CHECK;
/* NULL is legal, for a connection that was never attached. */
void tls_session_detach(struct tls_session *session);
/* Frees all sessions of a context, which has no connection left. */
void tls_session_forget(struct tls_context *context);

#endif
