/* libmosquitto with many clients: its functions for external event loops, driven by one epoll. One
 * thread; the library starts none. */
#include "peer.h"

#include <mosquitto.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define EVENTS_MAX   256
#define MISC_ROUND_S 15 /* interval of checking each client's keepalive */

struct client {
    struct mosquitto *mosquitto;
    int index, fd;
    uint32_t events; /* watched now */
};

static struct peer_options options;
static struct peer_counts counts;
static struct client *clients;
static int epoll_fd, opened, online, misc_next;

static void check(int result, const char *what) {
    if (result != MOSQ_ERR_SUCCESS) {
        fprintf(stderr, "%s: %s\n", what, mosquitto_strerror(result));
        exit(1);
    }
}

static void watch(int fd, uint32_t events, void *what, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(epoll_fd, operation, fd, &event) < 0) {
        peer_die("epoll_ctl");
    }
}

/* Watches for the events that the library wants now. */
static void watch_client(struct client *client) {
    uint32_t events = EPOLLIN | (mosquitto_want_write(client->mosquitto) ? EPOLLOUT : 0);
    if (events != client->events) {
        watch(client->fd, events, client, client->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
        client->events = events;
    }
}

static void on_connect(struct mosquitto *mosquitto, void *context, int code) {
    char topic[NAME_LEN];
    struct client *client = context;
    check(code, "CONNACK");
    snprintf(topic, sizeof topic, "%s%05d", options.prefix, client->index);
    check(mosquitto_subscribe(mosquitto, NULL, topic, options.qos), "subscribe");
}

static void on_subscribe(struct mosquitto *mosquitto, void *context, int id, int count,
                         const int *granted) {
    (void)mosquitto, (void)context, (void)id, (void)count, (void)granted;
    if (++online == options.clients) {
        peer_online(online);
    }
}

static void on_message(struct mosquitto *mosquitto, void *context,
                       const struct mosquitto_message *message) {
    (void)mosquitto, (void)context;
    peer_received(&counts, message->payload, (size_t)message->payloadlen);
}

static void on_disconnect(struct mosquitto *mosquitto, void *context, int code) {
    (void)mosquitto, (void)context;
    check(code, "disconnected");
}

static void open_client(struct client *client) {
    char name[NAME_LEN];
    client->index = opened;
    snprintf(name, sizeof name, "c%05d", opened++);
    client->mosquitto = mosquitto_new(name, true, client);
    if (!client->mosquitto) {
        peer_die("mosquitto_new");
    }
    mosquitto_connect_callback_set(client->mosquitto, on_connect);
    mosquitto_subscribe_callback_set(client->mosquitto, on_subscribe);
    mosquitto_message_callback_set(client->mosquitto, on_message);
    mosquitto_disconnect_callback_set(client->mosquitto, on_disconnect);
    mosquitto_int_option(client->mosquitto, MOSQ_OPT_TCP_NODELAY, 1);
    if (options.ca) {
        check(mosquitto_tls_set(client->mosquitto, options.ca, NULL, NULL, NULL, NULL), "tls_set");
    }
    check(mosquitto_connect(client->mosquitto, "127.0.0.1", options.port, options.keepalive_s),
          "connect");
    client->fd = mosquitto_socket(client->mosquitto);
    watch_client(client);
}

static void open_more(void) {
    while (opened < options.clients && opened - online < IN_FLIGHT_MAX) {
        open_client(&clients[opened]);
    }
}

static void on_event(struct client *client, uint32_t events) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        check(mosquitto_loop_read(client->mosquitto, 1), "loop_read");
    }
    if (events & EPOLLOUT || mosquitto_want_write(client->mosquitto)) {
        check(mosquitto_loop_write(client->mosquitto, 1), "loop_write");
    }
    watch_client(client);
}

static void on_timer(int fd) {
    uint64_t ticks;
    if (read(fd, &ticks, sizeof ticks) < 0) {
        return;
    }
    for (int i = 0; online == options.clients && i <= options.clients / MISC_ROUND_S; i++) {
        check(mosquitto_loop_misc(clients[misc_next].mosquitto), "loop_misc");
        watch_client(&clients[misc_next]);
        misc_next = (misc_next + 1) % options.clients;
    }
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS_MAX];
    struct itimerspec second = {{1, 0}, {1, 0}};
    bool started = false;
    mosquitto_lib_init();
    options = peer_parse(argc, argv);
    clients = calloc((size_t)options.clients, sizeof *clients);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    timerfd_settime(timer_fd, 0, &second, NULL);
    watch(STDIN_FILENO, EPOLLIN, NULL, EPOLL_CTL_ADD);
    watch(timer_fd, EPOLLIN, &timer_fd, EPOLL_CTL_ADD);
    peer_answer("{\"ready\":true}");
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            if (!what) {
                started |= peer_command(&counts);
            } else if (what == &timer_fd) {
                on_timer(timer_fd);
            } else {
                on_event(what, events[i].events);
            }
        }
        if (started && opened < options.clients) {
            open_more();
        }
    }
}
