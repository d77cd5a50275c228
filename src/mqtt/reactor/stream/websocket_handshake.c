/* Owns the opening handshake of a WebSocket connection (RFC 6455 section 4.1): the request, and the
 * check of its answer. One thread per connection. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include "base/text.h"
#include "websocket_internal.h"

#define NONCE_LEN            16
#define KEY_LEN              24 /* a nonce in base64 */
#define HANDSHAKE_ACCEPT_LEN 28 /* a SHA-1 in base64 */
#define SHA1_LEN             20
#define SUBPROTOCOL_MAX      64
#define HANDSHAKE_HEAD_END   "\r\n\r\n"
#define HANDSHAKE_GUID       "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 section 1.3 */

struct websocket_handshake {
    char accept[HANDSHAKE_ACCEPT_LEN + 1]; /* the required answer of the server */
    char subprotocol[SUBPROTOCOL_MAX + 1];
    struct buffer answer;
};

struct handshake_span {
    const char *at;
    size_t len;
};

void websocket_handshake_destroy(struct websocket_handshake *handshake) {
    if (!handshake) {
        return;
    }
    buffer_fini(&handshake->answer);
    free(handshake);
}

/* ---- the request ---- */

static bool handshake_make_keys(char key[KEY_LEN + 1], char accept[HANDSHAKE_ACCEPT_LEN + 1]) {
    uint8_t nonce[NONCE_LEN], digest[SHA1_LEN];
    char text[KEY_LEN + sizeof(HANDSHAKE_GUID)];
    if (getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce)) {
        return false;
    }
    EVP_EncodeBlock((unsigned char *)key, nonce, sizeof(nonce));
    snprintf(text, sizeof(text), "%s%s", key, HANDSHAKE_GUID);
    if (EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL) != 1) {
        return false;
    }
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest));
    return true;
}

/* A path must not end the line that contains it. */
static void handshake_append_path(struct buffer *out, const char *path) {
    for (const unsigned char *c = (const unsigned char *)path; *c != '\0'; c++) {
        if (*c <= ' ' || *c >= 0x7F) {
            buffer_printf(out, "%%%02X", *c);
        } else {
            buffer_append(out, c, 1);
        }
    }
}

static void handshake_append_host(struct buffer *out, const struct client_config *config) {
    bool ipv6 = strchr(config->host, ':') != NULL;
    int standard = config->scheme == SCHEME_WSS ? 443 : 80;
    buffer_printf(out, "Host: %s%s%s", ipv6 ? "[" : "", config->host, ipv6 ? "]" : "");
    if (config->port != standard) {
        buffer_printf(out, ":%u", config->port);
    }
    buffer_append_str(out, "\r\n");
}

static void handshake_append_own_headers(struct buffer *out, const struct client_websocket *own) {
    for (size_t i = 0; own && i < own->header_count; i++) {
        buffer_printf(out, "%s: ", own->headers[i].name);
        buffer_append_str(out, own->headers[i].value);
        buffer_append_str(out, "\r\n");
    }
}

void websocket_write_request(struct websocket *websocket, const struct client_config *config,
                             struct buffer *out) {
    char key[KEY_LEN + 1];
    websocket_handshake_destroy(websocket->handshake);
    websocket->handshake = calloc(1, sizeof *websocket->handshake);
    if (!websocket->handshake || !handshake_make_keys(key, websocket->handshake->accept)) {
        out->failed = true;
        return;
    }
    bool is_given = config->websocket && config->websocket->subprotocol;
    snprintf(websocket->handshake->subprotocol, sizeof(websocket->handshake->subprotocol), "%s",
             is_given ? config->websocket->subprotocol : "mqtt");
    buffer_append_str(out, "GET ");
    handshake_append_path(out, config->path ? config->path : "/mqtt");
    buffer_append_str(out, " HTTP/1.1\r\n");
    handshake_append_host(out, config);
    buffer_printf(out,
                  "Upgrade: websocket\r\n"
                  "Connection: Upgrade\r\n"
                  "Sec-WebSocket-Key: %s\r\n"
                  "Sec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Protocol: %s\r\n",
                  key, websocket->handshake->subprotocol);
    handshake_append_own_headers(out, config->websocket);
    buffer_append_str(out, "\r\n");
}

/* ---- the answer ---- */

