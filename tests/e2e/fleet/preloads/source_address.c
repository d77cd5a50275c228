/* Preloaded into a node by the tests: every TCP connection it opens to loopback comes from the
 * address in E2E_SOURCE_ADDRESS, such as 127.0.0.7, so that a broker's log tells the nodes
 * apart. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

static int is_loopback(const struct sockaddr *address, socklen_t len) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)address;
    return address && len >= sizeof(*in) && address->sa_family == AF_INET &&
           ntohl(in->sin_addr.s_addr) >> 24 == 127;
}

static void bind_source(int fd) {
    struct sockaddr_in source = {.sin_family = AF_INET}, bound = {0};
    socklen_t len = sizeof(bound);
    const char *text = getenv("E2E_SOURCE_ADDRESS");
    if (!text || inet_pton(AF_INET, text, &source.sin_addr) != 1 ||
        getsockname(fd, (struct sockaddr *)&bound, &len) != 0 || bound.sin_port != 0) {
        return;
    }
    /* The port is chosen by connect(): a bind would take it from every destination. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
    (void)!bind(fd, (struct sockaddr *)&source, sizeof(source));
}

int connect(int fd, const struct sockaddr *address, socklen_t len) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (!next) {
        next = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    }
    if (is_loopback(address, len)) {
        bind_source(fd);
    }
    return next(fd, address, len);
}
