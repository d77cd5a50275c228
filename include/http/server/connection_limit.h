/* The open connections, the one that owes us bytes for longest in front. When there are too many,
 * that one is closed, so that connections which never finish a request cannot shut others out. Any
 * thread. */
#ifndef MQFLEET_SERVER_CONNECTION_LIMIT_H
#define MQFLEET_SERVER_CONNECTION_LIMIT_H

#include <stddef.h>

struct connection_limit;
struct connection_slot; /* one connection */

struct connection_limit *connection_limit_create(size_t max);
void connection_limit_destroy(struct connection_limit *limit); /* after all have left */

/* A connection was accepted; may shut another one down. NULL: out of memory, then it is not
 * counted. fd stays the caller's. */
struct connection_slot *connection_limit_enter(struct connection_limit *limit, int fd);
/* Its request is complete: from now on we owe it an answer, and it is not shut down. */
void connection_limit_mark_served(struct connection_limit *limit, struct connection_slot *slot);
/* It has its answer and owes us a request again. */
void connection_limit_mark_waiting(struct connection_limit *limit, struct connection_slot *slot);
/* Before fd is closed. */
void connection_limit_leave(struct connection_limit *limit, struct connection_slot *slot);

#endif
