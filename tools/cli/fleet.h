/* What the commands about the fleet share. One thread. */
#ifndef MQFLEET_CLI_FLEET_H
#define MQFLEET_CLI_FLEET_H

#include "cli.h"

/* The table of nodes; nodes: of the answer of /api/v1/nodes. */
void cli_fleet_print_nodes(const json_t *nodes);
/* Runs it once, or with --watch until Ctrl-C. */
enum cli_exit cli_fleet_repeat(struct cli *cli, enum cli_exit (*show)(struct cli *cli));

#endif
