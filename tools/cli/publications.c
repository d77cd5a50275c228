/* Commands that list or drop the pending publications of a client. */
#include <stdio.h>
#include <stdlib.h>
#include "node.h"
#include "table.h"

static void cli_publications_print(const json_t *rows) {
    static const char *const headings[] = {"TOPIC",  ">QOS",    ">BYTES", ">AGE",
                                           ">TRIES", ">LOSSES", "STATE",  NULL};
    struct table *table = table_create(headings);
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        table_put(table, cli_json_text_or_empty(row, "topic"));
        table_printf(table, "%lld", cli_json_number(row, "qos"));
        table_printf(table, "%lld", cli_json_number(row, "bytes"));
        table_printf(table, "%.1fs", (double)cli_json_number(row, "age_ms") / 1000);
        table_printf(table, "%lld", cli_json_number(row, "tries"));
        table_printf(table, "%lld", cli_json_number(row, "losses"));
        table_put(table, cli_json_text_or_empty(row, "state"));
    }
    table_print(table);
    table_destroy(table);
}

enum cli_exit command_publications(struct cli *cli) {
    bool drop = cli_option_given(cli, OPT_DROP);
    struct cli_answer answer;
    char *path = cli_node_path("clients", cli->words[0], "publications");
    cli_node_call(cli, drop ? "DELETE" : "GET", path, NULL, 0, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, cli->words[0]);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        cli_publications_print(json_object_get(answer.json, drop ? "dropped" : "publications"));
    }
    cli_answer_fini(&answer);
    return code;
}
