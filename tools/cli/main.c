/* mqfleet: operates a fleet of mqfleetd nodes through any of them. Exit codes: see
 * CLI_EXIT_TABLE. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/system/std_streams.h"
#include "cli.h"

int main(int argc, char **argv) {
    struct cli cli = {0};
    std_streams_open();
    cli_catch_interrupts();
    if (!cli_parse(&cli, argc, argv)) {
        return CLI_USAGE;
    }
    enum cli_exit code = cli_option_given(&cli, OPT_VERSION) ? command_version(&cli)
                         : cli_option_given(&cli, OPT_HELP)  ? command_help(&cli)
                                                             : cli.command->run(&cli);
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) &&
        code == CLI_OK) { /* may be from an earlier write */
        cli_error("standard output: %s",
                  errno != 0 ? strerror(errno) : "not all output could be written");
        code = CLI_FAILED;
    }
    return cli_interrupted() ? CLI_INTERRUPTED : (int)code;
}
