/* The clients of the fleet that name a profile: who they are, and whether a new version of it suits
 * them. Reads all clients from Redis; the thread of a job. */
#ifndef MQFLEET_API_PROFILE_USERS_H
#define MQFLEET_API_PROFILE_USERS_H

#include <jansson.h>
#include <stddef.h>
#include "base/err.h"
#include "http/api/api.h"
#include "mqtt/config/client_profile.h"

#define PROFILE_USERS_SHOWN_MAX 10

struct profile_users {
    struct http_request *request;
    const char *name;
    struct client_profile *before, *next; /* next NULL: they are only counted */
    size_t count;
    size_t fault_count;
    json_t *ids;    /* the first of them */
    json_t *faults; /* [{"id", "detail"}], the first of them */

    /* while it runs */
    bool moves;                 /* the brokers of the clients may change */
    json_t *seen;               /* id -> true */
    json_t *moved;              /* new identity -> id */
    json_t *conflicts;          /* [[id, new identity, its owner]] that may move away itself */
    struct client_config *last; /* whose certificates were checked */
};

/* Fills in the results. ERR_CANCELED: the caller has gone, or the node stops. */
enum err profile_users_find(struct profile_users *users) MUST_CHECK;
void profile_users_fini(struct profile_users *users);

#endif
