/* Commands for the quotas of the fleet. The API replaces all of them at once; the version that was
 * read keeps a change of somebody else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node.h"
#include "table.h"

#define QUOTAS_PATH       "/api/v1/quotas"
#define QUOTAS_TIMEOUT_MS 30000 /* a change counts the clients first */

static const struct {
    const char *name, *field; /* of the command line, of the API */
} cli_quotas_limits[] = {{"clients", "clients"},
                         {"connects", "connects_per_s"},
                         {"messages", "messages_per_s"},
                         {"publications", "publications_per_s"}};

#define QUOTAS_LIMITS (sizeof cli_quotas_limits / sizeof cli_quotas_limits[0])

static enum cli_exit cli_quotas_read(struct cli *cli, struct cli_answer *answer) {
    cli_node_call(cli, "GET", QUOTAS_PATH, NULL, QUOTAS_TIMEOUT_MS, answer);
    return cli_answer_check(answer, "quotas");
}

/* ---- list ------------------------------------------------------------------------------------ */

/* "310/500", and how much had to wait or was refused: "310/500 (14 delayed)". */
static void cli_quotas_put_rate(struct table *table, const json_t *quota, const char *field) {
    const json_t *limit = json_object_get(quota, field);
    const json_t *rate = json_object_get(json_object_get(quota, "rates"), field);
    long long delayed = cli_json_number(rate, "delayed"),
              refused = cli_json_number(rate, "refused");
    char more[96] = "";
    if (!limit) {
        table_put(table, "-");
        return;
    }
    if (delayed > 0 || refused > 0) {
        snprintf(more, sizeof more, " (%lld delayed, %lld refused)", delayed, refused);
    }
    table_printf(table, "%.3g/%lld%s", json_number_value(json_object_get(rate, "use")),
                 (long long)json_integer_value(limit), more);
}

static void cli_quotas_put(struct table *table, const json_t *quota) {
    const json_t *clients = json_object_get(quota, "clients");
    table_put(table, cli_json_text_or_empty(quota, "scope"));
    if (clients) {
        table_printf(table, "%lld/%lld", cli_json_number(quota, "used"),
                     (long long)json_integer_value(clients));
    } else {
        table_printf(table, "%lld", cli_json_number(quota, "used"));
    }
    for (size_t i = 1; i < QUOTAS_LIMITS; i++) {
        cli_quotas_put_rate(table, quota, cli_quotas_limits[i].field);
    }
}

static void cli_quotas_print(const struct cli *cli, const json_t *quotas) {
    static const char *const headings[] = {"SCOPE",      "CLIENTS",        "CONNECTS/S",
                                           "MESSAGES/S", "PUBLICATIONS/S", NULL};
    struct table *table = table_create(headings);
    size_t i;
    const json_t *quota;
    json_array_foreach(quotas, i, quota) {
        if (cli->format == CLI_FORMAT_ID) {
            puts(cli_json_text_or_empty(quota, "scope"));
        } else {
            cli_quotas_put(table, quota);
        }
    }
    if (cli->format != CLI_FORMAT_ID) {
        table_print(table);
    }
    table_destroy(table);
}

static enum cli_exit cli_quotas_list(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code = cli_quotas_read(cli, &answer);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        cli_quotas_print(cli, json_object_get(answer.json, "quotas"));
    }
    cli_answer_fini(&answer);
    return code;
}

/* ---- change ---------------------------------------------------------------------------------- */

/* The quotas as PUT takes them, without what is used. */
static json_t *cli_quotas_inputs(const json_t *quotas) {
    json_t *inputs = json_array();
    size_t i;
    const json_t *quota;
    json_array_foreach(quotas, i, quota) {
        json_t *input = json_pack("{s:O}", "scope", json_object_get(quota, "scope"));
        for (size_t limit = 0; limit < QUOTAS_LIMITS; limit++) {
            json_t *value = json_object_get(quota, cli_quotas_limits[limit].field);
            if (value) {
                json_object_set(input, cli_quotas_limits[limit].field, value);
            }
        }
        json_array_append_new(inputs, input);
    }
    return inputs;
}

/* The place of the scope; the size of the list: it has none. */
static size_t cli_quotas_find(const json_t *inputs, const char *scope) {
    size_t at = 0;
    while (at < json_array_size(inputs) &&
           strcmp(cli_json_text_or_empty(json_array_get(inputs, at), "scope"), scope) != 0) {
        at++;
    }
    return at;
}

