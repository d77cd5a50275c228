/* Topic names and filters (MQTT 5.0 section 4.7) and shared subscriptions (4.8.2). Pure; any
 * thread. */
#include "message/topic.h"

#include <string.h>
#include "base/text.h"

#define TOPIC_BYTES_MAX 65535

static const char topic_share_prefix[] = "$share/";
#define SHARE_PREFIX_LEN (sizeof(topic_share_prefix) - 1)

/* Rules that names and filters share (4.7.3). */
static const char *topic_common_fault(const char *text, size_t len) {
    if (len == 0) {
        return "must have at least one character";
    }
    if (len > TOPIC_BYTES_MAX) {
        return "must have at most 65535 bytes";
    }
    if (!text_is_mqtt_string(text, len)) {
        return "must be well-formed UTF-8 without U+0000";
    }
    if (text_has_control(text, len)) {
        return "must not contain control characters, because brokers close the connection on them";
    }
    return NULL;
}

const char *topic_name_fault(const char *topic, size_t len) {
    const char *fault = topic_common_fault(topic, len);
    if (fault) {
        return fault;
    }
    if (memchr(topic, '+', len) || memchr(topic, '#', len)) {
        return "must be a topic name, without the wildcards + and #";
    }
    return NULL;
}

/* A wildcard must be the only character of its level; "#" must be the last level (4.7.1). */
static const char *topic_wildcard_fault(const char *filter, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (filter[i] != '+' && filter[i] != '#') {
            continue;
        }
        bool level_begins = i == 0 || filter[i - 1] == '/';
        bool last = i + 1 == len;
        if (filter[i] == '#' && !(level_begins && last)) {
            return "may have # only as its last level, as in a/b/#";
        }
        if (filter[i] == '+' && !(level_begins && (last || filter[i + 1] == '/'))) {
            return "may have + only as a whole level, as in a/+/b";
        }
    }
    return NULL;
}

static bool topic_is_shared(const char *filter, size_t len) {
    return len >= SHARE_PREFIX_LEN && memcmp(filter, topic_share_prefix, SHARE_PREFIX_LEN) == 0;
}

/* Checks the part after "$share/". On success, *skip is the length of "<group>/". */
static const char *topic_share_fault(const char *rest, size_t len, size_t *skip) {
    const char *slash = memchr(rest, '/', len);
    size_t group_len = !slash ? len : (size_t)(slash - rest);
    if (group_len == 0) {
        return "must have a group name after $share/, as in $share/group/a/b";
    }
    if (memchr(rest, '+', group_len) || memchr(rest, '#', group_len)) {
        return "must have a group name without + and # after $share/";
    }
    if (!slash || group_len + 1 == len) {
        return "must have a topic filter after the group, as in $share/group/a/b";
    }
    *skip = group_len + 1;
    return NULL;
}

const char *topic_filter_fault(const char *filter, size_t len) {
    const char *fault = topic_common_fault(filter, len);
    size_t skip = 0;
    if (!fault && topic_is_shared(filter, len)) {
        fault = topic_share_fault(filter + SHARE_PREFIX_LEN, len - SHARE_PREFIX_LEN, &skip);
        skip += SHARE_PREFIX_LEN;
    }
    return fault ? fault : topic_wildcard_fault(filter + skip, len - skip);
}

bool topic_filter_is_shared(const char *filter) {
    return topic_is_shared(filter, strlen(filter));
}

bool topic_filter_takes_from_others(const char *filter) {
    static const char *const prefixes[] = {"$queue/", "$exclusive/", "$oshare/"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (strncmp(filter, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return topic_filter_is_shared(filter);
}

/* Behind "$share/<group>/" or "$exclusive/"; a filter of $SYS stays as it is. */
static const char *topic_filter_skip_prefix(const char *filter) {
    if (!topic_filter_takes_from_others(filter)) {
        return filter;
    }
    bool has_group = topic_filter_is_shared(filter) || strncmp(filter, "$oshare/", 8) == 0;
    for (int i = 0; i < (has_group ? 2 : 1); i++) {
        const char *slash = strchr(filter, '/');
        filter = slash ? slash + 1 : "#";
    }
    return filter;
}

static bool topic_level_is(const char *level, size_t len, char wildcard) {
    return len == 1 && *level == wildcard;
}

/* "a/#" matches "a", too. */
static bool topic_rest_may_be_missing(const char *rest) {
    return strcmp(rest, "/#") == 0;
}

bool topic_filters_overlap(const char *a, const char *b) {
    a = topic_filter_skip_prefix(a);
    b = topic_filter_skip_prefix(b);
    for (;;) { /* a level of each */
        size_t a_len = strcspn(a, "/"), b_len = strcspn(b, "/");
        if (topic_level_is(a, a_len, '#') || topic_level_is(b, b_len, '#')) {
            return true;
        }
        bool same = a_len == b_len && memcmp(a, b, a_len) == 0;
        if (!same && !topic_level_is(a, a_len, '+') && !topic_level_is(b, b_len, '+')) {
            return false;
        }
        a += a_len;
        b += b_len;
        if (!*a || !*b) {
            return *a == *b || topic_rest_may_be_missing(a) || topic_rest_may_be_missing(b);
        }
        a++;
        b++;
    }
}
