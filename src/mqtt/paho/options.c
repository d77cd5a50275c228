/* Owns the translation of a client's configuration into Paho's connect options. Worker thread. Paho
 * copies everything it gets here, except the material files, which it opens when TCP is connected.
 */
#include <assert.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <MQTTAsync.h>
#include "base/secrets/client_file.h"
#include "paho.h"

#define BUFFERED_MAX           1000 /* publications that Paho may queue; the worker allows fewer */
#define URI_LEN                (256 + 3 * 4096 + 32) /* a path of colons only */
#define PAHO_MATERIAL_PATH_LEN 64
#define PAHO_MATERIAL_MAX      (4 * 1024 * 1024) /* bytes of a file of certificates */
#define ALPN_LEN               1024

enum paho_material { PAHO_MATERIAL_CA, PAHO_MATERIAL_CERT, PAHO_MATERIAL_KEY };

/* Everything that must live until MQTTAsync_connect has copied it. */
struct paho_translation {
    MQTTAsync_connectOptions options;
    MQTTAsync_willOptions will;
    MQTTAsync_SSLOptions ssl;
    MQTTProperties properties, will_properties;
    char paths[3][PAHO_MATERIAL_PATH_LEN];
    unsigned char alpn[ALPN_LEN];
};

static const char *paho_options_scheme(enum client_scheme scheme) {
    static const char *const schemes[] = {
        [SCHEME_MQTT] = "tcp", [SCHEME_MQTTS] = "ssl", [SCHEME_WS] = "ws", [SCHEME_WSS] = "wss"};
    return schemes[scheme];
}

static bool paho_options_is_tls(const struct client_config *config) {
    return config->scheme == SCHEME_MQTTS || config->scheme == SCHEME_WSS;
}

/* The host that Paho looks up, verifies and sends as SNI and Host header. Plain TCP sends no name,
 * so it uses the address. */
static char *paho_options_host(const struct engine_open *open) {
    const struct client_config *config = open->config;
    char address[INET6_ADDRSTRLEN + 20];
    if (config->scheme == SCHEME_MQTT) {
        int failed = getnameinfo((const struct sockaddr *)&open->address, open->address_len,
                                 address, sizeof(address), NULL, 0, NI_NUMERICHOST);
        return failed ? NULL : strdup(address);
    }
    const char *name = paho_options_is_tls(config) ? client_config_tls(config)->server_name : NULL;
    return strdup(name ? name : config->host);
}

/* Paho takes the text after the last colon of a URI for the port. */
static void paho_options_append_path(char uri[URI_LEN], const char *path) {
    size_t at = strlen(uri);
    for (const char *c = path; *c != '\0' && at + 4 < URI_LEN; c++) {
        at += (size_t)sprintf(uri + at, *c == ':' ? "%%3A" : "%c", *c);
    }
}

static void paho_options_format_uri(const struct engine_connection *connection, char uri[URI_LEN]) {
    const struct client_config *config = connection->open.config;
    bool websocket = config->scheme == SCHEME_WS || config->scheme == SCHEME_WSS;
    bool ipv6 = strchr(connection->host, ':') != NULL;
    snprintf(uri, URI_LEN, "%s://%s%s%s:%u", paho_options_scheme(config->scheme), ipv6 ? "[" : "",
             connection->host, ipv6 ? "]" : "", config->port);
    if (websocket && config->path) {
        paho_options_append_path(uri, config->path);
    }
}

/* An unnamed file. -1: not available. */
static int paho_options_open_text(const char *text) {
    int fd = memfd_create("mqfleet-tls", MFD_CLOEXEC);
    size_t len = strlen(text);
    for (size_t at = 0; fd >= 0 && at < len;) {
        ssize_t n = write(fd, text + at, len - at);
        if (n <= 0) {
            close(fd);
            return -1;
        }
        at += (size_t)n;
    }
    return fd;
}

/* Paho opens files while it holds its mutex: a pipe or a device would block every client of the
 * process forever. -1: not a file that a client may name, or too large. */
