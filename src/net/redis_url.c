/* Owns the grammar of a Redis address. Pure functions, any thread. Knows nothing of connections. */
#include "net/redis_url.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "base/text.h"

#define PORT_DEFAULT 6379

static enum err refuse(char *fault, enum err code, const char *reason) {
    if (fault) {
        snprintf(fault, REDIS_URL_FAULT_LEN, "%s", reason);
    }
    return code;
}

static int hex_digit(char digit) {
    const char *digits = "0123456789abcdef";
    const char *at = digit ? strchr(digits, tolower((unsigned char)digit)) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* A new string, NULL when it is no percent-encoded text or memory ran out. */
static char *percent_decode(const char *text, size_t len) {
    char *decoded = malloc(len + 1);
    size_t at = 0;
    for (size_t i = 0; decoded && i < len; i++) {
        char byte = text[i];
        if (byte == '%') {
            int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
            if (low < 0 || (high == 0 && low == 0)) {
                free(decoded);
                return NULL;
            }
            byte = (char)(high * 16 + low);
            i += 2;
        }
        decoded[at++] = byte;
    }
    if (decoded) {
        decoded[at] = '\0';
    }
    return decoded;
}

/* Decimal digits only, in [0, most]; -1 otherwise. */
static int number(const char *text, size_t len, int most) {
    int64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return -1;
        }
        value = value * 10 + (text[i] - '0');
        if (value > most) {
            return -1;
        }
    }
    return len > 0 ? (int)value : -1;
}

static enum err parse_credentials(const char *text, size_t len, struct redis_url *out,
                                  char *fault) {
    const char *colon = memchr(text, ':', len);
    if (!colon) {
        return refuse(fault, ERR_ARGUMENT, "a user needs a password: redis://user:pass@host");
    }
    size_t user_len = (size_t)(colon - text);
    out->password = percent_decode(colon + 1, len - user_len - 1);
    out->user = user_len > 0 ? percent_decode(text, user_len) : NULL;
    if (!out->password || (user_len > 0 && !out->user)) {
        return refuse(fault, ERR_ARGUMENT, "user or password is not percent-encoded text");
    }
    return ERR_OK;
}

/* host, host:port, [v6] or [v6]:port. */
static enum err parse_host(const char *text, size_t len, struct redis_url *out, char *fault) {
    const char *host = text;
    const char *end = text + len;
    const char *host_end;
    if (len > 0 && *text == '[') {
        host++;
        host_end = memchr(host, ']', len - 1);
        if (!host_end) {
            return refuse(fault, ERR_ARGUMENT, "the IPv6 address has no closing bracket");
        }
        text = host_end + 1;
    } else {
        host_end = memchr(text, ':', len);
        host_end = host_end ? host_end : end;
        text = host_end;
    }
    if (host_end == host) {
        return refuse(fault, ERR_ARGUMENT, "the host is missing");
    }
    out->port = PORT_DEFAULT;
    if (text < end) {
        out->port = *text == ':' ? number(text + 1, (size_t)(end - text) - 1, 65535) : -1;
        if (out->port < 1) {
            return refuse(fault, ERR_ARGUMENT, "the port must be a number from 1 to 65535");
        }
    }
    out->host = text_copy(host, (size_t)(host_end - host));
    return out->host ? ERR_OK : refuse(fault, ERR_MEMORY, "out of memory");
}

static enum err parse_tcp(const char *rest, struct redis_url *out, char *fault) {
    size_t authority_len = strcspn(rest, "/");
    const char *db = rest + authority_len;
    const char *at = memrchr(rest, '@', authority_len);
    if (*db && db[1]) {
        out->db = number(db + 1, strlen(db + 1), INT_MAX);
        if (out->db < 0) {
            return refuse(fault, ERR_ARGUMENT, "what follows the host must be a database number");
        }
    }
    if (at) {
        size_t credentials_len = (size_t)(at - rest);
        enum err err = parse_credentials(rest, credentials_len, out, fault);
        if (err != ERR_OK) {
            return err;
        }
        rest += credentials_len + 1;
        authority_len -= credentials_len + 1;
    }
    return parse_host(rest, authority_len, out, fault);
}

static enum err parse_unix(const char *rest, struct redis_url *out, char *fault) {
    if (strncmp(rest, "//", 2) == 0) {
        rest += 2;
    }
    if (!*rest) {
        return refuse(fault, ERR_ARGUMENT, "the path of the Unix socket is missing");
    }
    if (strlen(rest) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return refuse(fault, ERR_ARGUMENT, "the path of a Unix socket is at most 107 bytes long");
    }
    out->path = text_dup(rest);
    return out->path ? ERR_OK : refuse(fault, ERR_MEMORY, "out of memory");
}

static enum err parse_tls(const char *rest, struct redis_url *out, char *fault) {
    (void)rest;
    (void)out;
    return refuse(fault, ERR_UNSUPPORTED, "rediss (TLS) is not built into this mqfleet");
}

static const struct {
    const char *prefix;
    enum err (*parse)(const char *rest, struct redis_url *out, char *fault);
} SCHEMES[] = {
    {"redis://", parse_tcp},
    {"rediss://", parse_tls},
    {"unix:", parse_unix},
};

enum err redis_url_parse(const char *text, struct redis_url *out, char *fault) {
    *out = (struct redis_url){0};
    for (size_t i = 0; i < sizeof SCHEMES / sizeof SCHEMES[0]; i++) {
        size_t prefix_len = strlen(SCHEMES[i].prefix);
        if (strncmp(text, SCHEMES[i].prefix, prefix_len) == 0) {
            enum err err = SCHEMES[i].parse(text + prefix_len, out, fault);
            if (err != ERR_OK) {
                redis_url_fini(out);
            }
            return err;
        }
    }
    return refuse(fault, ERR_ARGUMENT,
                  "a Redis address is redis://[user:pass@]host:port/db or unix:path");
}

void redis_url_fini(struct redis_url *url) {
    free(url->path);
    free(url->host);
    free(url->user);
    if (url->password) {
        explicit_bzero(url->password, strlen(url->password));
    }
    free(url->password);
    *url = (struct redis_url){0};
}
