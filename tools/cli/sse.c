/* Owns the parts of the incomplete event. */
#include "sse.h"

#include <stdio.h>
#include <string.h>

void sse_init(struct sse *sse) {
    buffer_init(&sse->line);
    buffer_init(&sse->data);
    sse->event[0] = '\0';
    sse->id[0] = '\0';
}

void sse_fini(struct sse *sse) {
    buffer_fini(&sse->line);
    buffer_fini(&sse->data);
}

/* The value after the name of a field and one blank; NULL: another field. */
static const char *sse_field_value(const char *line, const char *name) {
    size_t len = strlen(name);
    if (strncmp(line, name, len) != 0 || line[len] != ':') {
        return NULL;
    }
    return line + len + 1 + (line[len + 1] == ' ');
}

static bool sse_handle_line(struct sse *sse, sse_take *take, void *context) {
    const char *line = sse->line.data ? sse->line.data : "";
    const char *value;
    bool goes_on = true;
    if (line[0] == '\0') {
        if (sse->data.len > 0) {
            goes_on = take(context, sse->event[0] != '\0' ? sse->event : "message", sse->data.data);
        }
        buffer_clear(&sse->data);
        sse->event[0] = '\0';
        sse->id[0] = '\0';
    } else if ((value = sse_field_value(line, "event"))) {
        snprintf(sse->event, sizeof(sse->event), "%s", value);
    } else if ((value = sse_field_value(line, "id"))) {
        snprintf(sse->id, sizeof(sse->id), "%s", value);
    } else if ((value = sse_field_value(line, "data"))) {
        if (sse->data.len > 0) {
            buffer_append_str(&sse->data, "\n");
        }
        buffer_append_str(&sse->data, value);
    }
    buffer_clear(&sse->line);
    return goes_on;
}

bool sse_feed(struct sse *sse, const char *bytes, size_t len, sse_take *take, void *context) {
    for (size_t at = 0; at < len;) {
        const char *end = memchr(bytes + at, '\n', len - at);
        size_t part = end ? (size_t)(end - (bytes + at)) : len - at;
        buffer_append(&sse->line, bytes + at, part);
        at += part + (end != NULL);
        if (sse->line.failed || sse->data.failed ||
            sse->line.len + sse->data.len > SSE_EVENT_BYTES_MAX) {
            return false;
        }
        if (!end) {
            return true;
        }
        if (sse->line.len > 0 && sse->line.data[sse->line.len - 1] == '\r') {
            sse->line.data[--sse->line.len] = '\0';
        }
        if (!sse_handle_line(sse, take, context)) {
            return false;
        }
    }
    return true;
}
