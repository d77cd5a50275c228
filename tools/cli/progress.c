/* Owns the line of the progress bar. */
#include "progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>
#include "base/system/clock.h"

#define BAR_WIDTH 24
#define PERIOD_MS 100

static bool drawn;
static int64_t drawn_at_ms;

void cli_progress_show(const char *what, size_t done, size_t total) {
    int64_t now_ms = clock_ms();
    if (total < PROGRESS_TOTAL_MIN || !isatty(STDERR_FILENO) ||
        (drawn && done < total && now_ms - drawn_at_ms < PERIOD_MS)) {
        return;
    }
    drawn = true;
    drawn_at_ms = now_ms;
    size_t full = done * BAR_WIDTH / total;
    fprintf(stderr, "\r%s [", what);
    for (size_t i = 0; i < BAR_WIDTH; i++) {
        fputc(i < full ? '#' : '.', stderr);
    }
    fprintf(stderr, "] %zu/%zu", done, total);
    fflush(stderr);
}

void cli_progress_clear(void) {
    if (drawn) {
        fputs("\r\033[K", stderr);
        drawn = false;
    }
}
