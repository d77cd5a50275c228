/* Owns the flag that is set by Ctrl-C. */
#include <poll.h>
#include <signal.h>
#include <time.h>
#include "cli.h"

static volatile sig_atomic_t interrupted;

static void cli_interrupt_on_signal(int number) {
    (void)number;
    interrupted = 1;
}

void cli_catch_interrupts(void) {
    struct sigaction action = {.sa_handler = cli_interrupt_on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void) {
    return interrupted != 0;
}

bool cli_sleep_ms(long ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked,
                &before); /* no signal is lost between the check and the sleep */
    if (!cli_interrupted()) {
        (void)ppoll(NULL, 0, &time, &before);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !cli_interrupted();
}
