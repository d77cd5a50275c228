/* Owns the listening socket, libmicrohttpd's threads and what requests share; one is in exchange.c.
 * Started and stopped by main's thread; its callbacks run on the MHD threads. Must not know what
 * any route means. */
#include "http/server.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/certificate.h"
#include "http/client_waits.h"
#include "http/event_stream.h"
#include "http/listener.h"
#include "http/tails.h"
#include "server_internal.h"

#define MHD_THREADS          2
#define CONNECTIONS_SPARE    64                  /* shut down already, not closed yet */
#define CONNECTION_MEMORY    ((size_t)32 * 1024) /* request line and headers */
#define CONNECTION_TIMEOUT_S 30
#define TLS_PRIORITIES       "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA"
/* From 1.0 on libmicrohttpd itself refuses lines that are folded or end in a bare LF; before, it
 * would close without an answer, and request_head.c judges. */
#define STRICT_FOR_CLIENT (MHD_VERSION >= 0x01000000 ? 1 : 0)
#define FINISH_MS_MAX     5000  /* of stop: for answers that were begun */
#define ABORT_MS_MAX      15000 /* of stop: for waits that were told to end */
#define SEND_MS_MAX       2000  /* of destroy: for the last bytes */
#define STREAMS_MS_MAX    500   /* of stop: for the last bytes of streams */
#define LOOK_MS           5

/* ---- connections ----------------------------------------------------------------------------- */

static void on_connection(void *context, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode code) {
    const struct http_front *front = context;
    struct http_server *server = front->server;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *slot = info != NULL ? crowd_enter(server->crowd, info->connect_fd) : NULL;
    } else {
        crowd_leave(server->crowd, *slot);
        *slot = NULL;
    }
}

/* New connections are closed at once while stopping. Not MHD_quiesce_daemon: with a pool of epoll
 * threads, 0.9.75 sometimes takes the listener out of an epoll set twice, and aborts. */
static enum MHD_Result on_accept(void *context, const struct sockaddr *address, socklen_t len) {
    const struct http_front *front = context;
    const struct http_server *server = front->server;
    (void)address;
    (void)len;
    return atomic_load(&server->api.stop) == HTTP_RUNNING ? MHD_YES : MHD_NO;
}

static void on_mhd_log(void *context, const char *format, va_list arguments) {
    (void)context;
    char text[256];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\r\n")] = '\0';
    log_event(LOG_DEBUG, "http_library", KS("message", text));
}

/* MHD's own decoding is turned off: routes and queries are decoded from what was sent. */
static size_t no_unescape(void *context, struct MHD_Connection *connection, char *text) {
    (void)context;
    (void)connection;
    return strlen(text);
}

/* ---- start and stop -------------------------------------------------------------------------- */

static enum err create_policy(struct http_server *server) {
    const struct conf *conf = server->api.context.conf;
    return address_policy_create(&server->api.policy, conf->broker_allow, conf->broker_deny,
                                 conf->http_listen);
}

static void wake_turn(void *calls) {
    peer_calls_wake(calls);
}

static bool create_shared(struct http_server *server) {
    const struct http_context *context = &server->api.context;
    const struct conf *conf = context->conf;
    server->crowd = crowd_create((size_t)conf->http_connections_max);
    server->api.workers = http_workers_create((size_t)conf->http_connections_max / 2 + 1);
    server->api.pendings =
        pendings_create((size_t)conf->http_waiters, exchange_go_on, wake_turn, context->calls);
    if (server->crowd == NULL || server->api.workers == NULL || server->api.pendings == NULL) {
        return false;
    }
    peer_calls_on_turn(context->calls, pendings_turn, server->api.pendings);
    server->api.waits = client_waits_create(&server->api);
    return server->api.waits != NULL;
}

static bool create_streams(struct http_server *server) {
    const struct http_context *context = &server->api.context;
    server->api.streams = event_streams_create((size_t)context->conf->http_streams_max);
    if (server->api.streams == NULL) {
        return false;
    }
    server->api.tails = tails_create(&(struct tails_wiring){.conf = context->conf,
                                                            .streams = server->api.streams,
                                                            .taps = context->taps,
                                                            .hosts = context->hosts,
                                                            .store = context->store,
                                                            .peers = context->peers});
    return server->api.tails != NULL;
}

/* The options that only HTTPS has; none otherwise. */
static void tls_options(const struct conf *conf, struct MHD_OptionItem options[3]) {
    size_t n = 0;
    if (conf->http_tls_cert_file[0] != '\0') {
        options[n++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, http_certificate_callback()};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES};
    }
    options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
}

static bool start_daemon(struct http_front *front, unsigned threads) {
    struct http_server *server = front->server;
    const struct conf *conf = server->api.context.conf;
    struct MHD_OptionItem tls[3];
    tls_options(conf, tls);
    front->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG |
            (conf->http_tls_cert_file[0] != '\0' ? MHD_USE_TLS : 0u),
        0, on_accept, front, exchange_access, front, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, front->listener, MHD_OPTION_THREAD_POOL_SIZE, threads,
        MHD_OPTION_CONNECTION_LIMIT,
        /* Each thread has its share of this limit and would stop accepting; the crowd keeps ours.
         */
        (unsigned)(conf->http_connections_max + CONNECTIONS_SPARE) * MHD_THREADS,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, front, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
        MHD_OPTION_URI_LOG_CALLBACK, exchange_create, front, MHD_OPTION_NOTIFY_COMPLETED,
        exchange_completed, server, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL,
        MHD_OPTION_STRICT_FOR_CLIENT, STRICT_FOR_CLIENT, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    return front->daemon != NULL;
}

