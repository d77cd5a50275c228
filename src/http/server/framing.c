/* Checks of request framing. Pure functions; any thread. */
#include "http/server/framing.h"

#include <string.h>
#include <strings.h>

static bool framing_is_token(const char *name) { /* RFC 9110 section 5.6.2 */
    static const char ALLOWED[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    return name[0] != '\0' && name[strspn(name, ALLOWED)] == '\0';
}

static bool framing_has_control(const char *text, bool tab_is_one) {
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if ((*c < 0x20 && (*c != '\t' || tab_is_one)) || *c == 0x7f) {
            return true;
        }
    }
    return false;
}

static bool framing_is_number(const char *value) {
    return value[0] != '\0' && value[strspn(value, "0123456789")] == '\0';
}

/* Host names, addresses and a port; empty is legal (RFC 9112 section 3.2). */
static bool framing_is_host(const char *value) {
    static const char ALLOWED[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%:[]";
    return value[strspn(value, ALLOWED)] == '\0';
}

static const char *framing_field_fault(struct http_framing *framing, const char *name,
                                       const char *value) {
    if (!framing_is_token(name)) {
        return "the name of a header field must be a token, directly before the colon";
    }
    if (framing_has_control(value, false)) {
        return "a header field has a control character";
    }
    if (strcasecmp(name, "Host") == 0) {
        framing->hosts++;
        return framing_is_host(value) ? NULL : "Host: must be a host with an optional port";
    }
    if (strcasecmp(name, "Content-Length") == 0) {
        framing->lengths++;
        return framing_is_number(value) ? NULL : "Content-Length: must be one decimal number";
    }
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        framing->codings++;
        return strcasecmp(value, "chunked") == 0 ? NULL
                                                 : "Transfer-Encoding: only chunked is supported";
    }
    return NULL;
}

void http_framing_field(struct http_framing *framing, const char *name, const char *value) {
    const char *fault = framing_field_fault(framing, name, value);
    framing->fault = framing->fault ? framing->fault : fault;
}

const char *http_framing_fault(const struct http_framing *framing, const char *target,
                               const char *version) {
    bool is_old = strcmp(version, "HTTP/1.0") == 0;
    if (framing->fault) {
        return framing->fault;
    }
    if (framing_has_control(target, true) || strchr(target, ' ')) {
        return "the request target has a space or a control character";
    }
    if (framing->hosts > 1 || (framing->hosts == 0 && !is_old)) {
        return "there must be exactly one Host";
    }
    if (framing->lengths > 1) {
        return "more than one Content-Length";
    }
    if (framing->codings > 1) {
        return "more than one Transfer-Encoding";
    }
    if (framing->codings > 0 && framing->lengths > 0) {
        return "Content-Length and Transfer-Encoding exclude each other";
    }
    if (framing->codings > 0 && is_old) {
        return "HTTP/1.0 has no Transfer-Encoding";
    }
    return NULL;
}
