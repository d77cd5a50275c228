/* Which clients a command is about: ids of the command line, of standard input ("-"), or those that
 * the filters match. One thread. */
#ifndef MQFLEET_CLI_SELECT_H
#define MQFLEET_CLI_SELECT_H

#include "cli.h"

/* One page of clients by the filters given. False: enough. */
typedef bool cli_select_page(void *context, json_t *clients);
/* Walks all pages, each client once: one that moves between nodes meanwhile may come up again.
 * CLI_OK, or told on stderr what went wrong. */
enum cli_exit cli_select_clients(struct cli *cli, cli_select_page *take, void *context);

/* The ids of the command, as a JSON array of strings; NULL: *code says what to return. */
json_t *cli_select_ids(struct cli *cli, enum cli_exit *code);

#endif