static const struct handshake_status_hint {
    int from, to;
    enum client_error error;
    const char *hint;
} handshake_status_hints[] = {
    {200, 299, CLIENT_ERROR_WEBSOCKET_WEB_PAGE,
     "this is a web page, not a WebSocket: check the port and the path of the URL"},
    {300, 399, CLIENT_ERROR_WEBSOCKET_REDIRECTED,
     "it redirects to another URL; redirects are not followed: use the URL to which it "
     "redirects"},
    {401, 401, CLIENT_ERROR_WEBSOCKET_CREDENTIALS,
     "it requires other credentials to open the WebSocket"},
    {403, 403, CLIENT_ERROR_WEBSOCKET_FORBIDDEN,
     "access is forbidden: check the path of the URL and the access rules of the server"},
    {404, 404, CLIENT_ERROR_WEBSOCKET_NOT_FOUND,
     "there is nothing at this path: check the path of the URL (often /mqtt, /ws or /)"},
    {400, 400, CLIENT_ERROR_WEBSOCKET_REFUSED,
     "it rejects the request: is there a WebSocket at this port and path?"},
    {407, 407, CLIENT_ERROR_WEBSOCKET_PROXY, "a proxy before the broker requires credentials"},
    {426, 426, CLIENT_ERROR_WEBSOCKET_REFUSED, "it requires another protocol version"},
    {429, 429, CLIENT_ERROR_WEBSOCKET_SERVER_TROUBLE, "too many requests"},
    {500, 599, CLIENT_ERROR_WEBSOCKET_SERVER_TROUBLE,
     "the server, or a proxy before the broker, is not working"},
};

static const struct handshake_status_hint *handshake_hint_of(int status) {
    static const struct handshake_status_hint other = {0, 0, CLIENT_ERROR_WEBSOCKET_REFUSED,
                                                       "only 101 opens a WebSocket"};
    for (size_t i = 0; i < sizeof(handshake_status_hints) / sizeof(handshake_status_hints[0]);
         i++) {
        if (status >= handshake_status_hints[i].from && status <= handshake_status_hints[i].to) {
            return &handshake_status_hints[i];
        }
    }
    return &other;
}

static enum err handshake_refuse(struct websocket_fault *fault, enum client_error error,
                                 const char *text) {
    fault->error = error;
    snprintf(fault->message, sizeof(fault->message), "%s", text ? text : client_error_text(error));
    return ERR_REFUSED;
}

static struct handshake_span handshake_trimmed(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    while (end > at && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    return (struct handshake_span){at, (size_t)(end - at)};
}

static bool handshake_equals(struct handshake_span span, const char *text) {
    return span.len == strlen(text) && strncasecmp(span.at, text, span.len) == 0;
}

/* The value of the first header field with that name; at NULL: none. */
static struct handshake_span handshake_field_of(const struct buffer *answer, const char *name) {
    const char *end = answer->data + answer->len;
    const char *line = memmem(answer->data, answer->len, "\r\n", 2);
    while (line && (line += 2) < end) {
        const char *line_end = memmem(line, (size_t)(end - line), "\r\n", 2);
        const char *colon = line_end ? memchr(line, ':', (size_t)(line_end - line)) : NULL;
        if (colon &&
            handshake_equals((struct handshake_span){line, (size_t)(colon - line)}, name)) {
            return handshake_trimmed(colon + 1, line_end);
        }
        line = line_end;
    }
    return (struct handshake_span){NULL, 0};
}

/* Whether a comma-separated list contains the word. */
static bool handshake_has_token(struct handshake_span list, const char *word) {
    if (!list.at) {
        return false;
    }
    const char *at = list.at, *end = list.at + list.len;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        if (handshake_equals(handshake_trimmed(at, comma ? comma : end), word)) {
            return true;
        }
        at = comma ? comma + 1 : end;
    }
    return false;
}

/* -1: not an answer of HTTP/1.1, nor of 1.0, which has no 101. */
static int handshake_status_of(const struct buffer *answer) {
    int status = -1;
    char minor[2] = "", after = '\0';
    if (sscanf(answer->data, "HTTP/1.%1[01] %3d%c", minor, &status, &after) != 3 || status < 100 ||
        (status == 101 && minor[0] == '0') || (after != ' ' && after != '\r')) {
        return -1;
    }
    return status;
}

