/* Counts of clients by the value of one key. */
#include <stdio.h>
#include <stdlib.h>
#include "base/buffer.h"
#include "node.h"
#include "select.h"
#include "table.h"

static void cli_summary_print(const json_t *summary) {
    static const char *const headings[] = {"VALUE", ">CLIENTS", "WHAT IT MEANS", NULL};
    static const char *const plain[] = {"VALUE", ">CLIENTS", NULL};
    size_t i;
    const json_t *group, *others = json_object_get(summary, "others");
    const json_t *groups = json_object_get(summary, "groups");
    bool explained = json_object_get(json_array_get(groups, 0), "text") ||
                     json_object_get(json_array_get(groups, 1), "text");
    struct table *table = table_create(explained ? headings : plain);
    json_array_foreach(groups, i, group) {
        const char *value = cli_json_text(group, "value");
        const char *text = cli_json_text(group, "text");
        table_put(table, value ? value : "-");
        table_printf(table, "%lld", cli_json_number(group, "count"));
        if (explained) {
            table_put(table, text ? text : value ? "" : "no error");
        }
    }
    table_print(table);
    table_destroy(table);
    if (cli_json_number(others, "count") > 0) {
        printf("and %lld clients with %lld other values\n", cli_json_number(others, "count"),
               cli_json_number(others, "groups"));
    }
}

static char *cli_summary_path(const struct cli *cli) {
    const char *by = cli_option_given(cli, OPT_BY) ? cli->values[OPT_BY] : "state";
    const char *limit = cli->values[OPT_LIMIT];
    char *escaped = cli_node_escape(by);
    struct buffer path;
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/summary?by=%s", escaped ? escaped : "");
    if (limit) {
        buffer_printf(&path, "&limit=%s", limit);
    }
    cli_select_append_filters(cli, &path);
    free(escaped);
    return buffer_take(&path);
}

enum cli_exit command_summary(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code = cli_select_check(cli);
    if (code != CLI_OK) {
        return code;
    }
    char *whole = cli_summary_path(cli);
    cli_node_call(cli, "GET", whole ? whole : "/", NULL, 0, &answer);
    free(whole);
    code = cli_answer_check(&answer, NULL);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        cli_summary_print(answer.json);
    }
    if (code == CLI_OK && cli_select_report_incomplete(answer.json)) {
        code = CLI_FAILED;
    }
    cli_answer_fini(&answer);
    return code;
}
