/* Checks the PEM text of a configuration, and the names of its files, before it is stored. Pure:
 * files, and encrypted or referenced secrets, are not read. Any thread. */
#ifndef MQFLEET_MQTT_TLS_CHECK_H
#define MQFLEET_MQTT_TLS_CHECK_H

#include "base/config/conf.h"
#include "mqtt/config/client_config.h"

/* Adds a fault at /tls/ca, /tls/cert or /tls/key for invalid PEM, for a key that requires a
 * passphrase, for a key that does not match the certificate, and for the path of a file that the
 * settings of this node do not allow. Faults contain no text of the material. */
void tls_check(const struct client_config *config, const struct conf *conf,
               struct client_faults *faults);

#endif
