/* Owns which texts are the address of a NATS server. */
#include "nats_url.h"

#include <string.h>

/* The rest after the host: nothing, or a port. */
static bool nats_url_is_port(const char *text) {
    size_t digits = *text == ':' ? strspn(text + 1, "0123456789") : 0;
    const char *end = digits > 0 && digits <= 5 ? text + 1 + digits : text;
    return strcmp(end, "") == 0 || strcmp(end, "/") == 0;
}

/* Where the host ends; NULL: it is none. */
static const char *nats_url_host_end(const char *host) {
    if (*host == '[') {
        size_t len = strspn(host + 1, "0123456789abcdefABCDEF:.");
        return len > 0 && host[len + 1] == ']' ? host + len + 2 : NULL;
    }
    const char *end = host + strcspn(host, ":/");
    size_t len = strcspn(host, "[]@,?# ");
    return end > host && host + len >= end ? end : NULL;
}

enum err nats_url_parse(const char *text, struct nats_url *out) {
    *out = (struct nats_url){.text = text, .tls = strncmp(text, "tls://", 6) == 0};
    if (!out->tls && strncmp(text, "nats://", 7) != 0) {
        return ERR_ARGUMENT;
    }
    const char *authority = strstr(text, "://") + 3;
    const char *at = strrchr(authority, '@'); /* a password may contain others */
    const char *host = at ? at + 1 : authority;
    const char *end = nats_url_host_end(host);
    if (!end || !nats_url_is_port(end)) {
        return ERR_ARGUMENT;
    }
    size_t bracket = *host == '[';
    size_t len = (size_t)(end - host) - 2 * bracket;
    if (len >= sizeof out->host) {
        return ERR_ARGUMENT;
    }
    memcpy(out->host, host + bracket, len);
    out->begin = (size_t)(host - text);
    out->end = (size_t)(end - text);
    return ERR_OK;
}

void nats_url_append_with(const struct nats_url *url, const char *address, struct buffer *out) {
    bool v6 = strchr(address, ':') != NULL;
    buffer_append(out, url->text, url->begin);
    buffer_printf(out, "%s%s%s%s", v6 ? "[" : "", address, v6 ? "]" : "", url->text + url->end);
}
