/* Owns the Paho engine's knowledge of Paho's sockets. Paho looks names up with a getaddrinfo that
 * blocks all its clients, never reveals which socket belongs to which client, and mistakes a
 * connect in progress for a successful one. So this file defines getaddrinfo, connect and
 * getsockopt for the whole executable. It answers the one look-up and the one connect announced
 * with paho_net_begin; other calls go to the C library. Any thread. */
#include <arpa/inet.h>
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>
#include "paho.h"

/* The kernel's keepalive: ends half-open connections without an MQTT keepalive (keepalive_s 0). */
#define TCP_IDLE_S     60
#define TCP_INTERVAL_S 20
#define TCP_PROBES     3

#define STATE_SYN_SENT 2     /* from netinet/tcp.h, which conflicts with linux/tcp.h */
#define PAHO_GOES_ON   (-22) /* Paho's TCPSOCKET_INTERRUPTED */

static struct {
    pthread_mutex_t lock;       /* guards the rest, and the fields of every paho_socket */
    struct paho_socket *socket; /* NULL: free */
    char host[256];
    char address[INET6_ADDRSTRLEN + 20];
    int notify_fd;
    struct paho_socket *probed; /* sockets with a probe_fd, including a connect in progress */
} paho_net_announced = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Set on Paho's thread between its look-up and its connect. */
static _Thread_local struct paho_socket *paho_net_connecting;
/* Set on a thread that has done an announced look-up: one of Paho's, which does no other look-ups.
 */
static _Thread_local bool paho_net_is_paho;

typedef int getaddrinfo_function(const char *, const char *, const struct addrinfo *,
                                 struct addrinfo **);
typedef int connect_function(int, const struct sockaddr *, socklen_t);
typedef int getsockopt_function(int, int, int, void *, socklen_t *);

static getaddrinfo_function *_Atomic paho_net_next_getaddrinfo;
static connect_function *_Atomic paho_net_next_connect;
static getsockopt_function *_Atomic paho_net_next_getsockopt;

/* The next definition after ours: of the C library or of a sanitizer. */
static void *paho_net_next_symbol(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) {
        abort(); /* without the C library nothing works */
    }
    return symbol;
}

static getaddrinfo_function *paho_net_real_getaddrinfo(void) {
    if (!paho_net_next_getaddrinfo) {
        paho_net_next_getaddrinfo = (getaddrinfo_function *)paho_net_next_symbol("getaddrinfo");
    }
    return paho_net_next_getaddrinfo;
}

static connect_function *paho_net_real_connect(void) {
    if (!paho_net_next_connect) {
        paho_net_next_connect = (connect_function *)paho_net_next_symbol("connect");
    }
    return paho_net_next_connect;
}

static getsockopt_function *paho_net_real_getsockopt(void) {
    if (!paho_net_next_getsockopt) {
        paho_net_next_getsockopt = (getsockopt_function *)paho_net_next_symbol("getsockopt");
    }
    return paho_net_next_getsockopt;
}

bool paho_net_is_interposed(void) {
    return dlsym(RTLD_DEFAULT, "getaddrinfo") == (void *)getaddrinfo &&
           dlsym(RTLD_DEFAULT, "connect") == (void *)connect &&
           dlsym(RTLD_DEFAULT, "getsockopt") == (void *)getsockopt;
}

/* Paho's call differs from all others in its form: no service, TCP requested. */
static bool paho_net_is_announced(const char *node, const char *service,
                                  const struct addrinfo *hints, char *address) {
    if (!node || service || !hints || hints->ai_protocol != IPPROTO_TCP) {
        return false;
    }
    pthread_mutex_lock(&paho_net_announced.lock);
    bool mine = paho_net_announced.socket && strcasecmp(paho_net_announced.host, node) == 0;
    paho_net_connecting = NULL;
    if (mine) {
        paho_net_is_paho = true;
        paho_net_connecting = paho_net_announced.socket;
        strcpy(address, paho_net_announced.address);
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
    return mine;
}

int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict result) {
    char address[sizeof(paho_net_announced.address)];
    if (!paho_net_is_announced(node, service, hints, address)) {
        /* Withdrawn, or a name that was neither resolved nor allowed: Paho must neither wait for
         * DNS nor reach it. */
        return paho_net_is_paho ? EAI_FAIL
                                : paho_net_real_getaddrinfo()(node, service, hints, result);
    }
    struct addrinfo numeric = *hints;
    numeric.ai_flags = AI_NUMERICHOST;
    return paho_net_real_getaddrinfo()(address, NULL, &numeric, result);
}

static void paho_net_set_option(int fd, int level, int name, int value) {
    int failed = setsockopt(fd, level, name, &value, sizeof(value));
    (void)failed; /* optional: works without */
}

/* Paho would leave the socket open in child processes, where it would outlive us. */
static void paho_net_prepare(int fd) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    paho_net_set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    paho_net_set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, TCP_IDLE_S);
    paho_net_set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, TCP_INTERVAL_S);
    paho_net_set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, TCP_PROBES);
}

/* The lock is held. */
static void paho_net_end_probe(struct paho_socket *socket) {
    if (socket->probe_fd >= 0) {
        close(socket->probe_fd);
        socket->probe_fd = -1;
        DL_DELETE(paho_net_announced.probed, socket);
    }
}

