/* The files that a client's configuration may name: those below the folders of secrets.files_allow
 * that are none of the node's own. A user of the API must not be able to learn what else there is
 * on the machine: of any other path the answer is the same, whether there is a file or not. Any
 * thread. */
#ifndef MQFLEET_SECRETS_CLIENT_FILE_H
#define MQFLEET_SECRETS_CLIENT_FILE_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/config/conf.h"

enum client_file_kind {
    CLIENT_FILE_PRIVATE,  /* a secret, a key, a certificate of the client */
    CLIENT_FILE_AUTHORITY /* may also lie where the system keeps its authorities */
};

/* From now on no client gets what is in that file; "" and NULL are legal. False: there are too
 * many. */
bool client_file_guard(const char *path);
/* The same of all that the settings have the node itself read in secret. */
bool client_file_guard_own(const struct conf *conf);

/* May this node read it, as far as its name tells? NULL: yes; else why not (static). Looks at no
 * file. */
const char *client_file_refusal(const struct conf *conf, enum client_file_kind kind,
                                const char *path);
/* The regular file of that name, as a descriptor that opens nothing (O_PATH) and stays the same
 * file, whatever becomes of the name. -1: *why says why not (static). Never waits for a pipe or a
 * device, and does not touch one. */
int client_file_find(const struct conf *conf, enum client_file_kind kind, const char *path,
                     struct stat *status, const char **why);
/* The same, to be read. */
int client_file_open(const struct conf *conf, enum client_file_kind kind, const char *path,
                     struct stat *status, const char **why);

#define CLIENT_FILE_LINK_LEN 64
/* The name under which the file behind a descriptor can be opened. */
void client_file_link(int fd, char link[CLIENT_FILE_LINK_LEN]);

#endif
