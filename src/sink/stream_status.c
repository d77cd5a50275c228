/* Decides which parts of a stream's status deserve a warning. Pure. */
#include "sink/stream_status.h"

#include <stdio.h>

#define NEARLY_FULL_PERCENT 90

static bool stream_status_is_near(int64_t value, int64_t max) {
    return max > 0 &&
           value >= max / 100 * NEARLY_FULL_PERCENT + max % 100 * NEARLY_FULL_PERCENT / 100;
}

bool stream_status_is_nearly_full(const struct stream_status *status) {
    return status->measured && (stream_status_is_near(status->entries, status->entries_max) ||
                                stream_status_is_near(status->bytes, status->bytes_max));
}

/* The first one that loses entries; NULL: none does. */
static const struct stream_group *stream_status_find_losing(const struct stream_status *status) {
    for (size_t i = 0; i < status->group_count; i++) {
        if (status->groups[i].losing) {
            return &status->groups[i];
        }
    }
    return NULL;
}

bool stream_status_warn(const struct stream_status *status, char *out, size_t size) {
    const struct stream_group *group = status->measured ? stream_status_find_losing(status) : NULL;
    if (group) {
        snprintf(out, size,
                 "%lld entries were trimmed before group %s had read them (docs/sinks.md)",
                 (long long)group->trimmed_unread, group->name);
        return true;
    }
    if (!status->trims_unread && stream_status_is_nearly_full(status)) {
        snprintf(out, size,
                 "the stream is nearly full (%lld entries, %lld bytes); the sink pauses when it is "
                 "full",
                 (long long)status->entries, (long long)status->bytes);
        return true;
    }
    return false;
}