static int paho_options_open_file(const struct conf *conf, enum paho_material which,
                                  const char *path) {
    struct stat status;
    const char *why;
    int fd = client_file_open(
        conf, which == PAHO_MATERIAL_CA ? CLIENT_FILE_AUTHORITY : CLIENT_FILE_PRIVATE, path,
        &status, &why);
    if (fd >= 0 && status.st_size > PAHO_MATERIAL_MAX) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Where Paho finds the material; NULL: not given or not available. */
static const char *paho_options_material_path(struct engine_connection *connection,
                                              enum paho_material which, const char *text,
                                              char path[PAHO_MATERIAL_PATH_LEN]) {
    if (!text) {
        return NULL;
    }
    int fd = strstr(text, "-----BEGIN")
                 ? paho_options_open_text(text)
                 : paho_options_open_file(connection->engine->conf, which, text);
    if (fd < 0) {
        return NULL;
    }
    connection->material_fds[which] = fd;
    snprintf(path, PAHO_MATERIAL_PATH_LEN, "/proc/self/fd/%d", fd);
    return path;
}

void paho_close_material(struct engine_connection *connection) {
    for (size_t i = 0; i < sizeof(connection->material_fds) / sizeof(connection->material_fds[0]);
         i++) {
        if (connection->material_fds[i] >= 0) {
            close(connection->material_fds[i]);
            connection->material_fds[i] = -1;
        }
    }
}

/* The wire format of RFC 7301: each name after its length. Paho copies it up to the first NUL. */
static size_t paho_options_encode_alpn(const struct client_tls *tls, unsigned char out[ALPN_LEN]) {
    size_t at = 0;
    for (size_t i = 0; i < tls->alpn_count; i++) {
        size_t len = strlen(tls->alpn[i]);
        if (len == 0 || len > 255 || at + 1 + len + 1 > ALPN_LEN) {
            continue;
        }
        out[at++] = (unsigned char)len;
        memcpy(out + at, tls->alpn[i], len);
        at += len;
    }
    out[at] = 0;
    return at;
}

/* OpenSSL's line is "thread:error:code:library:function:reason:file:line:data". */
static int paho_options_note_tls_error(const char *line, size_t len, void *context) {
    struct engine_connection *connection = context;
    char copy[512];
    snprintf(copy, sizeof(copy), "%.*s", (int)len, line);
    char *rest = copy, *field = NULL;
    for (int i = 0; i < 6 && (field = strsep(&rest, ":")); i++) {
    }
    pthread_mutex_lock(&connection->engine->lock);
    if (connection->tls_error[0] == '\0' && field) {
        snprintf(connection->tls_error, sizeof(connection->tls_error), "%.*s",
                 (int)sizeof(connection->tls_error) - 1, field);
    }
    pthread_mutex_unlock(&connection->engine->lock);
    return 1;
}

static enum err paho_options_translate_tls(struct engine_connection *connection,
                                           struct paho_translation *t) {
    const struct client_tls *tls = client_config_tls(connection->open.config);
    t->ssl = (MQTTAsync_SSLOptions)MQTTAsync_SSLOptions_initializer;
    t->ssl.trustStore = paho_options_material_path(connection, PAHO_MATERIAL_CA, tls->ca,
                                                   t->paths[PAHO_MATERIAL_CA]);
    t->ssl.keyStore = paho_options_material_path(connection, PAHO_MATERIAL_CERT, tls->cert,
                                                 t->paths[PAHO_MATERIAL_CERT]);
    t->ssl.privateKey = paho_options_material_path(connection, PAHO_MATERIAL_KEY, tls->key,
                                                   t->paths[PAHO_MATERIAL_KEY]);
    if ((tls->ca && !t->ssl.trustStore) || (tls->cert && !t->ssl.keyStore) ||
        (tls->key && !t->ssl.privateKey)) {
        return ERR_IO;
    }
    t->ssl.privateKeyPassword = tls->key_password;
    t->ssl.enableServerCertAuth = !tls->insecure;
    t->ssl.verify = !tls->insecure;
    /* Paho ignores sslVersion with OpenSSL 1.1 and later, and lowers the security level. So only
     * cipher suites that versions before TLS 1.2 do not have are permitted. */
    t->ssl.enabledCipherSuites = "DEFAULT:!SSLv3:!TLSv1";
    t->ssl.disableDefaultTrustStore = tls->ca != NULL;
    t->ssl.ssl_error_cb = paho_options_note_tls_error;
    t->ssl.ssl_error_context = connection;
    t->ssl.protos_len = (unsigned)paho_options_encode_alpn(tls, t->alpn);
    t->ssl.protos = t->ssl.protos_len > 0 ? t->alpn : NULL;
    t->options.ssl = &t->ssl;
    return ERR_OK;
}

static void paho_options_add_number(MQTTProperties *properties, enum MQTTPropertyCodes code,
                                    uint32_t value) {
    MQTTProperty property = {.identifier = code};
    int type = MQTTProperty_getType(code);
    if (type == MQTTPROPERTY_TYPE_BYTE) {
        property.value.byte = (unsigned char)value;
    } else if (type == MQTTPROPERTY_TYPE_TWO_BYTE_INTEGER) {
        property.value.integer2 = (unsigned short)value;
    } else {
        property.value.integer4 = value;
    }
    MQTTProperties_add(properties, &property);
}

/* data NULL: not given. */
static void paho_options_add_bytes(MQTTProperties *properties, enum MQTTPropertyCodes code,
                                   char *data, size_t len) {
    MQTTProperty property = {.identifier = code};
    property.value.data = (MQTTLenString){(int)len, data};
    if (data) {
        MQTTProperties_add(properties, &property);
    }
}

static void paho_options_add_text(MQTTProperties *properties, enum MQTTPropertyCodes code,
                                  char *text) {
    paho_options_add_bytes(properties, code, text, !text ? 0 : strlen(text));
}

static void paho_options_add_pairs(MQTTProperties *properties, const struct client_pair *pairs,
                                   size_t n) {
    for (size_t i = 0; i < n; i++) {
        MQTTProperty property = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
        property.value.data = (MQTTLenString){(int)strlen(pairs[i].name), pairs[i].name};
        property.value.value = (MQTTLenString){(int)strlen(pairs[i].value), pairs[i].value};
        MQTTProperties_add(properties, &property);
    }
}

static void paho_options_translate_will_properties(const struct client_will *will,
                                                   struct paho_translation *t) {
    MQTTProperties *properties = &t->will_properties;
    if (will->delay_s > 0) {
        paho_options_add_number(properties, MQTTPROPERTY_CODE_WILL_DELAY_INTERVAL, will->delay_s);
    }
    if (will->payload_format_indicator > 0) {
        paho_options_add_number(properties, MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR,
                                will->payload_format_indicator);
    }
    if (will->message_expiry_interval > 0) {
        paho_options_add_number(properties, MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL,
                                will->message_expiry_interval);
    }
    paho_options_add_text(properties, MQTTPROPERTY_CODE_CONTENT_TYPE, will->content_type);
    paho_options_add_text(properties, MQTTPROPERTY_CODE_RESPONSE_TOPIC, will->response_topic);
    paho_options_add_bytes(properties, MQTTPROPERTY_CODE_CORRELATION_DATA,
                           (char *)will->correlation_data, will->correlation_data_len);
    paho_options_add_pairs(properties, will->user_properties, will->user_property_count);
    t->options.willProperties = properties;
}

static void paho_options_translate_properties(const struct client_config *config,
                                              struct paho_translation *t) {
    if (config->session_expiry_s > 0) {
        paho_options_add_number(&t->properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
                                config->session_expiry_s);
    }
    if (config->receive_maximum > 0) {
        paho_options_add_number(&t->properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM,
                                config->receive_maximum);
    }
    if (config->max_packet_size > 0) {
        paho_options_add_number(&t->properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE,
                                config->max_packet_size);
    }
    if (config->request_response_information) {
        paho_options_add_number(&t->properties, MQTTPROPERTY_CODE_REQUEST_RESPONSE_INFORMATION, 1);
    }
    if (!config->request_problem_information) {
        paho_options_add_number(&t->properties, MQTTPROPERTY_CODE_REQUEST_PROBLEM_INFORMATION, 0);
    }
    paho_options_add_pairs(&t->properties, config->user_properties, config->user_property_count);
    t->options.connectProperties = &t->properties;
    if (config->will) {
        paho_options_translate_will_properties(config->will, t);
    }
}

static void paho_options_translate_will(const struct client_will *will,
                                        struct paho_translation *t) {
    t->will = (MQTTAsync_willOptions)MQTTAsync_willOptions_initializer;
    t->will.topicName = will->topic;
    t->will.payload.data = will->payload_len > 0 ? will->payload : NULL;
    t->will.payload.len = (int)will->payload_len;
    t->will.qos = will->qos;
    t->will.retained = will->retain;
    t->options.will = &t->will;
}

static enum err paho_options_translate(struct engine_connection *connection,
                                       struct paho_translation *t) {
    const struct client_config *config = connection->open.config;
    bool v5 = config->protocol_version == 5;
    t->options = v5 ? (MQTTAsync_connectOptions)MQTTAsync_connectOptions_initializer5
                    : (MQTTAsync_connectOptions)MQTTAsync_connectOptions_initializer;
    t->options.MQTTVersion = config->protocol_version;
    t->options.keepAliveInterval = connection->open.keepalive_s;
    t->options.cleansession = !v5 && config->clean_start;
    t->options.cleanstart = v5 && config->clean_start;
    t->options.username = config->username;
    t->options.password = config->password;
    t->options.automaticReconnect = 0;
    t->options.retryInterval = 0;
    /* The worker has its own timer. Paho's, which is checked every 3 s, must not expire first. */
    t->options.connectTimeout = (int)(connection->open.connect_timeout_ms / 1000) + 60;
    if (config->will) {
        paho_options_translate_will(config->will, t);
    }
    if (v5) {
        paho_options_translate_properties(config, t);
    }
    paho_fill_connect_options(connection, &t->options);
    return paho_options_is_tls(config) ? paho_options_translate_tls(connection, t) : ERR_OK;
}

static enum err paho_options_create_handle(struct engine_connection *connection) {
    char uri[URI_LEN];
    paho_options_format_uri(connection, uri);
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer;
    create.sendWhileDisconnected = 0;
    create.maxBufferedMessages = BUFFERED_MAX;
    create.MQTTVersion = connection->protocol_version;
    bool v5 = connection->protocol_version == 5;
    connection->persistence = v5 ? NULL : paho_qos2_persistence(connection);
    if (!v5 && !connection->persistence) {
        return ERR_MEMORY;
    }
    int rc =
        MQTTAsync_createWithOptions(&connection->handle, uri, connection->client_id,
                                    v5 ? MQTTCLIENT_PERSISTENCE_NONE : MQTTCLIENT_PERSISTENCE_USER,
                                    connection->persistence, &create);
    if (rc != MQTTASYNC_SUCCESS) {
        connection->handle = NULL;
        return rc == MQTTASYNC_BAD_UTF8_STRING ? ERR_ARGUMENT : ERR_IO;
    }
    return paho_set_callbacks(connection);
}

enum err paho_connect(struct engine_connection *connection) {
    struct paho_translation t = {.properties = MQTTProperties_initializer,
                                 .will_properties = MQTTProperties_initializer};
    connection->tls = paho_options_is_tls(connection->open.config);
    connection->host = paho_options_host(&connection->open);
    if (!connection->host) {
        return ERR_ARGUMENT;
    }
    enum err err = paho_options_create_handle(connection);
    if (err != ERR_OK) {
        goto out;
    }
    err = paho_options_translate(connection, &t);
    if (err != ERR_OK) {
        goto out;
    }
    if (!paho_net_begin(connection->host, (const struct sockaddr *)&connection->open.address,
                        &connection->socket, connection->engine->event_fd)) {
        err = ERR_ARGUMENT;
        goto out;
    }
    if (MQTTAsync_connect(connection->handle, &t.options) != MQTTASYNC_SUCCESS) {
        paho_net_end(&connection->socket);
        err = ERR_ARGUMENT;
    }
out:
    MQTTProperties_free(&t.properties);
    MQTTProperties_free(&t.will_properties);
    return err;
}
