/* Inside of the TLS module: what its files share. Nobody else includes this.
 *
 *   tls_contexts --by settings--> tls_context (SSL_CTX) --by broker--> tls_session (SSL_SESSION)
 *        |                             | references                         | references
 *        +-------by tls.ca-----> tls_authority (X509_STORE)                 SSL of a connection
 *
 * An SSL knows its tls_session (app data), that its tls_context. What nobody refers to is kept for
 * a while in a list, the oldest first, so that a client that reconnects finds it again. */
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

/* Trusted certificates, shared by all contexts with the same ones: those of a system take 800 KB.
 */
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

/* The latest session with a broker, to be resumed by the next connection. */
struct tls_session {
    struct tls_context *context;
    SSL_SESSION *ssl_session;        /* NULL: none yet */
    size_t references;               /* connections */
    struct tls_session *prev, *next; /* in contexts->idle_sessions while references is 0 */
    const char *name;                /* the end of broker: what the certificate must be for */
    UT_hash_handle hh;
    char broker[]; /* "host:port/name": what the certificate was verified for is part of it */
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

/* tls_material.c: PEM text, or what a file with it holds. */
struct tls_material {
    char *text;
    size_t len;
};
#define TLS_MATERIAL_CA "tls.ca"
/* Adds to the digest what tells this material from any other: the text; of a file its path,
 * identity and times, so that a rotated one is another. name: "tls.ca" ... ERR_IO: see fault. */
enum err tls_material_digest(const struct tls_contexts *contexts, const char *name,
                             const char *setting, struct stream_fault *fault) MUST_CHECK;
/* The same of a file that no client has named; NULL: there is none. */
enum err tls_material_digest_system(const struct tls_contexts *contexts, const char *path,
                                    struct stream_fault *fault) MUST_CHECK;
enum err tls_material_read(const struct conf *conf, const char *name, const char *setting,
                           struct tls_material *out, struct stream_fault *fault) MUST_CHECK;
void tls_material_fini(struct tls_material *material); /* wipes it */

/* tls_context.c: what a context consists of, as OpenSSL has it. */
/* ca NULL: the authorities of the system. NULL: see fault and *result. */
X509_STORE *tls_load_authority(const struct conf *conf, const char *ca, enum err *err,
                               struct stream_fault *fault);
/* store NULL: no verification. The caller frees; NULL: see fault and *result. */
SSL_CTX *tls_make_ssl_ctx(const struct conf *conf, const struct client_tls *tls, X509_STORE *store,
                          enum err *err, struct stream_fault *fault);

/* tls_peer.c: a certificate in words, of printable ASCII. */
/* Some of the DNS names and addresses in its subject alternative name; how many there are. */
size_t tls_peer_names(X509 *certificate, char *out, size_t size);
/* False: its subject has none. size: at least 4. */
bool tls_peer_common_name(X509 *certificate, char *out, size_t size);
/* The same of who issued it, or else the name of a unit or an organization. */
bool tls_peer_issuer(X509 *certificate, char *out, size_t size);
/* Of its key and of the signature under it, as OpenSSL counts them. */
void tls_peer_security_bits(X509 *certificate, int *key_bits, int *signature_bits);
/* "RSA key of 1024 bits, signed with SHA1". */
void tls_peer_strength(X509 *certificate, char *out, size_t size);

/* tls_session.c */
/* Lets new sessions of the context be kept. */
void tls_session_enable(SSL_CTX *ssl_ctx);
/* The connection will resume, and renew, the session with this broker. */
enum err tls_session_attach(struct tls_context *context, SSL *ssl,
                            const struct client_config *config, const char *name) MUST_CHECK;
/* NULL is legal, for a connection that was attached to none. */
void tls_session_detach(struct tls_session *session);
/* Frees all of a context, which has no connection left. */
void tls_session_forget(struct tls_context *context);

#endif
