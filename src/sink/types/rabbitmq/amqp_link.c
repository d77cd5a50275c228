/* Owns the connection. The library's writes have no timeout, so the kernel ends a connection whose
 * data is not taken in time. */
#include "amqp_link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "sink/sink_settings.h"

#define LINK_CHANNEL   1
#define LINK_FRAME_MAX 131072

void amqp_link_init(struct amqp_link *link, const struct sink_environment *environment,
                    const json_t *settings) {
    *link = (struct amqp_link){.environment = environment,
                               .settings = settings,
                               .timeout_ms = sink_settings_integer(settings, "timeout_ms")};
}

void amqp_link_close(struct amqp_link *link) {
    if (link->connection) {
        amqp_destroy_connection(link->connection); /* closes the socket; waits for nothing */
    }
    link->connection = NULL;
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void amqp_link_set_error(struct amqp_link *link, const char *text, size_t len) {
    snprintf(link->error, sizeof link->error, "%.*s", (int)len, text);
    for (char *at = link->error; *at; at++) {
        *at = (unsigned char)*at < ' ' ? ' ' : *at;
    }
}

static enum err amqp_link_fail(struct amqp_link *link, int status) {
    const char *text = amqp_error_string2(status);
    amqp_link_set_error(link, text, strlen(text));
    return status == AMQP_STATUS_TIMEOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE;
}

/* The data table: whether the broker closed the channel because of a message's content. 406
 * PRECONDITION_FAILED has other causes, too, so the text is compared. */
static bool amqp_link_is_refusal(uint16_t code, amqp_bytes_t text) {
    static const char size[] = "message size";
    return code == AMQP_PRECONDITION_FAILED &&
           memmem(text.bytes, text.len, size, sizeof size - 1) != NULL;
}

static enum err amqp_link_fail_close(struct amqp_link *link, const amqp_method_t *method) {
    if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *closed = method->decoded;
        amqp_link_set_error(link, closed->reply_text.bytes, closed->reply_text.len);
        link->refused = amqp_link_is_refusal(closed->reply_code, closed->reply_text);
    } else if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *closed = method->decoded;
        amqp_link_set_error(link, closed->reply_text.bytes, closed->reply_text.len);
    } else {
        amqp_link_set_error(link, "unexpected answer", 17);
    }
    return ERR_UNAVAILABLE;
}

static enum err amqp_link_check_reply(struct amqp_link *link, amqp_rpc_reply_t reply) {
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
        return ERR_OK;
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
        return amqp_link_fail(link, reply.library_error);
    case AMQP_RESPONSE_SERVER_EXCEPTION:
        return amqp_link_fail_close(link, &reply.reply);
    default:
        return amqp_link_fail(link, AMQP_STATUS_UNEXPECTED_STATE);
    }
}

/* ---- open ------------------------------------------------------------------------------------ */

/* Borrows from *copy, a new copy of the url. */
static bool amqp_link_parse_url(const char *url, char **copy, struct amqp_connection_info *info) {
    *copy = text_dup(url);
    if (!*copy) {
        return false;
    }
    amqp_default_connection_info(info);
    return amqp_parse_url(*copy, info) == AMQP_STATUS_OK;
}

enum err amqp_link_check_url(const char *url, char *fault) {
    struct amqp_connection_info info;
    char *copy = NULL;
    bool valid = amqp_link_parse_url(url, &copy, &info);
    free(copy);
    if (!valid) {
        snprintf(fault, SINK_FAULT_LEN,
                 "url must be amqp://user:password@host:5672/vhost, or amqps://");
        return ERR_ARGUMENT;
    }
    return ERR_OK;
}

