/* The socket that the HTTP API listens on. */
#ifndef MQFLEET_SERVER_LISTENER_H
#define MQFLEET_SERVER_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

/* listen_address: IPv4 or IPv6, no name. The descriptor (not blocking), or -1 with fault (256
 * bytes) that names both settings with their values, and says why. */
int http_listener_open(const char *address_setting, const char *listen_address,
                       const char *port_setting, int64_t port, char *fault);
bool http_address_is_loopback(const char *address);

#endif
