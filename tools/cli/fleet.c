/* Commands for the fleet: its status and its nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "node.h"
#include "select.h"
#include "table.h"

#define COUNTED_MAX                                                                                \
    20000 /* number of clients whose states are counted, so that the status takes a short time */
#define CAUSES_MAX       5
#define SETTING_LINE_MAX 200

static const char *cli_fleet_text(const json_t *object, const char *name) {
    return json_string_value(json_object_get(object, name));
}

static long long cli_fleet_number(const json_t *object, const char *name) {
    return (long long)json_integer_value(json_object_get(object, name));
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void cli_fleet_print_nodes(const json_t *nodes) {
    static const char *const headings[] = {"NODE",    "STATE",   ">CLIENTS", ">SIZE", "LEADER",
                                           "ADDRESS", "VERSION", "STARTED",  NULL};
    struct table *table = table_create(headings);
    size_t i;
    const json_t *node;
    char ago[32];
    json_array_foreach(nodes, i, node) {
        table_put(table, cli_fleet_text(node, "name"));
        table_put(table, cli_fleet_text(node, "state"));
        table_printf(table, "%lld", cli_fleet_number(node, "clients"));
        table_printf(table, "%lld", cli_fleet_number(node, "size"));
        table_put(table, json_is_true(json_object_get(node, "leader")) ? "*" : "");
        table_printf(table, "%s:%lld", cli_fleet_text(node, "host"),
                     cli_fleet_number(node, "port"));
        table_put(table, cli_fleet_text(node, "version"));
        table_put(table, table_ago(cli_fleet_text(node, "started_at"), ago, sizeof(ago)));
    }
    table_print(table);
    table_destroy(table);
}

static enum cli_exit cli_fleet_show_nodes(struct cli *cli) {
    struct cli_answer answer;
    cli_node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    enum cli_exit code = cli_answer_succeeded(&answer) ? CLI_OK : cli_answer_explain(&answer, NULL);
    const json_t *nodes = json_object_get(answer.json, "nodes");
    size_t i;
    const json_t *node;
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK && cli->format == CLI_FORMAT_ID) {
        json_array_foreach(nodes, i, node) {
            puts(cli_fleet_text(node, "name") ? cli_fleet_text(node, "name") : "");
        }
    } else if (code == CLI_OK) {
        cli_fleet_print_nodes(nodes);
    }
    cli_answer_fini(&answer);
    return code;
}

/* ---- status ---------------------------------------------------------------------------------- */

struct cli_fleet_summary {
    json_t *states;       /* state -> count */
    json_t *causes;       /* "code: message" -> count, of clients with a problem */
    json_t *advices;      /* the same -> advice, if known */
    json_t *wait_reasons; /* why clients have no node -> the same as text */
    size_t counted;
    size_t degraded; /* number of clients that were counted */
};

static void cli_fleet_count_key(json_t *counts, const char *key) {
    json_object_set_new(counts, key,
                        json_integer(json_integer_value(json_object_get(counts, key)) + 1));
}

static bool cli_fleet_count_page(void *context, json_t *clients) {
    struct cli_fleet_summary *summary = context;
    size_t i;
    const json_t *client;
    json_array_foreach(clients, i, client) {
        const json_t *status = json_object_get(client, "status");
        const json_t *error = json_object_get(status, "last_error");
        const char *state = cli_fleet_text(status, "state");
        const json_t *waiting = json_object_get(status, "waiting");
        if (cli_fleet_text(waiting, "reason")) {
            json_object_set(summary->wait_reasons, cli_fleet_text(waiting, "reason"),
                            json_object_get(waiting, "message"));
        }
        cli_fleet_count_key(summary->states, state ? state : "unknown");
        summary->counted++;
        bool degraded = json_is_true(json_object_get(status, "degraded"));
        summary->degraded += degraded;
        if (state && (degraded || strcmp(state, "online") != 0) && strcmp(state, "paused") != 0 &&
            json_is_object(error)) {
            char whole[600], cause[200];
            snprintf(whole, sizeof(whole), "%s: %s", cli_fleet_text(error, "code"),
                     cli_fleet_text(error, "message"));
            table_printable(whole, cause, sizeof(cause)); /* truncated between two characters */
            if (json_object_size(summary->causes) < 1000 ||
                json_object_get(summary->causes, cause)) {
                cli_fleet_count_key(summary->causes, cause);
                json_object_set(summary->advices, cause, json_object_get(error, "advice"));
            }
        }
    }
    return summary->counted < COUNTED_MAX;
}

/* The health of the node that was asked; other nodes must be asked separately. Nothing if its
 * probes are on a separate port (ops.port). */
