/* The events of the fleet: a stream in Redis that keeps the last ones. Any thread. Errors as in
 * store.h. */
#ifndef MQFLEET_STORE_EVENTS_H
#define MQFLEET_STORE_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "store/store.h"

#define STORE_EVENT_ID_LEN 44 /* "1764507600123-0" */

struct store_event {  /* borrowed */
    const char *text; /* JSON object */
    bool kept, live;  /* in the stream; for those who listen now. At least one of them */
    /* NULL, or what the node's own incident does: "began", "lasts" or "ended". The event is that of
     * the fleet, if there is one to tell, and both kept and live. */
    const char *incident;
};

struct store_event_batch { /* all borrowed */
    const char *node;
    const char *from; /* the calling process, TEXT_ID_LEN */
    uint64_t number;  /* grows with each batch of that process */
    int64_t lost;     /* events before this batch that the other nodes did not get */
    bool listened;    /* it is published even if no node has announced a listener */
    int64_t kept_max; /* length of the stream, approximately */
    const struct store_event *events;
    size_t n; /* at most STORE_BATCH_MAX */
};

/* Appends and publishes the batch. ids[n]: of the events in the stream; "": not kept. texts[n], of
 * incidents: the event of the fleet, owned; "": none. NULL: any other event, or unknown. After an
 * error, and if the connection broke, it is unknown which events were kept. */
enum err store_append_events(struct store *store, const struct store_event_batch *batch,
                             char (*ids)[STORE_EVENT_ID_LEN], char **texts) MUST_CHECK;

struct store_event_page {
    bool known;                     /* the stream has the id `after` */
    char first[STORE_EVENT_ID_LEN]; /* its first id; "": it is empty */
    size_t n;
    struct redis_reply *reply;      /* owned */
    const struct redis_reply *rows; /* in it */
};
/* The events after that id, which has the form of an id, the oldest first.
 * store_event_page_fini, after any result. */
enum err store_read_events(struct store *store, const char *after, size_t max,
                           struct store_event_page *page) MUST_CHECK;
/* Stores that `done` (an id; "": none) was passed on to the sink of events, and reads those after
 * the last one that was, by whichever node. ERR_REFUSED: the node does not lead. In *page only the
 * events are valid. store_event_page_fini, after any result. */
enum err store_forward_events(struct store *store, const char *node, const char *done, size_t max,
                              struct store_event_page *page) MUST_CHECK;
void store_event_page_fini(struct store_event_page *page);
/* Borrowed; "" if Redis has something else there. index below n. */
const char *store_event_page_id(const struct store_event_page *page, size_t index);
const char *store_event_page_text(const struct store_event_page *page, size_t index);

/* The place of an id in the order of the stream. */
struct store_event_place {
    uint64_t ms, sequence;
};
/* Accepts "ms" and "ms-sequence". False: it is no id. */
bool store_event_place_parse(const char *id, struct store_event_place *out);
/* Negative, 0 or positive, as strcmp. */
int store_event_place_compare(struct store_event_place a, struct store_event_place b);

#endif
