/* Tries the configuration of a client without keeping it: a connection of its own, opened step by
 * step, subscribed, and closed again. Runs on the caller's thread, with an engine (`reactor`) of
 * its own; the hosts and their clients are not touched. Always a clean session that ends with the
 * connection, and no will. Subscriptions that take from others ($share/, $queue/, $exclusive/) are
 * left out. Where the broker's name has several addresses they are raced as for a client, the next
 * after one that fails beyond TCP, and each is told of. What is received is neither kept nor
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
    char detail[PROBE_DETAIL_LEN]; /* no secret in it */
    enum client_error error;       /* of a step that failed */
};

/* What came of one of several addresses. */
struct probe_address {
    char address[SOCKET_ADDRESS_TEXT_LEN];
    bool ok;
    char detail[PROBE_ADDRESS_DETAIL_LEN]; /* "connected", or what failed */
};

struct probe_report {
    bool ok;
    struct probe_result results[PROBE_STEP_COUNT]; /* of the steps that were reached, in order: of
                                                    * the address that went farthest */
    size_t count;
    struct probe_address addresses[ADDRESS_LIST_MAX]; /* where the name has several */
    size_t address_count;
};

struct probe_wiring { /* all borrowed */
    const struct conf *conf;
    struct resolver *resolver;
    const struct address_policy *policy;
};

/* Who waits for the report. is_gone: nobody does any more, or the node is about to stop; asked on
 * the same thread every 20 ms. */
struct probe_asker {
    bool (*is_gone)(void *context);
    void *context;
};

/* Blocks for timeout_ms and the few seconds of a farewell at most; within it connect_timeout_ms
 * holds as for a client. Ends early once the asker is gone. Changes config as said above. */
void probe_run(const struct probe_wiring *wiring, struct client_config *config, int64_t timeout_ms,
               const struct probe_asker *asker, struct probe_report *report);

#endif
