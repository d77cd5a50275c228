/* The name of the fleet that owns the Redis (fleet.name), and the settings that should be equal on
 * all nodes. A node of another fleet does not join. Different settings only cause a warning. */
#ifndef MQFLEET_MEMBERSHIP_FLEET_SETTINGS_H
#define MQFLEET_MEMBERSHIP_FLEET_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>
#include "base/config/conf.h"
#include "base/err.h"
#include "store/store.h"

#define FLEET_FAULT_LEN 700

struct fleet_settings;

/* Both are borrowed. NULL: out of memory. */
struct fleet_settings *fleet_settings_create(const struct conf *conf, struct store *store);
void fleet_settings_destroy(struct fleet_settings *settings);

/* Before a node joins: names the fleet if it has no name, publishes the settings of this node, and
 * warns of differences from other nodes. ERR_REFUSED: Redis belongs to another fleet. Agent thread.
 */
enum err fleet_settings_join(struct fleet_settings *settings) MUST_CHECK;
/* Checks again that Redis belongs to the fleet of this node. Called periodically. Agent thread. */
void fleet_settings_check(struct fleet_settings *settings);
/* "Redis belongs to fleet b, this node to fleet a"; "": it belongs to this fleet. Any thread. */
void fleet_settings_fault(struct fleet_settings *settings, char out[FLEET_FAULT_LEN]);

/* ---- for the API: any thread ---- */

#define FLEET_SETTINGS_MAX 16
struct fleet_differences {
    bool differs[FLEET_SETTINGS_MAX]; /* by index in the table of shared settings */
};
/* Finds the shared settings that differ between nodes. */
void fleet_settings_compare(const struct store_fleet *fleet, struct fleet_differences *out);
/* The values of these settings on a node; {} if it has published none. NULL: out of memory. */
json_t *fleet_settings_differing(const struct fleet_differences *differences,
                                 const struct store_fleet *fleet, const char *node);

#endif
