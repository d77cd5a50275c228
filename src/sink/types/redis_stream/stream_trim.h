/* Trims the stream of a sink with regard to its consumer groups, and measures these. For one sink's
 * thread, but for stream_trim_status.
 *
 *   maxlen, bytes   the oldest entries go; those that a group had not read are counted
 *   consumed        only what every group has read and acknowledged goes; a full stream pauses the
 *                   sink */
#ifndef MQFLEET_REDIS_STREAM_STREAM_TRIM_H
#define MQFLEET_REDIS_STREAM_STREAM_TRIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "net/redis/redis.h"
#include "sink/sink.h"

#define STREAM_TRIM_ERROR_LEN  160
#define STREAM_TRIM_NUMBER_LEN 24

enum stream_trim_mode { STREAM_TRIM_MAXLEN, STREAM_TRIM_BYTES, STREAM_TRIM_CONSUMED };

struct stream_trim {
    enum stream_trim_mode mode;
    const char *sink;               /* for the log; borrowed; set by the owner */
    const char *stream_key;         /* borrowed */
    char *counters_key;             /* beside the stream, in its slot */
    const json_t *ignored;          /* groups that count for nothing; borrowed */
    int64_t entries_max, bytes_max; /* 0: none */
    int64_t batch;                  /* messages in one write */
    bool measures_early;            /* also before the first message */
    bool shows_key;                 /* in errors: there are several streams */
    char sha[41];

    int64_t last_measured_ms; /* clock_ms when the groups were last measured; 0: never */
    int64_t refused_ms;       /* when Redis last refused the script; 0: it runs */
    int64_t entries_left;     /* may be written before the next run */
    int64_t bytes_left;

    pthread_mutex_t lock; /* guards all below */
    bool paused;
    int64_t measured_ms;                /* when status was measured; 0: never */
    int64_t lost_ms[STREAM_GROUPS_MAX]; /* when group i of status last lost entries; 0: never */
    struct stream_status status;
};

enum stream_trim_mode stream_trim_mode_of(const json_t *settings);
/* key: borrowed, like the settings. ERR_ARGUMENT: fault names the field. */
enum err stream_trim_init(struct stream_trim *trim, const char *key, const json_t *settings,
                          char *fault) MUST_CHECK;
void stream_trim_fini(struct stream_trim *trim);
/* Before writing; trims when it is time to. ERR_OK: one message may be written, and more as long as
 * stream_trim_may_write; ERR_FULL: not now, `error` says why; else Redis does not answer, or cannot
 * trim. */
enum err stream_trim_check(struct stream_trim *trim, struct redis *redis,
                           char error[STREAM_TRIM_ERROR_LEN]) MUST_CHECK;
bool stream_trim_may_write(const struct stream_trim *trim);
void stream_trim_consume(struct stream_trim *trim, size_t bytes);
/* The length to which XADD must trim because the script is not permitted; 0: none. */
int64_t stream_trim_xadd_maxlen(const struct stream_trim *trim);
/* Trims and measures when due while no messages arrive. Returns whether it was. */
bool stream_trim_refresh(struct stream_trim *trim, struct redis *redis);
/* Decides from the script's result whether the sink may continue. `behind`: the group that holds
 * the stream, "": there is none. Pure, but for the state. */
enum err stream_trim_evaluate(struct stream_trim *trim, int64_t entries, int64_t bytes,
                              const char *behind, char error[STREAM_TRIM_ERROR_LEN]) MUST_CHECK;
/* Adds its state to out->stream. Any thread. */
void stream_trim_status(struct stream_trim *trim, struct sink_status *out);

#endif
