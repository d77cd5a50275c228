/* Owns a Paho client that is connected to a socket of our own, which acts as a broker with three
 * packets. Worker thread only.
 *
 *   paho_waker_wake --PINGRESP--> [ loopback TCP ] --> Paho's receive thread checks its sockets */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <MQTTAsync.h>
#include "base/telemetry/log.h"
#include "base/text.h"
#include "paho.h"

#define KEEPALIVE_S 60

struct paho_waker {
    int epoll_fd;
    int listen_fd; /* -1: connected */
    int peer_fd;   /* -1: not yet */
    bool answered; /* CONNACK sent */
    void *handle;
    struct paho_socket socket;
    uint16_t keepalive_s;
    char name[TEXT_ID_LEN]; /* client identifier that nobody can guess */
};

static bool paho_waker_watch_fd(int epoll_fd, int fd) {
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool paho_waker_listen_on_loopback(struct paho_waker *waker, struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    waker->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (waker->listen_fd < 0 ||
        bind(waker->listen_fd, (struct sockaddr *)address, sizeof *address) != 0 ||
        listen(waker->listen_fd, 4) != 0 ||
        getsockname(waker->listen_fd, (struct sockaddr *)address, &len) != 0) {
        return false;
    }
    return paho_waker_watch_fd(waker->epoll_fd, waker->listen_fd);
}

static bool paho_waker_connect_paho(struct paho_waker *waker) {
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;
    options.MQTTVersion = MQTTVERSION_3_1_1;
    options.keepAliveInterval = waker->keepalive_s;
    options.connectTimeout = KEEPALIVE_S;
    return MQTTAsync_connect(waker->handle, &options) == MQTTASYNC_SUCCESS;
}

static void paho_waker_drop(int *fd) {
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

struct paho_waker *paho_waker_create(int epoll_fd, int notify_fd) {
    struct paho_waker *waker = calloc(1, sizeof *waker);
    if (!waker) {
        return NULL;
    }
    *waker = (struct paho_waker){
        .epoll_fd = epoll_fd, .listen_fd = -1, .peer_fd = -1, .keepalive_s = KEEPALIVE_S};
    text_random_id(waker->name);
    paho_socket_init(&waker->socket);
    struct sockaddr_in address;
    char uri[64];
    if (!paho_waker_listen_on_loopback(waker, &address)) {
        goto failed;
    }
    /* A name of its own, so that its look-up is not mistaken for a client's. */
    snprintf(uri, sizeof(uri), "tcp://%s:%u", waker->name, ntohs(address.sin_port));
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer;
    create.MQTTVersion = MQTTVERSION_3_1_1;
    if (MQTTAsync_createWithOptions(&waker->handle, uri, waker->name, MQTTCLIENT_PERSISTENCE_NONE,
                                    NULL, &create) != MQTTASYNC_SUCCESS) {
        waker->handle = NULL;
        goto failed;
    }
    if (!paho_net_begin(waker->name, (struct sockaddr *)&address, &waker->socket, notify_fd) ||
        !paho_waker_connect_paho(waker)) {
        goto failed;
    }
    return waker;
failed:
    paho_waker_destroy(waker);
    return NULL;
}

void paho_waker_destroy(struct paho_waker *waker) {
    if (!waker) {
        return;
    }
    if (waker->handle) {
        MQTTAsync_destroy(&waker->handle);
    }
    paho_net_end(&waker->socket);
    paho_socket_end_probe(&waker->socket);
    paho_waker_drop(&waker->listen_fd);
    paho_waker_drop(&waker->peer_fd);
    free(waker);
}

static void paho_waker_accept_peer(struct paho_waker *waker) {
    int fd = accept4(waker->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    paho_waker_drop(&waker->peer_fd);
    waker->peer_fd = fd;
    waker->answered = false;
    (void)paho_waker_watch_fd(waker->epoll_fd, fd);
}

static void paho_waker_send_packet(struct paho_waker *waker, const uint8_t *packet, size_t len) {
    /* A full socket already has enough to read. */
    ssize_t sent = send(waker->peer_fd, packet, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent;
}

void paho_waker_wake(struct paho_waker *waker) {
    static const uint8_t pingresp[] = {0xD0, 0x00};
    if (waker->answered) {
        paho_waker_send_packet(waker, pingresp, sizeof(pingresp));
    }
}

/* Only Paho's CONNECT has the identifier; a stranger on our port does not know it. */
static void paho_waker_answer_connect(struct paho_waker *waker, const uint8_t *data, size_t len) {
    static const uint8_t connack[] = {0x20, 0x02, 0x00, 0x00};
    if (!memmem(data, len, waker->name, strlen(waker->name))) {
        paho_waker_drop(&waker->peer_fd);
        return;
    }
    paho_waker_send_packet(waker, connack, sizeof(connack));
    waker->answered = true;
    paho_waker_drop(&waker->listen_fd);
    paho_socket_end_probe(&waker->socket);
    paho_waker_set_keepalive(waker, waker->keepalive_s);
}

static void paho_waker_read_peer(struct paho_waker *waker) {
    uint8_t data[512];
    ssize_t n = recv(waker->peer_fd, data, sizeof(data), MSG_DONTWAIT);
    if (n > 0 && !waker->answered) {
        paho_waker_answer_connect(waker, data, (size_t)n);
    } else if (n > 0) {
        paho_waker_wake(waker); /* it sent PINGREQ */
    } else if (n == 0) {
        log_event(LOG_WARN, "paho_waker_lost", KS("effect", "new connections may take a second"));
        paho_waker_drop(&waker->peer_fd);
        waker->answered = false;
    }
}

void paho_waker_poll(struct paho_waker *waker) {
    if (waker->listen_fd >= 0) {
        paho_waker_accept_peer(waker);
    }
    if (waker->peer_fd >= 0) {
        paho_waker_read_peer(waker);
    }
}

void paho_waker_set_keepalive(struct paho_waker *waker, uint16_t keepalive_s) {
    waker->keepalive_s = keepalive_s;
    if (waker->answered) {
        /* Connected already: Paho only takes the new values. */
        (void)paho_waker_connect_paho(waker);
    }
}