static void cli_fleet_add_own_problems(struct cli *cli, json_t *problems) {
    struct cli_answer answer;
    const char *name;
    const json_t *said;
    char line[400];
    cli_node_call(cli, "GET", "/readyz", NULL, 0, &answer);
    json_object_foreach(json_object_get(answer.json, "checks"), name, said) {
        const char *wrong = json_string_value(said);
        if (wrong && strcmp(wrong, "ok") != 0) {
            snprintf(line, sizeof(line), "%s of the node asked: %s", name, wrong);
            json_array_append_new(problems, json_string(line));
        }
    }
    json_object_foreach(json_object_get(answer.json, "warnings"), name, said) {
        snprintf(line, sizeof(line), "%s: %s", name, json_string_value(said));
        json_array_append_new(problems, json_string(line));
    }
    cli_answer_fini(&answer);
}

/* Adds a line for each setting that differs between nodes, with its values. */
static void cli_fleet_add_setting_problems(const json_t *nodes, json_t *problems) {
    json_t *settings = json_object();
    size_t i;
    const json_t *node, *value;
    const char *name;
    json_array_foreach(nodes, i, node) {
        json_object_foreach(json_object_get(node, "differing_settings"), name, value) {
            char one[160];
            const char *before = json_string_value(json_object_get(settings, name));
            json_t *line;
            snprintf(one, sizeof(one), "%lld on %s", (long long)json_integer_value(value),
                     cli_fleet_text(node, "name"));
            line = !before                             ? json_sprintf("%s is %s", name, one)
                   : strlen(before) < SETTING_LINE_MAX ? json_sprintf("%s, %s", before, one)
                                                       : json_string(before);
            json_object_set_new(settings, name, line);
        }
    }
    json_t *line;
    json_object_foreach(settings, name, line) {
        json_array_append(problems, line);
    }
    json_decref(settings);
}

/* fleet: the answer of /api/v1/nodes. Takes ownership of problems. */
static json_t *cli_fleet_make_status(const json_t *fleet, const struct cli_fleet_summary *summary,
                                     json_t *problems) {
    const json_t *nodes = json_object_get(fleet, "nodes");
    long long size = 0, clients = 0;
    const char *leader = NULL;
    size_t i;
    const json_t *node;
    char line[256];
    json_array_foreach(nodes, i, node) {
        const char *state = cli_fleet_text(node, "state");
        size += cli_fleet_number(node, "size");
        clients += cli_fleet_number(node, "clients");
        leader =
            json_is_true(json_object_get(node, "leader")) ? cli_fleet_text(node, "name") : leader;
        if (state && strcmp(state, "live") != 0) {
            snprintf(line, sizeof(line), "node %s is %s", cli_fleet_text(node, "name"), state);
            json_array_append_new(problems, json_string(line));
        }
        if (cli_fleet_text(node, "shares_address_with")) {
            snprintf(line, sizeof(line), "nodes %s and %s have the same node_info.host and port",
                     cli_fleet_text(node, "name"), cli_fleet_text(node, "shares_address_with"));
            json_array_append_new(problems, json_string(line));
        }
    }
    cli_fleet_add_setting_problems(nodes, problems);
    if (!leader) {
        json_array_append_new(problems,
                              json_string("there is no leader: waiting clients are not assigned"));
    }
    if (size > 0 && clients * 10 > size * 9) {
        json_array_append_new(problems,
                              json_string("more than 90 % of the fleet's capacity is used"));
    }
    return json_pack("{s:O, s:s?, s:I, s:I, s:O, s:I, s:b, s:O*, s:O, s:O, s:O, s:o}", "nodes",
                     nodes, "leader", leader, "size", (json_int_t)size, "placed",
                     (json_int_t)clients, "states", summary->states, "degraded",
                     (json_int_t)summary->degraded, "states_complete",
                     summary->counted < COUNTED_MAX, "unplaced", json_object_get(fleet, "unplaced"),
                     "waits", summary->wait_reasons, "causes", summary->causes, "advices",
                     summary->advices, "problems", problems);
}

static void cli_fleet_print_causes(const json_t *causes, const json_t *advices) {
    json_t *left = json_copy((json_t *)causes);
    for (int i = 0; i < CAUSES_MAX && json_object_size(left) > 0; i++) {
        const char *key, *most = NULL;
        json_t *value;
        json_int_t best = 0;
        char safe[220];
        json_object_foreach(left, key, value) {
            if (json_integer_value(value) > best) {
                best = json_integer_value(value);
                most = key;
            }
        }
        printf("  %6lld  %s\n", (long long)best, table_printable(most, safe, sizeof(safe)));
        if (cli_fleet_text(advices, most)) {
            printf("          %s\n",
                   table_printable(cli_fleet_text(advices, most), safe, sizeof(safe)));
        }
        json_object_del(left, most);
    }
    size_t others = json_object_size(left);
    if (others > 0) {
        printf("          and %zu other cause%s (-o json shows all)\n", others,
               others == 1 ? "" : "s");
    }
    json_decref(left);
}

