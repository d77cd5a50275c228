/* The command for the brokers of the fleet. */
#include <stdio.h>
#include <stdlib.h>
#include "cli.h"
#include "node.h"
#include "table.h"

#define BROKERS_LIMIT "100" /* unless --limit is given */

static void cli_brokers_put_count(struct table *table, const json_t *row, const char *name) {
    const json_t *clients = json_object_get(row, "clients");
    table_printf(table, "%lld", cli_json_number(clients, name));
}

/* "-": not known, or not told to a token with a scope. */
static void cli_brokers_put_number(struct table *table, const json_t *number) {
    if (json_is_number(number)) {
        table_printf(table, "%.4g", json_number_value(number));
    } else {
        table_put(table, "-");
    }
}

static void cli_brokers_put_row(struct table *table, const json_t *row) {
    static const char *const counts[] = {"all", "online", "connecting", "backoff", "conflict"};
    const json_t *incident = json_object_get(row, "incident");
    const char *expires = cli_json_text_or_empty(row, "certificate_expires_at");
    char ago[32];
    table_put(table, cli_json_text_or_empty(row, "broker"));
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        cli_brokers_put_count(table, row, counts[i]);
        if (i == 1) {
            table_put(table, table_ago(cli_json_text(incident, "since"), ago, sizeof ago));
        }
    }
    cli_brokers_put_number(table, json_object_get(row, "connects_per_s"));
    cli_brokers_put_number(table, json_object_get(json_object_get(row, "ping_ms"), "p50"));
    cli_brokers_put_number(table, json_object_get(json_object_get(row, "ping_ms"), "p99"));
    table_printf(table, "%zu", json_array_size(json_object_get(row, "nodes")));
    table_put(table, *expires ? expires : "-");
    table_put(table, cli_json_text_or_empty(incident, "message"));
}

static void cli_brokers_print(const struct cli *cli, const json_t *answer) {
    static const char *const headings[] = {
        "BROKER",  ">CLIENTS", ">ONLINE", "AWAY",   ">CONNECTING", ">BACKOFF", ">CONFLICT",
        ">CONN/S", ">P50 MS",  ">P99 MS", ">NODES", "CERT UNTIL",  "ERROR",    NULL};
    struct table *table = table_create(headings);
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(answer, "brokers"), i, row) {
        if (cli->format == CLI_FORMAT_ID) {
            puts(cli_json_text_or_empty(row, "broker"));
        } else {
            cli_brokers_put_row(table, row);
        }
    }
    if (cli->format != CLI_FORMAT_ID) {
        table_print(table);
    }
    table_destroy(table);
    const json_t *others = json_object_get(answer, "others");
    long long count = cli_json_number(others, "brokers");
    if (count > 0) {
        cli_error("%lld more brokers with %lld clients: --limit shows more", count,
                  cli_json_number(others, "clients"));
    }
}

enum cli_exit command_brokers(struct cli *cli) {
    struct cli_answer answer;
    char path[64];
    const char *limit = cli_option_given(cli, OPT_LIMIT) ? cli->values[OPT_LIMIT] : BROKERS_LIMIT;
    snprintf(path, sizeof path, "/api/v1/brokers?limit=%.20s", limit);
    cli_node_call(cli, "GET", path, NULL, 5000, &answer);
    enum cli_exit code = cli_answer_check(&answer, "brokers");
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        cli_brokers_print(cli, answer.json);
    }
    size_t i;
    const json_t *node;
    const json_t *incomplete = json_object_get(code == CLI_OK ? answer.json : NULL, "incomplete");
    json_array_foreach(incomplete, i, node) {
        cli_error("node %s: %s", cli_json_text_or_empty(node, "node"),
                  cli_json_text_or_empty(node, "reason"));
        code = CLI_FAILED;
    }
    cli_answer_fini(&answer);
    return code;
}
