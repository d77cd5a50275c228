/* The floor: the cost of N connections for a program that only waits, reads, finds the packets,
 * acknowledges QoS 1 and counts. No reconnect, no timeout, no session, no copy of a message.
 *
 * One thread, one epoll, one read buffer. An incomplete packet waits in `rest`. */
#include "peer.h"
#include "wire.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define BUFFER_LEN   262144
#define EVENTS_MAX   256
#define PING_ROUND_S 45 /* each client is pinged so often; keepalive is 60 */

struct client {
    int fd;
    bool opened; /* CONNECT is written */
    uint32_t rest_len;
    uint8_t *rest;
};

static struct peer_options options;
static struct peer_counts counts;
static struct client *clients;
static int epoll_fd, opened, online, ping_next;

static void watch(int fd, uint32_t events, uint64_t what, int operation) {
    struct epoll_event event = {.events = events, .data.u64 = what};
    if (epoll_ctl(epoll_fd, operation, fd, &event) < 0) {
        peer_die("epoll_ctl");
    }
}

static void send_all(int fd, const uint8_t *data, size_t len) {
    if (send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len) {
        peer_die("send"); /* a few bytes always fit unless the broker hangs */
    }
}

static void open_more(void) {
    while (opened < options.clients && opened - online < IN_FLIGHT_MAX) {
        struct client *client = &clients[opened];
        client->fd = wire_open(options.port, SOCK_NONBLOCK);
        if (client->fd < 0) {
            peer_die("connect");
        }
        watch(client->fd, EPOLLOUT, (uint64_t)opened++, EPOLL_CTL_ADD);
    }
}

static void on_open(struct client *client, uint64_t index) {
    uint8_t packet[128];
    char name[NAME_LEN];
    snprintf(name, sizeof name, "c%05d", (int)index);
    send_all(client->fd, packet, wire_connect(packet, name, options.keepalive_s));
    client->opened = true;
    watch(client->fd, EPOLLIN, index, EPOLL_CTL_MOD);
}

static void subscribe(struct client *client) {
    uint8_t packet[128];
    char topic[NAME_LEN];
    snprintf(topic, sizeof topic, "%s%05d", options.prefix, (int)(client - clients));
    send_all(client->fd, packet, wire_subscribe(packet, topic, options.qos));
}

/* One complete packet; `body` follows its length. Answers go to *out. */
static void on_packet(struct client *client, uint8_t head, const uint8_t *body, size_t len,
                      uint8_t **out) {
    switch (head >> 4) {
    case 2:
        subscribe(client);
        break;
    case 9:
        if (++online == options.clients) {
            peer_online(online);
        }
        open_more();
        break;
    case 3: {
        size_t at = 2 + ((size_t)body[0] << 8 | body[1]);
        if (head & 6) {
            memcpy(*out, (uint8_t[]){0x40, 2, body[at], body[at + 1]}, 4);
            *out += 4;
            at += 2;
        }
        peer_received(&counts, body + at, len - at);
        break;
    }
    default:
        break;
    }
}

/* The length of the packet at data[0..len), its body at *body; 0: not whole. */
static size_t packet_len(const uint8_t *data, size_t len, const uint8_t **body) {
    size_t value = 0;
    for (size_t i = 1; i < len && i < 5; i++) {
        value |= (size_t)(data[i] & 127) << 7 * (i - 1);
        if (data[i] < 128) {
            *body = data + i + 1;
            return i + 1 + value <= len ? i + 1 + value : 0;
        }
    }
    return 0;
}

static void keep_rest(struct client *client, const uint8_t *data, size_t len) {
    free(client->rest);
    client->rest = NULL;
    client->rest_len = (uint32_t)len;
    if (len > 0) {
        client->rest = malloc(len);
        memcpy(client->rest, data, len);
    }
}

static void on_readable(struct client *client) {
    static uint8_t in[2 * BUFFER_LEN], out[BUFFER_LEN];
    uint8_t *answers = out;
    size_t at = 0, len = client->rest_len, size;
    const uint8_t *body;
    if (len > 0) {
        memcpy(in, client->rest, len);
    }
    ssize_t n = read(client->fd, in + len, BUFFER_LEN);
    if (n <= 0) {
        errno = n < 0 ? errno : ECONNRESET;
        peer_die("read");
    }
    len += (size_t)n;
    while ((size = packet_len(in + at, len - at, &body)) > 0) {
        on_packet(client, in[at], body, size - (size_t)(body - (in + at)), &answers);
        at += size;
    }
    if (client->rest_len > 0 || at < len) {
        keep_rest(client, in + at, len - at);
    }
    if (answers > out) {
        send_all(client->fd, out, (size_t)(answers - out));
    }
}

static void on_timer(int fd) {
    uint64_t ticks;
    if (read(fd, &ticks, sizeof ticks) < 0) {
        return;
    }
    for (int i = 0; online == options.clients && i <= options.clients / PING_ROUND_S; i++) {
        send_all(clients[ping_next].fd, (const uint8_t[]){0xC0, 0}, 2);
        ping_next = (ping_next + 1) % options.clients;
    }
}

#define WHAT_INPUT (UINT64_MAX - 1)
#define WHAT_TIMER UINT64_MAX

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS_MAX];
    struct itimerspec second = {{1, 0}, {1, 0}};
    options = peer_parse(argc, argv);
    clients = calloc((size_t)options.clients, sizeof *clients);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    timerfd_settime(timer_fd, 0, &second, NULL);
    watch(STDIN_FILENO, EPOLLIN, WHAT_INPUT, EPOLL_CTL_ADD);
    watch(timer_fd, EPOLLIN, WHAT_TIMER, EPOLL_CTL_ADD);
    peer_answer("{\"ready\":true}");
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            uint64_t what = events[i].data.u64;
            if (what == WHAT_INPUT) {
                if (peer_command(&counts)) {
                    open_more();
                }
            } else if (what == WHAT_TIMER) {
                on_timer(timer_fd);
            } else if (!clients[what].opened) {
                on_open(&clients[what], what);
            } else {
                on_readable(&clients[what]);
            }
        }
    }
}
