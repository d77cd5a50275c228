/* Opens the listening sockets of the HTTP API. Main thread. Not left to libmicrohttpd, which does
 * not report the cause of a failure. */
#include "http/server/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t listener_parse_address(const char *text, uint16_t port, union address *out) {
    *out = (union address){0};
    if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        return sizeof(out->v4);
    }
    if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        return sizeof(out->v6);
    }
    return 0;
}

int http_listener_open(const char *address_setting, const char *listen_address,
                       const char *port_setting, int64_t port, char *fault) {
    union address address;
    int on = 1;
    int listener = -1;
    socklen_t address_len = listener_parse_address(listen_address, (uint16_t)port, &address);
    errno = EINVAL;
    if (address_len > 0) {
        listener = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    if (listener >= 0 && setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(listener, &address.any, address_len) == 0 && listen(listener, LISTEN_BACKLOG) == 0) {
        return listener;
    }
    snprintf(fault, 256, "%s %.80s, %s %lld: cannot listen: %s", address_setting, listen_address,
             port_setting, (long long)port, strerror(errno));
    if (listener >= 0) {
        close(listener);
    }
    return -1;
}

bool http_address_is_loopback(const char *text) {
    union address address;
    if (listener_parse_address(text, 0, &address) == 0) {
        return false;
    }
    if (address.any.sa_family == AF_INET) {
        return (ntohl(address.v4.sin_addr.s_addr) >> 24) == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&address.v6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&address.v6.sin6_addr) && address.v6.sin6_addr.s6_addr[12] == 127);
}
