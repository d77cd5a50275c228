/* Limits the number of open connections. If there are too many, it closes the connection that has
 * completed no request for the longest time, so idle connections cannot block others. Any thread.
 */
#ifndef MQFLEET_SERVER_CONNECTION_LIMIT_H
#define MQFLEET_SERVER_CONNECTION_LIMIT_H

#include <stddef.h>

struct connection_limit;
struct connection_slot; /* one connection */

struct connection_limit *connection_limit_create(size_t max);
void connection_limit_destroy(struct connection_limit *limit); /* after all connections have left */

/* Adds an accepted connection; may shut down another one. NULL: out of memory; the connection is
 * not counted. fd: owned by the caller. */
struct connection_slot *connection_limit_enter(struct connection_limit *limit, int fd);
/* Its request is complete and must be answered: it is not shut down any more. */
void connection_limit_mark_served(struct connection_limit *limit, struct connection_slot *slot);
/* It has its answer; the next request may follow. */
void connection_limit_mark_waiting(struct connection_limit *limit, struct connection_slot *slot);
/* Before fd is closed. */
void connection_limit_leave(struct connection_limit *limit, struct connection_slot *slot);

#endif
