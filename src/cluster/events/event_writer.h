/* Private to the event bus: writes the events of this node to the stream in Redis, publishes them
 * to the other nodes, and delivers them here. The event bus thread.
 *
 * While this node is subscribed to the channel, its own events also come from there, so that all
 * events reach its listeners in the order of the stream. Otherwise, and when Redis does not answer,
 * they are delivered directly. */
#ifndef MQFLEET_EVENTS_EVENT_WRITER_H
#define MQFLEET_EVENTS_EVENT_WRITER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/config/conf.h"
#include "base/text.h"
#include "event_listeners.h"
#include "queued_event.h"
#include "store/events.h"

/* Why events of this node are not in the stream. */
enum event_loss { EVENT_LOSS_RATE, EVENT_LOSS_QUEUE, EVENT_LOSS_REDIS, EVENT_LOSS_COUNT };

struct event_writer {
    const struct conf *conf;
    struct store *store;
    struct event_listeners *listeners;
    char own_id[TEXT_ID_LEN];  /* identifies the batches of this node */
    uint64_t number;           /* of the last batch */
    uint64_t awaited_number;   /* own batches from this one on are delivered when they come back */
    int64_t unpublished_count; /* that the other nodes do not know of yet */
    int64_t unkept_count[EVENT_LOSS_COUNT]; /* that the stream does not mention yet */
    size_t n;
    struct store_event events[STORE_BATCH_MAX];
    json_t *jsons[STORE_BATCH_MAX];
    char *texts[STORE_BATCH_MAX];
    char *told[STORE_BATCH_MAX]; /* scratch: the texts of incidents of the fleet */
    char ids[STORE_BATCH_MAX][STORE_EVENT_ID_LEN];
};

/* All borrowed. */
void event_writer_init(struct event_writer *writer, const struct conf *conf, struct store *store,
                       struct event_listeners *listeners);
/* Appends to the next batch. A batch has room for STORE_BATCH_MAX - EVENT_LOSS_COUNT of them. */
void event_writer_add(struct event_writer *writer, const struct queued_event *event);
bool event_writer_is_full(const struct event_writer *writer);
/* That many events were not kept. The stream gets an event about them. */
void event_writer_count_unkept(struct event_writer *writer, enum event_loss loss, int64_t count);

struct event_writer_call {
    int64_t lost;    /* events of this node that were not even queued */
    bool listened;   /* somebody in the fleet listens */
    bool subscribed; /* this node gets what is published */
};
/* Sends the batch, if there is anything to tell. Whatever the result, the batch is empty again. */
enum err event_writer_send(struct event_writer *writer, const struct event_writer_call *call);
/* A batch from the channel: whether its events are still to be delivered here. */
bool event_writer_expects(const struct event_writer *writer, const char *from, int64_t number);

#endif
