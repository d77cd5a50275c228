/* Computes the SHA-1 of a text. Pure; any thread. */
#include "net/sha1.h"

#include <assert.h>
#include <stdio.h>
#include <openssl/evp.h>

#define DIGEST_LEN 20

void sha1_hex(const void *data, size_t len, char out[SHA1_HEX_LEN]) {
    unsigned char digest[DIGEST_LEN];
    int ok = EVP_Digest(data, len, digest, NULL, EVP_sha1(), NULL);
    assert(ok == 1);
    (void)ok;
    for (size_t i = 0; i < DIGEST_LEN; i++) {
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
}
