/* Private to the news: the nodes and the leader as they were when last looked at. One thread. */
#ifndef MQFLEET_CLUSTER_NEWS_REGISTER_H
#define MQFLEET_CLUSTER_NEWS_REGISTER_H

#include "cluster/news.h"

struct news_register;

typedef void news_tell(void *context, const struct news_item *item);

struct news_register *news_register_create(struct store *store, int64_t heartbeat_ttl_ms);
void news_register_destroy(struct news_register *nodes);
/* Tells each difference to the last look; the first look tells nothing. Blocks on Redis, bounded.
 */
void news_register_look(struct news_register *nodes, news_tell *tell, void *context);
/* The next look is a first one. */
void news_register_forget(struct news_register *nodes);

#endif