static enum err handshake_check(const struct websocket_handshake *handshake,
                                struct websocket_fault *fault) {
    const struct buffer *answer = &handshake->answer;
    int status = handshake_status_of(answer);
    if (status < 0) {
        return handshake_refuse(fault, CLIENT_ERROR_WEBSOCKET_NOT_HTTP,
                                "the response to the WebSocket handshake is not HTTP/1.1");
    }
    if (status != 101) {
        const struct handshake_status_hint *hint = handshake_hint_of(status);
        fault->error = hint->error;
        snprintf(fault->message, sizeof(fault->message),
                 "HTTP status %d instead of a WebSocket: %s", status, hint->hint);
        return ERR_REFUSED;
    }
    struct handshake_span accept = handshake_field_of(answer, "Sec-WebSocket-Accept");
    struct handshake_span protocol = handshake_field_of(answer, "Sec-WebSocket-Protocol");
    if (!handshake_equals(handshake_field_of(answer, "Upgrade"), "websocket") ||
        !handshake_has_token(handshake_field_of(answer, "Connection"), "upgrade")) {
        return handshake_refuse(fault, CLIENT_ERROR_WEBSOCKET_REFUSED,
                                "HTTP status 101, but not an upgrade to WebSocket");
    }
    if (accept.len != HANDSHAKE_ACCEPT_LEN ||
        memcmp(accept.at, handshake->accept, HANDSHAKE_ACCEPT_LEN) != 0) {
        return handshake_refuse(
            fault, CLIENT_ERROR_WEBSOCKET_REFUSED,
            "the WebSocket response belongs to another request (Sec-WebSocket-Accept): is "
            "there a cache before the broker?");
    }
    /* RFC 6455 allows a server to name no sub-protocol. */
    if (protocol.at && !handshake_equals(protocol, handshake->subprotocol)) {
        return handshake_refuse(fault, CLIENT_ERROR_WEBSOCKET_SUBPROTOCOL, NULL);
    }
    if (handshake_field_of(answer, "Sec-WebSocket-Extensions").at) {
        return handshake_refuse(fault, CLIENT_ERROR_WEBSOCKET_REFUSED,
                                "the WebSocket server uses an extension that was not offered");
    }
    return ERR_OK;
}

/* Judges the first bytes, so that an answer that is not HTTP is recognized before it ends. */
static enum client_error handshake_first_bytes_fault(const struct buffer *answer) {
    static const char start[] = "HTTP/";
    size_t n = answer->len < sizeof(start) - 1 ? answer->len : sizeof(start) - 1;
    if (memcmp(answer->data, start, n) == 0) {
        return CLIENT_ERROR_NONE;
    }
    return answer->data[0] == 0x15 || answer->data[0] == 0x16 ? CLIENT_ERROR_WEBSOCKET_OVER_TLS
                                                              : CLIENT_ERROR_WEBSOCKET_NOT_HTTP;
}

/* How many of the bytes belong to the answer; *whole: it ends with them. */
static size_t handshake_take_head(struct buffer *answer, const uint8_t *data, size_t len,
                                  bool *whole) {
    size_t before = answer->len;
    size_t room = WEBSOCKET_ANSWER_MAX - before;
    size_t n = len < room ? len : room;
    size_t from = before < 3 ? 0 : before - 3; /* the end may have started earlier */
    buffer_append(answer, data, n);
    if (answer->failed) {
        return len;
    }
    const char *end = memmem(answer->data + from, answer->len - from, HANDSHAKE_HEAD_END, 4);
    *whole = end != NULL;
    if (!end) {
        return n;
    }
    answer->len = (size_t)(end - answer->data) + 4;
    answer->data[answer->len] = '\0';
    return answer->len - before;
}

enum err websocket_read_answer(struct websocket *websocket, const uint8_t *data, size_t len,
                               size_t *used, struct websocket_fault *fault) {
    struct websocket_handshake *handshake = websocket->handshake;
    bool whole = false;
    *used = 0;
    if (!handshake) {
        return handshake_refuse(fault, CLIENT_ERROR_WEBSOCKET_FRAMES,
                                "a response without a request");
    }
    if (len == 0) {
        return ERR_TIMEOUT;
    }
    *used = handshake_take_head(&handshake->answer, data, len, &whole);
    if (handshake->answer.failed) {
        return handshake_refuse(fault, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
    }
    enum client_error error = handshake_first_bytes_fault(&handshake->answer);
    if (error != CLIENT_ERROR_NONE) {
        return handshake_refuse(fault, error, NULL);
    }
    if (!whole) {
        return handshake->answer.len < WEBSOCKET_ANSWER_MAX
                   ? ERR_TIMEOUT
                   : handshake_refuse(fault, CLIENT_ERROR_WEBSOCKET_NOT_HTTP,
                                      "the response to the WebSocket handshake is too long");
    }
    enum err err = handshake_check(handshake, fault);
    websocket_handshake_destroy(handshake);
    websocket->handshake = NULL;
    return err;
}
