/* Owns the reading of bulk responses. Pure. */
#include "http_elasticsearch.h"

#include <jansson.h>
#include <string.h>
#include "base/system/json_memory.h"

#define STATUS_CONFLICT 409 /* a document with this _id is there: an earlier attempt wrote it */

/* "mapper_parsing_exception failed to parse field [x]", of {"type": ..., "reason": ...}; older
 * versions have a text. */
static void http_elasticsearch_explain(const json_t *result, char out[HTTP_TEXT_LEN]) {
    const json_t *error = json_object_get(result, "error");
    const char *type = json_string_value(json_object_get(error, "type"));
    const char *reason = json_is_string(error)
                             ? json_string_value(error)
                             : json_string_value(json_object_get(error, "reason"));
    char quoted[HTTP_TEXT_LEN];
    http_outcome_quote(reason ? reason : "", reason ? strlen(reason) : 0, quoted);
    snprintf(out, HTTP_TEXT_LEN, "%.60s%s%.*s", type ? type : "", type ? ": " : "",
             HTTP_TEXT_LEN - 64, quoted);
}

/* The result of an action: {"create": {"status": 201, ...}}. */
static const json_t *http_elasticsearch_result(const json_t *item) {
    void *first = json_object_iter((json_t *)(uintptr_t)item);
    return first ? json_object_iter_value(first) : NULL;
}

/* False: to be tried again. */
static bool http_elasticsearch_settle_item(const json_t *item, const struct http_range *range,
                                           size_t index) {
    const json_t *result = http_elasticsearch_result(item);
    long status = (long)json_integer_value(json_object_get(result, "status"));
    enum http_outcome outcome = http_outcome_of_status(status);
    char text[HTTP_TEXT_LEN];
    if (outcome == HTTP_ACCEPTED || status == STATUS_CONFLICT) {
        sink_batch_accept(range->batch, index);
        return true;
    }
    http_elasticsearch_explain(result, text);
    if (outcome == HTTP_REFUSED) {
        sink_batch_reject(range->batch, index, "item status %ld: %s", status, text);
        return true;
    }
    (void)sink_batch_fail(range->batch, ERR_REFUSED, "item status %ld: %s", status, text);
    return false;
}

enum http_outcome http_elasticsearch_settle(const struct http_response *response,
                                            struct http_range *range) {
    enum http_outcome outcome = HTTP_ACCEPTED;
    json_t *json = json_from_text(response->body, response->body_len, 0);
    const json_t *items = json_object_get(json, "items");
    if (json_array_size(items) != range->count) {
        json_decref(json);
        (void)sink_batch_fail(range->batch, ERR_PROTOCOL,
                              "status %ld, but the answer is not one of the bulk API with %zu "
                              "items: check url, it ends in /_bulk",
                              response->status, range->count);
        return HTTP_FAILED;
    }
    for (size_t i = 0; i < range->count; i++) {
        if (!http_elasticsearch_settle_item(json_array_get(items, i), range, range->indices[i])) {
            outcome = HTTP_FAILED;
        }
    }
    json_decref(json);
    return outcome;
}
