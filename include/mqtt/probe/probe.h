/* Tests a client configuration without storing it: opens a separate connection step by step,
 * subscribes, and closes it. Runs on the caller's thread with its own engine (`reactor`); workers
 * and their clients are not affected. The session is always clean, ends with the connection and has
 * no will. Subscriptions that take messages from other subscribers ($share/, $queue/, $exclusive/)
 * are not tested. Several addresses of a broker are raced as for a client. If one fails after TCP,
 * the next ones are tried; the report covers each address. Received messages are neither kept nor
 * acknowledged. */
#ifndef MQFLEET_PROBE_PROBE_H
#define MQFLEET_PROBE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "mqtt/broker/address_list.h"
#include "mqtt/config/client_config.h"
#include "mqtt/client_error.h"
#include "mqtt/broker/resolver.h"

#define PROBE_DETAIL_LEN         700
#define PROBE_ADDRESS_DETAIL_LEN 160

enum probe_step {
    PROBE_DNS,
    PROBE_TCP,
    PROBE_TLS,
    PROBE_WEBSOCKET,
    PROBE_CONNECT,
    PROBE_SUBSCRIBE,
    PROBE_STEP_COUNT
};
const char *probe_step_name(enum probe_step step); /* "dns" "tcp" "tls" ... */

struct probe_result {
    enum probe_step step;
    bool ok;
    int64_t us;
    char detail[PROBE_DETAIL_LEN]; /* contains no secret */
    enum client_error error;       /* of a failed step */
};

/* The result of one of several addresses. */
struct probe_address {
    char address[SOCKET_ADDRESS_TEXT_LEN];
    bool ok;
    char detail[PROBE_ADDRESS_DETAIL_LEN]; /* "connected", or the failure */
};

struct probe_report {
    bool ok;
    struct probe_result results[PROBE_STEP_COUNT]; /* the steps that were reached, in order, of the
                                                      address that got furthest */
    size_t count;
    struct probe_address addresses[ADDRESS_LIST_MAX]; /* if the name has several */
    size_t address_count;
};

struct probe_wiring { /* all borrowed */
    const struct conf *conf;
    struct resolver *resolver;
    const struct address_policy *policy;
};

/* The caller that waits for the report. is_gone: the caller no longer waits, or the node is about
 * to stop; called on the same thread every 20 ms. */
struct probe_caller {
    bool (*is_gone)(void *context);
    void *context;
};

/* Blocks for at most timeout_ms plus a few seconds for closing; connect_timeout_ms applies within
 * that time. Ends early when is_gone returns true. Changes config as described above. */
void probe_run(const struct probe_wiring *wiring, struct client_config *config, int64_t timeout_ms,
               const struct probe_caller *caller, struct probe_report *report);

#endif
