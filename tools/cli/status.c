/* The status of the fleet: its nodes, its clients by state, the causes of trouble, and problems.
 * The nodes count: the number of requests does not grow with the number of clients. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fleet.h"
#include "node.h"
#include "table.h"

#define CAUSES_MAX   5  /* that are printed */
#define EXAMPLES_MAX 20 /* clients that are asked for the text of their error */
#define CAUSE_LEN    200

struct cli_status {
    json_t *fleet;        /* the answer of /api/v1/nodes */
    json_t *states;       /* state -> count */
    json_t *causes;       /* "code: message" -> count, of clients with a problem */
    json_t *advices;      /* the same -> advice, if known */
    json_t *wait_reasons; /* why clients have no node -> the same as text */
    json_t *incomplete;   /* nodes whose clients are not counted */
    json_t *problems, *warnings;
    long long degraded;
};

/* *out: the body. CLI_OK: it succeeded; otherwise the error was printed, unless quiet. */
static enum cli_exit cli_status_get(struct cli *cli, const char *path, bool quiet, json_t **out) {
    struct cli_answer answer;
    cli_node_call(cli, "GET", path, NULL, 0, &answer);
    enum cli_exit code = cli_answer_succeeded(&answer) ? CLI_OK
                         : quiet                       ? cli_answer_exit_code(&answer)
                                                       : cli_answer_explain(&answer, NULL);
    *out = code == CLI_OK ? json_incref(answer.json) : NULL;
    cli_answer_fini(&answer);
    return code;
}

/* ---- clients --------------------------------------------------------------------------------- */

static enum cli_exit cli_status_count_states(struct cli *cli, struct cli_status *status) {
    json_t *summary;
    size_t i;
    const json_t *group;
    enum cli_exit code = cli_status_get(cli, "/api/v1/summary?by=state", false, &summary);
    json_array_foreach(json_object_get(summary, "groups"), i, group) {
        const char *state = cli_json_text(group, "value");
        json_object_set(status->states, state ? state : "unknown", json_object_get(group, "count"));
    }
    json_object_update(status->incomplete, summary); /* only its list is shown */
    json_decref(summary);
    return code;
}

static enum cli_exit cli_status_count_degraded(struct cli *cli, struct cli_status *status) {
    json_t *summary;
    enum cli_exit code =
        cli_status_get(cli, "/api/v1/summary?by=degraded&degraded=true", false, &summary);
    status->degraded = cli_json_number(summary, "count");
    json_decref(summary);
    return code;
}

/* What the example says of its error; otherwise what the error means in general. */
static void cli_status_name_cause(struct cli *cli, const json_t *group, bool ask,
                                  char cause[CAUSE_LEN]) {
    const char *code = cli_json_text(group, "value"), *example = cli_json_text(group, "example");
    const char *message = cli_json_text(group, "text");
    char whole[600];
    json_t *client = NULL;
    char *path = ask && example ? cli_node_path("clients", example, "") : NULL;
    if (path && cli_status_get(cli, path, true, &client) == CLI_OK) {
        const json_t *error = json_object_get(json_object_get(client, "status"), "last_error");
        const char *said = cli_json_text(error, "code");
        message = said && strcmp(said, code) == 0 ? cli_json_text(error, "message") : message;
    }
    snprintf(whole, sizeof(whole), "%s: %s", code, message ? message : "");
    table_printable(whole, cause, CAUSE_LEN); /* truncated between two characters */
    free(path);
    json_decref(client);
}

static enum cli_exit cli_status_count_causes(struct cli *cli, struct cli_status *status) {
    json_t *summary;
    size_t i, asked = 0;
    const json_t *group;
    enum cli_exit code =
        cli_status_get(cli, "/api/v1/summary?by=error&limit=1000", false, &summary);
    json_array_foreach(json_object_get(summary, "groups"), i, group) {
        char cause[CAUSE_LEN];
        if (cli_json_text(group, "value")) {
            cli_status_name_cause(cli, group, asked++ < EXAMPLES_MAX, cause);
            json_object_set(status->causes, cause, json_object_get(group, "count"));
            json_object_set(status->advices, cause, json_object_get(group, "advice"));
        }
    }
    json_decref(summary);
    return code;
}

