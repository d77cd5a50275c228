/* The state of the Redis streams that a sink writes, and of the consumer groups that read them. */
#ifndef MQFLEET_SINK_STREAM_STATUS_H
#define MQFLEET_SINK_STREAM_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_GROUPS_MAX 16 /* measured: the groups that are the furthest behind */
#define STREAM_GROUP_LEN  64

struct stream_group {
    char name[STREAM_GROUP_LEN]; /* printable ASCII; other bytes are '?' */
    int64_t lag;                 /* entries not delivered to it; -1: not known */
    int64_t pending;             /* delivered, not acknowledged */
    int64_t oldest_unread_ms; /* since the oldest of these entries was added; -1: there is none */
    int64_t trimmed_unread;   /* entries that this sink's nodes trimmed before it read them */
    bool losing;              /* some of these during the last hour */
};

struct stream_status {
    bool measured;          /* within the last minute; otherwise only the bounds below are known */
    int64_t trims_unread;   /* 1: entries are trimmed whether they were read or not */
    int64_t streams;        /* measured ones */
    bool untracked;         /* there are more, which are trimmed by XADD and not measured */
    int64_t entries, bytes; /* of all; bytes -1: not known */
    int64_t entries_most, bytes_most; /* of the largest stream */
    int64_t entries_max, bytes_max;   /* of each; 0: none */
    int64_t group_total;
    size_t group_count;
    struct stream_group groups[STREAM_GROUPS_MAX];
};

/* Adds the state of one more stream: sums, and for groups of the same name the sum of their entries
 * and the greatest age. Of more than STREAM_GROUPS_MAX names, those that are the furthest behind
 * stay. Pure. */
void stream_status_add(struct stream_status *total, const struct stream_status *stream);
/* Whether a stream has reached nine tenths of a bound. Pure. */
bool stream_status_is_nearly_full(const struct stream_status *status);
/* Warnings for an operator: groups that lose entries, or a stream that is near its bound because
 * its readers are slow. False: nothing. Pure. */
bool stream_status_warn(const struct stream_status *status, char *out, size_t size);

#endif
