/* The fleet at a glance, its nodes, and emptying one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "node.h"
#include "progress.h"
#include "select.h"
#include "table.h"

#define COUNTED_MAX      20000 /* of clients whose states are counted: a glance must not take long */
#define CAUSES_MAX       5
#define SETTING_LINE_MAX 200
#define DRAIN_LOOK_MS    500
#define DRAIN_HINT_MS    10000 /* without one that leaves */

static const char *text(const json_t *object, const char *name) {
    return json_string_value(json_object_get(object, name));
}

static long long number(const json_t *object, const char *name) {
    return (long long)json_integer_value(json_object_get(object, name));
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void print_nodes(const json_t *nodes) {
    static const char *const headings[] = {"NODE",    "STATE",   ">CLIENTS", ">SIZE", "LEADER",
                                           "ADDRESS", "VERSION", "STARTED",  NULL};
    struct table *table = table_create(headings);
    size_t i;
    const json_t *node;
    char ago[32];
    json_array_foreach(nodes, i, node) {
        table_put(table, text(node, "name"));
        table_put(table, text(node, "state"));
        table_printf(table, "%lld", number(node, "clients"));
        table_printf(table, "%lld", number(node, "size"));
        table_put(table, json_is_true(json_object_get(node, "leader")) ? "*" : "");
        table_printf(table, "%s:%lld", text(node, "host"), number(node, "port"));
        table_put(table, text(node, "version"));
        table_put(table, table_ago(text(node, "started_at"), ago, sizeof(ago)));
    }
    table_print(table);
    table_destroy(table);
}

static enum cli_exit show_nodes(struct cli *cli) {
    struct answer answer;
    node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    enum cli_exit code = answer_good(&answer) ? CLI_OK : answer_explain(&answer, NULL);
    const json_t *nodes = json_object_get(answer.json, "nodes");
    size_t i;
    const json_t *node;
    if (code == CLI_OK && cli->json) {
        answer_print(&answer);
    } else if (code == CLI_OK && cli->ids) {
        json_array_foreach(nodes, i, node) {
            puts(text(node, "name") != NULL ? text(node, "name") : "");
        }
    } else if (code == CLI_OK) {
        print_nodes(nodes);
    }
    answer_fini(&answer);
    return code;
}

/* ---- status ---------------------------------------------------------------------------------- */

struct glance {
    json_t *states;  /* state -> count */
    json_t *causes;  /* "code: message" -> count, of those that are not well */
    json_t *advices; /* the same -> what to change, where that is known */
    json_t *waits;   /* why clients are on no node -> the same in words */
    size_t counted;
    size_t degraded; /* of them */
};

static void count(json_t *counts, const char *key) {
    json_object_set_new(counts, key,
                        json_integer(json_integer_value(json_object_get(counts, key)) + 1));
}

static bool count_page(void *context, json_t *clients) {
    struct glance *glance = context;
    size_t i;
    const json_t *client;
    json_array_foreach(clients, i, client) {
        const json_t *status = json_object_get(client, "status");
        const json_t *error = json_object_get(status, "last_error");
        const char *state = text(status, "state");
        const json_t *waiting = json_object_get(status, "waiting");
        if (text(waiting, "reason") != NULL) {
            json_object_set(glance->waits, text(waiting, "reason"),
                            json_object_get(waiting, "message"));
        }
        count(glance->states, state != NULL ? state : "unknown");
        glance->counted++;
        bool degraded = json_is_true(json_object_get(status, "degraded"));
        glance->degraded += degraded;
        if (state != NULL && (degraded || strcmp(state, "online") != 0) &&
            strcmp(state, "paused") != 0 && json_is_object(error)) {
            char whole[600], cause[200];
            snprintf(whole, sizeof(whole), "%s: %s", text(error, "code"), text(error, "message"));
            table_printable(whole, cause, sizeof(cause)); /* cut between two characters */
            if (json_object_size(glance->causes) < 1000 ||
                json_object_get(glance->causes, cause) != NULL) {
                count(glance->causes, cause);
                json_object_set(glance->advices, cause, json_object_get(error, "advice"));
            }
        }
    }
    return glance->counted < COUNTED_MAX;
}

/* What the node that was asked says of itself; a fleet's other nodes have to be asked themselves.
 * Nothing where its probes have a listener of their own (ops.port). */
static void add_own_problems(struct cli *cli, json_t *problems) {
    struct answer answer;
    const char *name;
    const json_t *said;
    char line[400];
    node_call(cli, "GET", "/readyz", NULL, 0, &answer);
    json_object_foreach(json_object_get(answer.json, "checks"), name, said) {
        const char *wrong = json_string_value(said);
        if (wrong != NULL && strcmp(wrong, "ok") != 0) {
            snprintf(line, sizeof(line), "%s of the node asked: %s", name, wrong);
            json_array_append_new(problems, json_string(line));
        }
    }
    json_object_foreach(json_object_get(answer.json, "warnings"), name, said) {
        snprintf(line, sizeof(line), "%s: %s", name, json_string_value(said));
        json_array_append_new(problems, json_string(line));
    }
    answer_fini(&answer);
}

/* A line for each setting that is not the same on all nodes: which has which. */
static void add_setting_problems(const json_t *nodes, json_t *problems) {
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
                     text(node, "name"));
            line = before == NULL                      ? json_sprintf("%s is %s", name, one)
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

/* fleet: the answer of /api/v1/nodes. Takes problems. */
static json_t *make_status(const json_t *fleet, const struct glance *glance, json_t *problems) {
    const json_t *nodes = json_object_get(fleet, "nodes");
    long long size = 0, clients = 0;
    const char *leader = NULL;
    size_t i;
    const json_t *node;
    char line[256];
    json_array_foreach(nodes, i, node) {
        const char *state = text(node, "state");
        size += number(node, "size");
        clients += number(node, "clients");
        leader = json_is_true(json_object_get(node, "leader")) ? text(node, "name") : leader;
        if (state != NULL && strcmp(state, "live") != 0) {
            snprintf(line, sizeof(line), "node %s is %s", text(node, "name"), state);
            json_array_append_new(problems, json_string(line));
        }
        if (text(node, "shares_address_with") != NULL) {
            snprintf(line, sizeof(line), "nodes %s and %s tell one node_info.host and port",
                     text(node, "name"), text(node, "shares_address_with"));
            json_array_append_new(problems, json_string(line));
        }
    }
    add_setting_problems(nodes, problems);
    if (leader == NULL) {
        json_array_append_new(problems,
                              json_string("no node leads: waiting clients are not placed"));
    }
    if (size > 0 && clients * 10 > size * 9) {
        json_array_append_new(problems,
                              json_string("more than nine tenths of all places are taken"));
    }
    return json_pack("{s:O, s:s?, s:I, s:I, s:O, s:I, s:b, s:O*, s:O, s:O, s:O, s:o}", "nodes",
                     nodes, "leader", leader, "size", (json_int_t)size, "placed",
                     (json_int_t)clients, "states", glance->states, "degraded",
                     (json_int_t)glance->degraded, "states_complete", glance->counted < COUNTED_MAX,
                     "unplaced", json_object_get(fleet, "unplaced"), "waits", glance->waits,
                     "causes", glance->causes, "advices", glance->advices, "problems", problems);
}

static void print_causes(const json_t *causes, const json_t *advices) {
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
        if (text(advices, most) != NULL) {
            printf("          %s\n", table_printable(text(advices, most), safe, sizeof(safe)));
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

/* As the leader counted all of them; in words where a client was seen that waits for that. */
static void print_unplaced(const json_t *unplaced, const json_t *waits) {
    json_t *causes = json_object(), *count;
    const char *reason;
    json_object_foreach((json_t *)unplaced, reason, count) {
        char cause[300];
        const char *words = text(waits, reason);
        snprintf(cause, sizeof(cause), "%s%s%s", reason, words != NULL ? ": " : "",
                 words != NULL ? words : "");
        json_object_set(causes, cause, count);
    }
    print_causes(causes, NULL);
    json_decref(causes);
}

static void print_status(const json_t *status) {
    static const char *const states[] = {"online",  "connecting", "backoff",
                                         "waiting", "conflict",   "paused"};
    const json_t *counts = json_object_get(status, "states");
    const json_t *problems = json_object_get(status, "problems");
    size_t i;
    const json_t *problem;
    char safe[300];
    print_nodes(json_object_get(status, "nodes"));
    printf("\n%sclients%s  %lld placed of %lld places\n", TABLE_BOLD, TABLE_PLAIN,
           number(status, "placed"), number(status, "size"));
    for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        printf("  %6lld  %s%s%s\n", number(counts, states[i]), table_colour(states[i]), states[i],
               table_colour(states[i])[0] != '\0' ? TABLE_PLAIN : "");
    }
    if (number(status, "degraded") > 0) {
        printf(
            "  %6lld  degraded: the broker refuses a subscription (mqfleet clients --degraded)\n",
            number(status, "degraded"));
    }
    if (!json_is_true(json_object_get(status, "states_complete"))) {
        printf("  of the first %d; /metrics of each node counts all\n", COUNTED_MAX);
    }
    if (json_object_size(json_object_get(status, "unplaced")) > 0) {
        printf("\n%swhy clients are on no node%s\n", TABLE_BOLD, TABLE_PLAIN);
        print_unplaced(json_object_get(status, "unplaced"), json_object_get(status, "waits"));
    }
    if (json_object_size(json_object_get(status, "causes")) > 0) {
        printf("\n%swhy clients are not online, or degraded%s\n", TABLE_BOLD, TABLE_PLAIN);
        print_causes(json_object_get(status, "causes"), json_object_get(status, "advices"));
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

static enum cli_exit show_status(struct cli *cli) {
    struct answer answer;
    struct glance glance = {.states = json_object(),
                            .causes = json_object(),
                            .advices = json_object(),
                            .waits = json_object()};
    node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    enum cli_exit code = answer_good(&answer) ? CLI_OK : answer_explain(&answer, NULL);
    if (code == CLI_OK) {
        code = select_clients(cli, count_page, &glance);
    }
    if (code == CLI_OK) {
        json_t *problems = json_array();
        add_own_problems(cli, problems);
        json_t *status = make_status(answer.json, &glance, problems);
        if (cli->json) {
            json_dumpf(status, stdout, JSON_COMPACT);
            putchar('\n');
        } else {
            print_status(status);
        }
        json_decref(status);
    }
    json_decref(glance.states);
    json_decref(glance.causes);
    json_decref(glance.advices);
    json_decref(glance.waits);
    answer_fini(&answer);
    return code;
}

/* ---- once, or again and again ---------------------------------------------------------------- */

static enum cli_exit repeat(struct cli *cli, enum cli_exit (*show)(struct cli *cli)) {
    const char *given = cli->values[OPT_INTERVAL];
    double seconds = given != NULL ? strtod(given, NULL) : 2;
    if (!cli_given(cli, OPT_WATCH)) {
        return show(cli);
    }
    enum cli_exit code;
    do {
        if (isatty(STDOUT_FILENO) && !cli->json) {
            fputs("\033[H\033[2J", stdout);
        }
        code = show(cli);
        fflush(stdout);
    } while (code != CLI_USAGE && code != CLI_REFUSED && cli_sleep_ms((long)(seconds * 1000)));
    return code;
}

enum cli_exit command_status(struct cli *cli) {
    return repeat(cli, show_status);
}

enum cli_exit command_nodes(struct cli *cli) {
    return repeat(cli, show_nodes);
}

/* ---- drain ----------------------------------------------------------------------------------- */

/* Why nobody leaves, most likely. */
static void hint_room(struct cli *cli, const char *drained, long long left) {
    struct answer answer;
    size_t i;
    const json_t *node;
    long long others = 0, room = 0;
    node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    json_array_foreach(json_object_get(answer.json, "nodes"), i, node) {
        const char *name = text(node, "name"), *state = text(node, "state");
        long long places = number(node, "size") - number(node, "clients");
        if (name != NULL && state != NULL && strcmp(name, drained) != 0 &&
            strcmp(state, "live") == 0) {
            others++;
            room += places > 0 ? places : 0;
        }
    }
    progress_clear();
    if (answer_good(&answer)) {
        fprintf(stderr,
                "%s: %lld clients left, and none has gone for %d s; other live nodes: %lld, with "
                "room for %lld\n",
                drained, left, DRAIN_HINT_MS / 1000, others, room);
        fputs(room < left ? "  start another node, or raise node_info.size of one\n"
                          : "  look at mqfleet status, and at the log of the node that leads\n",
              stderr);
    }
    answer_fini(&answer);
}

static enum cli_exit wait_empty(struct cli *cli, const char *node) {
    long long before = -1, first = -1;
    int64_t hint_at_ms = clock_ms() + DRAIN_HINT_MS;
    char *path = node_path("nodes", node, "");
    enum cli_exit code = CLI_OK;
    while (code == CLI_OK && before != 0) {
        struct answer answer;
        node_call(cli, "GET", path, NULL, 0, &answer);
        code = answer_good(&answer) ? CLI_OK : answer_explain(&answer, node);
        long long left = number(answer.json, "clients");
        answer_fini(&answer);
        if (code == CLI_OK && left != before) {
            before = left;
            hint_at_ms = clock_ms() + DRAIN_HINT_MS;
            first = first < 0 ? left : first;
            if (isatty(STDERR_FILENO)) {
                progress_show("drain", (size_t)(first > left ? first - left : 0), (size_t)first);
            } else {
                fprintf(stderr, "%s: %lld clients left\n", node, left);
            }
        }
        if (code == CLI_OK && clock_ms() >= hint_at_ms) {
            hint_room(cli, node, left);
            hint_at_ms = INT64_MAX; /* once, until another one leaves */
        }
        if (code == CLI_OK && before != 0 && !cli_sleep_ms(DRAIN_LOOK_MS)) {
            break;
        }
    }
    progress_clear();
    free(path);
    return code;
}

static enum cli_exit turn(struct cli *cli, const char *action) {
    struct answer answer;
    char *path = node_path("nodes", cli->words[0], action);
    node_call(cli, "POST", path, NULL, 0, &answer);
    free(path);
    enum cli_exit code = answer_good(&answer) ? CLI_OK : answer_explain(&answer, cli->words[0]);
    if (code == CLI_OK && cli->json) {
        answer_print(&answer);
    } else if (code == CLI_OK) {
        printf("%s: %s, %lld clients\n", cli->words[0], text(answer.json, "state"),
               number(answer.json, "clients"));
    }
    answer_fini(&answer);
    return code;
}

enum cli_exit command_drain(struct cli *cli) {
    enum cli_exit code = turn(cli, "drain");
    if (code == CLI_OK && cli_given(cli, OPT_WAIT)) {
        fflush(stdout);
        code = wait_empty(cli, cli->words[0]);
    }
    return code;
}

enum cli_exit command_undrain(struct cli *cli) {
    return turn(cli, "undrain");
}
