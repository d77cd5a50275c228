/* Owns the words for what goes wrong with TLS: which setting to look at, not which alert came. Host
 * thread. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include "fault.h"
#include "tls_internal.h"

static const struct reason_text {
    int reason; /* SSL_R_... or X509_V_ERR_... */
    const char *text;
} handshake_texts[] = {
    {SSL_R_WRONG_VERSION_NUMBER,
     "the broker does not speak TLS on this port: is it one for plain MQTT or WebSocket?"},
    {SSL_R_HTTP_REQUEST, "the broker does not speak TLS on this port, but HTTP"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "the broker has no version of TLS from 1.2 on"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the broker has no version of TLS from 1.2 on"},
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE,
     "the broker refused the handshake: it wants a client certificate (tls.cert, tls.key), or has "
     "no cipher in common"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED,
     "the broker wants a client certificate: tls.cert and tls.key"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, "the broker does not know the authority that issued tls.cert"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "the broker says that tls.cert has expired"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, "the broker says that tls.cert was revoked"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "the broker does not accept tls.cert"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the broker does not accept tls.cert"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE,
     "the broker does not accept certificates of the kind of tls.cert"},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, "the broker knows tls.cert and lets it do nothing"},
    {SSL_R_TLSV1_UNRECOGNIZED_NAME,
     "the broker does not know the name it was asked for: look at tls.server_name"},
    {SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, "the broker knows none of the names in tls.alpn"},
};

static const struct reason_text certificate_texts[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, "it, or one of those it was issued by, has expired"},
    {X509_V_ERR_CERT_NOT_YET_VALID, "it is not valid yet: are the clocks right?"},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "it is self-signed and not the one in tls.ca"},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
     "it was issued by an unknown authority: put that authority's certificate into tls.ca"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
     "it was issued by an unknown authority: put that authority's certificate into tls.ca"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
     "it was issued by an unknown authority: put that authority's certificate into tls.ca"},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
     "it was issued by an unknown authority: put that authority's certificate into tls.ca"},
    {X509_V_ERR_CERT_SIGNATURE_FAILURE,
     "its signature is not by the authority in tls.ca, which has the same name"},
};

static const char *find_text(const struct reason_text *texts, size_t count, long reason) {
    for (size_t i = 0; i < count; i++) {
        if (texts[i].reason == reason) {
            return texts[i].text;
        }
    }
    return NULL;
}
#define FIND_TEXT(texts, reason) find_text(texts, sizeof(texts) / sizeof((texts)[0]), reason)

static void explain_certificate(struct ssl_st *tls, struct stream_fault *fault) {
    long verdict = SSL_get_verify_result(tls);
    if (verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        const struct tls_session *session = SSL_get_app_data(tls);
        fault_set(fault, "tls_failed",
                  "the broker's certificate is for another name than \"%s\": look at the URL and "
                  "tls.server_name",
                  session->name);
        return;
    }
    const char *text = FIND_TEXT(certificate_texts, verdict);
    fault_set(fault, "tls_failed", "the broker's certificate was not accepted: %s",
              text ? text : X509_verify_cert_error_string(verdict));
}

static void explain_end(struct ssl_st *tls, int error_number, bool handshaking,
                        struct stream_fault *fault) {
    const char *how =
        error_number != 0 ? strerrordesc_np(error_number) : "the broker closed the connection";
    if (!handshaking) {
        fault_set(fault, "connection_lost", "%s", how);
    } else if (BIO_number_read(SSL_get_rbio(tls)) == 0) {
        fault_set(fault, "connection_refused",
                  "the broker closed the connection at once: is this the port for TLS, WebSocket "
                  "or plain MQTT?");
    } else {
        fault_set(fault, "tls_failed",
                  "%s during the TLS handshake: does it want a client certificate (tls.cert, "
                  "tls.key)?",
                  how);
    }
}

static void explain_error(struct ssl_st *tls, unsigned long error, bool handshaking,
                          struct stream_fault *fault) {
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    const char *text = FIND_TEXT(handshake_texts, reason);
    const char *name = ERR_reason_error_string(error);
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        explain_end(tls, 0, handshaking, fault);
    } else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        explain_certificate(tls, fault);
    } else if (text != NULL) {
        fault_set(fault, "tls_failed", "%s", text);
    } else {
        fault_set(fault, "tls_failed", "%s: %s",
                  handshaking ? "the TLS handshake failed" : "TLS broke down",
                  name ? name : "no reason known");
    }
}

void tls_explain(struct ssl_st *tls, int ssl_error, int error_number, bool handshaking,
                 struct stream_fault *fault) {
    unsigned long error = ERR_peek_error();
    if (error != 0) {
        explain_error(tls, error, handshaking, fault);
    } else {
        explain_end(tls, ssl_error == SSL_ERROR_SYSCALL ? error_number : 0, handshaking, fault);
    }
    ERR_clear_error();
}
