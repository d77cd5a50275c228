/* Owns the times of trimming, the number of entries that the sink may write in between, and the
 * state of the consumer groups. stream_trim.lua decides atomically in Redis which entries may be
 * trimmed, so nodes need no lock.
 *
 * After each run the sink may write a bounded number of messages before the next one. Where Redis
 * refuses the script to the user, `maxlen` trims with XADD and knows nothing of groups; the other
 * modes fail. */
#include "stream_trim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"

#define MEASURE_PERIOD_MS 5000
#define STALE_MS          60000
#define REFUSED_MS        10000 /* then it may be permitted */
#define LOSING_MS         3600000
#define LIMIT             "10000" /* entries trimmed by one run */
#define ENTRIES_LEFT_MAX  10000
#define ENTRIES_LEFT_MIN  10
#define BYTES_LEFT_MAX    4194304
#define SHARE             16 /* of a bound: how far `maxlen` overshoots, where a pause ends */
#define IGNORED_MAX       64
#define GROUP_FIELDS      5 /* of a measured group in the reply */
#define HEAD_FIELDS       6
#define ARGV_FIXED        7

extern const char stream_trim_lua[]; /* made from stream_trim.lua */

static const char *const MODE_NAMES[] = {
    [STREAM_TRIM_MAXLEN] = "maxlen",
    [STREAM_TRIM_BYTES] = "bytes",
    [STREAM_TRIM_CONSUMED] = "consumed",
};

/* --- life --- */

/* The settings were checked against the names. */
enum stream_trim_mode stream_trim_mode_of(const json_t *settings) {
    const char *name = sink_settings_text(settings, "trim");
    for (size_t i = 0; i < sizeof MODE_NAMES / sizeof MODE_NAMES[0]; i++) {
        if (strcmp(MODE_NAMES[i], name) == 0) {
            return (enum stream_trim_mode)i;
        }
    }
    return STREAM_TRIM_MAXLEN;
}

static bool stream_trim_has_hash_tag(const char *key) {
    const char *open = strchr(key, '{');
    const char *end = open ? strchr(open, '}') : NULL;
    return end && end > open + 1;
}

/* In the slot of the stream; begins with its key, as an ACL may demand. */
static enum err stream_trim_name_counters(struct stream_trim *trim) {
    const char *key = trim->stream_key;
    bool tagged = stream_trim_has_hash_tag(key);
    size_t size = 2 * strlen(key) + sizeof ":trimmed{}";
    trim->counters_key = malloc(size);
    if (!trim->counters_key) {
        return ERR_MEMORY;
    }
    snprintf(trim->counters_key, size, tagged ? "%s:trimmed" : "%s:trimmed{%s}", key, key);
    return ERR_OK;
}

enum err stream_trim_init(struct stream_trim *trim, const char *key, const json_t *settings,
                          char *fault) {
    *trim = (struct stream_trim){.mode = stream_trim_mode_of(settings),
                                 .stream_key = key,
                                 .ignored = sink_settings_json(settings, "ignore_groups"),
                                 .entries_max = sink_settings_integer(settings, "maxlen"),
                                 .bytes_max = sink_settings_integer(settings, "bytes_max"),
                                 .batch = sink_settings_integer(settings, "batch_messages"),
                                 .measures_early = sink_settings_boolean(settings, "measure_idle")};
    pthread_mutex_init(&trim->lock, NULL);
    enum err err = ERR_OK;
    if (json_array_size(trim->ignored) > IGNORED_MAX) {
        snprintf(fault, SINK_FAULT_LEN, "ignore_groups: at most %d names", IGNORED_MAX);
        err = ERR_ARGUMENT;
    }
    if (err == ERR_OK) {
        err = stream_trim_name_counters(trim);
    }
    if (trim->mode == STREAM_TRIM_MAXLEN) {
        trim->bytes_max = 0;
    } else if (trim->mode == STREAM_TRIM_BYTES) {
        trim->entries_max = 0;
    }
    trim->status = (struct stream_status){.trims_unread = trim->mode != STREAM_TRIM_CONSUMED,
                                          .entries_max = trim->entries_max,
                                          .bytes_max = trim->bytes_max};
    redis_script_sha(stream_trim_lua, trim->sha);
    if (err != ERR_OK) {
        stream_trim_fini(trim);
    }
    return err;
}

