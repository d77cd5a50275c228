/* The listening sockets of the HTTP API. Main thread. */
#ifndef MQFLEET_SERVER_LISTENER_H
#define MQFLEET_SERVER_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

/* listen_address: an IPv4 or IPv6 literal, not a name. Returns a non-blocking
 * descriptor. -1: `fault` (256 bytes) has both settings with their values, and the cause. */
int http_listener_open(const char *address_setting, const char *listen_address,
                       const char *port_setting, int64_t port, char *fault);
bool http_address_is_loopback(const char *address);

#endif
