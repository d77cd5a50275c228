/* Owns the tables of commands and options, and the parsing of a command line. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cli.h"

const struct cli_command cli_commands[] = {
    {"status", "", 0, 0, "show a summary of the fleet and its problems", command_status},
    {"nodes", "", 0, 0, "list the nodes", command_nodes},
    {"summary", "", 0, 0, "count the clients by state, error, broker, node, label or profile",
     command_summary},
    {"clients", "", 0, 0, "list the clients, all or filtered", command_clients},
    {"get", "ID", 1, 1, "show a client: configuration, placement, status", command_get},
    {"create", "", 0, 0, "create clients from a file; repeating it changes nothing",
     command_create},
    {"delete", "[ID...]", 0, -1, "delete clients", command_act},
    {"pause", "[ID...]", 0, -1, "disconnect clients and keep their configuration", command_act},
    {"resume", "[ID...]", 0, -1, "reconnect paused clients", command_act},
    {"restart", "[ID...]", 0, -1, "disconnect and reconnect clients", command_act},
    {"release", "[ID...]", 0, -1, "move clients to another node", command_act},
    {"patch", "[ID...]", 0, -1, "change fields of clients with a JSON merge patch (--file)",
     command_act},
    {"operations", "[list|show ID|cancel ID]", 0, 2,
     "list the operations on many clients, show one, or end a running one", command_operations},
    {"changes", "[ID]", 0, 1,
     "show who changed the configuration of a client, or of all, and which fields",
     command_changes},
    {"apply", "", 0, 0, "make the fleet as documents say, or show what differs", command_apply},
    {"export", "", 0, 0, "write clients, client profiles, sinks and routes as documents",
     command_export},
    {"import", "[FILE]", 0, 1, "apply the documents of an export", command_import},
    {"edit", "KIND [NAME]", 1, 2,
     "change a client, a client-profile, a sink or the routes in an editor", command_edit},
    {"publish", "ID TOPIC [--message TEXT]", 2, 2, "publish as a client", command_publish},
    {"publications", "ID", 1, 1,
     "list publications that the broker has not acknowledged, or drop them", command_publications},
    {"dead-letters", "[list|replay|drop]", 0, 1,
     "list messages that sinks gave up, send them to their sinks again, or delete them",
     command_dead_letters},
    {"brokers", "", 0, 0, "list the brokers: which are away, how many clients each has",
     command_brokers},
    {"sinks", "[list|get|apply|delete|test] [NAME]", 0, 2,
     "list the sinks of the fleet, show, create, change, delete or test one", command_sinks},
    {"profiles", "[list|show|put|delete] [NAME]", 0, 2,
     "list the profiles of clients, show, create, change or delete one", command_profiles},
    {"routes", "[list|get|apply FILE|explain TOPIC]", 0, 2,
     "list the routes of the fleet, print or replace them, or show where a message goes",
     command_routes},
    {"quotas", "[list|set SCOPE LIMIT=N...|delete SCOPE]", 0, 6,
     "list what the clients with a label may use and use, set limits, or delete them",
     command_quotas},
    {"test", "", 0, 0, "test a configuration step by step without storing it", command_test},
    {"events", "[ID]", 0, 1,
     "show the last changes of a client; without ID or with --follow, show new changes",
     command_events},
    {"tail", "ID", 1, 1, "show the messages of a client as they arrive", command_tail},
    {"drain", "NODE", 1, 1, "move all clients away from a node before maintenance", command_drain},
    {"undrain", "NODE", 1, 1, "let a drained node accept clients again", command_undrain},
    {"rebalance", "", 0, 0, "move clients until all nodes have the same number", command_rebalance},
    {"config", "check [FILE]", 1, 2, "check a settings file with mqfleetd", command_config},
    {"completion", "bash", 1, 1, "print a completion script for bash", command_completion},
    {"help", "[COMMAND]", 0, 2, "describe a command", command_help},
    {"version", "", 0, 0, "print the version", command_version},
    {"__complete", "[WORD...]", 0, -1, NULL, command_complete},
    {NULL, NULL, 0, 0, NULL, NULL},
};

#define OPTION_ROW(symbol, row_name, row_letter, row_argument, row_commands, row_help)             \
    [symbol] = {.name = row_name,                                                                  \
                .argument = row_argument,                                                          \
                .commands = row_commands,                                                          \
                .help = row_help,                                                                  \
                .letter = row_letter},
const struct cli_option_row cli_option_rows[OPTION_COUNT] = {CLI_OPTION_TABLE(OPTION_ROW)};

/* ---- messages -------------------------------------------------------------------------------- */

