/* Owns the signature of requests, with libcrypto. Pure. */
#include "http_signature.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define DIGEST_LEN 32

static bool http_signature_digest(EVP_MAC_CTX *context, const char *secret, const char *prefix,
                                  const char *body, size_t body_len,
                                  unsigned char digest[DIGEST_LEN]) {
    char name[] = "SHA256";
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                               OSSL_PARAM_END};
    size_t len = 0;
    return EVP_MAC_init(context, (const unsigned char *)secret, strlen(secret), parameters) &&
           EVP_MAC_update(context, (const unsigned char *)prefix, strlen(prefix)) &&
           EVP_MAC_update(context, (const unsigned char *)body, body_len) &&
           EVP_MAC_final(context, digest, &len, DIGEST_LEN) && len == DIGEST_LEN;
}

bool http_signature_make(const char *secret, int64_t timestamp_s, const char *body, size_t body_len,
                         char out[HTTP_SIGNATURE_LEN]) {
    unsigned char digest[DIGEST_LEN];
    char prefix[32];
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;
    snprintf(prefix, sizeof prefix, "%lld.", (long long)timestamp_s);
    bool made = context && http_signature_digest(context, secret, prefix, body, body_len, digest);
    for (size_t i = 0; made && i < DIGEST_LEN; i++) {
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
    return made;
}
