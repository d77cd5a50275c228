/* Which brokers may be reached: host patterns and networks to allow and to deny, checked on the
 * configured host and again on every address DNS gives. Read-only after creation; any thread. */
#ifndef MQFLEET_CONFIG_ADDRESS_POLICY_H
#define MQFLEET_CONFIG_ADDRESS_POLICY_H

#include <stdbool.h>
#include <sys/socket.h>
#include "base/err.h"

struct address_policy;

/* Lists as in conf: comma-separated host patterns ("*.example.org"), addresses and networks
 * ("10.0.0.0/8", "fd00::/8"). allow "": everything not denied. listen: where the node's API is; a
 * node that others can reach must not be used to reach what only it can, so that beyond loopback
 * loopback, link-local, unspecified and multicast addresses are denied as well, unless `allow`
 * names the address or host (a pattern with "*" names none). An IPv6 address that leads to an IPv4
 * one (NAT64, 6to4) is denied with either.
 * ERR_ARGUMENT: an entry that is neither. */
enum err address_policy_create(struct address_policy **out, const char *allow, const char *deny,
                               const char *listen) MUST_CHECK;
void address_policy_destroy(struct address_policy *policy);

/* host as configured (name or address literal), before DNS. IPv4-mapped IPv6 counts as IPv4.
 * False: denied; *why (may be NULL) is a static text that names the setting. */
bool address_policy_host(const struct address_policy *policy, const char *host, const char **why);
/* An address that DNS gave for host. */
bool address_policy_address(const struct address_policy *policy, const char *host,
                            const struct sockaddr *address, const char **why);

#endif
