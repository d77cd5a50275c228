/* Owns the grammar of a Redis address. Pure functions; any thread. */
#include "net/redis/redis_url.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "base/text.h"

#define PORT_DEFAULT          6379
#define SENTINEL_PORT_DEFAULT 26379

static enum err redis_url_refuse(char *fault, enum err err, const char *reason) {
    if (fault) {
        snprintf(fault, REDIS_URL_FAULT_LEN, "%s", reason);
    }
    return err;
}

static int redis_url_hex_digit(char digit) {
    const char *digits = "0123456789abcdef";
    const char *at = digit ? strchr(digits, tolower((unsigned char)digit)) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* A new string; NULL when it is not percent-encoded text or memory runs out. */
static char *redis_url_percent_decode(const char *text, size_t len) {
    char *decoded = malloc(len + 1);
    size_t at = 0;
    for (size_t i = 0; decoded && i < len; i++) {
        char byte = text[i];
        if (byte == '%') {
            int high = i + 2 < len ? redis_url_hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? redis_url_hex_digit(text[i + 2]) : -1;
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

/* Decimal digits only, in [0, most]; otherwise -1. */
static int redis_url_parse_number(const char *text, size_t len, int most) {
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

static enum err redis_url_parse_credentials(const char *text, size_t len, struct redis_url *out,
                                            char *fault) {
    const char *colon = memchr(text, ':', len);
    if (!colon) {
        return redis_url_refuse(fault, ERR_ARGUMENT,
                                "a user name requires a password: redis://user:pass@host");
    }
    size_t user_len = (size_t)(colon - text);
    out->password = redis_url_percent_decode(colon + 1, len - user_len - 1);
    out->user = user_len > 0 ? redis_url_percent_decode(text, user_len) : NULL;
    if (!out->password || (user_len > 0 && !out->user)) {
        return redis_url_refuse(fault, ERR_ARGUMENT,
                                "user or password is not percent-encoded text");
    }
    return ERR_OK;
}

/* host, host:port, [v6] or [v6]:port. */
static enum err redis_url_parse_address(const char *text, size_t len, int port_default,
                                        struct redis_address *out, char *fault) {
    const char *host = text;
    const char *end = text + len;
    const char *host_end;
    if (len > 0 && *text == '[') {
        host++;
        host_end = memchr(host, ']', len - 1);
        if (!host_end) {
            return redis_url_refuse(fault, ERR_ARGUMENT, "the IPv6 address has no closing bracket");
        }
        text = host_end + 1;
    } else {
        host_end = memchr(text, ':', len);
        host_end = host_end ? host_end : end;
        text = host_end;
    }
    size_t host_len = (size_t)(host_end - host);
    if (host_len == 0 || host_len >= sizeof out->host) {
        return redis_url_refuse(fault, ERR_ARGUMENT, "the host is missing or too long");
    }
    out->port = port_default;
    if (text < end) {
        out->port =
            *text == ':' ? redis_url_parse_number(text + 1, (size_t)(end - text) - 1, 65535) : -1;
        if (out->port < 1) {
            return redis_url_refuse(fault, ERR_ARGUMENT,
                                    "the port must be a number from 1 to 65535");
        }
    }
    memcpy(out->host, host, host_len);
    out->host[host_len] = '\0';
    return ERR_OK;
}

/* One or more, separated by commas. */
static enum err redis_url_parse_addresses(const char *text, size_t len, int port_default,
                                          struct redis_url *out, char *fault) {
    out->addresses = calloc(REDIS_ADDRESSES_MAX, sizeof *out->addresses);
    if (!out->addresses) {
        return redis_url_refuse(fault, ERR_MEMORY, "out of memory");
    }
    const char *end = text + len;
    enum err err = ERR_OK;
    while (err == ERR_OK && text <= end) { /* bounded by REDIS_ADDRESSES_MAX */
        const char *comma = memchr(text, ',', (size_t)(end - text));
        size_t one_len = (size_t)((comma ? comma : end) - text);
        if (out->address_count == REDIS_ADDRESSES_MAX) {
            return redis_url_refuse(fault, ERR_ARGUMENT, "there are more than 16 hosts");
        }
        err = redis_url_parse_address(text, one_len, port_default,
                                      &out->addresses[out->address_count++], fault);
        text += one_len + 1;
    }
    return err;
}

static enum err redis_url_parse_db(const char *text, struct redis_url *out, char *fault) {
    out->db = *text ? redis_url_parse_number(text, strlen(text), INT_MAX) : 0;
    return out->db >= 0
               ? ERR_OK
               : redis_url_refuse(fault, ERR_ARGUMENT, "the last part must be a database number");
}

/* [user:pass@]host:port,... */
static enum err redis_url_parse_authority(const char *text, size_t len, int port_default,
                                          struct redis_url *out, char *fault) {
    const char *at = memrchr(text, '@', len);
    if (at) {
        size_t credentials_len = (size_t)(at - text);
        enum err err = redis_url_parse_credentials(text, credentials_len, out, fault);
        if (err != ERR_OK) {
            return err;
        }
        text += credentials_len + 1;
        len -= credentials_len + 1;
    }
    return redis_url_parse_addresses(text, len, port_default, out, fault);
}

static enum err redis_url_parse_tcp(const char *rest, struct redis_url *out, char *fault) {
    size_t authority_len = strcspn(rest, "/");
    const char *path = rest + authority_len;
    enum err err = redis_url_parse_db(*path ? path + 1 : path, out, fault);
    return err == ERR_OK ? redis_url_parse_authority(rest, authority_len, PORT_DEFAULT, out, fault)
                         : err;
}

static enum err redis_url_parse_sentinel(const char *rest, struct redis_url *out, char *fault) {
    size_t authority_len = strcspn(rest, "/");
    const char *master = rest + authority_len + (rest[authority_len] == '/');
    size_t master_len = strcspn(master, "/");
    if (master_len == 0) {
        return redis_url_refuse(
            fault, ERR_ARGUMENT,
            "the master's name is missing: redis+sentinel://host:port,.../master/db");
    }
    out->master = text_copy(master, master_len);
    if (!out->master) {
        return redis_url_refuse(fault, ERR_MEMORY, "out of memory");
    }
    const char *db = master + master_len;
    enum err err = redis_url_parse_db(*db ? db + 1 : db, out, fault);
    return err == ERR_OK
               ? redis_url_parse_authority(rest, authority_len, SENTINEL_PORT_DEFAULT, out, fault)
               : err;
}

static enum err redis_url_parse_unix(const char *rest, struct redis_url *out, char *fault) {
    if (strncmp(rest, "//", 2) == 0) {
        rest += 2;
    }
    if (!*rest) {
        return redis_url_refuse(fault, ERR_ARGUMENT, "the path of the Unix socket is missing");
    }
    if (strlen(rest) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return redis_url_refuse(fault, ERR_ARGUMENT,
                                "the path of a Unix socket is at most 107 bytes long");
    }
    out->path = text_dup(rest);
    return out->path ? ERR_OK : redis_url_refuse(fault, ERR_MEMORY, "out of memory");
}

static const struct {
    const char *prefix;
    bool tls;
    enum err (*parse)(const char *rest, struct redis_url *out, char *fault);
} SCHEMES[] = {
    {"redis://", false, redis_url_parse_tcp},
    {"rediss://", true, redis_url_parse_tcp},
    {"redis+sentinel://", false, redis_url_parse_sentinel},
    {"rediss+sentinel://", true, redis_url_parse_sentinel},
    {"unix:", false, redis_url_parse_unix},
};

enum err redis_url_parse(const char *text, struct redis_url *out, char *fault) {
    *out = (struct redis_url){0};
    for (size_t i = 0; i < sizeof SCHEMES / sizeof SCHEMES[0]; i++) {
        size_t prefix_len = strlen(SCHEMES[i].prefix);
        if (strncmp(text, SCHEMES[i].prefix, prefix_len) != 0) {
            continue;
        }
        enum err err = SCHEMES[i].parse(text + prefix_len, out, fault);
        out->tls = SCHEMES[i].tls;
        if (err != ERR_OK) {
            redis_url_fini(out);
        }
        return err;
    }
    return redis_url_refuse(fault, ERR_ARGUMENT,
                            "a Redis address is redis://[user:pass@]host:port/db, "
                            "redis+sentinel://[user:pass@]host:port,.../master/db or unix:path");
}

void redis_url_fini(struct redis_url *url) {
    free(url->path);
    free(url->addresses);
    free(url->master);
    free(url->user);
    if (url->password) {
        explicit_bzero(url->password, strlen(url->password));
    }
    free(url->password);
    *url = (struct redis_url){0};
}
