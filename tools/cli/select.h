/* The clients for a command: those that match the filters, or ids of the command line and of
 * standard input ("-"). One thread. */
#ifndef MQFLEET_CLI_SELECT_H
#define MQFLEET_CLI_SELECT_H

#include "cli.h"

struct buffer;
/* Whether --selector, if it is given, has keys, and no other filter is given. Not CLI_OK: the error
 * was printed. */
enum cli_exit cli_select_check(const struct cli *cli);
/* Adds "&key=value" for each filter that is given, and --selector. */
void cli_select_append_filters(const struct cli *cli, struct buffer *path);

/* Prints the nodes whose clients are missing in the answer. True: there are some. */
bool cli_select_report_incomplete(const json_t *answer);

/* Handles one page of clients that match the filters. False: stop. */
typedef bool cli_select_page(void *context, json_t *clients);
/* Reads all pages, each client once, although a client that moves between nodes may appear twice.
 * Returns CLI_OK, or prints the error on stderr; CLI_FAILED also if some are missing, because nodes
 * do not answer. */
enum cli_exit cli_select_clients(struct cli *cli, cli_select_page *take, void *context);

/* Whether the command line has --selector, or a filter such as --state or --label. */
bool cli_select_is_given(const struct cli *cli);
/* The ids of the command, as a JSON array of strings; NULL: *code is the exit code. */
json_t *cli_select_ids(struct cli *cli, enum cli_exit *code);

#endif
