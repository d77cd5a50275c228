/* Why a received message was dropped. */
#ifndef MQFLEET_MESSAGE_DROP_H
#define MQFLEET_MESSAGE_DROP_H

/* X(symbol, metric, name): the name is the label of the metric and the field in the API. */
#define MESSAGE_DROP_TABLE(X)                                                                      \
    X(DROP_SINK_FULL, METRIC_DROPPED_SINK_FULL, "sink_full")                                       \
    X(DROP_OVER_SHARE, METRIC_DROPPED_OVER_SHARE, "over_share")                                    \
    X(DROP_OVER_LIMIT, METRIC_DROPPED_OVER_LIMIT, "over_limit")                                    \
    X(DROP_OVER_QUOTA, METRIC_DROPPED_OVER_QUOTA, "over_quota")                                    \
    X(DROP_SINK_REFUSED, METRIC_DROPPED_SINK_REFUSED, "sink_refused")                              \
    X(DROP_BEST_EFFORT, METRIC_DROPPED_BEST_EFFORT, "best_effort")                                 \
    X(DROP_MEMORY, METRIC_DROPPED_MEMORY, "memory")                                                \
    X(DROP_SESSION_ENDED, METRIC_DROPPED_SESSION_ENDED, "session_ended")

enum message_drop {
#define MESSAGE_DROP_SYMBOL(symbol, metric, name) symbol,
    MESSAGE_DROP_TABLE(MESSAGE_DROP_SYMBOL)
#undef MESSAGE_DROP_SYMBOL
        MESSAGE_DROP_COUNT
};

const char *message_drop_name(enum message_drop reason);

#endif
