/* Orders addresses. Pure; any thread. */
#include "mqtt/broker/address_list.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

socklen_t socket_address_len(const union socket_address *address) {
    return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

bool socket_address_equal(const union socket_address *a, const union socket_address *b) {
    if (a->any.sa_family != b->any.sa_family) {
        return false;
    }
    if (a->any.sa_family == AF_INET6) {
        return a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
               memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0;
    }
    return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
}

void socket_address_text(const union socket_address *address, char out[SOCKET_ADDRESS_TEXT_LEN]) {
    const void *bytes = address->any.sa_family == AF_INET6 ? (const void *)&address->v6.sin6_addr
                                                           : (const void *)&address->v4.sin_addr;
    if (!inet_ntop(address->any.sa_family, bytes, out, SOCKET_ADDRESS_TEXT_LEN)) {
        snprintf(out, SOCKET_ADDRESS_TEXT_LEN, "?");
    }
}

void address_list_allowed(struct address_list *list, const struct resolver_answer *answer,
                          uint16_t port, const struct address_policy *policy, const char *host,
                          const char **why) {
    list->count = 0;
    for (size_t i = 0; i < answer->count && i < ADDRESS_LIST_MAX; i++) {
        const struct sockaddr_storage *from = &answer->addresses[i];
        union socket_address *to = &list->items[list->count];
        if (!address_policy_address(policy, host, (const struct sockaddr *)from, why)) {
            continue;
        }
        memcpy(to, from, sizeof *to);
        if (to->any.sa_family == AF_INET6) {
            to->v6.sin6_port = htons(port);
        } else {
            to->v4.sin_port = htons(port);
        }
        list->count++;
    }
}

static size_t address_list_index_of(const struct address_list *list,
                                    const union socket_address *address) {
    size_t i = 0;
    while (i < list->count && !socket_address_equal(&list->items[i], address)) {
        i++;
    }
    return i;
}

void address_list_move_first(struct address_list *list, const union socket_address *address) {
    size_t place = address_list_index_of(list, address);
    if (place < list->count) {
        union socket_address moved = list->items[place];
        memmove(&list->items[1], &list->items[0], place * sizeof(moved));
        list->items[0] = moved;
    }
}

static void address_list_remove_at(struct address_list *list, size_t place) {
    list->count--;
    memmove(&list->items[place], &list->items[place + 1],
            (list->count - place) * sizeof(list->items[0]));
}

void address_list_move_last(struct address_list *list, const union socket_address *address) {
    if (address_list_index_of(list, address) < list->count) {
        address_list_put_last(list, address);
    }
}

void address_list_put_last(struct address_list *list, const union socket_address *address) {
    union socket_address last = *address;
    size_t place = address_list_index_of(list, address);
    if (place < list->count) {
        address_list_remove_at(list, place);
    } else if (list->count == ADDRESS_LIST_MAX) {
        address_list_remove_at(list, 0);
    }
    list->items[list->count++] = last;
}
