/* Help, completion, version, and the check of a settings file by mqfleetd: commands that need no
 * node. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node.h"
#include "select.h"

#define COMPLETED_MAX 200
#define SCANNED_MAX                                                                                \
    5000 /* number of ids and time, short so that the key does not seem to have no effect */

extern const char completion_bash[]; /* mqfleet.bash */

/* ---- help ------------------------------------------------------------------------------------ */

static void cli_help_print_option(const struct cli_option_row *row) {
    char left[64];
    snprintf(left, sizeof(left), "%c%c%c --%s%s%s", row->letter != 0 ? '-' : ' ',
             row->letter != 0 ? row->letter : ' ', row->letter != 0 ? ',' : ' ', row->name,
             row->argument ? " " : "", row->argument ? row->argument : "");
    printf("  %-28s %s\n", left, row->help);
}

static void cli_help_print_options(const struct cli_command *command, bool of_all) {
    for (enum cli_option option = 0; option < OPTION_COUNT; option++) {
        bool general = !cli_option_rows[option].commands;
        if (general == of_all && (!command || cli_option_fits(option, command))) {
            cli_help_print_option(&cli_option_rows[option]);
        }
    }
}

static void cli_help_print_overview(void) {
    puts("usage: mqfleet COMMAND [OPTION]... [ARGUMENT]...\n"
         "Operates a fleet of mqfleetd nodes through any of them.\n\ncommands:");
    for (const struct cli_command *row = cli_commands; row->name; row++) {
        if (row->about) {
            char left[64];
            snprintf(left, sizeof(left), "%s %s", row->name, row->words);
            printf("  %-22s %s\n", left, row->about);
        }
    }
    puts("\noptions of all commands:");
    cli_help_print_options(NULL, true);
    puts("\nexit codes:");
#define EXIT_LINE(symbol, code, meaning) printf("  %-4d %s\n", code, meaning);
    CLI_EXIT_TABLE(EXIT_LINE)
#undef EXIT_LINE
    puts("\nmqfleet help COMMAND describes a command.");
}

static enum cli_exit cli_help_print_command(const struct cli_command *command) {
    printf("usage: mqfleet %s%s%s [OPTION]...\n%s\n", command->name,
           command->words[0] != '\0' ? " " : "", command->words, command->about);
    puts("\noptions:");
    cli_help_print_options(command, false);
    cli_help_print_options(command, true);
    return CLI_OK;
}

enum cli_exit command_help(struct cli *cli) {
    const struct cli_command *command = cli->command;
    bool named = strcmp(command->name, "help") == 0;
    const char *name = named ? (cli->word_count > 0 ? cli->words[0] : NULL) : command->name;
    if (!name) {
        cli_help_print_overview();
        return CLI_OK;
    }
    for (const struct cli_command *row = cli_commands; row->name; row++) {
        if (row->about && strcmp(row->name, name) == 0) {
            return cli_help_print_command(row);
        }
    }
    cli_error("%s: no such command; see mqfleet help", name);
    return CLI_USAGE;
}

enum cli_exit command_version(struct cli *cli) {
    (void)cli;
    puts("mqfleet " MQFLEET_VERSION);
    return CLI_OK;
}

/* ---- completion ------------------------------------------------------------------------------ */

enum cli_exit command_completion(struct cli *cli) {
    if (strcmp(cli->words[0], "bash") != 0) {
        cli_error("completion %s: only bash is supported", cli->words[0]);
        return CLI_USAGE;
    }
    fputs(completion_bash, stdout);
    return CLI_OK;
}

static void cli_help_print_matching(const char *candidate, const char *begun) {
    if (candidate && strncmp(candidate, begun, strlen(begun)) == 0) {
        puts(candidate);
    }
}

static void cli_help_complete_list(const char *list, const char *begun) {
    char word[64];
    for (const char *at = list; *at != '\0'; at += strspn(at, " |")) {
        size_t len = strcspn(at, " |");
        snprintf(word, sizeof(word), "%.*s", (int)len, at);
        cli_help_print_matching(word, begun);
        at += len;
    }
}

struct cli_completion {
    const char *prefix;
    size_t count, scanned;
};

static bool cli_help_complete_page(void *context, json_t *clients) {
    struct cli_completion *completion = context;
    size_t i;
    const json_t *client;
    size_t begun_len = strlen(completion->prefix);
    json_array_foreach(clients, i, client) {
        const char *id = cli_json_text(client, "id");
        completion->scanned++;
        completion->count += id && strncmp(id, completion->prefix, begun_len) == 0;
        cli_help_print_matching(id, completion->prefix);
    }
    return completion->count < COMPLETED_MAX && completion->scanned < SCANNED_MAX;
}

static void cli_help_complete_nodes(struct cli *cli, const char *begun) {
    struct cli_answer answer;
    size_t i;
    const json_t *node;
    cli_node_call(cli, "GET", "/api/v1/nodes", NULL, 0, &answer);
    json_array_foreach(json_object_get(answer.json, "nodes"), i, node) {
        cli_help_print_matching(cli_json_text(node, "name"), begun);
    }
    cli_answer_fini(&answer);
}

/* The fields of the rows in a list of the answer. */
static void cli_help_complete_rows(struct cli *cli, const char *path, const char *list,
                                   const char *field, const char *begun) {
    struct cli_answer answer;
    size_t i;
    const json_t *row;
    cli_node_call(cli, "GET", path, NULL, 0, &answer);
    json_array_foreach(json_object_get(answer.json, list), i, row) {
        cli_help_print_matching(cli_json_text(row, field), begun);
    }
    cli_answer_fini(&answer);
}

