/* Commands for the routes of the fleet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "node.h"
#include "table.h"

#define ROUTES_PATH "/api/v1/routes"

/* ---- list, get ------------------------------------------------------------------------------- */

/* "a, b" of an array of texts; a copy for the caller. */
static char *cli_routes_join(const json_t *names) {
    struct buffer text;
    size_t i;
    const json_t *name;
    buffer_init(&text);
    json_array_foreach(names, i, name) {
        const char *value = json_string_value(name);
        buffer_printf(&text, "%s%s", i > 0 ? ", " : "", value ? value : "");
    }
    return buffer_take(&text);
}

static void cli_routes_put_sinks(struct table *table, const json_t *names) {
    char *text = cli_routes_join(names);
    table_put(table, json_array_size(names) > 0 ? text : NULL);
    free(text);
}

static void cli_routes_put_row(struct table *table, size_t index, const json_t *route) {
    const json_t *match = json_object_get(route, "match");
    char *text = match ? json_dumps(match, JSON_COMPACT) : NULL;
    table_printf(table, "%zu", index);
    table_put(table, cli_json_text(route, "name"));
    cli_routes_put_sinks(table, json_object_get(route, "to"));
    cli_routes_put_sinks(table, json_object_get(route, "also"));
    table_put(table, json_is_true(json_object_get(route, "stop")) ? "stop" : NULL);
    table_put(table, json_object_get(route, "lua") ? "lua" : NULL);
    table_put(table, text ? text : "everything");
    free(text);
}

static void cli_routes_print(const struct cli *cli, const json_t *routes) {
    static const char *const headings[] = {">ROUTE", "NAME",   "TO",    "ALSO",
                                           "STOP",   "SCRIPT", "MATCH", NULL};
    struct table *table = table_create(headings);
    size_t i;
    const json_t *route;
    json_array_foreach(routes, i, route) {
        if (cli->format == CLI_FORMAT_ID) {
            printf("%zu\n", i);
        } else {
            cli_routes_put_row(table, i, route);
        }
    }
    if (cli->format == CLI_FORMAT_TABLE) {
        table_print(table);
    }
    table_destroy(table);
}

/* Calls, and explains what went wrong. body: its reference is taken; NULL: none. */
static enum cli_exit cli_routes_call(struct cli *cli, const char *method, const char *path,
                                     json_t *body, struct cli_answer *answer) {
    cli_node_call(cli, method, path, body, 0, answer);
    return cli_answer_check(answer, NULL);
}

static enum cli_exit cli_routes_list(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code = cli_routes_call(cli, "GET", ROUTES_PATH, NULL, &answer);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        cli_routes_print(cli, json_object_get(answer.json, "routes"));
    }
    cli_answer_fini(&answer);
    return code;
}

/* For a person who edits it: indented. */
static enum cli_exit cli_routes_get(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code = cli_routes_call(cli, "GET", ROUTES_PATH, NULL, &answer);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        json_dumpf(answer.json, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    cli_answer_fini(&answer);
    return code;
}

/* ---- apply ----------------------------------------------------------------------------------- */

/* The array in the file, or that of a document of `get`, whose version is then required. version
 * NULL: it does not matter. The caller releases it. NULL: the error was printed. */
static json_t *cli_routes_read(const char *name, json_t **version, enum cli_exit *code) {
    json_t *document = cli_read_json(name, code);
    json_t *routes = json_is_object(document) ? json_object_get(document, "routes") : document;
    if (document && !json_is_array(routes)) {
        cli_error("file %s: must be an array of routes, or {\"routes\": [...]}", name);
        *code = CLI_INVALID;
        routes = NULL;
    }
    if (version) {
        *version = json_incref(json_object_get(document, "version"));
    }
    json_incref(routes);
    json_decref(document);
    return routes;
}

static enum cli_exit cli_routes_apply(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code;
    json_t *version;
    json_t *routes = cli_routes_read(cli->words[1], &version, &code);
    if (routes) {
        size_t count = json_array_size(routes);
        if (json_is_integer(version)) {
            snprintf(cli->if_match, sizeof cli->if_match, "\"%lld\"",
                     (long long)json_integer_value(version));
        }
        code =
            cli_routes_call(cli, "PUT", ROUTES_PATH, json_pack("{s:o}", "routes", routes), &answer);
        if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
            cli_answer_print(&answer);
        } else if (code == CLI_OK) {
            printf("%zu routes applied, version %lld\n", count,
                   cli_json_number(answer.json, "version"));
        }
        cli_answer_fini(&answer);
    }
    json_decref(version);
    return code;
}

/* ---- explain --------------------------------------------------------------------------------- */

static const char *cli_routes_owner(const json_t *route) {
    const char *of = cli_json_text(route, "of");
    return of && strcmp(of, "client") == 0 ? " of the client" : "";
}

static void cli_routes_print_matched(const json_t *matched) {
    size_t i;
    const json_t *route;
    json_array_foreach(matched, i, route) {
        const char *name = cli_json_text(route, "name");
        printf("route %lld%s%s%s matches\n", cli_json_number(route, "route"), name ? " " : "",
               name ? name : "", cli_routes_owner(route));
    }
    if (json_array_size(matched) == 0) {
        puts("no route matches");
    }
}

