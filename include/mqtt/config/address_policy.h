/* Which brokers may be reached: host patterns and networks to allow and to deny, checked for the
 * configured host and for every address that DNS returns. Read-only after creation; any thread. */
#ifndef MQFLEET_CONFIG_ADDRESS_POLICY_H
#define MQFLEET_CONFIG_ADDRESS_POLICY_H

#include <stdbool.h>
#include <sys/socket.h>
#include "base/err.h"

struct address_policy;

/* allow and deny are comma-separated lists of host patterns ("*.example.org"), addresses and
 * networks ("10.0.0.0/8", "fd00::/8"). An empty `allow` permits everything that is not denied.
 * listen: the address of the node's API. If other machines can reach it, the node must not give
 * them access to hosts that only the node can reach. In this case loopback, link-local, unspecified
 * and multicast addresses are denied too, unless `allow` names the address or host (a pattern with
 * "*" does not count). An IPv6 address that embeds an IPv4 address (NAT64, 6to4) is denied if
 * either is. ERR_ARGUMENT: an invalid entry. */
enum err address_policy_create(struct address_policy **out, const char *allow, const char *deny,
                               const char *listen) MUST_CHECK;
void address_policy_destroy(struct address_policy *policy);

/* Checks the host as configured (name or address literal), before DNS. IPv4-mapped IPv6 counts as
 * IPv4. False: denied; *why (may be NULL) is a static text that names the setting. */
bool address_policy_host(const struct address_policy *policy, const char *host, const char **why);
/* Checks an address that DNS returned for host. */
bool address_policy_address(const struct address_policy *policy, const char *host,
                            const struct sockaddr *address, const char **why);

#endif
