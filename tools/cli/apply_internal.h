/* Shared by the files of `apply`. One thread. */
#ifndef MQFLEET_CLI_APPLY_INTERNAL_H
#define MQFLEET_CLI_APPLY_INTERNAL_H

#include "manifest.h"

enum apply_outcome { APPLY_CREATED, APPLY_CHANGED, APPLY_UNCHANGED, APPLY_DELETED, APPLY_FAILED };
#define APPLY_OUTCOME_COUNT 5

struct apply {
    struct cli *cli;
    struct manifest manifest;
    bool dry_run, diff;
    size_t counts[APPLY_OUTCOME_COUNT];
    json_t *created;    /* the names of resources that were created, or would be */
    size_t done, total; /* for the progress */
    size_t faults_shown;
    enum cli_exit code; /* why it stopped; CLI_OK: it did not */
};

bool cli_apply_stopped(const struct apply *apply);
/* Counts the outcome of a resource and prints it. result: NULL, or with the member "changes". */
void cli_apply_report(struct apply *apply, enum manifest_kind kind, const char *name,
                      enum apply_outcome outcome, const json_t *result);

/* With --selector or --label, only clients are applied, and only those that match
 * (apply_select.c). False: the error was printed, apply->code is the exit code. */
bool cli_apply_select(struct apply *apply);

/* Deletes what is of the kinds that the documents have, and in none of them (apply_prune.c). */
void cli_apply_prune(struct apply *apply);

#endif
