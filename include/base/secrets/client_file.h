/* The files that a client's configuration may name: those below the folders of secrets.files_allow,
 * except the node's own files. A user of the API must not learn which other files exist on the
 * machine. The answer for any other path is therefore the same whether the file exists or not. Any
 * thread. */
#ifndef MQFLEET_SECRETS_CLIENT_FILE_H
#define MQFLEET_SECRETS_CLIENT_FILE_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/config/conf.h"

enum client_file_kind {
    CLIENT_FILE_PRIVATE,  /* a secret, key or certificate of the client */
    CLIENT_FILE_AUTHORITY /* may also be in the system's folders of certificates */
};

/* Denies clients access to that file from now on; "" and NULL are legal. False: the list of denied
 * files is full. */
bool client_file_guard(const char *path);
/* Denies access to every secret file that the settings name. */
bool client_file_guard_own(const struct conf *conf);

/* Checks only the name, without accessing the file. NULL: allowed; otherwise the reason (static).
 */
const char *client_file_refusal(const struct conf *conf, enum client_file_kind kind,
                                const char *path);
/* Opens the regular file of that name as an O_PATH descriptor. The descriptor refers to the same
 * file even if the name changes later. -1: *why is the reason (static). Never blocks on or opens a
 * pipe or a device. */
int client_file_find(const struct conf *conf, enum client_file_kind kind, const char *path,
                     struct stat *status, const char **why);
/* The same, opened for reading. */
int client_file_open(const struct conf *conf, enum client_file_kind kind, const char *path,
                     struct stat *status, const char **why);

#define CLIENT_FILE_LINK_LEN 64
/* A name under which the file behind a descriptor can be opened. */
void client_file_link(int fd, char link[CLIENT_FILE_LINK_LEN]);

#endif
