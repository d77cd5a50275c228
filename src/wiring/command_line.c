/* Owns the options of mqfleetd, and the actions that need no node. Main thread. */
#include "command_line.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"
#include "base/secrets/secret_box.h"
#include "http/auth/tokens.h"

static const char usage[] =
    "usage: mqfleetd [--config FILE] [--set KEY=VALUE]... [ACTION]\n"
    "Keeps MQTT clients connected and stores what they receive.\n"
    "\n"
    "  --config FILE       YAML settings\n"
    "  --set KEY=VALUE     a setting; overrides the environment (MQFLEET_*), which overrides FILE\n"
    "actions (mqfleetd does not run then):\n"
    "  --check-config      check the settings; exit code 0: valid, 2: invalid\n"
    "  --check-live        ask the node that runs with the same settings for /livez; exit code 0:\n"
    "                      it is live, 1: it is not, or does not answer\n"
    "  --print-config      print the settings in effect as YAML\n"
    "  --print-reference   print every setting as a Markdown table\n"
    "  --new-key           print a line for secrets.key_file\n"
    "  --new-token NAME ROLE\n"
    "                      create a token for a viewer, operator or admin; print the token and\n"
    "                      its line for http.tokens_file\n"
    "  --hash-token        read a token from standard input, print its hash for http.tokens_file\n"
    "  --version, --help\n"
    "signals: SIGTERM and SIGINT stop gracefully, a second one stops at once; SIGHUP reads the\n"
    "settings and the files of tokens, secrets, keys and certificates again.\n";

int command_line_flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return EXIT_SUCCESS;
    }
    fprintf(stderr, "mqfleetd: standard output: %s\n", strerror(errno));
    return EXIT_FAILURE;
}

static int command_line_new_key(void) {
    char *line = secret_new_key();
    if (!line) {
        fputs("mqfleetd: no random bytes from the kernel\n", stderr);
        return EXIT_FAILURE;
    }
    puts(line);
    free(line);
    return command_line_flush_output();
}

static int command_line_new_token(const char *name, const char *role) {
    char token[TOKEN_CREATED_LEN], hashed[TOKEN_HASHED_LEN];
    if (!token_name_is_valid(name) || !role || role_parse(role) == ROLE_NONE) {
        fputs("mqfleetd: --new-token NAME ROLE: the name of 1 to 64 letters, digits and - _ . @, "
              "the role one of viewer, operator, admin\n",
              stderr);
        return EXIT_BAD_CONF;
    }
    if (token_create(token) != ERR_OK) {
        fputs("mqfleetd: no random bytes from the kernel\n", stderr);
        return EXIT_FAILURE;
    }
    token_hash_text(token, hashed);
    printf("token  %s\nline   %s %s %s\n", token, name, role, hashed);
    return command_line_flush_output();
}

static int command_line_hash_token(void) {
    char token[TOKEN_LEN_MAX + 2], hashed[TOKEN_HASHED_LEN];
    size_t len = fread(token, 1, sizeof(token) - 1, stdin);
    len -= len > 0 && token[len - 1] == '\n';
    token[len] = '\0';
    bool good = len >= TOKEN_LEN_MIN && len <= TOKEN_LEN_MAX && strlen(token) == len;
    for (size_t i = 0; i < len; i++) {
        good = good && token[i] > ' ' && token[i] < 0x7F;
    }
    if (!good) {
        fprintf(stderr,
                "mqfleetd: --hash-token: standard input must be one token of %d to %d printable "
                "ASCII characters without blanks\n",
                TOKEN_LEN_MIN, TOKEN_LEN_MAX);
        return EXIT_BAD_CONF;
    }
    token_hash_text(token, hashed);
    puts(hashed);
    return command_line_flush_output();
}

void command_line_parse(struct command_line *line, int argc, char **argv) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"set", required_argument, NULL, 's'},
        {"check-config", no_argument, NULL, 'k'}, {"check-live", no_argument, NULL, 'l'},
        {"print-config", no_argument, NULL, 'p'}, {"print-reference", no_argument, NULL, 'r'},
        {"new-key", no_argument, NULL, 'w'},      {"new-token", required_argument, NULL, 'n'},
        {"hash-token", no_argument, NULL, 't'},   {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            line->config = optarg;
            break;
        case 's':
            line->sets[line->set_count++] = optarg;
            break;
        case 'k':
            line->action = ACTION_CHECK;
            break;
        case 'l':
            line->action = ACTION_CHECK_LIVE;
            break;
        case 'p':
            line->action = ACTION_PRINT;
            break;
        case 'r':
            conf_print_reference(stdout);
            exit(command_line_flush_output());
        case 'w':
            exit(command_line_new_key());
        case 'n':
            exit(command_line_new_token(optarg, optind + 1 == argc ? argv[optind] : NULL));
        case 't':
            exit(command_line_hash_token());
        case 'v':
            puts("mqfleetd " MQFLEET_VERSION);
            exit(command_line_flush_output());
        case 'h':
            fputs(usage, stdout);
            exit(command_line_flush_output());
        default:
            fputs("mqfleetd: see mqfleetd --help\n", stderr);
            exit(EXIT_BAD_CONF);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "mqfleetd: %s: not an option, see mqfleetd --help\n", argv[optind]);
        exit(EXIT_BAD_CONF);
    }
}
