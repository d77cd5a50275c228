/* Parses broker addresses: URLs, and the bare "host" or "host:port" of the flat form. Pure; any
 * thread. Faults never quote the text, because a URL may contain a password. */
#include "client_config_fields.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/text.h"

#define HOST_NAME_MAX_LEN 253
#define LABEL_LEN_MAX     63
#define PATH_DEFAULT      "/mqtt"

static const struct {
    const char *name;
    uint16_t port;
    bool tls, has_path;
} config_url_schemes[] = {
    [SCHEME_MQTT] = {"mqtt", 1883, false, false},
    [SCHEME_MQTTS] = {"mqtts", 8883, true, false},
    [SCHEME_WS] = {"ws", 80, false, true},
    [SCHEME_WSS] = {"wss", 443, true, true},
};

static const struct {
    const char *name;
    enum client_scheme scheme;
} config_url_spellings[] = {
    {"mqtt", SCHEME_MQTT}, {"tcp", SCHEME_MQTT}, {"mqtts", SCHEME_MQTTS}, {"ssl", SCHEME_MQTTS},
    {"tls", SCHEME_MQTTS}, {"ws", SCHEME_WS},    {"wss", SCHEME_WSS},
};

const char *client_scheme_name(enum client_scheme scheme) {
    return config_url_schemes[scheme].name;
}

uint16_t client_scheme_port(enum client_scheme scheme) {
    return config_url_schemes[scheme].port;
}

bool client_scheme_is_tls(enum client_scheme scheme) {
    return config_url_schemes[scheme].tls;
}

bool client_scheme_has_path(enum client_scheme scheme) {
    return config_url_schemes[scheme].has_path;
}

static bool config_url_parse_scheme(enum client_scheme *out, const char *text, size_t len) {
    for (size_t i = 0; i < sizeof(config_url_spellings) / sizeof(config_url_spellings[0]); i++) {
        if (strlen(config_url_spellings[i].name) == len &&
            strncasecmp(config_url_spellings[i].name, text, len) == 0) {
            *out = config_url_spellings[i].scheme;
            return true;
        }
    }
    return false;
}

static const char *config_url_port_fault(uint16_t *out, const char *text, size_t len) {
    static const char fault[] = "must have a port from 1 to 65535 after the colon";
    unsigned long port = 0;
    if (len < 1 || len > 5) {
        return fault;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return fault;
        }
        port = port * 10 + (unsigned long)(text[i] - '0');
    }
    *out = (uint16_t)port;
    return port >= 1 && port <= 65535 ? NULL : fault;
}

/* Labels of letters, digits, "-" and "_" (used in container networks), perhaps with a final dot. */
static bool config_url_is_host_name(const char *host, size_t len) {
    size_t label_len = 0;
    if (len < 1 || len > HOST_NAME_MAX_LEN) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (host[i] == '.') {
            if (label_len == 0) {
                return false;
            }
            label_len = 0;
        } else if (!isalnum((unsigned char)host[i]) && host[i] != '-' && host[i] != '_') {
            return false;
        } else if (++label_len > LABEL_LEN_MAX) {
            return false;
        }
    }
    return true;
}

