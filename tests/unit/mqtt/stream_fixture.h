/* For tests of the reactor's streams: certificates, a stream driven to its end, and a simulated
 * peer on 127.0.0.1. */
#ifndef MQFLEET_TEST_STREAM_FIXTURE_H
#define MQFLEET_TEST_STREAM_FIXTURE_H

#include <check.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include "mqtt/reactor/stream/stream.h"
#include "mqtt/reactor/tls/tls.h"
#include "broker_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY_S        86400L

/* ---- certificates ---- */

struct identity {
    char cert[192], key[192]; /* paths */
    X509 *x509;
    EVP_PKEY *pkey;
};

static inline void identity_write(const struct identity *identity) {
    FILE *file = fopen(identity->cert, "w");
    ck_assert(file && PEM_write_X509(file, identity->x509) == 1);
    fclose(file);
    file = fopen(identity->key, "w");
    ck_assert(file && PEM_write_PrivateKey(file, identity->pkey, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
}

static inline void identity_extend(X509 *x509, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    ck_assert_ptr_nonnull(extension);
    X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
}

/* <folder>/<name>.pem and .key; issuer NULL: an authority. */
static inline struct identity identity_make(const char *folder, const char *name,
                                            const struct identity *issuer, const char *alt_names,
                                            long from_s, long until_s) {
    static long serial = 1;
    struct identity identity = {.pkey = EVP_EC_gen("P-256"), .x509 = X509_new()};
    X509 *x509 = identity.x509;
    snprintf(identity.cert, sizeof(identity.cert), "%s/%s.pem", folder, name);
    snprintf(identity.key, sizeof(identity.key), "%s/%s.key", folder, name);
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x509), from_s);
    X509_gmtime_adj(X509_getm_notAfter(x509), until_s);
    X509_set_pubkey(x509, identity.pkey);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(issuer ? issuer->x509 : x509));
    if (!issuer) {
        identity_extend(x509, x509, NID_basic_constraints, "critical,CA:TRUE");
        identity_extend(x509, x509, NID_subject_key_identifier, "hash");
    }
    if (alt_names) {
        identity_extend(x509, issuer ? issuer->x509 : x509, NID_subject_alt_name, alt_names);
    }
    ck_assert_int_gt(X509_sign(x509, issuer ? issuer->pkey : identity.pkey, EVP_sha256()), 0);
    identity_write(&identity);
    return identity;
}

static inline void identity_free(struct identity *identity) {
    X509_free(identity->x509);
    EVP_PKEY_free(identity->pkey);
}

/* ---- a simulated server on 127.0.0.1 ---- */

static inline int peer_listen(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* ---- a stream and what it is opened with ---- */

struct client {
    struct stream stream;
    struct client_config config;
    struct client_tls tls;
    struct stream_fault fault;
    struct sockaddr_in address;
};

static inline void client_init(struct client *client, enum client_scheme scheme, int port) {
    *client = (struct client){
        .config = {.scheme = scheme, .host = "localhost", .port = (uint16_t)port, .path = "/mqtt"},
        .address = {.sin_family = AF_INET,
                    .sin_port = htons((uint16_t)port),
                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    client->config.tls = &client->tls;
}

static inline enum err client_open(struct client *client, struct tls_contexts *contexts) {
    client->fault = (struct stream_fault){.error = CLIENT_ERROR_NONE};
    return stream_open(&client->stream, contexts, &client->config,
                       (struct sockaddr *)&client->address, sizeof(client->address), NULL,
                       &client->fault);
}

/* Waits as the engine does. */
static inline void client_wait(const struct client *client, int timeout_ms) {
    struct pollfd wait = {.fd = client->stream.fd,
                          .events = (short)(POLLIN | (client->stream.wants_write ? POLLOUT : 0))};
    if (!client->stream.has_more) {
        poll(&wait, 1, timeout_ms);
    }
}

/* Until it is ready or has failed. */
static inline enum err client_connect(struct client *client, struct tls_contexts *contexts) {
    enum err err = client_open(client, contexts);
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    if (err == ERR_OK) {
        err = ERR_TIMEOUT;
    }
    while (err == ERR_TIMEOUT && client->stream.step != STREAM_CLOSED &&
           fixture_now_ms() < until_ms) {
        client_wait(client, 100);
        err = stream_advance(&client->stream, &client->config, &client->fault);
    }
    return err;
}

static inline void client_write_all(struct client *client, const void *data, size_t len) {
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    for (size_t at = 0; at < len || client->stream.wants_write;) {
        ssize_t n =
            stream_write(&client->stream, (const uint8_t *)data + at, len - at, &client->fault);
        ck_assert_msg(n >= 0, "%s: %s", client_error_code(client->fault.error),
                      client->fault.message);
        ck_assert(fixture_now_ms() < until_ms);
        at += (size_t)n;
        if (n == 0 && client->stream.wants_write) {
            client_wait(client, 100);
        }
    }
}

/* Until `len` bytes have arrived, or it failed: -1. */
static inline ssize_t client_read_all(struct client *client, uint8_t *data, size_t len) {
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    uint8_t chunk[4096];
    size_t at = 0;
    while (at < len && fixture_now_ms() < until_ms) {
        client_wait(client, 100);
        ssize_t n = stream_read(&client->stream, chunk, sizeof(chunk), &client->fault);
        if (n < 0) {
            return -1;
        }
        ck_assert_uint_le(at + (size_t)n, len);
        memcpy(data + at, chunk, (size_t)n);
        at += (size_t)n;
    }
    return (ssize_t)at;
}

/* Until it fails or the time is up; data is discarded. */
static inline bool client_fails(struct client *client) {
    int64_t until_ms = fixture_now_ms() + FIXTURE_WAIT_MS;
    uint8_t chunk[4096];
    ssize_t n = 0;
    while (n >= 0 && fixture_now_ms() < until_ms) {
        client_wait(client, 100);
        n = stream_read(&client->stream, chunk, sizeof(chunk), &client->fault);
    }
    return n < 0;
}

static inline void client_close(struct client *client) {
    stream_close(&client->stream, false);
}

#define CONNECT_PACKET "\x10\x0C\x00\x04MQTT\x04\x02\x00\x3C\x00\x00"

/* CONNECT and its CONNACK. */
static inline bool client_greets(struct client *client) {
    uint8_t connack[4];
    client_write_all(client, CONNECT_PACKET, sizeof(CONNECT_PACKET) - 1);
    return client_read_all(client, connack, sizeof(connack)) == sizeof(connack) &&
           connack[0] == 0x20 && connack[3] == 0;
}

#endif
