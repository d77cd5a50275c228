/* Error codes of every function that can fail. */
#ifndef MQFLEET_BASE_ERR_H
#define MQFLEET_BASE_ERR_H

/* X(symbol, name): logs and API answers show the name. */
#define ERR_TABLE(X)                                                                               \
    X(ERR_OK, "ok")                                                                                \
    X(ERR_MEMORY, "out_of_memory")                                                                 \
    X(ERR_ARGUMENT, "bad_argument")                                                                \
    X(ERR_NOT_FOUND, "not_found")                                                                  \
    X(ERR_EXISTS, "exists")                                                                        \
    X(ERR_VERSION, "version_mismatch")                                                             \
    X(ERR_FULL, "full")                                                                            \
    X(ERR_TIMEOUT, "timeout")                                                                      \
    X(ERR_UNAVAILABLE, "unavailable")                                                              \
    X(ERR_FENCED, "fenced")                                                                        \
    X(ERR_REFUSED, "refused")                                                                      \
    X(ERR_PROTOCOL, "protocol_error")                                                              \
    X(ERR_IO, "io_error")                                                                          \
    X(ERR_WRONG_STATE, "wrong_state")                                                              \
    X(ERR_CANCELED, "canceled")                                                                    \
    X(ERR_UNSUPPORTED, "unsupported")                                                              \
    X(ERR_BUSY, "busy")                                                                            \
    X(ERR_OVER_QUOTA, "over_quota")

enum err {
#define ERR_SYMBOL(symbol, name) symbol,
    ERR_TABLE(ERR_SYMBOL)
#undef ERR_SYMBOL
};

/* Marks a function whose result must be checked. */
#define MUST_CHECK __attribute__((warn_unused_result))

/* The name of the code; never NULL, static. Any thread. */
const char *err_name(enum err code);

#endif
