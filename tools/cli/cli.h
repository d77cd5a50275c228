/* Shared by the files of the command line tool: the given options, the exit codes, and the table of
 * commands. One thread. */
#ifndef MQFLEET_CLI_H
#define MQFLEET_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* X(symbol, code, meaning): listed by `mqfleet help` and in the man page. */
#define CLI_EXIT_TABLE(X)                                                                          \
    X(CLI_OK, 0, "done")                                                                           \
    X(CLI_FAILED, 1,                                                                               \
      "part of the request failed, the node could not execute it, or status found a problem")      \
    X(CLI_USAGE, 2, "invalid usage")                                                               \
    X(CLI_NOT_FOUND, 3, "no such client or node")                                                  \
    X(CLI_REFUSED, 4, "missing or invalid token, or insufficient role")                            \
    X(CLI_UNREACHABLE, 5, "the node is unreachable")                                               \
    X(CLI_INVALID, 6, "the request is invalid, or conflicts with the current state")               \
    X(CLI_INTERRUPTED, 130, "interrupted by Ctrl-C")

enum cli_exit {
#define CLI_EXIT_SYMBOL(symbol, code, meaning) symbol = (code),
    CLI_EXIT_TABLE(CLI_EXIT_SYMBOL)
#undef CLI_EXIT_SYMBOL
};

/* The commands that take a selector. */
#define CLI_SELECTING "clients summary delete pause resume restart release patch"

/* X(symbol, long name, short letter or 0, argument or NULL, commands or NULL for all, help):
 * commands: those that accept the option, separated by a blank. */
