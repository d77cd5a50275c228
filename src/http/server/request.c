/* Owns the parts of a request: its decoded parameter, query and body. The MHD thread, then the
 * handler thread, never both at once. */
#include "http/api/api.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include "base/percent.h"
#include "base/text.h"
#include "mqtt/client/publish_quota.h"

void http_request_init(struct http_request *request, const struct http_api *api) {
    *request = (struct http_request){.api = api, .socket = -1};
    buffer_init(&request->body);
}

bool http_request_is_abandoned(const struct http_request *request) {
    struct pollfd caller = {.fd = request->socket, .events = POLLRDHUP};
    return poll(&caller, 1, 0) == 1 && (caller.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool http_request_is_cancelled(void *context) {
    const struct http_request *request = context;
    return atomic_load(&request->api->stop_stage) != HTTP_RUNNING ||
           http_request_is_abandoned(request);
}

void http_request_fini(struct http_request *request) {
    free(request->path);
    free(request->parameter);
    free(request->if_match);
    free(request->last_event_id);
    free(request->if_none_match);
    http_query_fini(&request->query);
    buffer_fini(&request->body);
    if (request->publish_share) {
        publish_share_answered(request->publish_share);
        publish_share_release(request->publish_share, 0);
    }
}

void http_request_set_id(struct http_request *request, const char *sent) {
    static const char ALLOWED[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:";
    size_t len = sent ? strspn(sent, ALLOWED) : 0;
    if (len > 0 && len < sizeof(request->id) && sent[len] == '\0') {
        memcpy(request->id, sent, len + 1);
    } else {
        _Static_assert(sizeof(request->id) >= TEXT_ID_LEN, "a random id fits");
        text_random_id(request->id);
    }
}

static enum err request_query_add(struct http_query *query, const char *text, size_t len) {
    if (query->count == HTTP_QUERY_MAX) {
        return ERR_ARGUMENT;
    }
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals ? (size_t)(equals - text) : len;
    const char *value = equals ? equals + 1 : text + len;
    struct http_pair pair = {0};
    enum err err = percent_decode(text, name_len, true, &pair.name);
    if (err == ERR_OK) {
        err = percent_decode(value, (size_t)(text + len - value), true, &pair.value);
    }
    if (err != ERR_OK) {
        free(pair.name);
        return err;
    }
    query->items[query->count++] = pair;
    return ERR_OK;
}

enum err http_query_parse(const char *text, struct http_query *out) {
    *out = (struct http_query){0};
    while (*text != '\0') {
        size_t len = strcspn(text, "&");
        enum err err = len > 0 ? request_query_add(out, text, len) : ERR_OK;
        if (err != ERR_OK) {
            http_query_fini(out);
            return err;
        }
        text += len + (text[len] == '&');
    }
    return ERR_OK;
}

void http_query_fini(struct http_query *query) {
    for (size_t i = 0; i < query->count; i++) {
        free(query->items[i].name);
        free(query->items[i].value);
    }
    query->count = 0;
}

bool http_query_is_repeated(const struct http_query *query, size_t index) {
    for (size_t i = 0; i < index; i++) {
        if (strcmp(query->items[i].name, query->items[index].name) == 0) {
            return true;
        }
    }
    return false;
}

const char *http_query_get(const struct http_query *query, const char *name) {
    for (size_t i = 0; i < query->count; i++) {
        if (strcmp(query->items[i].name, name) == 0) {
            return query->items[i].value;
        }
    }
    return NULL;
}

bool http_int_parse(const char *text, int64_t least, int64_t most, int64_t *out) {
    int64_t value = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *text - '0', &value)) {
            return false;
        }
    }
    *out = value;
    return value >= least && value <= most;
}

enum err http_query_int(const struct http_query *query, const char *name, int64_t least,
                        int64_t most, int64_t standard, int64_t *out) {
    const char *text = http_query_get(query, name);
    *out = standard;
    if (!text) {
        return ERR_OK;
    }
    return http_int_parse(text, least, most, out) ? ERR_OK : ERR_ARGUMENT;
}

enum err http_query_flag(const struct http_query *query, const char *name, bool *out) {
    const char *text = http_query_get(query, name);
    *out = text && strcmp(text, "true") == 0;
    return !text || *out || strcmp(text, "false") == 0 ? ERR_OK : ERR_ARGUMENT;
}

enum err http_etag_parse(const char *text, int64_t *version) {
    *version = 0;
    if (strcmp(text, "*") == 0) {
        return ERR_OK;
    }
    if (strncmp(text, "W/", 2) == 0) {
        text += 2;
    }
    size_t len = strlen(text);
    if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
        text++;
        len -= 2;
    }
    char digits[24];
    if (len == 0 || len >= sizeof(digits)) {
        return ERR_ARGUMENT;
    }
    memcpy(digits, text, len);
    digits[len] = '\0';
    return http_int_parse(digits, 1, INT64_MAX, version) ? ERR_OK : ERR_ARGUMENT;
}
