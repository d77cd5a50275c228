/* Owns the listening sockets, the threads of libmicrohttpd and what requests share. A single
 * request is in transaction.c. Started and stopped by the main thread; callbacks run on the MHD
 * threads. */
#include "http/server/server.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "http/server/certificate.h"
#include "http/api/clients/client_waits.h"
#include "http/api/operations/operation_change.h"
#include "http/api/replay.h"
#include "http/streams/event_stream.h"
#include "http/server/listener.h"
#include "http/streams/tail_follower.h"
#include "server_internal.h"

#define MHD_THREADS             2
#define CONNECTIONS_SPARE       64 /* for connections that are shut down but not closed yet */
#define CONNECTION_MEMORY_BYTES ((size_t)32 * 1024) /* request line and headers */
#define CONNECTION_TIMEOUT_S    30
#define TLS_PRIORITIES          "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA"
/* Since 1.0, libmicrohttpd refuses lines that are folded or end in a bare LF. Earlier versions
 * would close the connection without an answer, so request_head.c checks the lines. */
#define STRICT_FOR_CLIENT    (MHD_VERSION >= 0x01000000 ? 1 : 0)
#define FINISH_MS_MAX        5000  /* of stop: for answers that were begun */
#define ABORT_MS_MAX         15000 /* of stop: for waits that were told to end */
#define SEND_MS_MAX          2000  /* of destroy: for the last bytes */
#define STREAMS_MS_MAX       500   /* of stop: for the last bytes of streams */
#define SERVER_STOP_CHECK_MS 5

/* ---- connections ----------------------------------------------------------------------------- */

static void http_server_on_connection(void *context, struct MHD_Connection *connection, void **slot,
                                      enum MHD_ConnectionNotificationCode code) {
    const struct http_frontend *frontend = context;
    struct http_server *server = frontend->server;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *slot = info ? connection_limit_enter(server->connection_limit, info->connect_fd) : NULL;
    } else {
        connection_limit_leave(server->connection_limit, *slot);
        *slot = NULL;
    }
}

/* While the node stops, new connections are closed at once. MHD_quiesce_daemon is no alternative:
 * with a pool of epoll threads, 0.9.75 sometimes removes the listener from an epoll set twice, and
 * aborts. */
static enum MHD_Result http_server_on_accept(void *context, const struct sockaddr *address,
                                             socklen_t len) {
    const struct http_frontend *frontend = context;
    const struct http_server *server = frontend->server;
    (void)address;
    (void)len;
    return atomic_load(&server->api.stop_stage) == HTTP_RUNNING ? MHD_YES : MHD_NO;
}

static void http_server_on_mhd_log(void *context, const char *format, va_list arguments) {
    (void)context;
    char text[256];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\r\n")] = '\0';
    log_event(LOG_DEBUG, "http_library", KS("message", text));
}

/* Disables the decoding by libmicrohttpd: routes and queries are decoded from the original text. */
static size_t http_server_keep_escapes(void *context, struct MHD_Connection *connection,
                                       char *text) {
    (void)context;
    (void)connection;
    return strlen(text);
}

/* ---- start and stop -------------------------------------------------------------------------- */

static enum err http_server_create_policy(struct http_server *server) {
    const struct conf *conf = server->api.context.conf;
    return address_policy_create(&server->api.address_policy, conf->broker_allow, conf->broker_deny,
                                 conf->http_listen);
}

static void http_server_wake_peer_calls(void *calls) {
    peer_calls_wake(calls);
}

static bool http_server_create_shared(struct http_server *server) {
    const struct http_context *context = &server->api.context;
    const struct conf *conf = context->conf;
    server->connection_limit = connection_limit_create((size_t)conf->http_connections_max);
    server->api.handler_pool = handler_pool_create((size_t)conf->http_connections_max / 2 + 1);
    server->api.pendings = pendings_create((size_t)conf->http_waiters, transaction_continue,
                                           http_server_wake_peer_calls, context->peer_calls);
    if (!server->connection_limit || !server->api.handler_pool || !server->api.pendings) {
        return false;
    }
    peer_calls_set_turn(context->peer_calls, pendings_turn, server->api.pendings);
    server->api.client_waits = client_waits_create(&server->api);
    server->api.replay = replay_create(server->api.context.store, server->api.context.sinks);
    return server->api.client_waits && server->api.replay;
}

