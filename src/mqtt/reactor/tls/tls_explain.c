/* Owns the texts for TLS failures. They point to a setting, not to an alert. Worker thread. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include "mqtt/reactor/stream/stream_fault.h"
#include "tls_internal.h"

#define NAMES_LEN       160
#define COMMON_NAME_LEN 64
#define STRENGTH_LEN    64
#define SECURITY_BITS   112 /* required by OpenSSL at security level 2 */

static const struct tls_explain_row {
    int reason; /* SSL_R_... or X509_V_ERR_... */
    enum client_error error;
    const char *text; /* NULL: the error's own text */
} tls_explain_handshake_rows[] = {
    {SSL_R_WRONG_VERSION_NUMBER, CLIENT_ERROR_TLS_NOT_SPOKEN, NULL},
    {SSL_R_HTTP_REQUEST, CLIENT_ERROR_TLS_NOT_SPOKEN, "the broker uses HTTP on this port, not TLS"},
    {SSL_R_UNSUPPORTED_PROTOCOL, CLIENT_ERROR_TLS_VERSION, NULL},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, CLIENT_ERROR_TLS_VERSION, NULL},
    {SSL_R_DH_KEY_TOO_SMALL, CLIENT_ERROR_TLS_TOO_WEAK,
     "the broker's Diffie-Hellman key is too weak"},
    {SSL_R_WRONG_SIGNATURE_TYPE, CLIENT_ERROR_TLS_TOO_WEAK,
     "the broker's handshake signature is too weak"},
    {SSL_R_UNSUPPORTED_ELLIPTIC_CURVE, CLIENT_ERROR_TLS_TOO_WEAK, NULL},
    {SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY, CLIENT_ERROR_TLS_HANDSHAKE_REFUSED,
     "the broker requires stronger ciphers than this node offers"},
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, CLIENT_ERROR_TLS_HANDSHAKE_REFUSED, NULL},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_WANTED, NULL},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED,
     "the broker does not know the CA that issued tls.cert"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED,
     "the broker reports that tls.cert has expired"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED,
     "the broker reports that tls.cert was revoked"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED, NULL},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED, NULL},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED,
     "the broker does not accept this type of certificate (tls.cert)"},
    {SSL_R_TLSV1_ALERT_DECRYPT_ERROR, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED, NULL},
    {SSL_R_TLSV1_ALERT_INTERNAL_ERROR, CLIENT_ERROR_TLS_BROKER_TROUBLE, NULL},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, CLIENT_ERROR_TLS_CLIENT_CERTIFICATE_REFUSED,
     "the broker recognizes tls.cert but denies it access"},
    {SSL_R_TLSV1_UNRECOGNIZED_NAME, CLIENT_ERROR_TLS_SERVER_NAME_UNKNOWN, NULL},
    {SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, CLIENT_ERROR_TLS_ALPN_REFUSED, NULL},
};

static const struct tls_explain_row tls_explain_certificate_rows[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, CLIENT_ERROR_TLS_CERTIFICATE_EXPIRED, NULL},
    {X509_V_ERR_CERT_NOT_YET_VALID, CLIENT_ERROR_TLS_CERTIFICATE_NOT_YET_VALID, NULL},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, CLIENT_ERROR_TLS_CERTIFICATE_SELF_SIGNED, NULL},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, CLIENT_ERROR_TLS_CERTIFICATE_UNKNOWN_AUTHORITY, NULL},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, CLIENT_ERROR_TLS_CERTIFICATE_UNKNOWN_AUTHORITY, NULL},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, CLIENT_ERROR_TLS_CERTIFICATE_UNKNOWN_AUTHORITY,
     NULL},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, CLIENT_ERROR_TLS_CERTIFICATE_UNKNOWN_AUTHORITY,
     NULL},
    {X509_V_ERR_CERT_SIGNATURE_FAILURE, CLIENT_ERROR_TLS_CERTIFICATE_FORGED, NULL},
    {X509_V_ERR_INVALID_PURPOSE, CLIENT_ERROR_TLS_CERTIFICATE_PURPOSE,
     "the broker's certificate was not accepted: it is not for servers (extended key usage)"},
    {X509_V_ERR_INVALID_CA, CLIENT_ERROR_TLS_CERTIFICATE_PURPOSE,
     "the broker's certificate was not accepted: its issuer is not a CA (CA:FALSE)"},
    {X509_V_ERR_EE_KEY_TOO_SMALL, CLIENT_ERROR_TLS_CERTIFICATE_TOO_WEAK, NULL},
    {X509_V_ERR_CA_KEY_TOO_SMALL, CLIENT_ERROR_TLS_CERTIFICATE_TOO_WEAK, NULL},
    {X509_V_ERR_CA_MD_TOO_WEAK, CLIENT_ERROR_TLS_CERTIFICATE_TOO_WEAK, NULL},
};