void stream_trim_fini(struct stream_trim *trim) {
    free(trim->counters_key);
    pthread_mutex_destroy(&trim->lock);
}

/* --- the permission to write --- */

static int64_t stream_trim_clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

/* Never more than one run can trim. In `consumed`, at most a batch: the possible excess. */
static void stream_trim_grant(struct stream_trim *trim, int64_t entries, int64_t bytes) {
    trim->entries_left = trim->bytes_left = INT64_MAX;
    if (trim->entries_max > 0 && trim->mode == STREAM_TRIM_CONSUMED) {
        int64_t batch = trim->batch > 0 ? trim->batch : ENTRIES_LEFT_MAX;
        trim->entries_left = stream_trim_clamp(trim->entries_max - entries, 1, batch);
    } else if (trim->entries_max > 0) {
        trim->entries_left =
            stream_trim_clamp(trim->entries_max / SHARE, ENTRIES_LEFT_MIN, ENTRIES_LEFT_MAX);
    }
    if (trim->bytes_max > 0 && bytes >= 0) {
        int64_t room =
            trim->mode == STREAM_TRIM_CONSUMED ? trim->bytes_max - bytes : trim->bytes_max / SHARE;
        trim->bytes_left = stream_trim_clamp(room, 1, BYTES_LEFT_MAX);
        trim->entries_left = stream_trim_clamp(trim->entries_left, 1, ENTRIES_LEFT_MAX);
    }
}

static bool stream_trim_reaches(int64_t value, int64_t max, bool was_paused) {
    return max > 0 && (value >= max || (was_paused && value > max - max / SHARE));
}

static void stream_trim_explain(const struct stream_trim *trim, int64_t entries, int64_t bytes,
                                const char *behind, char error[STREAM_TRIM_ERROR_LEN]) {
    char size[64];
    if (stream_trim_reaches(entries, trim->entries_max, true)) {
        snprintf(size, sizeof size, "%lld of %lld entries", (long long)entries,
                 (long long)trim->entries_max);
    } else {
        snprintf(size, sizeof size, "%lld of %lld bytes", (long long)bytes,
                 (long long)trim->bytes_max);
    }
    if (*behind) {
        snprintf(error, STREAM_TRIM_ERROR_LEN,
                 "paused: the stream has %.48s, and group %.40s has not read them", size, behind);
    } else {
        snprintf(error, STREAM_TRIM_ERROR_LEN,
                 "paused: the stream has %.48s, and no consumer group reads it", size);
    }
}

enum err stream_trim_evaluate(struct stream_trim *trim, int64_t entries, int64_t bytes,
                              const char *behind, char error[STREAM_TRIM_ERROR_LEN]) {
    bool was_paused = trim->paused;
    bool paused = trim->mode == STREAM_TRIM_CONSUMED &&
                  (stream_trim_reaches(entries, trim->entries_max, was_paused) ||
                   stream_trim_reaches(bytes, trim->bytes_max, was_paused));
    pthread_mutex_lock(&trim->lock);
    trim->paused = paused;
    pthread_mutex_unlock(&trim->lock);
    stream_trim_grant(trim, entries, bytes);
    if (!paused) {
        return ERR_OK;
    }
    metric_add(METRIC_SINK_PAUSES, was_paused ? 0 : 1);
    stream_trim_explain(trim, entries, bytes, behind, error);
    return ERR_FULL;
}

bool stream_trim_may_write(const struct stream_trim *trim) {
    return trim->entries_left > 0 && trim->bytes_left > 0;
}

void stream_trim_consume(struct stream_trim *trim, size_t bytes) {
    trim->entries_left -= trim->entries_left == INT64_MAX ? 0 : 1;
    trim->bytes_left -= trim->bytes_left == INT64_MAX ? 0 : (int64_t)bytes;
}

int64_t stream_trim_xadd_maxlen(const struct stream_trim *trim) {
    bool refused = trim->refused_ms > 0 || trim->last_measured_ms == 0;
    return trim->mode == STREAM_TRIM_MAXLEN && refused ? trim->entries_max : 0;
}

/* --- the result of the script --- */

