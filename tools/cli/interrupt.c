/* Owns the note that Ctrl-C was pressed. */
#include <poll.h>
#include <signal.h>
#include "cli.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

void cli_catch_interrupts(void) {
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void) {
    return interrupted != 0;
}

bool cli_sleep_ms(long ms) {
    if (!cli_interrupted()) {
        (void)poll(NULL, 0, (int)ms);
    }
    return !cli_interrupted();
}
