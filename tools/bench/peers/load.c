/* The load: publishes at a given rate, spread evenly over the topics of all clients, over a few
 * connections of its own. The same for every peer. One thread.
 *
 *   command                       answer (one JSON line)
 *   run RATE_PER_S MS QOS SIZE    {"sent":n,"ms":n,"late_ms_max":n} when over
 *
 * A timer of 100 us says how many messages are due, so that up to 10,000 a second each go alone, as
 * from thousands of devices, and not in bursts that a receiver could handle at one go. Messages
 * that the broker does not accept in time are sent up to 100 ms late; later ones are left out, as
 * `sent` shows. */
#include "peer.h"
#include "wire.h"

#include <poll.h>
#include <sys/timerfd.h>

#define CONNECTIONS 4
#define TICK_NS     100000
#define INPUT_TICKS 100 /* interval of reading the broker's acknowledgements */
#define QUEUE_LEN   (8u << 20)
#define LATE_NS_MAX 100000000u
#define PAYLOAD_MAX 65536

struct connection {
    int fd;
    uint16_t packet_id;
    size_t begin, end; /* of the bytes still to be written */
    uint8_t *queue;
};

struct run {
    uint64_t rate, duration_ns;
    int qos;
    size_t size;
};

static struct peer_options options;
static struct connection connections[CONNECTIONS];
static uint32_t topic_next;

static void connect_one(struct connection *connection, int number) {
    uint8_t packet[128], answer[4];
    char name[NAME_LEN];
    connection->queue = malloc(QUEUE_LEN);
    connection->fd = wire_open(options.port, 0);
    snprintf(name, sizeof name, "load-%d", number);
    size_t len = wire_connect(packet, name, 0);
    if (connection->fd < 0 || write(connection->fd, packet, len) != (ssize_t)len ||
        recv(connection->fd, answer, 4, MSG_WAITALL) != 4 || answer[3] != 0) {
        peer_die("connect");
    }
}

/* Consecutive messages do not have adjacent client numbers. */
static uint32_t next_topic(void) {
    uint32_t count = (uint32_t)options.clients, stride = 7919 % count ? 7919 : 7901;
    topic_next = (topic_next + stride) % count;
    return topic_next;
}

static void flush(struct connection *connection) {
    if (connection->begin == connection->end) {
        return;
    }
    ssize_t n = send(connection->fd, connection->queue + connection->begin,
                     connection->end - connection->begin, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        peer_die("send");
    }
    connection->begin += n > 0 ? (size_t)n : 0;
    if (connection->begin == connection->end) {
        connection->begin = connection->end = 0;
    }
}

static void discard_input(struct connection *connection) {
    static uint8_t in[65536];
    ssize_t n = recv(connection->fd, in, sizeof in, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        peer_die("recv");
    }
}

static bool append(struct connection *connection, const struct run *run) {
    static uint8_t filler[PAYLOAD_MAX];
    char topic[NAME_LEN], stamp[STAMP_LEN + 1];
    if (connection->end + run->size + 256 > QUEUE_LEN) {
        return false;
    }
    if (!filler[0]) {
        memset(filler, 'x', sizeof filler);
    }
    snprintf(topic, sizeof topic, "%s%05u", options.prefix, next_topic());
    if (++connection->packet_id == 0) {
        connection->packet_id = 1;
    }
    connection->end += wire_publish_head(connection->queue + connection->end, topic, run->qos,
                                         connection->packet_id, run->size);
    uint8_t *payload = connection->queue + connection->end;
    snprintf(stamp, sizeof stamp, "t=%019llu;", (unsigned long long)peer_now_ns());
    memcpy(payload, stamp, STAMP_LEN);
    memcpy(payload + STAMP_LEN, filler, run->size - STAMP_LEN);
    connection->end += run->size;
    return true;
}

static void run_load(const struct run *run, int timer_fd) {
    uint64_t began_ns = peer_now_ns(), sent = 0, left_out = 0, late_ns_max = 0, ticks, turn = 0;
    const uint64_t late_max = run->rate * LATE_NS_MAX / 1000000000u + 1;
    for (;;) {
        if (read(timer_fd, &ticks, sizeof ticks) < 0) {
            peer_die("timer");
        }
        uint64_t spent_ns = peer_now_ns() - began_ns;
        const bool over = spent_ns >= run->duration_ns;
        uint64_t due = (over ? run->duration_ns : spent_ns) / 1000 * run->rate / 1000000;
        late_ns_max = ticks * TICK_NS > late_ns_max ? ticks * TICK_NS : late_ns_max;
        if (due > sent + left_out + late_max) {
            left_out = due - sent - late_max;
        }
        while (sent + left_out < due && append(&connections[sent % CONNECTIONS], run)) {
            sent++;
        }
        const bool read_too = turn++ % INPUT_TICKS == 0;
        size_t waiting = 0;
        for (int i = 0; i < CONNECTIONS; i++) {
            flush(&connections[i]);
            if (read_too) {
                discard_input(&connections[i]);
            }
            waiting += connections[i].end;
        }
        if (over && (waiting == 0 || spent_ns > run->duration_ns + 10000000000u)) {
            break;
        }
    }
    printf("{\"sent\":%llu,\"ms\":%llu,\"late_ms_max\":%llu}\n", (unsigned long long)sent,
           (unsigned long long)((peer_now_ns() - began_ns) / 1000000),
           (unsigned long long)(late_ns_max / 1000000));
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct itimerspec tick = {{0, TICK_NS}, {0, TICK_NS}}, never = {{0, 0}, {0, 0}};
    char line[128];
    options = peer_parse(argc, argv);
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    for (int i = 0; i < CONNECTIONS; i++) {
        connect_one(&connections[i], i);
    }
    peer_answer("{\"ready\":true}");
    while (fgets(line, sizeof line, stdin)) {
        struct run run;
        unsigned long long rate, ms;
        if (sscanf(line, "run %llu %llu %d %zu", &rate, &ms, &run.qos, &run.size) != 4 ||
            run.size < STAMP_LEN || run.size > PAYLOAD_MAX) {
            exit(2);
        }
        run.rate = rate;
        run.duration_ns = ms * 1000000;
        timerfd_settime(timer_fd, 0, &tick, NULL);
        run_load(&run, timer_fd);
        timerfd_settime(timer_fd, 0, &never, NULL);
        for (int i = 0; i < CONNECTIONS; i++) {
            discard_input(&connections[i]);
        }
    }
    return 0;
}