static void stream_trim_copy_name(const struct redis_reply *reply, char out[STREAM_GROUP_LEN]) {
    size_t len = 0;
    const char *name = redis_reply_str(reply, &len);
    size_t i = 0;
    for (; name && i < len && i + 1 < STREAM_GROUP_LEN; i++) {
        bool plain = name[i] >= ' ' && name[i] <= '~' && name[i] != '"' && name[i] != '\\';
        out[i] = plain ? name[i] : '?';
    }
    out[i] = '\0';
}

static size_t stream_trim_find_group(const struct stream_status *status, const char *name) {
    size_t i = 0;
    while (i < status->group_count && strcmp(status->groups[i].name, name) != 0) {
        i++;
    }
    return i;
}

/* Two names that differ only in unprintable characters are shown once. */
static void stream_trim_read_group(const struct redis_reply *reply, size_t at,
                                   struct stream_status *status) {
    struct stream_group group = {.lag = redis_reply_int(redis_reply_at(reply, at + 1)),
                                 .pending = redis_reply_int(redis_reply_at(reply, at + 2)),
                                 .oldest_unread_ms = redis_reply_int(redis_reply_at(reply, at + 3)),
                                 .trimmed_unread = redis_reply_int(redis_reply_at(reply, at + 4))};
    stream_trim_copy_name(redis_reply_at(reply, at), group.name);
    if (status->group_count < STREAM_GROUPS_MAX &&
        stream_trim_find_group(status, group.name) == status->group_count) {
        status->groups[status->group_count++] = group;
    }
}

/* Determines when each group of `now` last lost entries, from the previous status. Called with the
 * lock. */
static void stream_trim_note_losses(struct stream_trim *trim, const struct stream_status *now,
                                    int64_t now_ms) {
    int64_t lost_ms[STREAM_GROUPS_MAX] = {0};
    for (size_t i = 0; i < now->group_count; i++) {
        size_t before = stream_trim_find_group(&trim->status, now->groups[i].name);
        bool known = before < trim->status.group_count;
        int64_t old = known ? trim->status.groups[before].trimmed_unread : 0;
        bool more = trim->measured_ms > 0 && now->groups[i].trimmed_unread > old;
        lost_ms[i] = more ? now_ms : known ? trim->lost_ms[before] : 0;
    }
    memcpy(trim->lost_ms, lost_ms, sizeof lost_ms);
}

static void stream_trim_take_measurement(struct stream_trim *trim, const struct redis_reply *reply,
                                         int64_t now_ms) {
    struct stream_status now = {.trims_unread = trim->status.trims_unread,
                                .entries = redis_reply_int(redis_reply_at(reply, 1)),
                                .bytes = redis_reply_int(redis_reply_at(reply, 2)),
                                .entries_max = trim->entries_max,
                                .bytes_max = trim->bytes_max,
                                .group_total = redis_reply_int(redis_reply_at(reply, 5))};
    for (size_t at = HEAD_FIELDS; at + GROUP_FIELDS <= redis_reply_count(reply);
         at += GROUP_FIELDS) {
        stream_trim_read_group(reply, at, &now);
    }
    pthread_mutex_lock(&trim->lock);
    stream_trim_note_losses(trim, &now, now_ms);
    trim->status = now;
    trim->measured_ms = now_ms;
    pthread_mutex_unlock(&trim->lock);
}

/* A call that the user may not make is not repeated soon, because each one appears in the log of
 * Redis. */
static enum err stream_trim_refuse(struct stream_trim *trim, const char *why,
                                   char error[STREAM_TRIM_ERROR_LEN]) {
    snprintf(error, STREAM_TRIM_ERROR_LEN, "cannot trim the stream: %.120s", why);
    if (trim->mode != STREAM_TRIM_MAXLEN) {
        return ERR_PROTOCOL;
    }
    if (trim->refused_ms == 0) {
        log_event(LOG_WARN, "sink_groups_unknown", KS("sink", trim->sink), KS("detail", why),
                  KS("effect", "entries that are trimmed unread are not counted"));
    }
    trim->refused_ms = clock_ms();
    trim->entries_left = trim->bytes_left = INT64_MAX;
    return ERR_OK;
}

