/* The addresses of a broker's name, in the order in which they are tried. Pure; any thread. */
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
/* The text of the address, without the port. */
void socket_address_text(const union socket_address *address, char out[SOCKET_ADDRESS_TEXT_LEN]);

/* The addresses of an answer that the policy allows, each with the port. If none: *why says why. */
void address_list_allowed(struct address_list *list, const struct resolver_answer *answer,
                          uint16_t port, const struct address_policy *policy, const char *host,
                          const char **why);
/* Moves an address to the first or last place; one that is not in the list changes nothing. */
void address_list_move_first(struct address_list *list, const union socket_address *address);
void address_list_move_last(struct address_list *list, const union socket_address *address);
/* Moves or adds an address to the end; if the list is full, the first is removed. */
void address_list_put_last(struct address_list *list, const union socket_address *address);

#endif
