/* The addresses of a broker's name, in the order in which they are to be tried. Pure; any thread.
 */
#ifndef MQFLEET_BROKER_ADDRESS_LIST_H
#define MQFLEET_BROKER_ADDRESS_LIST_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "mqtt/config/address_policy.h"
#include "mqtt/broker/resolver.h"

#define ADDRESS_LIST_MAX        RESOLVER_ADDRESSES_MAX
#define SOCKET_ADDRESS_TEXT_LEN INET6_ADDRSTRLEN

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct address_list {
    size_t count;
    union socket_address items[ADDRESS_LIST_MAX];
};

socklen_t socket_address_len(const union socket_address *address);
bool socket_address_equal(const union socket_address *a, const union socket_address *b);
/* Without the port. */
void socket_address_text(const union socket_address *address, char out[SOCKET_ADDRESS_TEXT_LEN]);

/* Those of an answer that the policy allows, each with the port. None: *why tells why not. */
void address_list_allowed(struct address_list *list, const struct resolver_answer *answer,
                          uint16_t port, const struct address_policy *policy, const char *host,
                          const char **why);
/* To the first or the last place; one that is not in the list changes nothing. */
void address_list_move_first(struct address_list *list, const union socket_address *address);
void address_list_move_last(struct address_list *list, const union socket_address *address);
/* At the end, whether it was there or not; the first makes room if need be. */
void address_list_put_last(struct address_list *list, const union socket_address *address);

#endif