static void cli_help_complete_ids(struct cli *cli, const char *begun) {
    struct cli_completion completion = {begun, 0, 0};
    (void)cli_select_clients(cli, cli_help_complete_page, &completion);
}

/* Completes the value of the option before the cursor. False: its values are unknown. */
static bool cli_help_complete_value(struct cli *cli, const char *before, const char *begun) {
    if (strcmp(before, "--state") == 0) {
        cli_help_complete_list(cli_option_rows[OPT_STATE].help, begun);
    } else if (strcmp(before, "--kind") == 0) {
        cli_help_complete_list(cli_option_rows[OPT_KIND].help, begun);
    } else if (strcmp(before, "--qos") == 0 || strcmp(before, "-q") == 0) {
        cli_help_complete_list(cli_option_rows[OPT_QOS].argument, begun);
    } else if (strcmp(before, "--output") == 0 || strcmp(before, "-o") == 0) {
        cli_help_complete_list("table json id", begun);
    } else if (strcmp(before, "--secrets") == 0) {
        cli_help_complete_list("masked encrypted", begun);
    } else if (strcmp(before, "--node") == 0) {
        cli_help_complete_nodes(cli, begun);
    } else if (strcmp(before, "--client") == 0) {
        cli_help_complete_ids(cli, begun);
    } else {
        return false;
    }
    return true;
}

static void cli_help_complete_options(const struct cli_command *command, const char *begun) {
    char word[64];
    for (enum cli_option option = 0; option < OPTION_COUNT; option++) {
        if (cli_option_fits(option, command)) {
            snprintf(word, sizeof(word), "--%s", cli_option_rows[option].name);
            cli_help_print_matching(word, begun);
        }
    }
}

static void cli_help_complete_command(const char *begun) {
    for (const struct cli_command *row = cli_commands; row->name; row++) {
        if (row->about) {
            cli_help_print_matching(row->name, begun);
        }
    }
}

/* `mqfleet __complete WORD...`: prints completions of the last word, one per line. Errors are
 * silent. */
enum cli_exit command_complete(struct cli *cli) {
    const char *begun = cli->word_count > 0 ? cli->words[cli->word_count - 1] : "";
    const char *before = cli->word_count > 1 ? cli->words[cli->word_count - 2] : "";
    const struct cli_command *command = NULL;
    if (!freopen("/dev/null", "w", stderr)) {
        return CLI_FAILED;
    }
    cli->values[OPT_TIMEOUT] = "1";
    for (int i = 0; i + 1 < cli->word_count && !command; i++) {
        for (const struct cli_command *row = cli_commands; row->name; row++) {
            command = row->about && strcmp(row->name, cli->words[i]) == 0 ? row : command;
        }
    }
    if (cli_help_complete_value(cli, before, begun)) {
        return CLI_OK;
    }
    if (!command) {
        cli_help_complete_command(begun);
    } else if (begun[0] == '-') {
        cli_help_complete_options(command, begun);
    } else if (strstr(command->words, "ID")) {
        cli_help_complete_ids(cli, begun);
    } else if (strstr(command->words, "NODE")) {
        cli_help_complete_nodes(cli, begun);
    } else if (strcmp(command->name, "help") == 0) {
        cli_help_complete_command(begun);
    } else if (strcmp(command->name, "dead-letters") == 0) {
        cli_help_complete_list("list replay drop", begun);
    } else if (strcmp(command->name, "sinks") == 0) {
        cli_help_complete_list("list get apply delete test", begun);
        cli_help_complete_rows(cli, "/api/v1/sinks", "sinks", "name", begun);
    } else if (strcmp(command->name, "profiles") == 0) {
        cli_help_complete_list("list show put delete", begun);
        cli_help_complete_rows(cli, "/api/v1/client-profiles", "profiles", "name", begun);
    } else if (strcmp(command->name, "routes") == 0) {
        cli_help_complete_list("list get apply explain", begun);
    } else if (strcmp(command->name, "quotas") == 0) {
        cli_help_complete_list("list set delete clients= connects= messages= publications=", begun);
        cli_help_complete_rows(cli, "/api/v1/quotas", "quotas", "scope", begun);
    } else if (strcmp(command->name, "edit") == 0) {
        cli_help_complete_list("client client-profile sink routes", begun);
    } else if (strcmp(command->name, "config") == 0) {
        cli_help_print_matching("check", begun);
    } else if (strcmp(command->name, "completion") == 0) {
        cli_help_print_matching("bash", begun);
    }
    return CLI_OK;
}

/* ---- config check ---------------------------------------------------------------------------- */

/* Runs the mqfleetd beside this program, else the one in the path. It does the check itself, so
 * both always agree. */
enum cli_exit command_config(struct cli *cli) {
    char beside[4096];
    ssize_t len = readlink("/proc/self/exe", beside, sizeof(beside) - sizeof("mqfleetd"));
    if (strcmp(cli->words[0], "check") != 0) {
        cli_error("config %s: must be check", cli->words[0]);
        return CLI_USAGE;
    }
    beside[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(beside, '/');
    strcpy(slash ? slash + 1 : beside, "mqfleetd");
    const char *program = access(beside, X_OK) == 0 ? beside : "mqfleetd";
    bool named = cli->word_count > 1;
    execlp(program, "mqfleetd", "--check-config", named ? "--config" : (char *)NULL,
           named ? cli->words[1] : (char *)NULL, (char *)NULL);
    cli_error("mqfleetd: %s; it must be in PATH or in the folder of mqfleet", strerror(errno));
    return CLI_FAILED;
}
