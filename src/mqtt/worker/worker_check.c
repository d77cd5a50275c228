/* Owns the check that distinguishes a broker's restart from a rival: a bare TCP connection, started
 * at the moment of a loss. A broker that was killed refuses it; if a proxy stands before the
 * broker, the proxy closes it soon. A broker that only disconnected the client keeps it open.
 * Worker thread only. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "mqtt/worker/worker.h"

static void worker_check_ignore_answer(struct resolver_request *request) {
    (void)request;
}

/* Uses only addresses that are known at once; a later check would be too late. */
static bool worker_check_find_address(struct client *client, union socket_address *out) {
    struct worker *worker = client->worker;
    const struct client_endpoint endpoint = worker_endpoint(client);
    struct resolver_request request = {.done = worker_check_ignore_answer};
    struct address_list list;
    const char *why;
    int at_once = 0;
    if (good_addresses_find(worker->good_addresses, client->broker->key, out)) {
        return true;
    }
    if (resolver_ask(worker->resolver, endpoint.host, &request, &at_once) != ERR_OK) {
        return false;
    }
    if (!at_once) {
        resolver_cancel(worker->resolver, &request);
        return false;
    }
    if (request.answer.result != ERR_OK) {
        return false;
    }
    address_list_allowed(&list, &request.answer, endpoint.port, worker->policy, endpoint.host,
                         &why);
    if (list.count == 0) {
        return false;
    }
    *out = list.items[0];
    return true;
}

void worker_check_broker(struct client *client) {
    union socket_address address;
    struct loss_facts *facts = client->loss;
    if (!worker_check_find_address(client, &address) || !worker_may_connect(client)) {
        return;
    }
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        worker_socket_done(client);
        return;
    }
    facts->check_fd = fd;
    facts->refused =
        connect(fd, &address.any, socket_address_len(&address)) < 0 && errno != EINPROGRESS;
}

/* Not connected yet, or closed again. */
static bool worker_check_is_refused(int fd) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    bool ended = n == 0 || (n < 0 && errno != EAGAIN);
    return ended || getpeername(fd, (struct sockaddr *)&peer, &len) < 0;
}

void worker_check_broker_again(struct client *client) {
    client->loss->refused |= worker_check_is_refused(client->loss->check_fd);
    worker_check_broker_end(client);
}

void worker_check_broker_end(struct client *client) {
    if (client->loss && client->loss->check_fd >= 0) {
        close(client->loss->check_fd);
        client->loss->check_fd = -1;
        worker_socket_done(client);
    }
}