static enum err stream_trim_call(struct stream_trim *trim, struct redis *redis, bool measure,
                                 struct redis_reply **out) {
    char entries[STREAM_TRIM_NUMBER_LEN], bytes[STREAM_TRIM_NUMBER_LEN];
    const char *argv[ARGV_FIXED + IGNORED_MAX] = {
        trim->stream_key,   trim->counters_key, MODE_NAMES[trim->mode], entries, bytes, LIMIT,
        measure ? "1" : "0"};
    snprintf(entries, sizeof entries, "%lld", (long long)trim->entries_max);
    snprintf(bytes, sizeof bytes, "%lld", (long long)trim->bytes_max);
    size_t ignored = json_array_size(trim->ignored);
    for (size_t i = 0; i < ignored; i++) {
        argv[ARGV_FIXED + i] = json_string_value(json_array_get(trim->ignored, i));
    }
    return redis_script(redis, trim->sha, stream_trim_lua, 2, (int)(ARGV_FIXED + ignored), argv,
                        NULL, out);
}

static enum err stream_trim_run(struct stream_trim *trim, struct redis *redis,
                                char error[STREAM_TRIM_ERROR_LEN]) {
    int64_t now_ms = clock_ms();
    bool measure =
        trim->last_measured_ms == 0 || now_ms - trim->last_measured_ms >= MEASURE_PERIOD_MS;
    struct redis_reply *reply = NULL;
    enum err err = stream_trim_call(trim, redis, measure, &reply);
    if (err != ERR_OK) {
        bool goes_on = redis_fd(redis) >= 0 && !redis_is_moved(redis);
        snprintf(error, STREAM_TRIM_ERROR_LEN, "%s", redis_error(redis));
        return goes_on ? stream_trim_refuse(trim, redis_error(redis), error) : err;
    }
    const char *outcome = redis_reply_str(redis_reply_at(reply, 0), NULL);
    const char *text =
        redis_reply_str(redis_reply_at(reply, outcome && *outcome == 'e' ? 1 : 4), NULL);
    if (!outcome || strcmp(outcome, "ok") != 0) {
        err = stream_trim_refuse(trim, text ? text : "no answer", error);
        redis_reply_free(reply);
        return err;
    }
    trim->refused_ms = 0;
    if (measure) {
        trim->last_measured_ms = now_ms;
        stream_trim_take_measurement(trim, reply, now_ms);
    }
    err = stream_trim_evaluate(trim, redis_reply_int(redis_reply_at(reply, 1)),
                               redis_reply_int(redis_reply_at(reply, 2)), text ? text : "", error);
    redis_reply_free(reply);
    return err;
}

static bool stream_trim_is_due(const struct stream_trim *trim) {
    int64_t now_ms = clock_ms();
    if (trim->refused_ms > 0) {
        return now_ms - trim->refused_ms >= REFUSED_MS;
    }
    return trim->last_measured_ms == 0 || now_ms - trim->last_measured_ms >= MEASURE_PERIOD_MS ||
           trim->paused || !stream_trim_may_write(trim);
}

enum err stream_trim_check(struct stream_trim *trim, struct redis *redis,
                           char error[STREAM_TRIM_ERROR_LEN]) {
    return stream_trim_is_due(trim) ? stream_trim_run(trim, redis, error) : ERR_OK;
}

bool stream_trim_refresh(struct stream_trim *trim, struct redis *redis) {
    char error[STREAM_TRIM_ERROR_LEN];
    bool wanted = trim->measures_early || trim->last_measured_ms > 0;
    bool due = wanted && stream_trim_is_due(trim);
    if (due) {
        enum err err = stream_trim_run(trim, redis, error);
        (void)err; /* the next write meets the same */
    }
    return due;
}

void stream_trim_status(struct stream_trim *trim, struct sink_status *out) {
    int64_t now_ms = clock_ms();
    pthread_mutex_lock(&trim->lock);
    struct stream_status status = trim->status;
    out->paused = out->paused || trim->paused;
    status.measured = trim->measured_ms > 0 && now_ms - trim->measured_ms < STALE_MS;
    for (size_t i = 0; i < status.group_count; i++) {
        status.groups[i].losing = trim->lost_ms[i] > 0 && now_ms - trim->lost_ms[i] < LOSING_MS;
    }
    pthread_mutex_unlock(&trim->lock);
    stream_status_add(&out->stream, &status);
}