static void paho_net_remember(struct paho_socket *socket, int fd, int connect_errno) {
    struct stat status;
    pthread_mutex_lock(&paho_net_announced.lock);
    paho_net_end_probe(socket);
    socket->fd = fd;
    socket->inode = fstat(fd, &status) == 0 ? status.st_ino : 0;
    socket->probe_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    socket->connect_errno = connect_errno;
    if (socket->probe_fd >= 0) {
        DL_APPEND(paho_net_announced.probed, socket);
    }
    if (paho_net_announced.socket == socket) {
        paho_net_announced.socket = NULL;
        uint64_t one = 1;
        ssize_t written = write(paho_net_announced.notify_fd, &one, sizeof(one));
        (void)written; /* full: it is readable already */
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
}

int connect(int fd, const struct sockaddr *address, socklen_t address_len) {
    if (paho_net_connecting) {
        paho_net_prepare(fd);
    }
    int result = paho_net_real_connect()(fd, address, address_len);
    if (paho_net_connecting) {
        int saved = errno;
        paho_net_remember(paho_net_connecting, fd, result == 0 || saved == EINPROGRESS ? 0 : saved);
        paho_net_connecting = NULL;
        errno = saved;
    }
    return result;
}

bool paho_net_begin(const char *host, const struct sockaddr *address, struct paho_socket *socket,
                    int notify_fd) {
    socklen_t len =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    pthread_mutex_lock(&paho_net_announced.lock);
    assert(!paho_net_announced.socket);
    bool fits = strlen(host) < sizeof(paho_net_announced.host) &&
                getnameinfo(address, len, paho_net_announced.address,
                            sizeof(paho_net_announced.address), NULL, 0, NI_NUMERICHOST) == 0;
    if (fits) {
        strcpy(paho_net_announced.host, host);
        paho_net_announced.socket = socket;
        paho_net_announced.notify_fd = notify_fd;
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
    return fits;
}

void paho_net_withdraw(const struct paho_socket *socket) {
    pthread_mutex_lock(&paho_net_announced.lock);
    if (paho_net_announced.socket == socket) {
        paho_net_announced.host[0] = '\0'; /* matches no name */
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
}

void paho_net_end(struct paho_socket *socket) {
    pthread_mutex_lock(&paho_net_announced.lock);
    if (paho_net_announced.socket == socket) {
        paho_net_announced.socket = NULL;
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
}

bool paho_net_busy(void) {
    pthread_mutex_lock(&paho_net_announced.lock);
    bool busy = paho_net_announced.socket != NULL;
    pthread_mutex_unlock(&paho_net_announced.lock);
    return busy;
}

void paho_socket_init(struct paho_socket *socket) {
    *socket = (struct paho_socket){.fd = -1, .probe_fd = -1};
}

void paho_socket_end_probe(struct paho_socket *socket) {
    pthread_mutex_lock(&paho_net_announced.lock);
    paho_net_end_probe(socket);
    pthread_mutex_unlock(&paho_net_announced.lock);
}

static bool paho_net_tcp_info(int fd, struct tcp_info *info) {
    socklen_t len = sizeof *info;
    memset(info, 0, sizeof *info);
    return paho_net_real_getsockopt()(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

static bool paho_net_same_inode(int fd, const struct paho_socket *socket) {
    struct stat status;
    return socket->inode != 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) &&
           status.st_ino == socket->inode;
}

/* Reading the error clears it, and Paho does not report it. */
static void paho_net_remember_error(int fd, int error) {
    struct paho_socket *socket;
    pthread_mutex_lock(&paho_net_announced.lock);
    DL_FOREACH(paho_net_announced.probed, socket) {
        if (socket->fd == fd && paho_net_same_inode(fd, socket)) {
            socket->connect_errno = error;
        }
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
}

/* If Paho's receive thread polls a socket before its send thread has called connect, the socket
 * looks hung up. Paho then reads its error, mistakes "none" for connected, and tries to send
 * CONNECT. Until CONNECT can be sent, Paho reads its list of clients without its lock, and may
 * crash. TCPSOCKET_INTERRUPTED makes it wait until the socket is writable. No other caller asks
 * before. */
int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict value_len) {
    struct tcp_info info;
    int result = paho_net_real_getsockopt()(fd, level, name, value, value_len);
    if (result != 0 || level != SOL_SOCKET || name != SO_ERROR || *value_len != sizeof(int)) {
        return result;
    }
    if (*(int *)value != 0) {
        paho_net_remember_error(fd, *(int *)value);
    } else if (paho_net_tcp_info(fd, &info) && info.tcpi_state == STATE_SYN_SENT) {
        *(int *)value = PAHO_GOES_ON;
    }
    return result;
}

bool paho_socket_has_received(struct paho_socket *socket) {
    struct tcp_info info;
    pthread_mutex_lock(&paho_net_announced.lock);
    bool received = socket->probe_fd >= 0 && paho_net_tcp_info(socket->probe_fd, &info) &&
                    info.tcpi_bytes_received > 0;
    pthread_mutex_unlock(&paho_net_announced.lock);
    return received;
}

/* Paho may have closed the socket, and the number may be in use again: the inode shows it. */
static bool paho_net_still_open(const struct paho_socket *socket) {
    return socket->fd >= 0 && paho_net_same_inode(socket->fd, socket);
}

void paho_socket_drop(struct paho_socket *socket) {
    pthread_mutex_lock(&paho_net_announced.lock);
    if (paho_net_still_open(socket)) {
        shutdown(socket->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
}

int64_t paho_socket_silent_ms(struct paho_socket *socket) {
    struct tcp_info info;
    int64_t silent_ms = -1;
    pthread_mutex_lock(&paho_net_announced.lock);
    if (paho_net_still_open(socket) && paho_net_tcp_info(socket->fd, &info)) {
        silent_ms = info.tcpi_last_data_recv;
    }
    pthread_mutex_unlock(&paho_net_announced.lock);
    return silent_ms;
}