#define CLI_OPTION_TABLE(X)                                                                                \
    X(OPT_URL, "url", 'u', "URL", NULL,                                                                    \
      "any node of the fleet ($MQFLEET_URL, default http://127.0.0.1:8080)")                               \
    X(OPT_TOKEN_FILE, "token-file", 0, "FILE", NULL,                                                       \
      "file with the token ($MQFLEET_TOKEN_FILE; the token itself: $MQFLEET_TOKEN)")                       \
    X(OPT_CA, "ca", 0, "FILE", NULL,                                                                       \
      "CA certificates (PEM) for HTTPS ($MQFLEET_CA, default: the system's)")                              \
    X(OPT_TIMEOUT, "timeout", 0, "SECONDS", NULL, "timeout of one request (default 30)")                   \
    X(OPT_OUTPUT, "output", 'o', "FORM", NULL, "output format: table, json or id")                         \
    X(OPT_VERSION, "version", 0, NULL, "help", "print the version")                                        \
    X(OPT_HELP, "help", 'h', NULL, NULL, "describe the command")                                           \
    X(OPT_WATCH, "watch", 'w', NULL, "status nodes", "refresh until Ctrl-C")                               \
    X(OPT_INTERVAL, "interval", 0, "SECONDS", "status nodes", "refresh interval (default 2)")              \
    X(OPT_STATE, "state", 0, "STATE", CLI_SELECTING " events",                                             \
      "waiting connecting online backoff conflict paused")                                                 \
    X(OPT_DEGRADED, "degraded", 0, NULL, CLI_SELECTING,                                                    \
      "only clients with a refused subscription")                                                          \
    X(OPT_NODE, "node", 0, "NAME", CLI_SELECTING, "only clients of this node")                             \
    X(OPT_LABEL, "label", 'l', "NAME=VALUE", CLI_SELECTING " apply import export",                         \
      "only clients with this label")                                                                      \
    X(OPT_ERROR, "error", 0, "CODE", CLI_SELECTING,                                                        \
      "only clients that do not work for this reason")                                                     \
    X(OPT_BROKER, "broker", 0, "HOST:PORT", CLI_SELECTING, "only clients of this broker")                  \
    X(OPT_ID_PREFIX, "id-prefix", 0, "TEXT", CLI_SELECTING " changes",                                     \
      "only clients whose id begins so")                                                                   \
    X(OPT_PROFILE, "profile", 0, "NAME", CLI_SELECTING, "only clients of this client profile")             \
    X(OPT_SILENT, "silent", 0, NULL, CLI_SELECTING,                                                        \
      "only clients that receive nothing for too long")                                                    \
    X(OPT_BY, "by", 0, "KEY", "summary",                                                                   \
      "state (default), error, broker, node, label.NAME, profile, silent or degraded")                     \
    X(OPT_SORT, "sort", 0, "KEY", "clients",                                                               \
      "id, state, since or changed; -since: the latest first")                                             \
    X(OPT_COUNT, "count", 0, NULL, "clients", "only print how many there are")                             \
    X(OPT_LIMIT, "limit", 'n', "N", "clients summary events tail dead-letters brokers changes",            \
      "stop after N")                                                                                      \
    X(OPT_FILE, "file", 'f', "FILE", "create test publish sinks profiles apply export patch",              \
      "create, test, sinks, profiles, patch: JSON (an object, an array, or an object per line); publish: " \
      "the payload; "                                                                                      \
      "- is standard input; apply: a folder or file of documents; export: where to write them")            \
    X(OPT_WAIT, "wait", 0, NULL, "create drain",                                                           \
      "create: wait until each client is online or has failed, within --timeout; drain: wait "             \
      "until the node is empty, within --timeout if it is given")                                          \
    X(OPT_SELECTOR, "selector", 's', "QUERY", CLI_SELECTING " apply import export",                        \
      "all filters in one text: label.site=north&state=backoff; apply, import: only label.NAME, "          \
      "id_prefix, profile")                                                                                \
    X(OPT_RATE, "rate", 0, "N", "rebalance delete pause resume restart release patch",                     \
      "clients per second (default: the setting for it); with filters")                                    \
    X(OPT_YES, "yes", 'y', NULL,                                                                           \
      "delete pause resume restart release patch dead-letters sinks profiles quotas apply import edit",    \
      "do not ask for confirmation")                                                                       \
    X(OPT_MESSAGE, "message", 'm', "TEXT", "publish", "payload")                                           \
    X(OPT_QOS, "qos", 'q', "0|1|2", "publish routes", "quality of service (default 0)")                    \
    X(OPT_RETAIN, "retain", 'r', NULL, "publish routes",                                                   \
      "publish: let the broker retain the message; routes: it is retained")                                \
    X(OPT_PROPERTY, "property", 'p', "NAME=VALUE", "publish",                                              \
      "MQTT 5 property: content_type, response_topic, message_expiry_interval, ...; any other "            \
      "name is a user property; may be repeated")                                                          \
    X(OPT_FOLLOW, "follow", 0, NULL, "events", "keep showing new changes")                                 \
    X(OPT_KIND, "kind", 0, "KIND", "events", "client node leader notice incident")                         \
    X(OPT_AFTER, "after", 0, "EVENT", "events",                                                            \
      "first the kept changes after this one (event_id with -o json; 0: all that are kept)")               \
    X(OPT_CLIENT, "client", 0, "ID", "events dead-letters routes",                                         \
      "only changes, or dead letters, of this client; routes: who receives the message")                   \
    X(OPT_DROP, "drop", 0, NULL, "publications", "drop the publications: they are not sent again")         \
    X(OPT_ENTRY, "entry", 0, "ID", "dead-letters", "only this entry of the stream")                        \
    X(OPT_SINK, "sink", 0, "NAME", "dead-letters", "only those that this sink rejected")                   \
    X(OPT_TOPIC, "topic", 0, "FILTER", "dead-letters", "only those whose topic matches")                   \
    X(OPT_SINCE, "since", 0, "TIME", "dead-letters",                                                       \
      "only those since then: 15m, 2h, 3d, or 2026-11-30T12:00:00Z")                                       \
    X(OPT_UNTIL, "until", 0, "TIME", "dead-letters", "only those until then")                              \
    X(OPT_ALL, "all", 0, NULL, "dead-letters", "replay or drop all of them")                               \
    X(OPT_DRY_RUN, "dry-run", 0, NULL,                                                                     \
      "dead-letters apply import delete pause resume restart release patch",                               \
      "change nothing: only count those that match; apply, import: only tell what would be done")          \
    X(OPT_DIFF, "diff", 0, NULL, "apply import",                                                           \
      "change nothing, and show each difference; the exit code is 1 if there is one")                      \
    X(OPT_PRUNE, "prune", 0, NULL, "apply import",                                                         \
      "delete what no document has, of the kinds that the documents have")                                 \
    X(OPT_PAUSED, "paused", 0, NULL, "import",                                                             \
      "create the clients paused, as long as another fleet still runs them")                               \
    X(OPT_SECRETS, "secrets", 0, "HOW", "export",                                                          \
      "masked (default: they keep their stored values when applied) or encrypted")                         \
    X(OPT_PAYLOAD, "payload", 0, "TEXT", "routes", "explain: payload of the message")                      \
    X(OPT_ROUTES, "routes", 0, "FILE", "routes", "explain: try these routes, which are not set")           \
    X(OPT_RAW, "raw", 0, NULL, "tail", "only payloads, byte for byte, each followed by a newline")

enum cli_option {
#define CLI_OPTION_SYMBOL(symbol, name, letter, argument, cli_commands, help) symbol,
    CLI_OPTION_TABLE(CLI_OPTION_SYMBOL)
#undef CLI_OPTION_SYMBOL
        OPTION_COUNT
};

#define OPTION_REPEAT_MAX 32