static const struct tls_explain_row *tls_explain_find_row(const struct tls_explain_row *rows,
                                                          size_t count, long reason) {
    for (size_t i = 0; i < count; i++) {
        if (rows[i].reason == reason) {
            return &rows[i];
        }
    }
    return NULL;
}
#define TLS_EXPLAIN_FIND_ROW(rows, reason)                                                         \
    tls_explain_find_row(rows, sizeof(rows) / sizeof((rows)[0]), reason)

static void tls_explain_set_row(const struct tls_explain_row *row, struct stream_fault *fault) {
    stream_fault_format(fault, row->error, "%s",
                        row->text ? row->text : client_error_text(row->error));
}

/* The session has it even if it was not accepted. NULL: unknown. */
static X509 *tls_explain_peer_certificate(struct ssl_st *tls) {
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls);
    return sk_X509_num(chain) > 0 ? sk_X509_value(chain, 0) : NULL;
}

static void tls_explain_name(struct ssl_st *tls, struct stream_fault *fault) {
    const struct tls_session *session = SSL_get_app_data(tls);
    X509 *certificate = tls_explain_peer_certificate(tls);
    char names[NAMES_LEN], common[COMMON_NAME_LEN];
    if (certificate && tls_peer_names(certificate, names, sizeof(names)) > 0) {
        stream_fault_format(fault, CLIENT_ERROR_TLS_NAME_MISMATCH,
                            "the broker's certificate is not for the name \"%.100s\": it is for %s",
                            session->name, names);
    } else if (certificate) {
        bool named = tls_peer_common_name(certificate, common, sizeof(common));
        stream_fault_format(
            fault, CLIENT_ERROR_TLS_NO_NAME,
            "the broker's certificate has no subject alternative name%s%s%s, and is not for "
            "\"%.100s\"",
            named ? ", only the common name \"" : "", named ? common : "", named ? "\"" : "",
            session->name);
    } else {
        stream_fault_format(fault, CLIENT_ERROR_TLS_NAME_MISMATCH,
                            "the broker's certificate is not for the name \"%.100s\"",
                            session->name);
    }
}

/* The first certificate of the chain that is too weak; NULL: it is one of tls.ca. */
static X509 *tls_explain_find_weak(struct ssl_st *tls, long verdict) {
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls);
    int first = verdict == X509_V_ERR_CA_KEY_TOO_SMALL ? 1 : 0;
    for (int i = first; i < sk_X509_num(chain); i++) {
        X509 *certificate = sk_X509_value(chain, i);
        int key_bits, digest_bits;
        tls_peer_security_bits(certificate, &key_bits, &digest_bits);
        bool weak_key = key_bits < SECURITY_BITS && verdict != X509_V_ERR_CA_MD_TOO_WEAK;
        bool weak_digest = digest_bits < SECURITY_BITS && verdict == X509_V_ERR_CA_MD_TOO_WEAK;
        if (weak_key || weak_digest) {
            return certificate;
        }
    }
    return NULL;
}

static void tls_explain_weakness(struct ssl_st *tls, long verdict, struct stream_fault *fault) {
    X509 *certificate = tls_explain_find_weak(tls, verdict);
    char strength[STRENGTH_LEN] = "";
    if (certificate) {
        tls_peer_strength(certificate, strength, sizeof(strength));
    }
    const char *what = verdict == X509_V_ERR_EE_KEY_TOO_SMALL ? "its key is too weak"
                       : verdict == X509_V_ERR_CA_KEY_TOO_SMALL
                           ? "the key of a CA above it is too weak"
                       : certificate == tls_explain_peer_certificate(tls)
                           ? "its signature is too weak"
                           : "the signature of a certificate above it is too weak";
    stream_fault_format(fault, CLIENT_ERROR_TLS_CERTIFICATE_TOO_WEAK,
                        "the broker's certificate was not accepted: %s%s%s%s", what,
                        strength[0] != '\0' ? " (" : "", strength, strength[0] != '\0' ? ")" : "");
}

