/* Owns the check of addresses that a probe did not need: a TCP connection to each, all at once,
 * closed as soon as it is connected. Runs on the probe's thread. */
#include "probe_address.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "mqtt/reactor/stream/stream.h"

#define PROBE_ADDRESS_CHECK_MS     1000
#define PROBE_ADDRESS_CHECK_MS_MIN 200 /* beyond the time of the probe */

static struct probe_address *probe_address_add(struct probe_report *report,
                                               const union socket_address *address) {
    struct probe_address *added = &report->addresses[report->address_count++];
    socket_address_text(address, added->address);
    return added;
}

void probe_address_note(struct probe_report *report, const union socket_address *address,
                        const char *step, const char *detail) {
    struct probe_address *added = probe_address_add(report, address);
    added->ok = !step;
    snprintf(added->detail, sizeof(added->detail), "%s%s%.130s", step ? step : "connected",
             step ? ": " : "", step ? detail : "");
}

static bool probe_address_is_noted(const struct probe_report *report,
                                   const union socket_address *address) {
    char text[SOCKET_ADDRESS_TEXT_LEN];
    socket_address_text(address, text);
    for (size_t i = 0; i < report->address_count; i++) {
        if (strcmp(report->addresses[i].address, text) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- check ----------------------------------------------------------------------------------- */

struct probe_address_check {
    struct pollfd sockets[ADDRESS_LIST_MAX];
    struct probe_address *addresses[ADDRESS_LIST_MAX];
    size_t count;
};

static void probe_address_check_end(struct probe_address_check *check, size_t i, bool ok,
                                    const char *detail) {
    check->addresses[i]->ok = ok;
    snprintf(check->addresses[i]->detail, PROBE_ADDRESS_DETAIL_LEN, "%.150s", detail);
    close(check->sockets[i].fd);
    check->count--;
    check->sockets[i] = check->sockets[check->count];
    check->addresses[i] = check->addresses[check->count];
}

static void probe_address_check_begin(struct probe_address_check *check,
                                      struct probe_report *report,
                                      const union socket_address *address) {
    struct stream_fault fault;
    struct probe_address *added = probe_address_add(report, address);
    int fd;
    if (stream_connect(&fd, &address->any, socket_address_len(address), NULL, &fault) != ERR_OK) {
        snprintf(added->detail, sizeof(added->detail), "%.150s", fault.message);
        return;
    }
    check->sockets[check->count] = (struct pollfd){.fd = fd, .events = POLLOUT};
    check->addresses[check->count++] = added;
}

static void probe_address_check_wait(struct probe_address_check *check, int64_t end_ms) {
    struct stream_fault fault;
    int64_t left_ms = end_ms - clock_ms();
    poll(check->sockets, check->count, left_ms > 0 ? (int)left_ms : 0);
    for (size_t i = check->count; i-- > 0;) {
        enum err err = stream_connected(check->sockets[i].fd, &fault);
        if (err != ERR_TIMEOUT) {
            probe_address_check_end(check, i, err == ERR_OK,
                                    err == ERR_OK ? "TCP connected; later steps were not tried"
                                                  : fault.message);
        }
    }
}

/* The step TCP names the addresses that failed, for readers who check only at the steps. */
static void probe_address_add_failed(struct probe_report *report) {
    for (size_t i = 0; i < report->count; i++) {
        struct probe_result *result = &report->results[i];
        for (size_t j = 0; result->step == PROBE_TCP && result->ok && j < report->address_count;
             j++) {
            const struct probe_address *address = &report->addresses[j];
            size_t len = strlen(result->detail);
            if (!address->ok) {
                snprintf(result->detail + len, sizeof(result->detail) - len, "; %s failed (%s)",
                         address->address, address->detail);
            }
        }
    }
}

void probe_address_check(struct probe_report *report, const struct address_list *all,
                         int64_t time_ms_max) {
    struct probe_address_check check = {.count = 0};
    char none[64];
    for (size_t i = 0; i < all->count; i++) {
        if (!probe_address_is_noted(report, &all->items[i])) {
            probe_address_check_begin(&check, report, &all->items[i]);
        }
    }
    int64_t time_ms = time_ms_max < PROBE_ADDRESS_CHECK_MS ? time_ms_max : PROBE_ADDRESS_CHECK_MS;
    time_ms = time_ms > PROBE_ADDRESS_CHECK_MS_MIN ? time_ms : PROBE_ADDRESS_CHECK_MS_MIN;
    int64_t end_ms = clock_ms() + time_ms;
    do {
        probe_address_check_wait(&check, end_ms);
    } while (check.count > 0 && clock_ms() < end_ms);
    snprintf(none, sizeof(none), "no answer within %.1f s", (double)time_ms / 1000.0);
    while (check.count > 0) {
        probe_address_check_end(&check, check.count - 1, false, none);
    }
    probe_address_add_failed(report);
}