static void cli_routes_print_sinks(const char *what, const json_t *sinks, const char *note) {
    char *text = cli_routes_join(sinks);
    if (json_array_size(sinks) > 0) {
        printf("%s %s%s\n", what, text ? text : "", note);
    }
    free(text);
}

static void cli_routes_print_message(const json_t *message) {
    static const char *const names[] = {"topic", "payload", "payload_base64"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = json_string_value(json_object_get(message, names[i]));
        char text[1024];
        if (value) {
            printf("  %s: %s\n", names[i], table_printable(value, text, sizeof text));
        }
    }
}

/* False: the script failed. */
static bool cli_routes_print_script(const json_t *script) {
    const char *fault = cli_json_text(script, "error");
    const json_t *messages = json_object_get(script, "messages");
    long long route = cli_json_number(script, "route");
    char text[512];
    size_t i;
    const json_t *message;
    if (fault) {
        printf("script of route %lld%s fails: %s\n", route, cli_routes_owner(script),
               table_printable(fault, text, sizeof text));
        return false;
    }
    printf("script of route %lld%s makes %zu message%s\n", route, cli_routes_owner(script),
           json_array_size(messages), json_array_size(messages) == 1 ? "" : "s");
    cli_routes_print_sinks("  to", json_object_get(script, "to"), "");
    cli_routes_print_sinks("  also", json_object_get(script, "also"), "");
    json_array_foreach(messages, i, message) {
        cli_routes_print_message(message);
    }
    return true;
}

/* False: a script failed. */
static bool cli_routes_print_explained(const struct cli *cli, const struct cli_answer *answer) {
    bool good = true, show = cli->format != CLI_FORMAT_JSON;
    size_t i;
    const json_t *script;
    const json_t *json = answer->json;
    bool standard = json_is_true(json_object_get(json, "default"));
    if (show) {
        cli_routes_print_matched(json_object_get(json, "matched"));
        cli_routes_print_sinks("to", json_object_get(json, "to"),
                               standard ? " (no matching route has a to)" : "");
        cli_routes_print_sinks("also", json_object_get(json, "also"), "");
    } else {
        cli_answer_print(answer);
    }
    json_array_foreach(json_object_get(json, "scripted"), i, script) {
        good = (show ? cli_routes_print_script(script) : !json_object_get(script, "error")) && good;
    }
    return good;
}

/* NULL: the error was printed. */
static json_t *cli_routes_question(const struct cli *cli, enum cli_exit *code) {
    static const struct {
        enum cli_option option;
        const char *field;
    } texts[] = {{OPT_CLIENT, "client"}, {OPT_PAYLOAD, "payload"}};
    json_t *question = json_pack("{s:s}", "topic", cli->words[1]);
    const char *qos = cli->values[OPT_QOS];
    *code = question ? CLI_OK : CLI_USAGE;
    if (!question) {
        cli_error("explain: the topic must be UTF-8");
        return NULL;
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *value = cli->values[texts[i].option];
        if (value && json_object_set_new(question, texts[i].field, json_string(value)) != 0) {
            cli_error("explain: --%s must be UTF-8", texts[i].field);
            *code = CLI_USAGE;
        }
    }
    if (qos) {
        json_object_set_new(question, "qos", json_integer(strtoll(qos, NULL, 10)));
    }
    if (cli_option_given(cli, OPT_RETAIN)) {
        json_object_set_new(question, "retain", json_true());
    }
    if (*code == CLI_OK && cli_option_given(cli, OPT_ROUTES)) {
        json_object_set_new(question, "routes",
                            cli_routes_read(cli->values[OPT_ROUTES], NULL, code));
    }
    return question;
}

static enum cli_exit cli_routes_explain(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code;
    json_t *question = cli_routes_question(cli, &code);
    if (code != CLI_OK) {
        json_decref(question);
        return code;
    }
    code = cli_routes_call(cli, "POST", ROUTES_PATH ":explain", question, &answer);
    if (code == CLI_OK && !cli_routes_print_explained(cli, &answer)) {
        code = CLI_FAILED;
    }
    cli_answer_fini(&answer);
    return code;
}

/* ---- verbs ----------------------------------------------------------------------------------- */

/* Options that only explain has. */
static bool cli_routes_check_options(const struct cli *cli, bool explains) {
    static const enum cli_option options[] = {OPT_CLIENT, OPT_PAYLOAD, OPT_QOS, OPT_RETAIN,
                                              OPT_ROUTES};
    for (size_t i = 0; !explains && i < sizeof options / sizeof options[0]; i++) {
        if (cli_option_given(cli, options[i])) {
            cli_error("--%s requires explain", cli_option_rows[options[i]].name);
            return false;
        }
    }
    return true;
}

enum cli_exit command_routes(struct cli *cli) {
    static const struct cli_verb verbs[] = {{"list", 1, 1, cli_routes_list},
                                            {"get", 1, 1, cli_routes_get},
                                            {"apply", 2, 2, cli_routes_apply},
                                            {"explain", 2, 2, cli_routes_explain}};
    const struct cli_verb *verb = cli_find_verb(cli, verbs, sizeof verbs / sizeof verbs[0]);
    if (!verb || !cli_routes_check_options(cli, verb->run == cli_routes_explain)) {
        return CLI_USAGE;
    }
    return verb->run(cli);
}
