/* The names of labels. Pure; any thread. Selectors need it, also outside of a node. */
#ifndef MQFLEET_CONFIG_CLIENT_LABEL_H
#define MQFLEET_CONFIG_CLIENT_LABEL_H

#include <stddef.h>

#define CLIENT_LABEL_NAME_MAX  63
#define CLIENT_LABEL_VALUE_MAX 256 /* bytes */

/* Why the text cannot be the name of a label; NULL: it can. */
const char *client_label_name_fault(const char *name, size_t len);

#endif