/* The library reads CA certificates from a file, but the settings have them as text. */
static int amqp_link_set_authorities(amqp_socket_t *socket, const char *pem) {
    char path[64];
    int fd = memfd_create("mqfleet-ca", MFD_CLOEXEC);
    size_t len = strlen(pem);
    int status = AMQP_STATUS_SSL_ERROR;
    if (fd >= 0 && write(fd, pem, len) == (ssize_t)len) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        status = amqp_ssl_socket_set_cacert(socket, path);
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

static amqp_socket_t *amqp_link_create_socket(struct amqp_link *link, bool tls) {
    const char *ca = sink_settings_text(link->settings, "tls_ca");
    if (!tls) {
        return amqp_tcp_socket_new(link->connection);
    }
    amqp_socket_t *socket = amqp_ssl_socket_new(link->connection);
    if (!socket) {
        return NULL;
    }
    amqp_ssl_socket_set_verify_peer(socket, 1);
    amqp_ssl_socket_set_verify_hostname(socket, 1);
    int status = *ca ? amqp_link_set_authorities(socket, ca)
                     : amqp_ssl_socket_set_cacert(socket, "/etc/ssl/certs/ca-certificates.crt");
    return status == AMQP_STATUS_OK ? socket : NULL;
}

/* The library resolves the name. Nothing but a TLS handshake has been sent so far. */
static enum err amqp_link_check_peer(struct amqp_link *link, const char *host) {
    const struct sink_environment *environment = link->environment;
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    const char *why = "its address is not known";
    if (!environment->address_allowed) {
        return ERR_OK;
    }
    int fd = amqp_get_sockfd(link->connection);
    if (getpeername(fd, (struct sockaddr *)&address, &len) == 0 &&
        environment->address_allowed(environment->address_context, host,
                                     (struct sockaddr *)&address, &why)) {
        return ERR_OK;
    }
    amqp_link_set_error(link, why, strlen(why));
    return ERR_REFUSED;
}

/* Data that the broker does not take within the timeout ends the connection (tcp(7)). */
static void amqp_link_bound_writes(struct amqp_link *link) {
    int fd = amqp_get_sockfd(link->connection);
    unsigned timeout_ms = (unsigned)link->timeout_ms;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static enum err amqp_link_log_in(struct amqp_link *link, const struct amqp_connection_info *info) {
    const char *user = sink_settings_text(link->settings, "username");
    const char *password = sink_settings_text(link->settings, "password");
    amqp_rpc_reply_t reply =
        amqp_login(link->connection, info->vhost, 0, LINK_FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN,
                   *user ? user : info->user, *password ? password : info->password);
    enum err err = amqp_link_check_reply(link, reply);
    if (err == ERR_OK) {
        amqp_channel_open(link->connection, LINK_CHANNEL);
        err = amqp_link_check_reply(link, amqp_get_rpc_reply(link->connection));
    }
    if (err == ERR_OK) {
        amqp_confirm_select(link->connection, LINK_CHANNEL);
        err = amqp_link_check_reply(link, amqp_get_rpc_reply(link->connection));
    }
    return err;
}

static enum err amqp_link_open(struct amqp_link *link, const struct amqp_connection_info *info) {
    struct timeval timeout = {.tv_sec = link->timeout_ms / 1000,
                              .tv_usec = link->timeout_ms % 1000 * 1000};
    link->connection = amqp_new_connection();
    if (!link->connection) {
        return ERR_MEMORY;
    }
    amqp_set_handshake_timeout(link->connection, &timeout);
    amqp_set_rpc_timeout(link->connection, &timeout);
    amqp_socket_t *socket = amqp_link_create_socket(link, info->ssl != 0);
    if (!socket) {
        return amqp_link_fail(link, AMQP_STATUS_SSL_ERROR);
    }
    int status = amqp_socket_open_noblock(socket, info->host, info->port, &timeout);
    if (status != AMQP_STATUS_OK) {
        return amqp_link_fail(link, status);
    }
    enum err err = amqp_link_check_peer(link, info->host);
    if (err != ERR_OK) {
        return err;
    }
    amqp_link_bound_writes(link);
    return amqp_link_log_in(link, info);
}

enum err amqp_link_ensure_open(struct amqp_link *link) {
    if (link->connection) {
        return ERR_OK;
    }
    struct amqp_connection_info info;
    char *copy = NULL;
    link->published = 0;
    link->refused = false;
    enum err err = ERR_MEMORY;
    if (amqp_link_parse_url(sink_settings_text(link->settings, "url"), &copy, &info)) {
        err = amqp_link_open(link, &info);
    }
    free(copy);
    if (err != ERR_OK) {
        amqp_link_close(link);
    }
    return err;
}

/* ---- publish --------------------------------------------------------------------------------- */

enum err amqp_link_publish(struct amqp_link *link, const char *exchange, amqp_bytes_t routing_key,
                           const amqp_basic_properties_t *properties, amqp_bytes_t body) {
    static const amqp_boolean_t mandatory = 1;
    int status = amqp_basic_publish(link->connection, LINK_CHANNEL, amqp_cstring_bytes(exchange),
                                    routing_key, mandatory, 0, properties, body);
    if (status != AMQP_STATUS_OK) {
        return amqp_link_fail(link, status);
    }
    link->published++;
    return ERR_OK;
}

/* ---- answers --------------------------------------------------------------------------------- */

static enum err amqp_link_read_returned(struct amqp_link *link, const amqp_method_t *method,
                                        const struct amqp_answers *answers) {
    const amqp_basic_return_t *returned = method->decoded;
    amqp_message_t message;
    char why[AMQP_LINK_ERROR_LEN], id[64] = "";
    snprintf(why, sizeof why, "%.*s", (int)returned->reply_text.len,
             (const char *)returned->reply_text.bytes);
    enum err err =
        amqp_link_check_reply(link, amqp_read_message(link->connection, LINK_CHANNEL, &message, 0));
    if (err != ERR_OK) {
        return err;
    }
    if (message.properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG) {
        amqp_bytes_t given = message.properties.message_id;
        snprintf(id, sizeof id, "%.*s", (int)given.len, (const char *)given.bytes);
    }
    amqp_destroy_message(&message);
    answers->returned(answers->context, id, why);
    return ERR_OK;
}

static enum err amqp_link_take_method(struct amqp_link *link, const amqp_method_t *method,
                                      const struct amqp_answers *answers) {
    if (method->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = method->decoded;
        answers->confirmed(answers->context, ack->multiple ? 0 : ack->delivery_tag,
                           ack->delivery_tag, true);
        return ERR_OK;
    }
    if (method->id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *nack = method->decoded;
        answers->confirmed(answers->context, nack->multiple ? 0 : nack->delivery_tag,
                           nack->delivery_tag, false);
        return ERR_OK;
    }
    return method->id == AMQP_BASIC_RETURN_METHOD ? amqp_link_read_returned(link, method, answers)
                                                  : amqp_link_fail_close(link, method);
}

enum err amqp_link_read(struct amqp_link *link, int64_t deadline_ms,
                        const struct amqp_answers *answers) {
    int64_t left_ms = deadline_ms - clock_ms();
    left_ms = left_ms > 0 ? left_ms : 0;
    struct timeval left = {.tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000};
    amqp_frame_t frame;
    amqp_maybe_release_buffers(link->connection);
    int status = amqp_simple_wait_frame_noblock(link->connection, &frame, &left);
    if (status != AMQP_STATUS_OK) {
        return amqp_link_fail(link, status);
    }
    return frame.frame_type == AMQP_FRAME_METHOD
               ? amqp_link_take_method(link, &frame.payload.method, answers)
               : ERR_OK;
}