/* Binds both listeners before either answers, so that each knows what it serves. */
static enum err open_fronts(struct http_server *server, char *fault) {
    const struct conf *conf = server->api.context.conf;
    struct http_front *api = &server->fronts[FRONT_API];
    struct http_front *ops = &server->fronts[FRONT_OPS];
    api->listener = http_listener_open("http.listen", conf->http_listen, "node_info.port",
                                       conf->node_port, fault);
    if (api->listener >= 0 && conf->ops_port != 0) {
        ops->listener =
            http_listener_open("ops.listen", conf->ops_listen, "ops.port", conf->ops_port, fault);
    }
    return api->listener >= 0 && (conf->ops_port == 0 || ops->listener >= 0) ? ERR_OK
                                                                             : ERR_UNAVAILABLE;
}

static enum err start_fronts(struct http_server *server, char *fault) {
    for (size_t i = 0; i < FRONT_COUNT; i++) {
        struct http_front *front = &server->fronts[i];
        if (front->listener >= 0 && !start_daemon(front, front->ops ? 1 : MHD_THREADS)) {
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
    enum err result = ERR_MEMORY;
    snprintf(fault, 256, "http: out of memory");
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return result;
    }
    server->api.context = *context;
    for (size_t i = 0; i < FRONT_COUNT; i++) {
        server->fronts[i] = (struct http_front){server, NULL, -1, i == FRONT_OPS};
    }
    result = create_policy(server);
    if (result != ERR_OK) {
        snprintf(fault, 256, "broker_allow, broker_deny: an entry is neither name nor network");
        goto out;
    }
    result = ERR_MEMORY;
    if (!create_shared(server) || !create_streams(server)) {
        goto out;
    }
    result = open_fronts(server, fault);
    if (result == ERR_OK) {
        result = start_fronts(server, fault);
    }
    if (result != ERR_OK) {
        goto out;
    }
    *out = server;
    return ERR_OK;
out:
    http_server_destroy(server);
    return result;
}

void *http_server_worker(struct http_server *server) {
    return server->api.workers;
}

void *http_worker_run(void *argument) {
    return http_workers_run(argument);
}

void http_server_changed(struct http_server *server, const char *id, enum client_state state,
                         int64_t version) {
    client_waits_tell(server->api.waits, id, client_state_shown(state), version);
}

void *http_server_streams(struct http_server *server) {
    return server->api.tails;
}

void *http_streams_run(void *argument) {
    return tails_run(argument);
}

/* Those whose other end does not read are cut off with the rest. */
static void end_streams(struct http_server *server) {
    int64_t deadline_ms = clock_ms() + STREAMS_MS_MAX;
    event_streams_end(server->api.streams);
    while (event_streams_count(server->api.streams) > 0 && clock_ms() < deadline_ms) {
        clock_sleep_ms(LOOK_MS);
    }
    tails_stop(server->api.tails);
}

/* True: the counter came to 0 in time. */
static bool wait_for_none(atomic_size_t *counter, int64_t timeout_ms) {
    int64_t deadline_ms = clock_ms() + timeout_ms;
    while (atomic_load(counter) > 0) {
        if (clock_ms() >= deadline_ms) {
            return false;
        }
        clock_sleep_ms(LOOK_MS);
    }
    return true;
}

void http_server_cut_streams(struct http_server *server) {
    event_streams_cut(server->api.streams);
}

void http_server_stop(struct http_server *server) {
    atomic_store(&server->api.stop, HTTP_STOPPING);
    pendings_stop(server->api.pendings, false);
    end_streams(server);
    if (!wait_for_none(&server->exchanges, FINISH_MS_MAX)) {
        atomic_store(&server->api.stop, HTTP_ABORTING);
        pendings_stop(server->api.pendings, true);
    }
    if (!wait_for_none(&server->handling, ABORT_MS_MAX)) {
        log_event(LOG_ERROR, "http_stop_late", KI("requests", atomic_load(&server->handling)));
    }
    http_workers_close(server->api.workers);
}

void http_server_destroy(struct http_server *server) {
    if (server == NULL) {
        return;
    }
    if (server->fronts[FRONT_API].daemon != NULL) {
        atomic_store(&server->api.stop, HTTP_ABORTING);
        http_workers_close(server->api.workers);
        pendings_stop(server->api.pendings, true);
        http_workers_drain(server->api.workers);
        event_streams_end(server->api.streams); /* none sleeps from now on */
        (void)wait_for_none(&server->exchanges, SEND_MS_MAX);
        assert(atomic_load(&server->handling) == 0); /* MHD must have no suspended connection */
    }
    for (size_t i = 0; i < FRONT_COUNT; i++) {
        struct http_front *front = &server->fronts[i];
        if (front->daemon != NULL) {
            MHD_stop_daemon(front->daemon); /* closes the listener as well */
        } else if (front->listener >= 0) {
            close(front->listener);
        }
    }
    tails_destroy(server->api.tails);
    event_streams_destroy(server->api.streams);
    if (server->api.pendings != NULL) {
        peer_calls_on_turn(server->api.context.calls, NULL, NULL);
    }
    client_waits_destroy(server->api.waits);
    pendings_destroy(server->api.pendings);
    http_workers_destroy(server->api.workers);
    crowd_destroy(server->crowd);
    address_policy_destroy(server->api.policy);
    free(server);
}