/* The certificate whose issuer was neither sent nor is in tls.ca. NULL: none. */
static X509 *tls_explain_top_certificate(struct ssl_st *tls) {
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls);
    X509 *highest = tls_explain_peer_certificate(tls);
    int count = sk_X509_num(chain);
    for (int i = 1; i < count; i++) {
        X509 *next = sk_X509_value(chain, i);
        if (X509_NAME_cmp(X509_get_issuer_name(highest), X509_get_subject_name(next)) == 0) {
            highest = next;
        }
    }
    return highest;
}

static void tls_explain_issuer(struct ssl_st *tls, const struct tls_explain_row *row,
                               struct stream_fault *fault) {
    X509 *highest = tls_explain_top_certificate(tls);
    char issuer[COMMON_NAME_LEN];
    if (!highest || !tls_peer_issuer(highest, issuer, sizeof(issuer))) {
        tls_explain_set_row(row, fault);
        return;
    }
    stream_fault_format(
        fault, row->error,
        "the broker's certificate was not accepted: it was issued by an unknown CA: \"%s\" "
        "is not trusted, and the broker does not send its certificate",
        issuer);
}

static bool tls_explain_lacks_issuer(long verdict) {
    return verdict == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           verdict == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           verdict == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

static void tls_explain_certificate(struct ssl_st *tls, struct stream_fault *fault) {
    long verdict = SSL_get_verify_result(tls);
    const struct tls_explain_row *row = TLS_EXPLAIN_FIND_ROW(tls_explain_certificate_rows, verdict);
    if (verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        tls_explain_name(tls, fault);
    } else if (row && row->error == CLIENT_ERROR_TLS_CERTIFICATE_TOO_WEAK) {
        tls_explain_weakness(tls, verdict, fault);
    } else if (tls_explain_lacks_issuer(verdict)) {
        tls_explain_issuer(tls, row, fault);
    } else if (row) {
        tls_explain_set_row(row, fault);
    } else {
        stream_fault_format(fault, CLIENT_ERROR_TLS_CERTIFICATE_REFUSED, "%s: %s",
                            client_error_text(CLIENT_ERROR_TLS_CERTIFICATE_REFUSED),
                            X509_verify_cert_error_string(verdict));
    }
}

static void tls_explain_end(struct ssl_st *tls, int error_number, enum tls_phase phase,
                            struct stream_fault *fault) {
    const char *how =
        error_number != 0 ? strerrordesc_np(error_number) : "the broker closed the connection";
    if (phase != TLS_HANDSHAKING) {
        stream_fault_format(fault, CLIENT_ERROR_CONNECTION_LOST, "%s", how);
    } else if (BIO_number_read(SSL_get_rbio(tls)) == 0) {
        stream_fault_set(fault, CLIENT_ERROR_TLS_CLOSED_AT_ONCE);
    } else {
        stream_fault_format(
            fault, CLIENT_ERROR_TLS_CLOSED,
            "%s during the TLS handshake: does it require a client certificate (tls.cert, "
            "tls.key)?",
            how);
    }
}

static void tls_explain_error(struct ssl_st *tls, unsigned long error, enum tls_phase phase,
                              struct stream_fault *fault) {
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    const struct tls_explain_row *row = TLS_EXPLAIN_FIND_ROW(tls_explain_handshake_rows, reason);
    const char *name = ERR_reason_error_string(error);
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        tls_explain_end(tls, 0, phase, fault);
    } else if (phase == TLS_ESTABLISHED) {
        bool was_alert = reason >= SSL_AD_REASON_OFFSET; /* the broker sent an alert */
        stream_fault_format(fault, CLIENT_ERROR_CONNECTION_LOST, "%s: %s",
                            was_alert ? "the broker ended TLS with an alert"
                                      : "the TLS connection failed",
                            name ? name : "unknown reason");
    } else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        tls_explain_certificate(tls, fault);
    } else if (row) {
        tls_explain_set_row(row, fault);
    } else {
        stream_fault_format(fault, CLIENT_ERROR_TLS_FAILED, "%s: %s",
                            phase == TLS_HANDSHAKING ? "TLS handshake failed" : "TLS failed",
                            name ? name : "unknown reason");
    }
}

void tls_explain(struct ssl_st *tls, int ssl_error, int error_number, enum tls_phase phase,
                 struct stream_fault *fault) {
    unsigned long error = ERR_peek_error();
    if (error != 0) {
        tls_explain_error(tls, error, phase, fault);
    } else {
        tls_explain_end(tls, ssl_error == SSL_ERROR_SYSCALL ? error_number : 0, phase, fault);
    }
    ERR_clear_error();
}