enum cli_format { CLI_FORMAT_TABLE, CLI_FORMAT_JSON, CLI_FORMAT_ID };

struct cli {
    const struct cli_command *command;
    const char *values[OPTION_COUNT]; /* NULL: not given; "" for options without argument */
    const char *labels[OPTION_REPEAT_MAX + 1], *properties[OPTION_REPEAT_MAX + 1];
    char **words; /* the remaining words of the command line */
    int word_count;
    char if_match[32];      /* header of the requests; "": none */
    char last_event_id[64]; /* streams begin after it; "": with what happens now */
    enum cli_format format;
};

struct cli_command {
    const char *name;
    const char *words;        /* shown after the name; "": none */
    int words_min, words_max; /* number of words; most -1: any */
    const char *about;        /* one line */
    enum cli_exit (*run)(struct cli *cli);
};
extern const struct cli_command cli_commands[]; /* ends with a NULL name */

struct cli_option_row {
    const char *name, *argument, *commands, *help;
    char letter;
};
extern const struct cli_option_row cli_option_rows[OPTION_COUNT];
/* Does the command accept the option? */
bool cli_option_fits(enum cli_option option, const struct cli_command *command);
bool cli_option_given(const struct cli *cli, enum cli_option option);

/* The first word of a command that has several actions. */
struct cli_verb {
    const char *name;
    int words_min, words_max; /* with the verb */
    enum cli_exit (*run)(struct cli *cli);
};
/* The verb of the command line, by default "list". NULL: the usage was printed. */
const struct cli_verb *cli_find_verb(const struct cli *cli, const struct cli_verb *verbs,
                                     size_t count);

/* False with a line on stderr: unknown command or option, or wrong number of words. */
bool cli_parse(struct cli *cli, int argc, char **argv);
/* The nearest name to a mistyped one, or NULL if none is similar. */
const char *cli_nearest(const char *word, const char *const *names, size_t count);

/* Prints "mqfleet: ..." on stderr. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* From now on Ctrl-C and SIGTERM are recorded and do not end the process. */
void cli_catch_interrupts(void);
/* True after Ctrl-C. */
bool cli_interrupted(void);
/* Sleeps; false: interrupted. */
bool cli_sleep_ms(long ms);
/* Asks on the terminal; true with --yes. Without a terminal it prints that --yes is needed. */
bool cli_confirm(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

struct buffer;
/* Initialises out, and reads the file into it; name "-": standard input. False: the error was
 * printed. */
bool cli_read_path(const char *name, struct buffer *out);
/* The same for --file. */
bool cli_read_file(const struct cli *cli, struct buffer *out);
/* The object in --file, which must be `what`. NULL: the error was printed, *code is the exit code.
 */
json_t *cli_read_object(const struct cli *cli, const char *what, enum cli_exit *code);
/* Any JSON document; name "-": standard input. NULL: as above. */
json_t *cli_read_json(const char *name, enum cli_exit *code);
/* The steps of the report of a test. */
void cli_print_steps(const json_t *report);

/* ---- commands -------------------------------------------------------------------------------- */

enum cli_exit command_status(struct cli *cli);
enum cli_exit command_summary(struct cli *cli);
enum cli_exit command_nodes(struct cli *cli);
enum cli_exit command_drain(struct cli *cli);
enum cli_exit command_undrain(struct cli *cli);
enum cli_exit command_rebalance(struct cli *cli);
enum cli_exit command_clients(struct cli *cli);
enum cli_exit command_get(struct cli *cli);
enum cli_exit command_create(struct cli *cli);
enum cli_exit command_act(struct cli *cli); /* delete pause resume restart release patch */
enum cli_exit command_operations(struct cli *cli);
enum cli_exit command_changes(struct cli *cli);
enum cli_exit command_apply(struct cli *cli);
enum cli_exit command_import(struct cli *cli);
enum cli_exit command_export(struct cli *cli);
enum cli_exit command_edit(struct cli *cli);
enum cli_exit command_publish(struct cli *cli);
enum cli_exit command_publications(struct cli *cli);
enum cli_exit command_sinks(struct cli *cli);
enum cli_exit command_profiles(struct cli *cli);
enum cli_exit command_brokers(struct cli *cli);
enum cli_exit command_routes(struct cli *cli);
enum cli_exit command_quotas(struct cli *cli);
enum cli_exit command_dead_letters(struct cli *cli);
enum cli_exit command_test(struct cli *cli);
enum cli_exit command_events(struct cli *cli);
enum cli_exit command_tail(struct cli *cli);
enum cli_exit command_config(struct cli *cli);
enum cli_exit command_completion(struct cli *cli);
enum cli_exit command_complete(struct cli *cli);
enum cli_exit command_help(struct cli *cli);
enum cli_exit command_version(struct cli *cli);

#endif
