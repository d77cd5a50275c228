/* Owns the contents of requests. The sink's thread. */
#include "http_upload.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/system/clock.h"

#define OWN_HEADERS 3

bool http_upload_init(struct http_upload *upload, const struct http_target *target) {
    *upload = (struct http_upload){.target = target};
    buffer_init(&upload->body);
    upload->headers = calloc(target->header_count + OWN_HEADERS + 1, sizeof *upload->headers);
    for (size_t i = 0; upload->headers && i < target->header_count; i++) {
        upload->headers[i] = target->headers[i];
    }
    return upload->headers;
}

void http_upload_fini(struct http_upload *upload) {
    buffer_fini(&upload->body);
    free(upload->headers);
}

/* ---- body -------------------------------------------------------------------------------------
 */

static void http_upload_append_text(struct http_upload *upload, const char *text) {
    if (text) {
        buffer_append_str(&upload->body, text);
    }
}

/* Rejects messages that have no body, and takes them out of the range. The first message may be
 * larger than the limit: the target accepts or refuses it. *taken: how many were looked at. */
static enum err http_upload_append_messages(struct http_upload *upload, struct http_range *range,
                                            size_t *taken) {
    const struct http_target *target = upload->target;
    struct buffer *body = &upload->body;
    char reason[SINK_REASON_LEN];
    size_t count = 0, at = 0;
    enum err err = ERR_OK;
    while (at < range->count && count < target->messages_max && err == ERR_OK) {
        size_t before = body->len;
        http_upload_append_text(upload, count > 0 ? target->format->separator : NULL);
        err = http_format_append(target->format, body, range->batch->messages[range->indices[at]],
                                 &target->document, reason);
        if (err == ERR_NOT_FOUND) {
            sink_batch_reject(range->batch, range->indices[at++], "%s", reason);
            err = ERR_OK;
            body->len = body->failed ? body->len : before;
            continue;
        }
        if (count > 0 && body->len > target->body_bytes_max && !body->failed) {
            body->len = before;
            break;
        }
        range->indices[count++] = range->indices[at++];
    }
    range->count = count;
    *taken = at;
    return body->failed ? ERR_MEMORY : err;
}

static void http_upload_identify(struct http_upload *upload, const struct message *message) {
    struct buffer id;
    buffer_init(&id);
    http_format_append_id(&id, message);
    snprintf(upload->id_header, sizeof upload->id_header, "Idempotency-Key: %s",
             id.data ? id.data : "");
    buffer_fini(&id);
}

enum err http_upload_fill(struct http_upload *upload, struct http_range *range, size_t *taken) {
    const struct http_format *format = upload->target->format;
    buffer_clear(&upload->body);
    http_upload_append_text(upload, format->begin);
    enum err err = http_upload_append_messages(upload, range, taken);
    http_upload_append_text(upload, format->end);
    if (err != ERR_OK || upload->body.failed) {
        buffer_fini(&upload->body);
        return ERR_MEMORY;
    }
    if (format->single && range->count > 0) {
        http_upload_identify(upload, range->batch->messages[range->indices[0]]);
    }
    return ERR_OK;
}

/* ---- start ------------------------------------------------------------------------------------
 */

static bool http_upload_sign(struct http_upload *upload) {
    const struct http_target *target = upload->target;
    int64_t now_s = clock_wall_ms() / 1000;
    char signature[HTTP_SIGNATURE_LEN];
    bool made = http_signature_make(target->hmac_secret, now_s, upload->body.data, upload->body.len,
                                    signature);
    snprintf(upload->timestamp_header, sizeof upload->timestamp_header, "%s: %lld",
             target->hmac_timestamp_header, (long long)now_s);
    snprintf(upload->signature_header, sizeof upload->signature_header, "%s: sha256=%s",
             target->hmac_header, made ? signature : "");
    return made;
}

enum err http_upload_start(struct http_upload *upload, struct http_client *client,
                           http_client_request_done *done, void *context) {
    const struct http_target *target = upload->target;
    size_t count = target->header_count;
    if (target->format->single) {
        upload->headers[count++] = upload->id_header;
    }
    if (*target->hmac_secret) {
        if (!http_upload_sign(upload)) {
            return ERR_MEMORY;
        }
        upload->headers[count++] = upload->timestamp_header;
        upload->headers[count++] = upload->signature_header;
    }
    upload->headers[count] = NULL;
    upload->request =
        (struct http_client_request){.method = target->method,
                                     .url = target->url,
                                     .headers = upload->headers,
                                     .body = upload->body.len > 0 ? upload->body.data : "",
                                     .body_len = upload->body.len,
                                     .content_type = target->content_type};
    return http_client_start_request(client, &upload->request, target->timeout_ms, done, context);
}
