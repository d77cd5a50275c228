/* The dead letters of the fleet: the stream of the sink `dead_letter`, in the Redis of the fleet.
 * Any thread. Errors as in store.h. */
#ifndef MQFLEET_STORE_DEAD_LETTERS_H
#define MQFLEET_STORE_DEAD_LETTERS_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "store/store.h"

#define DEAD_LETTERS_KEY         "mqtt_dead" /* behind the prefix of the fleet */
#define DEAD_LETTER_ID_LEN       48          /* "1764507600123-0" */
#define DEAD_LETTERS_MATCHES_MAX 1000        /* of one call */

enum dead_letters_action { DEAD_LETTERS_LIST, DEAD_LETTERS_COUNT, DEAD_LETTERS_DROP };

/* Which ones; NULL or "": any. */
struct dead_letters_selector {
    const char *entry; /* its id in the stream */
    const char *sink;  /* that rejected it */
    const char *client;
    const char *topic;          /* filter */
    const char *label;          /* of the client when the message was received */
    const char *label_value;    /* with `label`: may be "" */
    int64_t since_ms, until_ms; /* Redis wall clock, when they were stored; 0: any */
};

struct dead_letters_page {
    int64_t redis_ms;              /* wall clock of the server */
    char next[DEAD_LETTER_ID_LEN]; /* where to continue; "": none is left */
    int64_t matched;               /* by this call */
    int64_t total;                 /* in the stream, after the call */
    size_t count;                  /* of DEAD_LETTERS_LIST */
    struct redis_reply *reply;     /* owned */
};

/* Looks at the dead letters after the id `after` ("": from the first on), the oldest first, until
 * `matches_max` match. It does bounded work: a page may have no match, and a list has about 4 MiB
 * at most. dead_letters_page_fini, after any result. */
enum err store_dead_letters(struct store *store, enum dead_letters_action action,
                            const struct dead_letters_selector *selector, const char *after,
                            size_t matches_max, struct dead_letters_page *out) MUST_CHECK;
void dead_letters_page_fini(struct dead_letters_page *page);

/* Of the entry at index: borrowed from the page. */
const char *dead_letters_page_id(const struct dead_letters_page *page, size_t index);
size_t dead_letters_page_fields(const struct dead_letters_page *page, size_t index);
/* value: len bytes and a NUL. Neither is NULL. */
void dead_letters_page_field(const struct dead_letters_page *page, size_t index, size_t field,
                             const char **name, const char **value, size_t *len);

#endif
