/* The TLS certificates of all connections to Redis in this process. */
#ifndef MQFLEET_REDIS_REDIS_TLS_H
#define MQFLEET_REDIS_REDIS_TLS_H

#include "base/err.h"

#define REDIS_TLS_FAULT_LEN 512

/* Loads PEM files; "" for none. ca: the CAs that may sign the server's certificate; none: those of
 * the system (or of SSL_CERT_FILE and SSL_CERT_DIR). cert and key: for servers that request a
 * client certificate. Replaces the previously loaded files for new connections. On an error nothing
 * changes, and the fault names setting and file. Without a call, the system's CAs apply. Any
 * thread. */
enum err redis_tls_load(const char *ca_file, const char *cert_file, const char *key_file,
                        char fault[REDIS_TLS_FAULT_LEN]) MUST_CHECK;

#endif