void cli_error(const char *format, ...) {
    va_list arguments;
    fputs("mqfleet: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

bool cli_confirm(const struct cli *cli, const char *format, ...) {
    char answer[16] = "";
    va_list arguments;
    if (cli_option_given(cli, OPT_YES)) {
        return true;
    }
    if (!isatty(STDIN_FILENO)) {
        cli_error("--yes is required when there is no terminal");
        return false;
    }
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs(" [y/N] ", stderr);
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* ---- names ----------------------------------------------------------------------------------- */

const char *cli_nearest(const char *word, const char *const *names, size_t count) {
    const char *nearest = NULL;
    size_t least = 3;
    for (size_t i = 0; i < count; i++) {
        size_t found = text_distance(word, names[i]);
        if (found < least) {
            least = found;
            nearest = names[i];
        }
    }
    return nearest;
}

bool cli_option_fits(enum cli_option option, const struct cli_command *command) {
    const char *fitting = cli_option_rows[option].commands;
    size_t len = strlen(command->name);
    for (const char *at = fitting; at && *at != '\0'; at += strspn(at, " ")) {
        size_t word = strcspn(at, " ");
        if (word == len && memcmp(at, command->name, len) == 0) {
            return true;
        }
        at += word;
    }
    return !fitting;
}

bool cli_option_given(const struct cli *cli, enum cli_option option) {
    return cli->values[option] != NULL;
}

static const struct cli_command *cli_commands_find_command(const char *name) {
    const char *names[64];
    size_t count = 0;
    for (const struct cli_command *row = cli_commands; row->name; row++) {
        if (strcmp(row->name, name) == 0) {
            return row;
        }
        if (row->about) {
            names[count++] = row->name;
        }
    }
    const char *nearest = cli_nearest(name, names, count);
    cli_error("%s: no such command%s%s; see mqfleet help", name, nearest ? ", perhaps " : "",
              nearest ? nearest : "");
    return NULL;
}

/* ---- the command line ------------------------------------------------------------------------ */

static enum cli_option cli_commands_find_long_option(const char *name, size_t len) {
    const char *names[OPTION_COUNT];
    char word[64];
    for (enum cli_option option = 0; option < OPTION_COUNT; option++) {
        names[option] = cli_option_rows[option].name;
        if (strlen(names[option]) == len && memcmp(names[option], name, len) == 0) {
            return option;
        }
    }
    snprintf(word, sizeof(word), "%.*s", (int)len, name);
    const char *nearest = cli_nearest(word, names, OPTION_COUNT);
    cli_error("--%s: no such option%s%s; see mqfleet help", word, nearest ? ", perhaps --" : "",
              nearest ? nearest : "");
    return OPTION_COUNT;
}

static enum cli_option cli_commands_find_short_option(char letter) {
    for (enum cli_option option = 0; option < OPTION_COUNT; option++) {
        if (cli_option_rows[option].letter == letter) {
            return option;
        }
    }
    cli_error("-%c: no such option; see mqfleet help", letter);
    return OPTION_COUNT;
}

static bool cli_commands_add_repeated(const char **list, const char *name, const char *value) {
    size_t count = 0;
    while (list[count]) {
        count++;
    }
    if (!strchr(value, '=') || value[0] == '=') {
        cli_error("--%s %s: must be NAME=VALUE", name, value);
        return false;
    }
    if (count == OPTION_REPEAT_MAX) {
        cli_error("--%s: at most %d of them", name, OPTION_REPEAT_MAX);
        return false;
    }
    list[count] = value;
    return true;
}

/* Options of all commands may be given again: the last one counts, as in an alias with --url. Of
 * the others, one would be ignored silently: --state online --state paused. */
static bool cli_commands_set_option(struct cli *cli, enum cli_option option, const char *value) {
    const struct cli_option_row *row = &cli_option_rows[option];
    const char *before = cli->values[option];
    cli->values[option] = value;
    if (option == OPT_LABEL) {
        return cli_commands_add_repeated(cli->labels, "label", value);
    }
    if (option == OPT_PROPERTY) {
        return cli_commands_add_repeated(cli->properties, "property", value);
    }
    if (before && row->commands && strcmp(before, value) != 0) {
        cli_error("--%s: is given twice, %s and %s; filters take several values with commas "
                  "between them",
                  row->name, before, value);
        return false;
    }
    return true;
}

/* Parses the option at argv[*at]; may consume the next word as its value. */
static bool cli_commands_parse_option(struct cli *cli, int argc, char **argv, int *at) {
    const char *word = argv[*at];
    bool is_long = word[1] == '-';
    const char *equals = is_long ? strchr(word, '=') : NULL;
    size_t len = equals ? (size_t)(equals - word - 2) : strlen(word + 1) - 1;
    enum cli_option option = is_long ? cli_commands_find_long_option(word + 2, len)
                                     : cli_commands_find_short_option(word[1]);
    if (option == OPTION_COUNT) {
        return false;
    }
    const struct cli_option_row *row = &cli_option_rows[option];
    const char *value = equals ? equals + 1 : !is_long && word[2] != '\0' ? word + 2 : NULL;
    if (!row->argument) {
        if (value) {
            cli_error("--%s takes no value", row->name);
        }
        return !value && cli_commands_set_option(cli, option, "");
    }
    if (!value && *at + 1 < argc) {
        value = argv[++*at];
    }
    if (!value) {
        cli_error("--%s: requires %s", row->name, row->argument);
    }
    return value && cli_commands_set_option(cli, option, value);
}

static bool cli_commands_check_numbers(const struct cli *cli) {
    static const struct {
        enum cli_option option;
        double min, max;
    } numbers[] = {{OPT_LIMIT, 1, 1e9},
                   {OPT_RATE, 0, 100000},
                   {OPT_TIMEOUT, 0.1, 86400},
                   {OPT_INTERVAL, 0.1, 3600}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const char *text = cli->values[numbers[i].option];
        char *end = NULL;
        double value = text ? strtod(text, &end) : numbers[i].min;
        if (text && numbers[i].option == OPT_LIMIT) {
            end = (char *)(uintptr_t)text + strspn(text, "0123456789"); /* a decimal integer */
        }
        if (text &&
            (*end != '\0' || end == text || !(value >= numbers[i].min) || value > numbers[i].max)) {
            cli_error("--%s %s: must be a number from %g to %.0f",
                      cli_option_rows[numbers[i].option].name, text, numbers[i].min,
                      numbers[i].max);
            return false;
        }
    }
    return true;
}

static bool cli_commands_check_fits(const struct cli *cli) {
    for (enum cli_option option = 0; option < OPTION_COUNT; option++) {
        if (cli_option_given(cli, option) && !cli_option_fits(option, cli->command)) {
            cli_error("--%s does not apply to %s; see mqfleet help %s",
                      cli_option_rows[option].name, cli->command->name, cli->command->name);
            return false;
        }
    }
    return true;
}

static void cli_commands_print_usage(const struct cli_command *command) {
    cli_error("usage: mqfleet %s%s%s; see mqfleet help %s", command->name,
              command->words[0] != '\0' ? " " : "", command->words, command->name);
}

static bool cli_commands_check_words(const struct cli *cli) {
    const struct cli_command *command = cli->command;
    if (cli->word_count < command->words_min ||
        (command->words_max >= 0 && cli->word_count > command->words_max)) {
        cli_commands_print_usage(command);
        return false;
    }
    return true;
}

const struct cli_verb *cli_find_verb(const struct cli *cli, const struct cli_verb *verbs,
                                     size_t count) {
    const char *name = cli->word_count > 0 ? cli->words[0] : "list";
    int words = cli->word_count > 0 ? cli->word_count : 1;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(verbs[i].name, name) == 0 && words >= verbs[i].words_min &&
            words <= verbs[i].words_max) {
            return &verbs[i];
        }
    }
    cli_commands_print_usage(cli->command);
    return NULL;
}

static bool cli_commands_set_format(struct cli *cli) {
    static const char *const names[] = {
        [CLI_FORMAT_TABLE] = "table", [CLI_FORMAT_JSON] = "json", [CLI_FORMAT_ID] = "id"};
    const char *given = cli->values[OPT_OUTPUT];
    if (!given) {
        cli->format = CLI_FORMAT_TABLE;
        return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(given, names[i]) == 0) {
            cli->format = (enum cli_format)i;
            return true;
        }
    }
    cli_error("--output %s: must be table, json or id", given);
    return false;
}

bool cli_parse(struct cli *cli, int argc, char **argv) {
    bool only_words = false;
    cli->words = argv; /* words move to the front: there are never more of them than were read */
    for (int at = 1; at < argc; at++) {
        bool option = !only_words && argv[at][0] == '-' && argv[at][1] != '\0';
        if (option && strcmp(argv[at], "--") == 0) {
            only_words = true;
        } else if (option) {
            if (!cli_commands_parse_option(cli, argc, argv, &at)) {
                return false;
            }
        } else if (!cli->command) {
            cli->command = cli_commands_find_command(argv[at]);
            if (!cli->command) {
                return false;
            }
            only_words = !cli->command->about; /* __complete: all words unchanged */
        } else {
            cli->words[cli->word_count++] = argv[at];
        }
    }
    if (!cli->command) {
        cli->command = cli_commands_find_command("help");
        cli->values[OPT_HELP] = cli_option_given(cli, OPT_HELP) ? "" : NULL;
        return cli_commands_set_format(cli);
    }
    return cli_option_given(cli, OPT_HELP) ||
           (cli_commands_check_fits(cli) && cli_commands_check_words(cli) &&
            cli_commands_check_numbers(cli) && cli_commands_set_format(cli));
}
