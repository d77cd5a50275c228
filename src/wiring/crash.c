/* Owns the handling of a crash: writes the last lines of the log before the process ends, unless
 * stderr blocks. Any thread. */
#include "crash.h"

#include <assert.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include "base/telemetry/log.h"
#include "base/telemetry/log_writer.h"

#define LOG_FLUSH_MS 2000

/* The signal is blocked in its handler. When raised again, it ends the process on return at the
 * original place, which a core dump then shows. */
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
        /* A sanitizer has its own handlers with more details. */
        if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
            sigaction(fatal[i], &action, NULL);
        }
    }
}

/* Replaces the handler of the C library, which writes to stderr directly: between lines of the log,
 * and without a limit if stderr is not read. */
void __assert_fail(const char *assertion, const char *file, unsigned line, const char *function) {
    log_event(LOG_ERROR, "assertion_failed", KS("assertion", assertion), KS("file", file),
              KI("line", line), KS("function", function));
    abort();
}
