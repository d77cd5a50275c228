/* How often each address presented a wrong token lately. A bounded table: under many addresses the
 * one that was quiet for longest is forgotten. Any thread. */
#ifndef MQFLEET_AUTH_AUTH_THROTTLE_H
#define MQFLEET_AUTH_AUTH_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define AUTH_THROTTLE_ADDRESSES_MAX 1024
#define AUTH_THROTTLE_FAILURES_MAX  10 /* wrong tokens in a window that are answered as such */
#define AUTH_THROTTLE_WINDOW_MS     60000

struct auth_throttle;

struct auth_throttle *auth_throttle_create(void); /* NULL: out of memory */
void auth_throttle_destroy(struct auth_throttle *throttle);
/* Notes one from the address (IPv4, or the /64 of IPv6). Returns 0, or how long the address is to
 * wait, in milliseconds: it has used up what is free. */
int64_t auth_throttle_record_failure(struct auth_throttle *throttle,
                                     const struct sockaddr *address);

#endif
