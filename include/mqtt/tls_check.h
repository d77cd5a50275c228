/* Whether the PEM text of a configuration can be used at all, and its files be named, before the
 * configuration is stored. Pure: files, and what is encrypted or lies elsewhere, are not looked at.
 * Any thread. */
#ifndef MQFLEET_MQTT_TLS_CHECK_H
#define MQFLEET_MQTT_TLS_CHECK_H

#include "base/config/conf.h"
#include "mqtt/config/client_config.h"

/* Adds a fault at /tls/ca, /tls/cert or /tls/key for text that is no PEM of its kind, for a key
 * that needs a passphrase, for one that is not the certificate's, and for the path of a file that
 * this node's settings do not let clients name; no text of a material is in it. */
void tls_check(const struct client_config *config, const struct conf *conf,
               struct client_faults *faults);

#endif