/* Stores the quotas, unless somebody has changed them since they were read. Takes over `inputs`. */
static enum cli_exit cli_quotas_store(struct cli *cli, json_t *inputs, const json_t *read) {
    struct cli_answer answer;
    json_t *body = json_pack("{s:o}", "quotas", inputs);
    snprintf(cli->if_match, sizeof cli->if_match, "\"%lld\"", cli_json_number(read, "version"));
    cli_node_call(cli, "PUT", QUOTAS_PATH, body, QUOTAS_TIMEOUT_MS, &answer);
    enum cli_exit code = cli_answer_check(&answer, "quotas");
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        cli_quotas_print(cli, json_object_get(answer.json, "quotas"));
    }
    cli_answer_fini(&answer);
    json_decref(body);
    return code;
}

/* Sets one "messages=500"; "messages=": no limit. False: the error was printed. */
static bool cli_quotas_set_limit(json_t *quota, const char *word) {
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : 0, at = 0;
    char *end = NULL;
    while (at < QUOTAS_LIMITS && (strlen(cli_quotas_limits[at].name) != len ||
                                  memcmp(cli_quotas_limits[at].name, word, len) != 0)) {
        at++;
    }
    long long value = equals ? strtoll(equals + 1, &end, 10) : 0;
    if (!equals || at == QUOTAS_LIMITS || *end != '\0' || value < 0) {
        cli_error("%s: must be clients=N, connects=N, messages=N or publications=N; without N: no "
                  "limit",
                  word);
        return false;
    }
    if (equals[1] == '\0') {
        json_object_del(quota, cli_quotas_limits[at].field);
    } else {
        json_object_set_new(quota, cli_quotas_limits[at].field, json_integer(value));
    }
    return true;
}

static enum cli_exit cli_quotas_set(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code = cli_quotas_read(cli, &answer);
    json_t *inputs =
        code == CLI_OK ? cli_quotas_inputs(json_object_get(answer.json, "quotas")) : NULL;
    if (inputs && cli_quotas_find(inputs, cli->words[1]) == json_array_size(inputs)) {
        json_array_append_new(inputs, json_pack("{s:s}", "scope", cli->words[1]));
    }
    json_t *quota = json_array_get(inputs, cli_quotas_find(inputs, cli->words[1]));
    if (code == CLI_OK && !quota) {
        cli_error("%s: is not UTF-8", cli->words[1]);
        code = CLI_USAGE;
    }
    for (int i = 2; code == CLI_OK && i < cli->word_count; i++) {
        code = cli_quotas_set_limit(quota, cli->words[i]) ? CLI_OK : CLI_USAGE;
    }
    if (code == CLI_OK) {
        code = cli_quotas_store(cli, inputs, answer.json);
    } else {
        json_decref(inputs);
    }
    cli_answer_fini(&answer);
    return code;
}

static enum cli_exit cli_quotas_delete(struct cli *cli) {
    struct cli_answer answer;
    if (!cli_confirm(cli, "delete the quota of %s?", cli->words[1])) {
        return CLI_USAGE;
    }
    enum cli_exit code = cli_quotas_read(cli, &answer);
    json_t *inputs =
        code == CLI_OK ? cli_quotas_inputs(json_object_get(answer.json, "quotas")) : NULL;
    size_t at = cli_quotas_find(inputs, cli->words[1]);
    if (code == CLI_OK && at == json_array_size(inputs)) {
        cli_error("%s has no quota", cli->words[1]);
        code = CLI_FAILED;
    }
    if (code == CLI_OK) {
        json_array_remove(inputs, at);
        code = cli_quotas_store(cli, inputs, answer.json);
    } else {
        json_decref(inputs);
    }
    cli_answer_fini(&answer);
    return code;
}

enum cli_exit command_quotas(struct cli *cli) {
    static const struct cli_verb verbs[] = {{"list", 1, 1, cli_quotas_list},
                                            {"set", 3, 6, cli_quotas_set},
                                            {"delete", 2, 2, cli_quotas_delete}};
    const struct cli_verb *verb = cli_find_verb(cli, verbs, sizeof verbs / sizeof verbs[0]);
    return verb ? verb->run(cli) : CLI_USAGE;
}