static enum err config_url_parse_host_name(struct client_url *out, const char *host, size_t len,
                                           const char **fault) {
    if (!config_url_is_host_name(host, len)) {
        *fault = "must have a host: a name in ASCII, an IPv4 address, or an IPv6 address in "
                 "brackets";
        return ERR_ARGUMENT;
    }
    out->host = text_copy(host, len);
    if (!out->host) {
        return ERR_MEMORY;
    }
    for (char *c = out->host; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    return ERR_OK;
}

/* One spelling per address, so that equal brokers compare equal. */
static enum err config_url_parse_ipv6(struct client_url *out, const char *host, size_t len,
                                      const char **fault) {
    char text[INET6_ADDRSTRLEN] = "";
    struct in6_addr address;
    if (len < sizeof(text)) {
        memcpy(text, host, len);
    }
    if (inet_pton(AF_INET6, text, &address) != 1) {
        *fault = "must have an IPv6 address in the brackets, as in [::1]";
        return ERR_ARGUMENT;
    }
    out->host = text_dup(inet_ntop(AF_INET6, &address, text, sizeof(text)));
    return !out->host ? ERR_MEMORY : ERR_OK;
}

/* host, host:port, [ipv6] or [ipv6]:port */
static enum err config_url_parse_authority(struct client_url *out, const char *text, size_t len,
                                           const char **fault) {
    const char *end = text + len;
    const char *bracket = len > 0 && text[0] == '[' ? memchr(text, ']', len) : NULL;
    const char *colon = !bracket ? memchr(text, ':', len) : bracket + 1;
    if (!colon) {
        colon = end;
    }
    if (!bracket && colon < end && memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        *fault = "must have an IPv6 address in brackets, as in [::1]:1883";
        return ERR_ARGUMENT;
    }
    if (colon < end) {
        *fault = *colon == ':'
                     ? config_url_port_fault(&out->port, colon + 1, (size_t)(end - colon - 1))
                     : "must have only a port after the brackets";
        if (*fault) {
            return ERR_ARGUMENT;
        }
    }
    return !bracket ? config_url_parse_host_name(out, text, (size_t)(colon - text), fault)
                    : config_url_parse_ipv6(out, text + 1, (size_t)(bracket - text - 1), fault);
}

static enum err config_url_parse_path(struct client_url *out, const char *path,
                                      const char **fault) {
    if (path[0] == '\0') {
        return ERR_OK;
    }
    if (!client_scheme_has_path(out->scheme)) {
        *fault = strcmp(path, "/") == 0 ? NULL : "must have no path: only ws and wss have one";
        return !*fault ? ERR_OK : ERR_ARGUMENT;
    }
    if (path[0] != '/' || strchr(path, '#')) {
        *fault = "must have a path that begins with / and has no #";
        return ERR_ARGUMENT;
    }
    const char *query = strchr(path, '?');
    if (query && strcmp(query + 1, CLIENT_SECRET_SHOWN) == 0) {
        *fault = "must have its query: " CLIENT_SECRET_SHOWN
                 " is only the mask with which the query is shown";
        return ERR_ARGUMENT;
    }
    out->path = text_dup(path);
    return !out->path ? ERR_MEMORY : ERR_OK;
}

static const char *config_url_characters_fault(const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~') {
            return "must have only ASCII characters and no blanks";
        }
    }
    return NULL;
}

static enum err config_url_parse_after_scheme(struct client_url *out, const char *authority,
                                              const char **fault) {
    size_t len = strcspn(authority, "/?#");
    if (memchr(authority, '@', len)) {
        *fault = "must have no user information: use the fields username and password";
        return ERR_ARGUMENT;
    }
    enum err err = config_url_parse_authority(out, authority, len, fault);
    return err == ERR_OK ? config_url_parse_path(out, authority + len, fault) : err;
}

enum err client_url_parse(struct client_url *out, const char *text, const char **fault) {
    *out = (struct client_url){.scheme = SCHEME_MQTT};
    *fault = config_url_characters_fault(text);
    if (*fault) {
        return ERR_ARGUMENT;
    }
    const char *separator = strstr(text, "://");
    if (separator && !config_url_parse_scheme(&out->scheme, text, (size_t)(separator - text))) {
        *fault = "must begin with mqtt://, mqtts://, ws:// or wss://";
        return ERR_ARGUMENT;
    }
    const char *authority = !separator ? text : separator + 3;
    enum err err = config_url_parse_after_scheme(out, authority, fault);
    /* The host of a URL ends at the first of / ? #, even if that is inside a password. */
    const char *cut = authority + strcspn(authority, "/?#");
    if (err == ERR_ARGUMENT && strchr(cut, '@')) {
        *fault = "seems to hold a user name and a password: move them into username and password, "
                 "as they are (in a URL, characters of a password such as # / ? @ would have to be "
                 "percent-encoded)";
    }
    return err;
}

bool client_url_take(struct client_url *url, struct client_endpoint *out) {
    bool needs_path = client_scheme_has_path(url->scheme) && !url->path;
    *out = (struct client_endpoint){.scheme = url->scheme,
                                    .port = url->port != 0 ? url->port
                                                           : client_scheme_port(url->scheme),
                                    .host = url->host,
                                    .path = needs_path ? text_dup(PATH_DEFAULT) : url->path};
    *url = (struct client_url){0};
    return !needs_path || out->path;
}

void client_url_fini(struct client_url *url) {
    free(url->host);
    free(url->path);
    *url = (struct client_url){0};
}
