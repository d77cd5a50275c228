/* Shared by the peers written in C: the command line, the commands on standard input with their
 * answers on standard output, and the counters of received messages. One thread. Header only, so
 * that each peer is one compiler call.
 *
 *   command   answer (one JSON line)
 *   (start)   {"ready":true}
 *   start     {"online":N} once all clients have their SUBACK
 *   mark      {"marked":true}; counts begin anew
 *   report    {"received":n,"bytes":n,"delays_us":[[bucket,count],...]} since the mark
 *   quit      ends; so does the end of the input
 *
 * A payload begins with "t=", 19 digits of CLOCK_MONOTONIC in nanoseconds, ";". */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STAMP_LEN     22 /* "t=", digits, ";" */
#define STAMP_DIGITS  19
#define BUCKETS       1024
#define IN_FLIGHT_MAX 64 /* connections being opened at once, as in mqfleetd */
#define NAME_LEN      64

struct peer_options {
    int port, clients, qos, keepalive_s;
    const char *prefix; /* client i has the topic <prefix><i as five digits> */
    const char *ca;     /* NULL: no TLS */
    const char *path;   /* of the file to follow, for `follow` only */
};

static inline void peer_die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline struct peer_options peer_parse(int argc, char **argv) {
    static const struct option options[] = {{"port", 1, NULL, 'p'},      {"clients", 1, NULL, 'c'},
                                            {"qos", 1, NULL, 'q'},       {"prefix", 1, NULL, 't'},
                                            {"keepalive", 1, NULL, 'k'}, {"ca", 1, NULL, 'a'},
                                            {"path", 1, NULL, 'f'},      {NULL, 0, NULL, 0}};
    struct peer_options result = {.qos = 1, .keepalive_s = 60, .prefix = "bench/"};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            result.port = atoi(optarg);
            break;
        case 'c':
            result.clients = atoi(optarg);
            break;
        case 'q':
            result.qos = atoi(optarg);
            break;
        case 't':
            result.prefix = optarg;
            break;
        case 'k':
            result.keepalive_s = atoi(optarg);
            break;
        case 'a':
            result.ca = optarg;
            break;
        case 'f':
            result.path = optarg;
            break;
        default:
            exit(2);
        }
    }
    return result;
}

static inline uint64_t peer_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct peer_counts {
    uint64_t received, bytes;
    uint64_t delays_us[BUCKETS];
};

/* 32 buckets for each power of two. */
static inline unsigned peer_bucket(uint64_t value_us) {
    if (value_us < 32) {
        return (unsigned)value_us;
    }
    unsigned exponent = 63 - (unsigned)__builtin_clzll(value_us);
    unsigned bucket = (exponent - 4) * 32 + (unsigned)(value_us >> (exponent - 5) & 31);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static inline void peer_received(struct peer_counts *counts, const uint8_t *payload, size_t len) {
    uint64_t sent_ns = 0;
    counts->received++;
    counts->bytes += len;
    if (len < STAMP_LEN) {
        return;
    }
    for (size_t i = 2; i < 2 + STAMP_DIGITS; i++) {
        sent_ns = sent_ns * 10 + (uint64_t)(payload[i] - '0');
    }
    uint64_t now_ns = peer_now_ns();
    counts->delays_us[peer_bucket(now_ns > sent_ns ? (now_ns - sent_ns) / 1000 : 0)]++;
}

static inline void peer_report(const struct peer_counts *counts) {
    const char *comma = "";
    printf("{\"received\":%llu,\"bytes\":%llu,\"delays_us\":[",
           (unsigned long long)counts->received, (unsigned long long)counts->bytes);
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (counts->delays_us[i] > 0) {
            printf("%s[%u,%llu]", comma, i, (unsigned long long)counts->delays_us[i]);
            comma = ",";
        }
    }
    puts("]}");
}

static inline void peer_answer(const char *json) {
    puts(json);
    fflush(stdout);
}

static inline void peer_online(int clients) {
    printf("{\"online\":%d}\n", clients);
    fflush(stdout);
}

/* Reads one command; called when standard input is readable. True: "start". */
static inline bool peer_command(struct peer_counts *counts) {
    char line[64];
    ssize_t len = read(STDIN_FILENO, line, sizeof line - 1);
    if (len <= 0 || strncmp(line, "quit", 4) == 0) {
        exit(0);
    }
    if (strncmp(line, "start", 5) == 0) {
        return true;
    }
    if (strncmp(line, "mark", 4) == 0) {
        memset(counts, 0, sizeof *counts);
        peer_answer("{\"marked\":true}");
    } else {
        peer_report(counts);
        fflush(stdout);
    }
    return false;
}

#endif