static bool http_server_create_streams(struct http_server *server) {
    const struct http_context *context = &server->api.context;
    server->api.streams = event_streams_create((size_t)context->conf->http_streams_max);
    if (!server->api.streams) {
        return false;
    }
    server->api.tail_follower =
        tail_follower_create(&(struct tail_follower_wiring){.conf = context->conf,
                                                            .streams = server->api.streams,
                                                            .message_taps = context->message_taps,
                                                            .workers = context->workers,
                                                            .store = context->store,
                                                            .peers = context->peers});
    return server->api.tail_follower != NULL;
}

/* The options for HTTPS; none for HTTP. */
static void http_server_tls_options(const struct conf *conf, struct MHD_OptionItem options[3]) {
    size_t n = 0;
    if (conf->http_tls_cert_file[0] != '\0') {
        options[n++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, http_certificate_callback()};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES};
    }
    options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
}

static bool http_server_start_daemon(struct http_frontend *frontend, unsigned threads) {
    struct http_server *server = frontend->server;
    const struct conf *conf = server->api.context.conf;
    struct MHD_OptionItem tls[3];
    http_server_tls_options(conf, tls);
    frontend->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG |
            (conf->http_tls_cert_file[0] != '\0' ? MHD_USE_TLS : 0u),
        0, http_server_on_accept, frontend, transaction_handle, frontend,
        MHD_OPTION_EXTERNAL_LOGGER, http_server_on_mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET,
        frontend->listener, MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_CONNECTION_LIMIT,
        /* Each thread gets a share of this limit and would stop accepting. connection_limit.c
         * enforces the configured limit. */
        (unsigned)(conf->http_connections_max + CONNECTIONS_SPARE) * MHD_THREADS,
        MHD_OPTION_NOTIFY_CONNECTION, http_server_on_connection, frontend,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONNECTION_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES, MHD_OPTION_URI_LOG_CALLBACK,
        transaction_create, frontend, MHD_OPTION_NOTIFY_COMPLETED, transaction_completed, server,
        MHD_OPTION_UNESCAPE_CALLBACK, http_server_keep_escapes, NULL, MHD_OPTION_STRICT_FOR_CLIENT,
        STRICT_FOR_CLIENT, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    return frontend->daemon != NULL;
}

/* Binds both listeners before one of them answers: which routes the first one serves depends on
 * whether there is a second one. */
static enum err http_server_open_frontends(struct http_server *server, char *fault) {
    const struct conf *conf = server->api.context.conf;
    struct http_frontend *api = &server->frontends[FRONTEND_API];
    struct http_frontend *ops = &server->frontends[FRONTEND_OPS];
    api->listener = http_listener_open("http.listen", conf->http_listen, "node_info.port",
                                       conf->node_port, fault);
    if (api->listener >= 0 && conf->ops_port != 0) {
        ops->listener =
            http_listener_open("ops.listen", conf->ops_listen, "ops.port", conf->ops_port, fault);
    }
    return api->listener >= 0 && (conf->ops_port == 0 || ops->listener >= 0) ? ERR_OK
                                                                             : ERR_UNAVAILABLE;
}

static enum err http_server_start_frontends(struct http_server *server, char *fault) {
    for (size_t i = 0; i < FRONTEND_COUNT; i++) {
        struct http_frontend *frontend = &server->frontends[i];
        if (frontend->listener >= 0 &&
            !http_server_start_daemon(frontend, frontend->kind == FRONTEND_OPS ? 1 : MHD_THREADS)) {
            snprintf(fault, 256, "http.listen %.80s: the HTTP server did not start",
                     server->api.context.conf->http_listen);
            return ERR_UNAVAILABLE;
        }
    }
    return ERR_OK;
}

enum err http_server_start(struct http_server **out, const struct http_context *context,
                           char *fault) {
    *out = NULL;
    enum err err = ERR_MEMORY;
    snprintf(fault, 256, "http: out of memory");
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        return err;
    }
    server->api.context = *context;
    for (enum http_frontend_kind i = 0; i < FRONTEND_COUNT; i++) {
        server->frontends[i] = (struct http_frontend){server, NULL, -1, i};
    }
    err = http_server_create_policy(server);
    if (err != ERR_OK) {
        snprintf(fault, 256, "broker_allow, broker_deny: an entry is neither a name nor a network");
        goto out;
    }
    err = ERR_MEMORY;
    if (!http_server_create_shared(server) || !http_server_create_streams(server)) {
        goto out;
    }
    err = http_server_open_frontends(server, fault);
    if (err == ERR_OK) {
        err = http_server_start_frontends(server, fault);
    }
    if (err != ERR_OK) {
        goto out;
    }
    if (context->operations) {
        operations_set_prepare(context->operations, operation_change_prepare, &server->api);
    }
    *out = server;
    return ERR_OK;
