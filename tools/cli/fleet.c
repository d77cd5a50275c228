/* The command `nodes`, and what commands about the fleet share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fleet.h"
#include "node.h"
#include "table.h"

/* ---- nodes ----------------------------------------------------------------------------------- */

void cli_fleet_print_nodes(const json_t *nodes) {
    static const char *const headings[] = {"NODE",    "STATE",   ">CLIENTS", ">SIZE", "LEADER",
                                           "ADDRESS", "VERSION", "STARTED",  NULL};
    struct table *table = table_create(headings);
    size_t i;
    const json_t *node;
    char ago[32];
    json_array_foreach(nodes, i, node) {
        table_put(table, cli_json_text(node, "name"));
        table_put(table, cli_json_text(node, "state"));
        table_printf(table, "%lld", cli_json_number(node, "clients"));
        table_printf(table, "%lld", cli_json_number(node, "size"));
        table_put(table, json_is_true(json_object_get(node, "leader")) ? "*" : "");
        table_printf(table, "%s:%lld", cli_json_text(node, "host"), cli_json_number(node, "port"));
        table_put(table, cli_json_text(node, "version"));
        table_put(table, table_ago(cli_json_text(node, "started_at"), ago, sizeof(ago)));
    }
    table_print(table);
    table_destroy(table);
}

static enum cli_exit cli_fleet_show_nodes(struct cli *cli) {
    struct cli_answer answer;
    cli_node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    enum cli_exit code = cli_answer_check(&answer, NULL);
    const json_t *nodes = json_object_get(answer.json, "nodes");
    size_t i;
    const json_t *node;
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK && cli->format == CLI_FORMAT_ID) {
        json_array_foreach(nodes, i, node) {
            puts(cli_json_text(node, "name") ? cli_json_text(node, "name") : "");
        }
    } else if (code == CLI_OK) {
        cli_fleet_print_nodes(nodes);
    }
    cli_answer_fini(&answer);
    return code;
}

/* ---- one time, or repeated ------------------------------------------------------------------- */

enum cli_exit cli_fleet_repeat(struct cli *cli, enum cli_exit (*show)(struct cli *cli)) {
    const char *given = cli->values[OPT_INTERVAL];
    double seconds = given ? strtod(given, NULL) : 2;
    if (!cli_option_given(cli, OPT_WATCH)) {
        return show(cli);
    }
    enum cli_exit code;
    do {
        if (isatty(STDOUT_FILENO) && cli->format != CLI_FORMAT_JSON) {
            fputs("\033[H\033[2J", stdout);
        }
        code = show(cli);
        fflush(stdout);
    } while (code != CLI_USAGE && code != CLI_REFUSED && cli_sleep_ms((long)(seconds * 1000)));
    return code;
}

enum cli_exit command_nodes(struct cli *cli) {
    return cli_fleet_repeat(cli, cli_fleet_show_nodes);
}
