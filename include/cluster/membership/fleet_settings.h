/* Whose fleet the Redis belongs to (fleet.name), and the settings that all of its nodes should
 * share: a node of another fleet does not join, other settings are warned of. */
#ifndef MQFLEET_MEMBERSHIP_FLEET_SETTINGS_H
#define MQFLEET_MEMBERSHIP_FLEET_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "store/store.h"

#define FLEET_TROUBLE_LEN 700

struct fleet_settings;

/* Both are borrowed. NULL: out of memory. */
struct fleet_settings *fleet_settings_create(const struct conf *conf, struct store *store);
void fleet_settings_destroy(struct fleet_settings *settings);

/* Before a node joins: gives the fleet its name if it has none, publishes this node's settings and
 * warns of those that differ from others'. ERR_REFUSED: it is another fleet's Redis. Agent thread.
 */
enum err fleet_settings_join(struct fleet_settings *settings) MUST_CHECK;
/* Has the Redis come to belong to another fleet? Now and then. Agent thread. */
void fleet_settings_check(struct fleet_settings *settings);
/* "Redis belongs to fleet b, this node to fleet a"; "" while all is well. Any thread. */
void fleet_settings_trouble(struct fleet_settings *settings, char out[FLEET_TROUBLE_LEN]);

/* ---- for showing them: any thread ---- */

#define FLEET_SETTINGS_MAX 16
struct fleet_differences {
    bool differs[FLEET_SETTINGS_MAX]; /* by index of the table of shared settings */
};
/* Which of the shared settings are not the same on all nodes? fleet: all rows. */
void fleet_settings_compare(const struct store_fleet *fleet, struct fleet_differences *out);
/* The values that a node has of those; {} for one that has published none. NULL: out of memory. */
json_t *fleet_settings_differing(const struct fleet_differences *differences,
                                 const struct store_fleet *fleet, const char *node);

#endif
