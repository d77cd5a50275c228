/* The certificate of the HTTP API. It can be replaced while connections are open. There is one for
 * the process, because libmicrohttpd's callback has no context. */
#ifndef MQFLEET_SERVER_CERTIFICATE_H
#define MQFLEET_SERVER_CERTIFICATE_H

#include "base/err.h"

/* Loads chain and key (PEM) for all later handshakes. ERR_ARGUMENT: `fault` (256 bytes)
 * describes the error, and the previous certificate stays in use. Main thread. */
enum err http_certificate_load(const char *cert_file, const char *key_file, char *fault) MUST_CHECK;
/* Call it after the last handshake. */
void http_certificate_unload(void);

/* A gnutls_certificate_retrieve_function2 for MHD_OPTION_HTTPS_CERT_CALLBACK. Any thread. */
void *http_certificate_callback(void);

#endif
