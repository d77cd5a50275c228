/* Owns the tables that sort error codes into the few values a metric's label has. Pure. */
#include "mqtt/outcome.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include "mqtt/reason_codes.h"

struct outcome {
    const char *code; /* ends in '*': all that begin so */
    enum metric metric;
};

static const struct outcome of_connect[] = {
    {"dns_failed", METRIC_CONNECT_DNS},
    {"broker_denied", METRIC_CONNECT_DENIED},
    {"connection_refused", METRIC_CONNECT_TCP},
    {"connection_lost", METRIC_CONNECT_TCP},
    {"tls_*", METRIC_CONNECT_TLS},
    {"connect_timeout", METRIC_CONNECT_TIMEOUT},
    {"subscribe_timeout", METRIC_CONNECT_TIMEOUT},
};

static const struct outcome of_loss[] = {
    {"connection_lost", METRIC_LOST_CLOSED},  {"keepalive_timeout", METRIC_LOST_KEEPALIVE},
    {"sink_unavailable", METRIC_LOST_SINK},   {"message_not_accepted", METRIC_LOST_SINK},
    {"protocol_error", METRIC_LOST_PROTOCOL}, {"malformed_packet", METRIC_LOST_PROTOCOL},
};

static enum metric find(const struct outcome *rows, size_t n, const char *code, enum metric told,
                        enum metric other) {
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(rows[i].code);
        bool open = rows[i].code[len - 1] == '*';
        if (open ? strncmp(rows[i].code, code, len - 1) == 0 : strcmp(rows[i].code, code) == 0) {
            return rows[i].metric;
        }
    }
    return reason_code_known(code) ? told : other;
}

enum metric outcome_of_connect(const char *code) {
    return find(of_connect, sizeof(of_connect) / sizeof(of_connect[0]), code,
                METRIC_CONNECT_REFUSED, METRIC_CONNECT_OTHER);
}

enum metric outcome_of_loss(const char *code) {
    return find(of_loss, sizeof(of_loss) / sizeof(of_loss[0]), code, METRIC_LOST_TOLD,
                METRIC_LOST_OTHER);
}