out:
    http_server_destroy(server);
    return err;
}

void *http_server_handlers(struct http_server *server) {
    return server->api.handler_pool;
}

void *http_handlers_run(void *argument) {
    return handler_pool_run(argument);
}

void http_server_client_changed(struct http_server *server, const char *id, enum client_state state,
                                int64_t version) {
    client_waits_notify(server->api.client_waits, id, client_state_shown(state), version);
}

void *http_server_streams(struct http_server *server) {
    return server->api.tail_follower;
}

void *http_streams_run(void *argument) {
    return tail_follower_run(argument);
}

/* Streams whose reader does not read are closed with the remaining connections. */
static void http_server_end_streams(struct http_server *server) {
    int64_t deadline_ms = clock_ms() + STREAMS_MS_MAX;
    event_streams_close(server->api.streams);
    while (event_streams_count(server->api.streams) > 0 && clock_ms() < deadline_ms) {
        clock_sleep_ms(SERVER_STOP_CHECK_MS);
    }
    tail_follower_stop(server->api.tail_follower);
}

/* True: the counter reached 0 in time. */
static bool http_server_wait_for_zero(atomic_size_t *counter, int64_t timeout_ms) {
    int64_t deadline_ms = clock_ms() + timeout_ms;
    while (atomic_load(counter) > 0) {
        if (clock_ms() >= deadline_ms) {
            return false;
        }
        clock_sleep_ms(SERVER_STOP_CHECK_MS);
    }
    return true;
}

void http_server_end_open_streams(struct http_server *server) {
    event_streams_end_open(server->api.streams);
}

void http_server_stop(struct http_server *server) {
    atomic_store(&server->api.stop_stage, HTTP_STOPPING);
    pendings_stop(server->api.pendings, false);
    http_server_end_streams(server);
    if (!http_server_wait_for_zero(&server->transactions, FINISH_MS_MAX)) {
        atomic_store(&server->api.stop_stage, HTTP_ABORTING);
        pendings_stop(server->api.pendings, true);
    }
    if (!http_server_wait_for_zero(&server->suspended, ABORT_MS_MAX)) {
        log_event(LOG_ERROR, "http_stop_late", KI("requests", atomic_load(&server->suspended)));
    }
    handler_pool_close(server->api.handler_pool);
}

void http_server_destroy(struct http_server *server) {
    if (!server) {
        return;
    }
    if (server->frontends[FRONTEND_API].daemon) {
        atomic_store(&server->api.stop_stage, HTTP_ABORTING);
        handler_pool_close(server->api.handler_pool);
        pendings_stop(server->api.pendings, true);
        handler_pool_drain(server->api.handler_pool);
        event_streams_close(server->api.streams); /* resumes their connections */
        (void)http_server_wait_for_zero(&server->transactions, SEND_MS_MAX);
        assert(atomic_load(&server->suspended) == 0); /* MHD_stop_daemon requires it */
    }
    for (size_t i = 0; i < FRONTEND_COUNT; i++) {
        struct http_frontend *frontend = &server->frontends[i];
        if (frontend->daemon) {
            MHD_stop_daemon(frontend->daemon); /* closes the listener as well */
        } else if (frontend->listener >= 0) {
            close(frontend->listener);
        }
    }
    tail_follower_destroy(server->api.tail_follower);
    event_streams_destroy(server->api.streams);
    if (server->api.pendings) {
        peer_calls_set_turn(server->api.context.peer_calls, NULL, NULL);
    }
    client_waits_destroy(server->api.client_waits);
    replay_destroy(server->api.replay);
    pendings_destroy(server->api.pendings);
    handler_pool_destroy(server->api.handler_pool);
    connection_limit_destroy(server->connection_limit);
    address_policy_destroy(server->api.address_policy);
    free(server);
}
