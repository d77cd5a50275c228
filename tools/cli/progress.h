/* A progress bar on stderr, if that is a terminal and the work is long. One thread. */
#ifndef MQFLEET_CLI_PROGRESS_H
#define MQFLEET_CLI_PROGRESS_H

#include <stddef.h>

/* Shows done of total. Draws at most ten times a second, and nothing below PROGRESS_TOTAL_MIN. */
#define PROGRESS_TOTAL_MIN 100
void cli_progress_show(const char *what, size_t done, size_t total);
/* Removes the bar, before other output and at the end. */
void cli_progress_clear(void);

#endif
