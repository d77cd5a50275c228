/* What TLS to Redis trusts and presents, for all connections of the process. */
#ifndef MQFLEET_REDIS_REDIS_TLS_H
#define MQFLEET_REDIS_REDIS_TLS_H

#include "base/err.h"

#define REDIS_TLS_FAULT_LEN 512

/* Files in PEM; "" for none. ca: the authorities that may have signed the server's certificate,
 * none: the system's (SSL_CERT_FILE and SSL_CERT_DIR name others). cert and key: what is presented
 * to a server that asks for it. Replaces what was loaded before, for new connections. On an error
 * that stays, and the fault names setting and file. Never called: the system's authorities alone.
 * Any thread. */
enum err redis_tls_load(const char *ca_file, const char *cert_file, const char *key_file,
                        char fault[REDIS_TLS_FAULT_LEN]) MUST_CHECK;

#endif
