/* Operations on many clients. One thread. */
#ifndef MQFLEET_CLI_OPERATIONS_H
#define MQFLEET_CLI_OPERATIONS_H

#include "cli.h"

/* Begins the operation of the command on the clients of --selector, and shows its progress until it
 * ends. patch: borrowed; NULL: none. */
enum cli_exit cli_operations_run(struct cli *cli, json_t *patch);

#endif
