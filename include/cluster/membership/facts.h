/* What a node tells the others with each beat, so that a leader gives it only clients that it can
 * run. It guides the choice and proves nothing. */
#ifndef MQFLEET_MEMBERSHIP_FACTS_H
#define MQFLEET_MEMBERSHIP_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/secrets/secret_box.h"

#define FACTS_SINKS_MAX     8
#define FACTS_SINK_NAME_LEN 32

struct facts_sink {
    char name[FACTS_SINK_NAME_LEN];
    int64_t failing_ms; /* for so long it has taken nothing; 0: all is well */
};

struct facts {
    bool known;     /* false: a node of an older version; then it counts as able to run all */
    int64_t lag_ms; /* for so long a change of its set has not been applied */
    struct facts_sink sinks[FACTS_SINKS_MAX]; /* the default one first */
    size_t sink_count;
    char keys[SECRET_KEYS_MAX][SECRET_KEY_ID_LEN];
    size_t key_count;
};

/* JSON text; free(). NULL: out of memory. */
char *facts_text(const struct facts *facts);
/* text NULL, or rubbish: told is false. */
void facts_read(struct facts *facts, const char *text);

/* sink NULL: the default one. NULL: it has none of that name. */
const struct facts_sink *facts_sink(const struct facts *facts, const char *sink);
bool facts_has_key(const struct facts *facts, const char *key);

#endif
