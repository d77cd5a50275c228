/* Commands for the profiles of clients. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node.h"
#include "table.h"

#define PROFILES_TIMEOUT_MS 60000 /* a change looks at all clients first */

/* Calls, and explains what went wrong. body: its reference is taken; NULL: none. */
static enum cli_exit cli_profiles_call(struct cli *cli, const char *method, const char *path,
                                       json_t *body, struct cli_answer *answer) {
    cli_node_call(cli, method, path, body, PROFILES_TIMEOUT_MS, answer);
    return cli_answer_check(answer, cli->word_count > 1 ? cli->words[1] : NULL);
}

static char *cli_profiles_path(const struct cli *cli) {
    return cli_node_path("client-profiles", cli->words[1], "");
}

/* ---- list, show ------------------------------------------------------------------------------ */

/* The names of its fields, which say more than the values. */
static void cli_profiles_put_fields(struct table *table, const json_t *config) {
    char names[256] = "";
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)config, name, value) {
        size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? " " : "", name);
    }
    table_put(table, names);
}

static enum cli_exit cli_profiles_list(struct cli *cli) {
    static const char *const headings[] = {"PROFILE", "VERSION", "FIELDS", NULL};
    struct cli_answer answer;
    enum cli_exit code = cli_profiles_call(cli, "GET", "/api/v1/client-profiles", NULL, &answer);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        struct table *table = table_create(headings);
        size_t i;
        const json_t *profile;
        json_array_foreach(json_object_get(answer.json, "profiles"), i, profile) {
            const char *name = cli_json_text(profile, "name");
            if (cli->format == CLI_FORMAT_ID) {
                puts(name ? name : "");
                continue;
            }
            table_put(table, name ? name : "");
            table_printf(table, "%lld", cli_json_number(profile, "version"));
            cli_profiles_put_fields(table, json_object_get(profile, "config"));
        }
        if (cli->format != CLI_FORMAT_ID) {
            table_print(table);
        }
        table_destroy(table);
    }
    cli_answer_fini(&answer);
    return code;
}

static enum cli_exit cli_profiles_show(struct cli *cli) {
    struct cli_answer answer;
    char *path = cli_profiles_path(cli);
    enum cli_exit code = cli_profiles_call(cli, "GET", path, NULL, &answer);
    if (code == CLI_OK) {
        cli_answer_print(&answer);
    }
    cli_answer_fini(&answer);
    free(path);
    return code;
}

/* ---- put, delete ----------------------------------------------------------------------------- */

/* The clients that a change does not suit, below the problem itself. */
static void cli_profiles_print_clients(const struct cli_answer *answer) {
    size_t i;
    const json_t *client;
    json_array_foreach(json_object_get(answer->json, "clients"), i, client) {
        const char *id = cli_json_text(client, "id");
        const char *detail = cli_json_text(client, "detail");
        if (id && detail) {
            cli_error("%s: %s", id, detail);
        } else if (json_is_string(client)) {
            cli_error("%s", json_string_value(client));
        }
    }
}

static enum cli_exit cli_profiles_put(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code;
    json_t *document = cli_read_object(cli, "one profile", &code);
    if (!document) {
        return code;
    }
    char *path = cli_profiles_path(cli);
    code = cli_profiles_call(cli, "PUT", path, document, &answer);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        printf("%s %s, %lld clients\n", cli->words[1], answer.status == 201 ? "created" : "applied",
               cli_json_number(answer.json, "clients"));
    } else {
        cli_profiles_print_clients(&answer);
    }
    cli_answer_fini(&answer);
    free(path);
    return code;
}

static enum cli_exit cli_profiles_delete(struct cli *cli) {
    struct cli_answer answer;
    if (!cli_confirm(cli, "delete the profile %s?", cli->words[1])) {
        return CLI_USAGE;
    }
    char *path = cli_profiles_path(cli);
    enum cli_exit code = cli_profiles_call(cli, "DELETE", path, NULL, &answer);
    if (code != CLI_OK) {
        cli_profiles_print_clients(&answer);
    } else if (cli->format != CLI_FORMAT_JSON) {
        printf("%s deleted\n", cli->words[1]);
    }
    cli_answer_fini(&answer);
    free(path);
    return code;
}

enum cli_exit command_profiles(struct cli *cli) {
    static const struct cli_verb verbs[] = {{"list", 1, 1, cli_profiles_list},
                                            {"show", 2, 2, cli_profiles_show},
                                            {"put", 2, 2, cli_profiles_put},
                                            {"delete", 2, 2, cli_profiles_delete}};
    const struct cli_verb *verb = cli_find_verb(cli, verbs, sizeof verbs / sizeof verbs[0]);
    return verb ? verb->run(cli) : CLI_USAGE;
}