/* As counted by the leader; as text if a client with that reason was seen. */
static void cli_fleet_print_unplaced(const json_t *unplaced, const json_t *waits) {
    json_t *causes = json_object(), *count;
    const char *reason;
    json_object_foreach((json_t *)unplaced, reason, count) {
        char cause[300];
        const char *words = cli_fleet_text(waits, reason);
        snprintf(cause, sizeof(cause), "%s%s%s", reason, words ? ": " : "", words ? words : "");
        json_object_set(causes, cause, count);
    }
    cli_fleet_print_causes(causes, NULL);
    json_decref(causes);
}

static void cli_fleet_print_status(const json_t *status) {
    static const char *const states[] = {"online",  "connecting", "backoff",
                                         "waiting", "conflict",   "paused"};
    const json_t *counts = json_object_get(status, "states");
    const json_t *problems = json_object_get(status, "problems");
    size_t i;
    const json_t *problem;
    char safe[300];
    cli_fleet_print_nodes(json_object_get(status, "nodes"));
    printf("\n%sclients%s  %lld of at most %lld\n", TABLE_BOLD, TABLE_PLAIN,
           cli_fleet_number(status, "placed"), cli_fleet_number(status, "size"));
    for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        printf("  %6lld  %s%s%s\n", cli_fleet_number(counts, states[i]), table_colour(states[i]),
               states[i], table_colour(states[i])[0] != '\0' ? TABLE_PLAIN : "");
    }
    if (cli_fleet_number(status, "degraded") > 0) {
        printf(
            "  %6lld  degraded: the broker refuses a subscription (mqfleet clients --degraded)\n",
            cli_fleet_number(status, "degraded"));
    }
    if (!json_is_true(json_object_get(status, "states_complete"))) {
        printf("  of the first %d clients; /metrics of each node counts all\n", COUNTED_MAX);
    }
    if (json_object_size(json_object_get(status, "unplaced")) > 0) {
        printf("\n%swhy clients have no node%s\n", TABLE_BOLD, TABLE_PLAIN);
        cli_fleet_print_unplaced(json_object_get(status, "unplaced"),
                                 json_object_get(status, "waits"));
    }
    if (json_object_size(json_object_get(status, "causes")) > 0) {
        printf("\n%swhy clients are not online, or degraded%s\n", TABLE_BOLD, TABLE_PLAIN);
        cli_fleet_print_causes(json_object_get(status, "causes"),
                               json_object_get(status, "advices"));
    }
    printf("\n");
    json_array_foreach(problems, i, problem) {
        printf("%sproblem%s: %s\n", table_colour("failed"), TABLE_PLAIN,
               table_printable(json_string_value(problem), safe, sizeof(safe)));
    }
    if (json_array_size(problems) == 0) {
        printf("%sno problem with the nodes%s\n", table_colour("ok"), TABLE_PLAIN);
    }
}

static enum cli_exit cli_fleet_show_status(struct cli *cli) {
    struct cli_answer answer;
    struct cli_fleet_summary summary = {.states = json_object(),
                                        .causes = json_object(),
                                        .advices = json_object(),
                                        .wait_reasons = json_object()};
    cli_node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    enum cli_exit code = cli_answer_succeeded(&answer) ? CLI_OK : cli_answer_explain(&answer, NULL);
    if (code == CLI_OK) {
        code = cli_select_clients(cli, cli_fleet_count_page, &summary);
    }
    if (code == CLI_OK) {
        json_t *problems = json_array();
        cli_fleet_add_own_problems(cli, problems);
        json_t *status = cli_fleet_make_status(answer.json, &summary, problems);
        if (cli->format == CLI_FORMAT_JSON) {
            json_dumpf(status, stdout, JSON_COMPACT);
            putchar('\n');
        } else {
            cli_fleet_print_status(status);
        }
        json_decref(status);
    }
    json_decref(summary.states);
    json_decref(summary.causes);
    json_decref(summary.advices);
    json_decref(summary.wait_reasons);
    cli_answer_fini(&answer);
    return code;
}

/* ---- one time, or repeated ------------------------------------------------------------------- */

static enum cli_exit cli_fleet_repeat(struct cli *cli, enum cli_exit (*show)(struct cli *cli)) {
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

enum cli_exit command_status(struct cli *cli) {
    return cli_fleet_repeat(cli, cli_fleet_show_status);
}

enum cli_exit command_nodes(struct cli *cli) {
    return cli_fleet_repeat(cli, cli_fleet_show_nodes);
}
