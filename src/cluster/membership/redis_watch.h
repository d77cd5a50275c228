/* Private to the agent: what Redis reports about itself (net/redis/redis_info.h). */
#ifndef MQFLEET_MEMBERSHIP_REDIS_WATCH_H
#define MQFLEET_MEMBERSHIP_REDIS_WATCH_H

#include <stdbool.h>
#include "net/redis/redis_info.h"
#include "store/store.h"

struct redis_watch;

struct redis_watch *redis_watch_create(void);
void redis_watch_destroy(struct redis_watch *watch);
/* Reads the report, and logs changes. The agent thread; blocks on Redis. */
void redis_watch_step(struct redis_watch *watch, struct store *store);
/* False: not known. Any thread; does not block. */
bool redis_watch_facts(struct redis_watch *watch, struct redis_info *out);

#endif
