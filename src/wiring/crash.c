/* Owns what the process does when it dies of a fault of its own: the last lines of the log come out
 * first, as far as somebody reads them. Any thread. */
#include "crash.h"

#include <assert.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include "base/telemetry/log.h"
#include "base/telemetry/log_writer.h"

#define LOG_FLUSH_MS 2000

/* The signal is blocked in its handler: raised again, it ends the process on return, at the place
 * where it came, which is what a core dump shows. */
static void crash_on_signal(int number) {
    (void)log_writer_flush(LOG_FLUSH_MS);
    signal(number, SIG_DFL);
    raise(number);
}

void crash_prepare(void) {
    static const int fatal[] = {SIGABRT, SIGBUS, SIGFPE,  SIGILL, SIGQUIT,
                                SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        struct sigaction before, action = {.sa_handler = crash_on_signal};
        /* A sanitizer has its own handlers, which say more. */
        if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
            sigaction(fatal[i], &action, NULL);
        }
    }
}

/* In place of the C library's, which writes to stderr by itself: between lines of the log, and
 * without an end if nobody reads them. */
void __assert_fail(const char *assertion, const char *file, unsigned line, const char *function) {
    log_event(LOG_ERROR, "assertion_failed", KS("assertion", assertion), KS("file", file),
              KI("line", line), KS("function", function));
    abort();
}
