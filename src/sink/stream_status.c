/* Owns the sums over several streams, and decides what deserves a warning. Pure. */
#include "sink/stream_status.h"

#include <stdio.h>
#include <string.h>

#define NEARLY_FULL_PERCENT 90

/* --- sums --- */

static int64_t stream_status_sum(int64_t a, int64_t b) {
    return a < 0 || b < 0 ? -1 : a + b;
}

static int64_t stream_status_most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void stream_status_add_to_group(struct stream_group *total,
                                       const struct stream_group *group) {
    total->lag = stream_status_sum(total->lag, group->lag);
    total->pending += group->pending;
    total->oldest_unread_ms = stream_status_most(total->oldest_unread_ms, group->oldest_unread_ms);
    total->trimmed_unread += group->trimmed_unread;
    total->losing |= group->losing;
}

/* Where a new group goes: behind the others, or in place of the one that is the least behind.
 * NULL: the new one is. */
static struct stream_group *stream_status_room(struct stream_status *total,
                                               const struct stream_group *group) {
    struct stream_group *least = &total->groups[0];
    if (total->group_count < STREAM_GROUPS_MAX) {
        return &total->groups[total->group_count++];
    }
    for (size_t i = 1; i < STREAM_GROUPS_MAX; i++) {
        least =
            total->groups[i].oldest_unread_ms < least->oldest_unread_ms ? &total->groups[i] : least;
    }
    return group->oldest_unread_ms > least->oldest_unread_ms ? least : NULL;
}

static void stream_status_add_group(struct stream_status *total, const struct stream_group *group) {
    for (size_t i = 0; i < total->group_count; i++) {
        if (strcmp(total->groups[i].name, group->name) == 0) {
            stream_status_add_to_group(&total->groups[i], group);
            return;
        }
    }
    struct stream_group *to = stream_status_room(total, group);
    if (to) {
        *to = *group;
    }
}

void stream_status_add(struct stream_status *total, const struct stream_status *stream) {
    total->trims_unread = stream->trims_unread;
    total->entries_max = stream->entries_max;
    total->bytes_max = stream->bytes_max;
    if (!stream->measured) {
        return;
    }
    total->measured = true;
    total->streams++;
    total->entries += stream->entries;
    total->bytes = stream_status_sum(total->bytes, stream->bytes);
    total->entries_most = stream_status_most(total->entries_most, stream->entries);
    total->bytes_most = stream_status_most(total->bytes_most, stream->bytes);
    for (size_t i = 0; i < stream->group_count; i++) {
        stream_status_add_group(total, &stream->groups[i]);
    }
    total->group_total = stream_status_most(
        total->group_total, stream_status_most(stream->group_total, (int64_t)total->group_count));
}

/* --- warnings --- */

static bool stream_status_is_near(int64_t value, int64_t max) {
    return max > 0 &&
           value >= max / 100 * NEARLY_FULL_PERCENT + max % 100 * NEARLY_FULL_PERCENT / 100;
}

bool stream_status_is_nearly_full(const struct stream_status *status) {
    return status->measured && (stream_status_is_near(status->entries_most, status->entries_max) ||
                                stream_status_is_near(status->bytes_most, status->bytes_max));
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
                 (long long)status->entries_most, (long long)status->bytes_most);
        return true;
    }
    if (status->untracked) {
        snprintf(out, size,
                 "more than %lld streams: the others are trimmed by XADD, and not measured",
                 (long long)status->streams);
        return true;
    }
    return false;
}
