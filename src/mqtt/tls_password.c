/* Answers OpenSSL's request for a password. */
#include "mqtt/tls_password.h"

#include <string.h>

int tls_password_callback(char *buffer, int size, int writing, void *context) {
    (void)writing;
    struct tls_password *password = context;
    size_t len = password->text ? strlen(password->text) : 0;
    password->asked = true;
    if (!password->text || len > (size_t)size) {
        return -1;
    }
    memcpy(buffer, password->text, len);
    return (int)len;
}
