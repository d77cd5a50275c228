/* The password of an encrypted key, for OpenSSL's PEM readers. Without this callback, OpenSSL would
 * prompt on the terminal. Any thread. */
#ifndef MQFLEET_MQTT_TLS_PASSWORD_H
#define MQFLEET_MQTT_TLS_PASSWORD_H

#include <stdbool.h>

struct tls_password {
    const char *text; /* NULL: there is none */
    bool asked;       /* OpenSSL has requested it */
};

/* A pem_password_cb; context: a struct tls_password. */
int tls_password_callback(char *buffer, int size, int writing, void *context);

#endif