/* The texts of the reasons why clients wait, from the first clients of a list: those that wait. */
static void cli_status_explain_waits(struct cli *cli, struct cli_status *status) {
    json_t *list;
    size_t i;
    const json_t *client;
    if (json_object_size(json_object_get(status->fleet, "unplaced")) == 0 ||
        cli_status_get(cli, "/api/v1/clients?limit=200", true, &list) != CLI_OK) {
        return;
    }
    json_array_foreach(json_object_get(list, "clients"), i, client) {
        const json_t *waiting = json_object_get(json_object_get(client, "status"), "waiting");
        if (cli_json_text(waiting, "reason")) {
            json_object_set(status->wait_reasons, cli_json_text(waiting, "reason"),
                            json_object_get(waiting, "message"));
        }
    }
    json_decref(list);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void cli_status_add_texts(json_t *into, const char *node, const json_t *texts) {
    size_t i;
    const json_t *text;
    json_array_foreach(texts, i, text) {
        json_array_append_new(into, json_sprintf("%s: %s", node, json_string_value(text)));
    }
}

/* What each node says of itself. Nothing if the node that is asked is of an earlier version. */
static void cli_status_add_health(struct cli *cli, struct cli_status *status) {
    json_t *health;
    size_t i;
    const json_t *node;
    if (cli_status_get(cli, "/api/v1/nodes:health", true, &health) != CLI_OK) {
        return;
    }
    json_array_foreach(json_object_get(health, "nodes"), i, node) {
        const char *name = cli_json_text(node, "name");
        json_t *problems = json_copy(json_object_get(node, "problems"));
        for (size_t at = json_array_size(problems); at > 0; at--) { /* its state is shown below */
            if (strcmp(json_string_value(json_array_get(problems, at - 1)),
                       "placement: draining") == 0) {
                json_array_remove(problems, at - 1);
            }
        }
        cli_status_add_texts(status->problems, name, problems);
        cli_status_add_texts(status->warnings, name, json_object_get(node, "warnings"));
        json_decref(problems);
    }
    json_decref(health);
}

/* What is wrong with the fleet as a whole. */
static void cli_status_add_problems(struct cli *cli, struct cli_status *status) {
    json_t *answer;
    size_t i;
    const json_t *row;
    if (cli_status_get(cli, "/api/v1/problems", true, &answer) != CLI_OK) {
        json_array_append_new(status->warnings,
                              json_string("the problems of the fleet are not known: the node that "
                                          "was asked is of an earlier version, or failed"));
        return;
    }
    json_array_foreach(json_object_get(answer, "problems"), i, row) {
        const char *severity = cli_json_text(row, "severity");
        bool problem = severity && strcmp(severity, "problem") == 0;
        json_array_append_new(
            problem ? status->problems : status->warnings,
            json_sprintf("%s (%s)", cli_json_text(row, "cause"), cli_json_text(row, "advice")));
    }
    json_decref(answer);
}

/* The answer of -o json. */
static json_t *cli_status_make(struct cli_status *status) {
    const json_t *nodes = json_object_get(status->fleet, "nodes"), *node;
    const json_t *incomplete = json_object_get(status->incomplete, "incomplete");
    long long size = 0, clients = 0;
    const char *leader = NULL;
    size_t i;
    json_array_foreach(nodes, i, node) {
        size += cli_json_number(node, "size");
        clients += cli_json_number(node, "clients");
        leader =
            json_is_true(json_object_get(node, "leader")) ? cli_json_text(node, "name") : leader;
    }
    return json_pack("{s:O, s:s?, s:I, s:I, s:O, s:I, s:b, s:O*, s:O*, s:O, s:O, s:O, s:O, s:O}",
                     "nodes", nodes, "leader", leader, "size", (json_int_t)size, "placed",
                     (json_int_t)clients, "states", status->states, "degraded",
                     (json_int_t)status->degraded, "states_complete",
                     json_array_size(incomplete) == 0, "incomplete", incomplete, "unplaced",
                     json_object_get(status->fleet, "unplaced"), "waits", status->wait_reasons,
                     "causes", status->causes, "advices", status->advices, "problems",
                     status->problems, "warnings", status->warnings);
}

/* ---- printing -------------------------------------------------------------------------------- */

static void cli_status_print_causes(const json_t *causes, const json_t *advices) {
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
        if (!most) {
            break;
        }
        printf("  %6lld  %s\n", (long long)best, table_printable(most, safe, sizeof(safe)));
        if (cli_json_text(advices, most)) {
            printf("          %s\n",
                   table_printable(cli_json_text(advices, most), safe, sizeof(safe)));
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

/* Prints the reasons that the leader counted, each with an example's explanation if there is one.
 */
static void cli_status_print_unplaced(const json_t *unplaced, const json_t *waits) {
    json_t *causes = json_object(), *count;
    const char *reason;
    json_object_foreach((json_t *)unplaced, reason, count) {
        char cause[300];
        const char *words = cli_json_text(waits, reason);
        snprintf(cause, sizeof(cause), "%s%s%s", reason, words ? ": " : "", words ? words : "");
        json_object_set(causes, cause, count);
    }
    cli_status_print_causes(causes, NULL);
    json_decref(causes);
}

static void cli_status_print_clients(const json_t *status) {
    static const char *const states[] = {"online",  "connecting", "backoff",
                                         "waiting", "conflict",   "paused"};
    const json_t *counts = json_object_get(status, "states"), *node;
    size_t i;
    printf("\n%sclients%s  %lld of at most %lld\n", TABLE_BOLD, TABLE_PLAIN,
           cli_json_number(status, "placed"), cli_json_number(status, "size"));
    for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        printf("  %6lld  %s%s%s\n", cli_json_number(counts, states[i]), table_colour(states[i]),
               states[i], table_colour(states[i])[0] != '\0' ? TABLE_PLAIN : "");
    }
    if (cli_json_number(status, "degraded") > 0) {
        printf(
            "  %6lld  degraded: the broker refuses a subscription (mqfleet clients --degraded)\n",
            cli_json_number(status, "degraded"));
    }
    json_array_foreach(json_object_get(status, "incomplete"), i, node) {
        printf("  without the %lld clients of %s: %s\n", cli_json_number(node, "clients"),
               cli_json_text(node, "node"), cli_json_text(node, "reason"));
    }
}

static void cli_status_print_lines(const char *what, const char *colour, const json_t *lines) {
    size_t i;
    const json_t *line;
    char safe[300];
    json_array_foreach(lines, i, line) {
        printf("%s%s%s: %s\n", table_colour(colour), what, TABLE_PLAIN,
               table_printable(json_string_value(line), safe, sizeof(safe)));
    }
}

static void cli_status_print(const json_t *status) {
    const json_t *problems = json_object_get(status, "problems");
    cli_fleet_print_nodes(json_object_get(status, "nodes"));
    cli_status_print_clients(status);
    if (json_object_size(json_object_get(status, "unplaced")) > 0) {
        printf("\n%swhy clients have no node%s\n", TABLE_BOLD, TABLE_PLAIN);
        cli_status_print_unplaced(json_object_get(status, "unplaced"),
                                  json_object_get(status, "waits"));
    }
    if (json_object_size(json_object_get(status, "causes")) > 0) {
        printf("\n%swhy clients are not online, or degraded%s\n", TABLE_BOLD, TABLE_PLAIN);
        cli_status_print_causes(json_object_get(status, "causes"),
                                json_object_get(status, "advices"));
    }
    printf("\n");
    cli_status_print_lines("problem", "failed", problems);
    cli_status_print_lines("warning", "backoff", json_object_get(status, "warnings"));
    if (json_array_size(problems) == 0) {
        printf("%sno problem with the nodes%s\n", table_colour("ok"), TABLE_PLAIN);
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

static enum cli_exit cli_status_read(struct cli *cli, struct cli_status *status) {
    enum cli_exit code = cli_status_get(cli, "/api/v1/nodes", false, &status->fleet);
    if (code == CLI_OK) {
        code = cli_status_count_states(cli, status);
    }
    if (code == CLI_OK) {
        code = cli_status_count_degraded(cli, status);
    }
    if (code == CLI_OK) {
        code = cli_status_count_causes(cli, status);
    }
    if (code == CLI_OK) {
        cli_status_explain_waits(cli, status);
        cli_status_add_health(cli, status);
        cli_status_add_problems(cli, status);
    }
    return code;
}

static enum cli_exit cli_status_show(struct cli *cli) {
    struct cli_status status = {.states = json_object(),
                                .causes = json_object(),
                                .advices = json_object(),
                                .wait_reasons = json_object(),
                                .incomplete = json_object(),
                                .problems = json_array(),
                                .warnings = json_array()};
    enum cli_exit code = cli_status_read(cli, &status);
    if (code == CLI_OK) {
        json_t *whole = cli_status_make(&status);
        if (cli->format == CLI_FORMAT_JSON) {
            json_dumpf(whole, stdout, JSON_COMPACT);
            putchar('\n');
        } else {
            cli_status_print(whole);
        }
        json_decref(whole);
        code = json_array_size(status.problems) > 0 ? CLI_FAILED : CLI_OK;
    }
    json_t *const owned[] = {status.fleet,    status.states,       status.causes,
                             status.advices,  status.wait_reasons, status.incomplete,
                             status.problems, status.warnings};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        json_decref(owned[i]);
    }
    return code;
}

enum cli_exit command_status(struct cli *cli) {
    return cli_fleet_repeat(cli, cli_status_show);
}
