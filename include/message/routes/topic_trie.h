/* Topic filters by level: finds those that match a topic in time that grows with their number, not
 * with the number of all filters. Filled once, then read by any thread. */
#ifndef MQFLEET_ROUTES_TOPIC_TRIE_H
#define MQFLEET_ROUTES_TOPIC_TRIE_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define TOPIC_TRIE_LEVELS_MAX 128

struct topic_trie;

struct topic_trie *topic_trie_create(void);       /* NULL: out of memory */
void topic_trie_destroy(struct topic_trie *trie); /* NULL is legal */
/* filter: valid (message/topic.h), not shared. ERR_ARGUMENT: more than TOPIC_TRIE_LEVELS_MAX
 * levels. One filter may have several values. */
enum err topic_trie_add(struct topic_trie *trie, const char *filter, uint32_t value) MUST_CHECK;
/* Calls found for the value of each filter that matches (MQTT 5.0 section 4.7), in no order. */
void topic_trie_match(const struct topic_trie *trie, const char *topic,
                      void (*found)(void *context, uint32_t value), void *context);

#endif
