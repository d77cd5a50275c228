/* Commands for the sinks of the fleet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "node.h"
#include "table.h"

/* ---- list, get ------------------------------------------------------------------------------- */

/* "-": no message lately, or a node of an earlier version. */
static void cli_sinks_put_latency(struct table *table, const json_t *node, const char *name) {
    const json_t *ms = json_object_get(json_object_get(node, "latency"), name);
    if (json_is_number(ms)) {
        double value = json_number_value(ms);
        table_printf(table, value < 1000 ? "%.3g" : "%.0f", value);
    } else {
        table_put(table, "-");
    }
}

static void cli_sinks_put_rows(struct table *table, const json_t *sink) {
    size_t i;
    const json_t *node;
    json_array_foreach(json_object_get(sink, "nodes"), i, node) {
        const char *fault = cli_json_text_or_empty(node, "not_applied");
        table_put(table, cli_json_text_or_empty(sink, "name"));
        table_put(table, cli_json_text_or_empty(node, "type"));
        table_put(table, cli_json_text_or_empty(node, "origin"));
        table_put(table, cli_json_text_or_empty(node, "node"));
        table_put(table, cli_json_text_or_empty(node, "state"));
        table_printf(table, "%lld", cli_json_number(node, "queued_messages"));
        table_printf(table, "%lld", cli_json_number(node, "accepted"));
        table_printf(table, "%lld",
                     cli_json_number(node, "rejected") + cli_json_number(node, "expired"));
        cli_sinks_put_latency(table, node, "p50_ms");
        cli_sinks_put_latency(table, node, "p99_ms");
        table_put(table, *fault ? fault : cli_json_text_or_empty(node, "last_error"));
    }
}

static enum cli_exit cli_sinks_report_incomplete(const json_t *answer) {
    size_t i;
    const json_t *incomplete = json_object_get(answer, "incomplete"), *node;
    json_array_foreach(incomplete, i, node) {
        cli_error("node %s does not answer", json_string_value(node));
    }
    return json_array_size(incomplete) > 0 ? CLI_FAILED : CLI_OK;
}

static struct table *cli_sinks_table(void) {
    static const char *const headings[] = {"SINK",    "TYPE",    "OF",        "NODE",
                                           "STATE",   ">QUEUED", ">ACCEPTED", ">GIVEN UP",
                                           ">P50 MS", ">P99 MS", "ERROR",     NULL};
    return table_create(headings);
}

/* Calls, and explains what went wrong. body: its reference is taken; NULL: none. */
static enum cli_exit cli_sinks_call(struct cli *cli, const char *method, const char *path,
                                    json_t *body, const char *what, struct cli_answer *answer) {
    cli_node_call(cli, method, path, body, 5000, answer);
    return cli_answer_check(answer, what);
}

static enum cli_exit cli_sinks_list(struct cli *cli, const char *name) {
    struct cli_answer answer;
    char *path = name ? cli_node_path("sinks", name, "") : strdup("/api/v1/sinks");
    enum cli_exit code = cli_sinks_call(cli, "GET", path, NULL, name, &answer);
    if (code == CLI_OK && (cli->format == CLI_FORMAT_JSON || name)) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        struct table *table = cli_sinks_table();
        size_t i;
        const json_t *sink;
        json_array_foreach(json_object_get(answer.json, "sinks"), i, sink) {
            if (cli->format == CLI_FORMAT_ID) {
                puts(cli_json_text_or_empty(sink, "name"));
            } else {
                cli_sinks_put_rows(table, sink);
            }
        }
        if (cli->format != CLI_FORMAT_ID) {
            table_print(table);
        }
        table_destroy(table);
    }
    if (code == CLI_OK) {
        code = cli_sinks_report_incomplete(answer.json);
    }
    cli_answer_fini(&answer);
    free(path);
    return code;
}

static enum cli_exit cli_sinks_list_all(struct cli *cli) {
    return cli_sinks_list(cli, NULL);
}

static enum cli_exit cli_sinks_get(struct cli *cli) {
    return cli_sinks_list(cli, cli->words[1]);
}

/* ---- apply, delete, test --------------------------------------------------------------------- */

static enum cli_exit cli_sinks_apply(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code;
    json_t *document = cli_read_object(cli, "one sink", &code);
    if (!document) {
        return code;
    }
    char *path = cli_node_path("sinks", cli->words[1], "");
    code = cli_sinks_call(cli, "PUT", path, document, cli->words[1], &answer);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        printf("%s %s\n", cli->words[1], answer.status == 201 ? "created" : "applied");
    }
    cli_answer_fini(&answer);
    free(path);
    return code;
}

static enum cli_exit cli_sinks_delete(struct cli *cli) {
    struct cli_answer answer;
    if (!cli_confirm(cli, "delete the sink %s?", cli->words[1])) {
        return CLI_USAGE;
    }
    char *path = cli_node_path("sinks", cli->words[1], "");
    enum cli_exit code = cli_sinks_call(cli, "DELETE", path, NULL, cli->words[1], &answer);
    if (code == CLI_OK && cli->format != CLI_FORMAT_JSON) {
        printf("%s deleted\n", cli->words[1]);
    }
    cli_answer_fini(&answer);
    free(path);
    return code;
}

/* A sink of the fleet by its name, else the document in --file. */
static enum cli_exit cli_sinks_test(struct cli *cli) {
    struct cli_answer answer;
    struct buffer path;
    enum cli_exit code = CLI_OK;
    json_t *document = NULL;
    buffer_init(&path);
    buffer_append_str(&path, "/api/v1/sinks:test");
    if (cli->word_count > 1) {
        char *name = cli_node_escape(cli->words[1]);
        buffer_printf(&path, "?name=%s", name ? name : "");
        free(name);
    } else {
        document = cli_read_object(cli, "one sink", &code);
    }
    if (code == CLI_OK) {
        code = cli_sinks_call(cli, "POST", path.data, document,
                              cli->word_count > 1 ? cli->words[1] : NULL, &answer);
        if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
            cli_answer_print(&answer);
        } else if (code == CLI_OK) {
            cli_print_steps(answer.json);
        }
        bool good = code != CLI_OK || json_is_true(json_object_get(answer.json, "ok"));
        code = good ? code : CLI_FAILED;
        cli_answer_fini(&answer);
    }
    buffer_fini(&path);
    return code;
}

enum cli_exit command_sinks(struct cli *cli) {
    static const struct cli_verb verbs[] = {{"list", 1, 1, cli_sinks_list_all},
                                            {"get", 2, 2, cli_sinks_get},
                                            {"apply", 2, 2, cli_sinks_apply},
                                            {"delete", 2, 2, cli_sinks_delete},
                                            {"test", 1, 2, cli_sinks_test}};
    const struct cli_verb *verb = cli_find_verb(cli, verbs, sizeof verbs / sizeof verbs[0]);
    return verb ? verb->run(cli) : CLI_USAGE;
}
