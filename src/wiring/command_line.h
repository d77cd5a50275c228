/* The command line of mqfleetd. Main thread. */
#ifndef MQFLEET_WIRING_COMMAND_LINE_H
#define MQFLEET_WIRING_COMMAND_LINE_H

#include <stddef.h>

enum command_line_action { ACTION_RUN, ACTION_CHECK, ACTION_PRINT, ACTION_CHECK_LIVE };

struct command_line {
    const char *config;
    const char **sets;
    size_t set_count;
    enum command_line_action action;
};

/* sets: room for argc. Exits on invalid usage, and after an action that only prints: --help,
 * --version, --print-reference, --new-key, --new-token, --hash-token. */
void command_line_parse(struct command_line *line, int argc, char **argv);
/* The exit code after printing: EXIT_FAILURE with an error message if stdout could not be
 * written. */
int command_line_flush_output(void);

#endif
