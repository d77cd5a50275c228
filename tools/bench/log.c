/* Measures the cost of a log line for its caller: written by the caller, and through the ring.
 * Prints the time of both and their ratio, for the given stderr: a file, /dev/null, a pipe with a
 * reader.
 *   cmake --build --preset release --target bench_log; build/release/bench_log 2>log */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"

#define LINES 100000
#define ALONE 3000
#define TURNS 5

static double now_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void line(int i) {
    log_event(LOG_INFO, "client_state", KS("client", "pump-1"), KS("from", "opening"),
              KS("to", "online"), KS("reason", "connected"), KI("attempt", i));
}

static double burst(void) {
    double begun = now_us(CLOCK_MONOTONIC);
    for (int i = 0; i < LINES; i++) {
        line(i);
    }
    return (now_us(CLOCK_MONOTONIC) - begun) / LINES;
}

/* Each line finds the writer asleep. */
static double alone(void) {
    double sum = 0;
    for (int i = 0; i < ALONE; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 4000000}, NULL);
        double begun = now_us(CLOCK_MONOTONIC);
        line(i);
        sum += now_us(CLOCK_MONOTONIC) - begun;
    }
    return sum / ALONE;
}

static void compare(const char *name, double (*measure)(void)) {
    double itself = measure();
    if (log_start((size_t)64 << 20) != ERR_OK) {
        exit(EXIT_FAILURE);
    }
    double ring = measure();
    log_stop(60000);
    printf("%-6s by itself %6.2f us, ring %6.2f us, ratio %.2f\n", name, itself, ring,
           ring / itself);
    fflush(stdout);
}

int main(void) {
    for (int turn = 0; turn < TURNS; turn++) {
        compare("burst", burst);
    }
    compare("alone", alone);
    long long dropped = metric_get(METRIC_LOG_DROPPED_INFO);
    printf("dropped %lld\n", dropped);
    return EXIT_SUCCESS;
}
