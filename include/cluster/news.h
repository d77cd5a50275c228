/* What changes in the fleet, told to whoever listens on any node: states of clients, what happened
 * to them besides, nodes that come and go, the leader.
 *
 *   host threads --news_client--> [ queue ] --> news thread --> listeners of this node
 *                                                 |    ^
 *                                          PUBLISH|    |SUBSCRIBE, while somebody listens here
 *                                                 v    |
 *                                     Redis channel mqtt_fleet:events <--> other nodes
 *
 * Nodes and leader are not published: a node with listeners compares the register with what it was.
 * While nobody listens anywhere a change of a client costs one load. Whether somebody does is a key
 * with a time to live (mqtt_fleet:listening), set by the nodes with listeners and looked for by all
 * once a second; it works through sentinels and in a cluster, where PUBSUB NUMSUB does not. The
 * first listener is told to all at once, by the channel mqtt_fleet:listen. Queue full, or Redis
 * away: news are lost, counted, and the listeners are told. */
#ifndef MQFLEET_CLUSTER_NEWS_H
#define MQFLEET_CLUSTER_NEWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/conf.h"
#include "base/err.h"
#include "mqtt/client_state.h"
#include "store/store.h"

#define NEWS_LISTENERS_MAX 1024

struct news;

enum news_kind {
    NEWS_CLIENT,
    NEWS_NODE,
    NEWS_LEADER,
    NEWS_NOTICE,  /* of a client whose state stays as it is */
    NEWS_DROPPED, /* some were lost; count 0: nobody knows how many */
    NEWS_REMARK   /* about the listening itself, in `text` */
};
const char *news_kind_name(enum news_kind kind); /* "client" "node" "leader" "notice" ... */

/* One piece of news; all borrowed. */
struct news_item {
    enum news_kind kind;
    const char *subject; /* id of the client, name of the node or the leader; "" none */
    const char *state;   /* "" of a notice */
    const char *text;    /* the whole as one JSON object, without line breaks */
    int64_t count;       /* NEWS_DROPPED */
    int64_t version;     /* NEWS_CLIENT: of the configuration in force */
    bool same;           /* NEWS_CLIENT: the state is the same, only the version is another */
    bool complete;       /* NEWS_REMARK: from now on the whole fleet is heard */
};

/* heard and over are called on the news thread, and must not block. Once over is true, forget is
 * called and nothing more. */
struct news_listener {
    void *context;
    void (*heard)(void *context, const struct news_item *item);
    bool (*over)(void *context);
    void (*forget)(void *context);
};

/* Tells with news_client, from as to, which clients of this node have changed since a wall time. */
typedef void news_recent(void *context, int64_t since_ms);

/* store and url: borrowed. NULL: out of memory. */
struct news *news_create(const struct conf *conf, struct store *store, const char *redis_url);
void news_destroy(struct news *news); /* after the thread returned; forgets who listens still */
/* Called on the thread when another node begins to listen: what has just changed here was published
 * to nobody. Before news_run. */
void news_on_call(struct news *news, news_recent *recent, void *context);
void *news_run(void *news);
void news_stop(struct news *news); /* tells what is queued and ends the thread */

/* A client of this node changed its state, or has another version of its configuration (from is
 * to). Any thread; never blocks. */
void news_client(struct news *news, const char *id, enum client_state from, enum client_state to,
                 const char *reason, int64_t version);
/* Something worth telling happened to a client of this node whose state stays as it is; `code` and
 * `message` as in its last_error. Any thread; never blocks. */
void news_notice(struct news *news, const char *id, const char *code, const char *message);
/* Copies the listener. A remark tells it when the whole fleet is heard. ERR_FULL. Any thread. */
enum err news_listen(struct news *news, const struct news_listener *listener) MUST_CHECK;

#endif
