/* The faults of documents, as a node tells them: one line each on stderr, with the place. One
 * thread. */
#ifndef MQFLEET_CLI_FAULTS_H
#define MQFLEET_CLI_FAULTS_H

#include "cli.h"

#define FAULTS_SHOWN_MAX 1000 /* of a command */

struct faults_place {
    const char *file; /* NULL: there is only one */
    size_t line;
    size_t document;         /* its number in the file, from 1; 0: not known */
    const char *kind, *name; /* NULL: not known */
};

/* The pointer into a document of an error {"pointer","detail"}. skip: how many segments stand
 * before it. Borrowed; NULL: none. */
const char *cli_faults_pointer(const json_t *error, size_t skip);
/* Prints each of `errors`, and without any `detail`. *shown: how many the command has printed. */
void cli_faults_print(size_t *shown, const struct faults_place *place, const json_t *errors,
                      size_t skip, const char *detail);

#endif
