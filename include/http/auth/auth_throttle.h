/* Counts wrong tokens per address. The table is bounded; a new address replaces one with an older
 * window. Any thread. */
#ifndef MQFLEET_AUTH_AUTH_THROTTLE_H
#define MQFLEET_AUTH_AUTH_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define AUTH_THROTTLE_ADDRESSES_MAX 1024
#define AUTH_THROTTLE_FAILURES_MAX  10 /* per window; further attempts must wait */
#define AUTH_THROTTLE_WINDOW_MS     60000

struct auth_throttle;

struct auth_throttle *auth_throttle_create(void); /* NULL: out of memory */
void auth_throttle_destroy(struct auth_throttle *throttle);
/* Counts a wrong token for the address (IPv4, or the /64 network of IPv6). Returns how many ms the
 * address must wait; 0: not at all. */
int64_t auth_throttle_record_failure(struct auth_throttle *throttle,
                                     const struct sockaddr *address);

#endif
