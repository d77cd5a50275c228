/* Owns the description of a broker's certificate: its names and its strength. A certificate may
 * contain anything, so the output is short and only printable ASCII. Any thread. */
#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include "tls_internal.h"

#define TLS_PEER_NAME_LEN  64 /* of one name; longer ones are cut */
#define TLS_PEER_NAMES_MAX 4

/* least: the first character that is copied unchanged. */
static void tls_peer_copy_printable(char *out, size_t size, const unsigned char *text, int len,
                                    unsigned char least) {
    size_t n = len < 0 ? 0 : (size_t)len;
    bool cut = n >= size;
    n = cut ? size - 1 : n;
    for (size_t i = 0; i < n; i++) {
        out[i] = (char)(text[i] >= least && text[i] < 0x7F && text[i] != '"' ? text[i] : '?');
    }
    out[n] = '\0';
    if (cut) {
        memcpy(out + size - 4, "...", 4);
    }
}

/* False: a kind of name that is not used to connect to brokers. */
static bool tls_peer_name_of(const GENERAL_NAME *name, char out[TLS_PEER_NAME_LEN]) {
    const ASN1_STRING *value = NULL;
    const unsigned char *data;
    int len;
    if (name->type == GEN_DNS) {
        value = name->d.dNSName;
    } else if (name->type == GEN_IPADD) {
        value = name->d.iPAddress;
    } else {
        return false;
    }
    data = ASN1_STRING_get0_data(value);
    len = ASN1_STRING_length(value);
    if (name->type == GEN_DNS) {
        tls_peer_copy_printable(out, TLS_PEER_NAME_LEN, data, len, '!');
        return true;
    }
    int family = len == 4 ? AF_INET : AF_INET6;
    return (len == 4 || len == 16) && inet_ntop(family, data, out, TLS_PEER_NAME_LEN);
}

size_t tls_peer_names(X509 *certificate, char *out, size_t size) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t count = 0, len = 0;
    out[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        char name[TLS_PEER_NAME_LEN];
        if (!tls_peer_name_of(sk_GENERAL_NAME_value(names, i), name)) {
            continue;
        }
        if (count++ < TLS_PEER_NAMES_MAX && len < size) {
            len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", name);
        }
    }
    if (count > TLS_PEER_NAMES_MAX && len < size) {
        snprintf(out + len, size - len, " and %zu more", count - TLS_PEER_NAMES_MAX);
    }
    GENERAL_NAMES_free(names);
    return count;
}

static bool tls_peer_part_of(const X509_NAME *name, int nid, char *out, size_t size) {
    int at = X509_NAME_get_index_by_NID(name, nid, -1);
    const ASN1_STRING *value =
        at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    if (!value) {
        return false;
    }
    tls_peer_copy_printable(out, size, ASN1_STRING_get0_data(value), ASN1_STRING_length(value),
                            ' ');
    return true;
}

bool tls_peer_common_name(X509 *certificate, char *out, size_t size) {
    return tls_peer_part_of(X509_get_subject_name(certificate), NID_commonName, out, size);
}

bool tls_peer_issuer(X509 *certificate, char *out, size_t size) {
    const X509_NAME *issuer = X509_get_issuer_name(certificate);
    return tls_peer_part_of(issuer, NID_commonName, out, size) ||
           tls_peer_part_of(issuer, NID_organizationalUnitName, out, size) ||
           tls_peer_part_of(issuer, NID_organizationName, out, size);
}

void tls_peer_security_bits(X509 *certificate, int *key_bits, int *signature_bits) {
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    *key_bits = key ? EVP_PKEY_get_security_bits(key) : 0;
    *signature_bits = 0;
    X509_get_signature_info(certificate, NULL, NULL, signature_bits, NULL);
}

void tls_peer_strength(X509 *certificate, char *out, size_t size) {
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    const char *kind = key ? EVP_PKEY_get0_type_name(key) : NULL;
    int digest = NID_undef;
    X509_get_signature_info(certificate, &digest, NULL, NULL, NULL);
    snprintf(out, size, "%s key of %d bits, signed with %s", kind ? kind : "a",
             key ? EVP_PKEY_get_bits(key) : 0,
             digest != NID_undef ? OBJ_nid2sn(digest) : "no digest of its own");
}
